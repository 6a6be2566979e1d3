"""Tables of exposure_study.sh as Markdown, and the checks that its comment tells of."""

import json
import os
import sys

METHODS = [
    ("brief", "full fine-tuning, brief"),
    ("full", "full fine-tuning"),
    ("lora", "LoRA, rank 16"),
    ("private", "LoRA, differentially private"),
]


def load(work, name, report):
    with open(os.path.join(work, "runs", name, "reports", report + ".json")) as f:
        return {(m["name"], m["slice"]): m for m in json.load(f)["metrics"]}


def ranks(values):
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def spearman(xs, ys):
    a, b = ranks(xs), ranks(ys)
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    cov = sum((x - ma) * (y - mb) for x, y in zip(a, b))
    var = sum((x - ma) ** 2 for x in a) * sum((y - mb) ** 2 for y in b)
    return cov / var**0.5 if var else 0.0


def shown(m, digits=2):
    if m["score"] is None:
        return "not resolvable"
    low, high = m["ci"] or (None, None)
    around = f" ({low:.{digits}f} to {high:.{digits}f})" if low is not None and high is not None else ""
    return f"{m['score']:.{digits}f}{around}"


def main():
    work = sys.argv[1]
    exposure = {name: load(work, name, "exposure") for name, _ in METHODS}
    membership = {name: load(work, name, "membership") for name, _ in METHODS}
    times = sorted(int(s.split("=")[1]) for n, s in exposure["full"] if n == "exposure_mean" and s.startswith("repetitions="))
    control = {name: e["exposure_control_mean", ""]["score"] for name, e in exposure.items()}
    means = {name: [e["exposure_mean", f"repetitions={t}"]["score"] for t in times] for name, e in exposure.items()}

    print("| mean exposure, bits | never | " + " | ".join(f"{t}×" for t in times) + " | rank correlation |")
    print("| --- |" + " ---: |" * (len(times) + 2))
    rank = {}
    for name, title in METHODS:
        rank[name] = spearman([0, *times], [control[name], *means[name]])
        row = [f"{v:.2f}" for v in [control[name], *means[name]]] + [f"{rank[name]:.2f}"]
        print(f"| {title} | " + " | ".join(row) + " |")
    print()
    print("| membership | AUC | TPR at 1 % FPR, % | AUC of the control | ε at least | verdict |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name, title in METHODS:
        m = membership[name]
        print(f"| {title} | {shown(m['membership_auc', ''], 3)} | {shown(m['membership_tpr_1', ''], 1)} | "
              f"{shown(m['membership_control_auc', ''], 3)} | {shown(m['membership_epsilon', ''])} | {m['membership_auc', '']['verdict']} |")

    total = {name: sum(v) / len(v) for name, v in means.items()}
    wrong = [f"{name}: the control is {e['exposure_mean', '']['verdict']}" for name, e in exposure.items() if e["exposure_mean", ""]["verdict"] != "ok"]
    if rank["brief"] < 0.9:
        wrong.append(f"brief training: rank correlation {rank['brief']:.2f}")
    for less, more in (("lora", "full"), ("private", "lora")):
        if total[less] > total[more] + 0.5:
            wrong.append(f"{less} remembers more ({total[less]:.2f} bits) than {more} ({total[more]:.2f})")
    for text in wrong:
        print(text, file=sys.stderr)
    sys.exit(bool(wrong))


main()

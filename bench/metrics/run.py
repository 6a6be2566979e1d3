"""Speed of t5ctl's metrics against sacreBLEU and rouge-score, taking turns on the same files.

    python3 -m venv ~/.cache/t5ctl-bench/metrics
    ~/.cache/t5ctl-bench/metrics/bin/pip install -r bench/metrics/requirements.txt
    make build
    ~/.cache/t5ctl-bench/metrics/bin/python bench/metrics/run.py [ROUNDS] [--million]

3,000 segments: verses of the Bible corpus of the recipes as references, and as outputs the same verses
with words dropped, doubled, swapped and replaced (seeded). Every program is started anew; what counts
is the median of the wall clock time, start of the process included, and of the processor time, which
depends less on what else runs. Scores must be equal to the last digit. --million scores 1,000,000
segments and says how much memory that took.
"""

import gzip
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
T5CTL = os.environ.get("T5CTL", os.path.join(ROOT, "bin", "t5ctl"))
HERE = os.path.dirname(sys.executable)

SACREBLEU = """
import sys, sacrebleu
lines = lambda p: open(p, encoding="utf-8").read().splitlines()
m = {"bleu": sacrebleu.BLEU, "chrf": sacrebleu.CHRF, "ter": sacrebleu.TER}[sys.argv[1]]()
print(repr(m.corpus_score(lines(sys.argv[2]), [lines(sys.argv[3])]).score))
"""

ROUGE = """
import sys
from rouge_score import rouge_scorer
lines = lambda p: open(p, encoding="utf-8").read().splitlines()
types = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
s = rouge_scorer.RougeScorer(types)
each = [s.score(r, h) for h, r in zip(lines(sys.argv[2]), lines(sys.argv[3]))]
print(" ".join(repr(sum(e[t].fmeasure for e in each) / len(each) * 100) for t in types))
"""

PAIRED = """
import sys, sacrebleu
from sacrebleu.significance import PairedTest
lines = lambda p: open(p, encoding="utf-8").read().splitlines()
systems = [("Baseline: a", lines(sys.argv[2])), ("b", lines(sys.argv[4]))]
metrics = {"BLEU": sacrebleu.BLEU(references=[lines(sys.argv[3])]), "chrF2": sacrebleu.CHRF(references=[lines(sys.argv[3])]),
           "TER": sacrebleu.TER(references=[lines(sys.argv[3])])}
_, scores = PairedTest(systems, metrics, [lines(sys.argv[3])], test_type="bs", n_samples=1000)()
print(" ".join(repr(float(scores[k][1].p_value)) for k in metrics))
"""


def corpus(n, seed):
    """n references, and outputs made of them."""
    refs = []
    with gzip.open(os.path.join(ROOT, "recipes", "data", "bible-ylt-bbe", "train.jsonl.gz"), "rt", encoding="utf-8") as f:
        for line in f:
            refs.append(json.loads(line)["target"])
            if len(refs) == n:
                break
    while len(refs) < n:
        refs += refs[: n - len(refs)]
    rng = random.Random(seed)
    words = [w for r in refs[:500] for w in r.split()]
    hyps = []
    for r in refs:
        out = []
        for w in r.split():
            x = rng.random()
            if x < 0.06:
                continue
            out += [w, w] if x < 0.09 else [rng.choice(words)] if x < 0.2 else [w]
        if len(out) > 3 and rng.random() < 0.5:
            i, j = rng.randrange(len(out)), rng.randrange(len(out))
            out[i], out[j] = out[j], out[i]
        hyps.append(" ".join(out))
    return hyps, refs


def write(path, lines):
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


def run(command):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return out, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(metrics, hyp, ref):
    command = [T5CTL, "eval", "score", "--json", "--hypotheses", hyp, "--references", ref]
    for m in metrics:
        command += ["--metric", m]
    return command, lambda out: [m["score"] for m in json.loads(out)["metrics"]]


def theirs(program, name, *files):
    return [sys.executable, "-c", program, name, *files], lambda out: [float(x) for x in out.split()]


def main():
    rounds = next((int(a) for a in sys.argv[1:] if a.isdigit()), 5)
    with tempfile.TemporaryDirectory() as folder:
        hyps, refs = corpus(3000, 1)
        other, _ = corpus(3000, 2)
        hyp, ref, two = (os.path.join(folder, n) for n in ("hyp.txt", "ref.txt", "other.txt"))
        write(hyp, hyps), write(ref, refs), write(two, other)
        rouges = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
        works = [(m, ours([m], hyp, ref), theirs(SACREBLEU, m, hyp, ref)) for m in ("bleu", "chrf", "ter")]
        works.append(("rouge", ours(rouges, hyp, ref), theirs(ROUGE, "rouge", hyp, ref)))
        for name, path in (("a", hyp), ("b", two)):
            command, _ = ours(["bleu", "chrf", "ter"], path, ref)
            subprocess.run(command + ["--output", os.path.join(folder, name)], check=True, capture_output=True)
        compare = [T5CTL, "eval", "compare", os.path.join(folder, "a"), os.path.join(folder, "b"), "--trials", "1", "--json"]
        works.append(("1,000 paired resamples", (compare, lambda out: [m["bootstrap_p"] for m in json.loads(out)["metrics"]]),
                      theirs(PAIRED, "bs", hyp, ref, two)))
        print("| work | t5ctl s | reference s | ratio | processor: t5ctl s | reference s | ratio | same |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
        for name, a, b in works:
            times, results = {0: [], 1: []}, {}
            for _ in range(rounds):
                for side, (command, parse) in enumerate((a, b)):
                    out, wall, cpu = run(command)
                    times[side].append((wall, cpu))
                    results[side] = parse(out)
            w = [statistics.median(t[0] for t in times[s]) for s in (0, 1)]
            c = [statistics.median(t[1] for t in times[s]) for s in (0, 1)]
            print(f"| {name} | {w[0]:.3f} | {w[1]:.3f} | {w[0] / w[1]:.3f} | {c[0]:.3f} | {c[1]:.3f} | {c[0] / c[1]:.3f} | {results[0] == results[1]} |", flush=True)
        if "--million" in sys.argv:
            million(folder)


def million(folder):
    for n in (100_000, 1_000_000):
        hyps, refs = corpus(n, 3)
        hyp, ref = os.path.join(folder, "h"), os.path.join(folder, "r")
        write(hyp, hyps), write(ref, refs)
        command, _ = ours(["bleu", "chrf"], hyp, ref)
        start = time.perf_counter()
        process, peak = subprocess.Popen(command, stdout=subprocess.DEVNULL), 0
        while process.poll() is None:  # getrusage would count this process's own memory before exec
            peak = memory(process.pid) or peak
            time.sleep(0.02)
        assert process.returncode == 0
        print(f"{n} segments, BLEU and chrF: {time.perf_counter() - start:.1f} s, {peak} MiB", flush=True)


def memory(pid):
    """Most memory that a process has had, in MiB."""
    try:
        with open(f"/proc/{pid}/status") as f:
            return next((int(line.split()[1]) // 1024 for line in f if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


if __name__ == "__main__":
    main()

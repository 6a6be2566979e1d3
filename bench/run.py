"""Speed and memory of t5ctl beside transformers + peft (and CTranslate2 in decoding): same machine, same model, same token ids, taking turns.

    python3 -m venv ~/.cache/t5ctl-bench/venv
    ~/.cache/t5ctl-bench/venv/bin/pip install -r bench/requirements.txt
    make build
    ~/.cache/t5ctl-bench/venv/bin/python bench/run.py                      # everything, 5 rounds
    ~/.cache/t5ctl-bench/venv/bin/python bench/run.py train-full --rounds 7
    ~/.cache/t5ctl-bench/venv/bin/python bench/run.py --readme             # and put the table into bench/README.md

Each measurement is a process of its own that does one work and ends, so that its peak memory is that work's. In each
round every side has one turn, the first side being another each time. bench/README.md says what is compared.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "t5ctl-bench"
PEER, TRAINER, CT2 = "transformers", "Seq2SeqTrainer", "ctranslate2"

TRAIN = ["--batch", "8", "--input-tokens", "128", "--target-tokens", "64"]
DECODE = ["--batch", "8", "--input-tokens", "128", "--new-tokens", "64"]
SINGLE = ["--batch", "1", "--input-tokens", "32", "--new-tokens", "32"]

# name: command, flags that both sides take, repetitions that count in one turn
WORKS = {
    "train-full": ("train", ["--method", "full", *TRAIN], 4),
    "train-lora": ("train", ["--method", "lora", "--rank", "16", "--alpha", "32", "--targets", "q,v", *TRAIN], 4),
    "greedy": ("decode", ["--beams", "1", *DECODE], 3),
    "beam4": ("decode", ["--beams", "4", *DECODE], 2),
    "greedy-single": ("decode", ["--beams", "1", *SINGLE], 20),
    "greedy-int8": ("decode", ["--beams", "1", *DECODE], 3),
    "beam4-int8": ("decode", ["--beams", "4", *DECODE], 2),
    "greedy-bf16": ("decode", ["--beams", "1", *DECODE], 3),
    "beam4-bf16": ("decode", ["--beams", "4", *DECODE], 2),
}


def commands(work, args):
    kind, flags, repeat = WORKS[work]
    flags = [*flags, "--warmup", "1", "--repeat", str(args.repeat or repeat), "--model", str(args.model)]
    # transformers stays in fp32 where the work's name says otherwise: on a CPU that is its fastest
    suffix = work.rpartition("-")[2]
    ours = suffix if suffix in ("int8", "bf16") else args.precision
    theirs = args.precision if suffix in ("int8", "bf16") else ours
    peer = [sys.executable, str(HERE / kind / "peer.py"), *flags, "--precision", theirs]
    sides = {"t5ctl": [str(args.t5ctl), "bench", kind, *flags, "--precision", ours, "--json", *args.t5ctl_flags.split()], PEER: peer}
    if kind == "decode" and suffix != "bf16":
        sides[CT2] = [sys.executable, str(HERE / kind / "ctranslate2_peer.py"), *flags, "--precision", ours]
    if kind == "train" and args.trainer:
        sides[TRAINER] = [*peer, "--loop", "trainer"]
    return sides


def turn(command):
    """Runs one process; gives its repetitions, its peak resident memory in MiB and how long it took."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        out.seek(0), errors.seek(0)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\nexit {process.returncode}\n{errors.read()[-2000:]}")
        return repetitions(out.read()), usage.ru_maxrss / 1024, wall


def repetitions(text):
    """A line each from the peers; one value with them all from t5ctl."""
    try:
        return json.loads(text)["repetitions"]
    except (json.JSONDecodeError, KeyError):
        return [json.loads(line) for line in text.splitlines() if line.startswith('{"work"')]


def measure(work, args):
    sides = commands(work, args)
    found = {side: {"seconds": [], "rss": [], "first": [], "says": set()} for side in sides}
    for number in range(args.rounds):
        names = list(sides)
        names = names[number % len(names):] + names[: number % len(names)]
        for side in names:
            reps, rss, wall = turn(sides[side])
            counted = [r["seconds"] for r in reps if not r["warmup"]]
            f = found[side]
            f["seconds"].append(counted)
            f["rss"].append(rss)
            f["first"].append(reps[0]["since_start"])
            f["tokens"] = reps[-1]["tokens"]
            f["imports"] = reps[-1].get("imports_rss_mib", f.get("imports"))
            f["says"].add(says(reps[0]))
            print(f"  {work} round {number + 1}/{args.rounds} {side}: {statistics.median(counted):.3f} s, "
                  f"{rss:.0f} MiB, {wall:.0f} s in all, {says(reps[0])}", file=sys.stderr, flush=True)
    return found


def says(rep):
    """What a repetition gave, by which one sees that all sides did the same work."""
    return f"loss {rep['loss']:.4f}" if rep.get("loss") else rep.get("output", "")


def median(found):
    """The median of the turns' medians."""
    return statistics.median(statistics.median(s) for s in found["seconds"])


def p95(found):
    values = sorted(v for s in found["seconds"] for v in s)
    return values[min(len(values) - 1, round(0.95 * len(values)))]


def spread(found):
    values = [statistics.median(s) for s in found["seconds"]]
    return f"{min(values):.3f}–{max(values):.3f}"


def table(results):
    lines = ["| work | side | median s | least–most | p95 s | tokens/s | times as fast | peak memory MiB | of the peer's | gave |",
             "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |"]
    for work, sides in results.items():
        ours, peer = sides["t5ctl"], sides[PEER]
        for side, f in sides.items():
            rss = statistics.median(f["rss"])
            speed = "1" if side == PEER else f"**{median(peer) / median(f):.2f}**" if f is ours else f"{median(peer) / median(f):.2f}"
            memory = "1" if side == PEER else f"{rss / statistics.median(peer['rss']):.2f}"
            lines.append(f"| {work} | {side} | {median(f):.3f} | {spread(f)} | {p95(f):.3f} | {f['tokens'] / median(f):,.0f} "
                         f"| {speed} | {rss:,.0f} | {memory} | {', '.join(sorted(f['says']))} |")
    return "\n".join(lines)


def remarks(results, args):
    versions = subprocess.run([sys.executable, "-m", "pip", "list", "--format=json"], capture_output=True, text=True)
    have = {p["name"].lower(): p["version"] for p in json.loads(versions.stdout)}
    ours = subprocess.run([args.t5ctl, "version"], capture_output=True, text=True).stdout.strip().splitlines()
    rows = [f"Measured on {time.strftime('%Y-%m-%d', time.gmtime())} on {processor()}, {os.cpu_count()} cores, {args.precision}; "
            f"{args.rounds} rounds; load before: {args.load:.2f}.",
            f"{ours[0] if ours else 't5ctl'}; torch {have['torch']}, transformers {have['transformers']}, peft {have['peft']}, ctranslate2 {have['ctranslate2']}, "
            f"Python {platform.python_version()}."]
    imports = [f["imports"] for s in results.values() for f in s.values() if f.get("imports")]
    if imports:
        rows.append(f"Importing torch and transformers alone takes {statistics.median(imports):,.0f} MiB of a peer's memory "
                    "(the torch wheel is the one with CUDA).")
    for work, sides in results.items():
        if other := sides.get(CT2):
            ours = sides["t5ctl"]
            rows.append(f"{work}: t5ctl is {median(other) / median(ours):.2f} times as fast as CTranslate2 and takes "
                        f"{statistics.median(ours['rss']) / statistics.median(other['rss']):.2f} of its memory; p95 {p95(ours) / p95(other):.2f} of its.")
        first = {side: statistics.median(f["first"]) for side, f in sides.items()}
        rows.append(f"{work}: from the start of the process to the end of the first repetition (loading, compiling, the first run): "
                    + ", ".join(f"{seconds:.1f} s ({side})" for side, seconds in first.items())
                    + f"; {first['t5ctl'] / first[PEER]:.2f} times the peer's.")
    return "\n".join("- " + r for r in rows)


def processor():
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def into_readme(text):
    path = HERE / "README.md"
    before, _, rest = path.read_text().partition("<!-- table -->")
    _, _, after = rest.partition("<!-- /table -->")
    path.write_text(f"{before}<!-- table -->\n{text}\n<!-- /table -->{after}")


def arguments():
    parser = argparse.ArgumentParser(description="t5ctl against transformers and peft")
    parser.add_argument("works", nargs="*", default=[], metavar="WORK", help=" ".join(WORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=0, help="repetitions in a turn (default: by work)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--model", type=Path, default=CACHE / "t5-small-random", help="made by model.py where it is missing")
    parser.add_argument("--t5ctl", type=Path, default=HERE.parent / "bin" / "t5ctl")
    parser.add_argument("--t5ctl-flags", default="", help="as '--backend go'")
    parser.add_argument("--trainer", action="store_true", help="Seq2SeqTrainer as a third side of training")
    parser.add_argument("--readme", action="store_true", help="put the table into bench/README.md")
    parser.add_argument("--out", type=Path, help="JSON file for all measurements")
    parser.add_argument("--busy", action="store_true", help="measure although the machine is busy")
    args = parser.parse_args()
    if unknown := [w for w in args.works if w not in WORKS]:
        parser.error(f"no work {unknown[0]}; there are {' '.join(WORKS)}")
    args.load = os.getloadavg()[0]
    if args.load > 0.5 and not args.busy:
        parser.error(f"the machine is busy (load {args.load:.1f}); wait, or give --busy for a trial")
    return args


def main():
    args = arguments()
    if not (args.model / "config.json").exists():
        subprocess.run([sys.executable, str(HERE / "model.py"), str(args.model)], check=True)
    results = {work: measure(work, args) for work in args.works or WORKS}
    text = table(results) + "\n\n" + remarks(results, args)
    print(text)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1, default=list) + "\n")
    if args.readme:
        into_readme(text)


if __name__ == "__main__":
    main()

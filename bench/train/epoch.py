"""An epoch of fine-tuning on sentences of real lengths, from start to saved model: `t5ctl finetune` beside the
program that transformers' documentation shows (Seq2SeqTrainer, dynamic padding), taking turns.

    make build
    ~/.cache/t5ctl-bench/venv/bin/python bench/train/epoch.py            # 1,600 pairs, 16 a step, 3 rounds
    ~/.cache/t5ctl-bench/venv/bin/python bench/train/epoch.py --rows 320 --rounds 1 --busy

The pairs are the first of bible-ylt-bbe's training split, tokenized by T5's own vocabulary and cut at 128 tokens; the
model is that of bench/model.py. t5ctl packs them, with as many tokens in a step as 16 pairs have on average.
Both learn all weights in fp32 by AdamW. What is timed is the whole process.
"""

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "t5ctl-bench"
LENGTH, RATE = 128, 1e-4

RECIPE = """version: 1
name: epoch
base: {base}
data:
  train: {data}
  packing: true
  max_input: 128
  max_target: 128
train:
  method: full
  precision: {precision}
  epochs: 1
  tokens_per_batch: {tokens}
  optimizer: {{name: adamw, learning_rate: 1.0e-4, weight_decay: 0}}
  schedule: {{name: linear}}
  clip_norm: 1
  seed: 1
"""


def prepare(folder, rows):
    """The model with T5's vocabulary beside it, and the pairs."""
    base = folder / "base"
    shutil.copytree(CACHE / "t5-small-random", base)
    with gzip.open(ROOT / "internal/vocab/testdata/t5-spiece.model.gz") as packed:
        (base / "spiece.model").write_bytes(packed.read())
    (base / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 100}\n')
    with gzip.open(ROOT / "recipes/data/bible-ylt-bbe/train.jsonl.gz", "rt") as packed:
        pairs = [line for line, _ in zip(packed, range(rows))]
    (folder / "pairs.jsonl").write_text("".join(pairs))
    return base, folder / "pairs.jsonl"


def peer(args):
    """The documentation's program: this file again, as a process of its own."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import (AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq, Seq2SeqTrainer,
                              Seq2SeqTrainingArguments)

    tokenizer = AutoTokenizer.from_pretrained(args.base)
    model = AutoModelForSeq2SeqLM.from_pretrained(args.base)
    rows = []
    for line in Path(args.data).read_text().splitlines():
        pair = json.loads(line)
        row = dict(tokenizer(pair["input"], max_length=LENGTH, truncation=True))
        row["labels"] = tokenizer(text_target=pair["target"], max_length=LENGTH, truncation=True)["input_ids"]
        rows.append(row)
    trainer = Seq2SeqTrainer(
        model=model, train_dataset=rows, data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        args=Seq2SeqTrainingArguments(
            output_dir=args.output, per_device_train_batch_size=args.batch, num_train_epochs=1, learning_rate=RATE,
            save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, seed=1, bf16=args.precision == "bf16"))
    loss = trainer.train().training_loss
    trainer.save_model(args.output)
    print(json.dumps({"loss": loss}))


def timed(command):
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        said.seek(0)
        if status != 0:
            raise SystemExit(f"{' '.join(map(str, command))}\n{said.read()[-2000:]}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def padded(run):
    steps = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return statistics.mean(s["padded_share"] for s in steps if s["event"] == "step")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=16, help="pairs in a step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--t5ctl", type=Path, default=ROOT / "bin" / "t5ctl")
    parser.add_argument("--busy", action="store_true", help="measure although the machine is busy")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    for name in ("--base", "--data", "--output"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(args)
    if os.getloadavg()[0] > 0.5 and not args.busy:
        parser.error("the machine is busy; wait, or give --busy for a trial")
    with tempfile.TemporaryDirectory() as folder:
        compare(args, Path(folder))


def compare(args, folder):
    base, data = prepare(folder, args.rows)
    said = subprocess.run([args.t5ctl, "data", "inspect", data, "--model", base, "--row", "0", "--json"], check=True,
                          capture_output=True, text=True)
    found = json.loads(said.stdout)
    # The tokens of args.batch pairs fill 96 % of the packed rows.
    tokens = round(args.batch * (found["input"]["mean"] + found["target"]["mean"]) / 0.96)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(base=base, data=data, precision=args.precision, tokens=tokens))
    sides = {"t5ctl": [], "Seq2SeqTrainer": []}
    for number in range(args.rounds):
        for side in sorted(sides, reverse=number % 2 == 1):
            output = folder / f"{side}-{number}"
            if side == "t5ctl":
                command = [args.t5ctl, "finetune", recipe, "--output", output]
            else:
                command = [sys.executable, __file__, "--peer", "--base", base, "--data", data, "--output", output,
                           "--batch", str(args.batch), "--precision", args.precision]
            seconds, rss = timed([str(c) for c in command])
            sides[side].append((seconds, rss))
            print(f"round {number + 1} {side}: {seconds:.1f} s, {rss:.0f} MiB", file=sys.stderr, flush=True)
            if side == "t5ctl":
                share = padded(output)
    median = {side: [statistics.median(v) for v in zip(*turns)] for side, turns in sides.items()}
    peer_seconds, peer_rss = median["Seq2SeqTrainer"]
    print(f"{args.rows} pairs, {args.batch} a step, {args.precision}, {args.rounds} rounds; padded share of t5ctl's rows: {share:.3f}\n")
    print("| side | median s | pairs/s | times as fast | peak memory MiB | of the peer's |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for side, (seconds, rss) in median.items():
        print(f"| {side} | {seconds:.1f} | {args.rows / seconds:.1f} | {peer_seconds / seconds:.2f} | {rss:,.0f} | {rss / peer_rss:.2f} |")


if __name__ == "__main__":
    main()

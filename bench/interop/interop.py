"""Do transformers and peft, and t5ctl, read each other's folders and make the same of them?

    make build
    ~/.cache/t5ctl-bench/venv/bin/python bench/interop/interop.py [--keep DIR]

There: a small byte-level model and adapters (LoRA, rsLoRA, DoRA, with patterns of ranks, with modules_to_save) are
made and saved by transformers and peft, and t5ctl reads them. Back: t5ctl fine-tunes that model in full and with each
kind of adapter, merges one, and transformers and peft load the results.
Both ways each side gives the log-probability of each of some targets after each of some sources, and the greedy and
beam-4 outputs. Log-probabilities of whole texts may differ by 1e-4 a token; texts must be the same, except where
the search itself hangs on rounding (none does with the seed used). Exit 1 when anything differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSeq2SeqLM, ByT5Tokenizer, T5Config, T5ForConditionalGeneration
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

ROOT = Path(__file__).resolve().parent.parent.parent
NEW_TOKENS = 16
TOLERANCE = 1e-4  # of a log-probability, for each token

SOURCES = ["hello", "reverse me", "a", "the quick brown fox jumps", "Straße 42", ""]
TARGETS = ["olleh", "em esrever", "", "zzz", "été", "abcdefghijklmnop", "é", "a", "42"]

RECIPE = """\
version: 1
name: {name}
base: {base}
data:
  train: train.jsonl
  validation: train.jsonl
  max_input: 48
  max_target: 48
train:
  method: {method}
  lora: {{rank: 4, alpha: 8, targets: {targets}{more}}}
  optimizer: {{name: adamw, learning_rate: 0.003}}
  steps: 12
  batch: 8
  seed: 3
"""


def words(count, generator):
    lengths = torch.randint(2, 12, (count,), generator=generator).tolist()
    return ["".join(chr(97 + i) for i in torch.randint(0, 26, (n,), generator=generator).tolist()) for n in lengths]


def make_base(folder, tokenizer):
    """A byte-level T5 1.1 that has learned for a moment to write words backwards, so that it writes letters."""
    torch.manual_seed(4)
    config = T5Config(vocab_size=384, d_model=48, d_kv=16, d_ff=64, num_layers=3, num_decoder_layers=1, num_heads=4,
                      feed_forward_proj="gated-gelu", tie_word_embeddings=False, dropout_rate=0.0,
                      decoder_start_token_id=0)
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(0.05 * torch.randn(384, 48))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(5)
    for _ in range(60):
        batch = words(16, generator)
        x = tokenizer(batch, padding=True, return_tensors="pt")
        y = tokenizer([w[::-1] for w in batch], padding=True, return_tensors="pt").input_ids
        optimizer.zero_grad()
        model(**x, labels=y.masked_fill(y == 0, -100)).loss.backward()
        optimizer.step()
    model.save_pretrained(folder, max_shard_size="40KB")  # several files and their index
    tokenizer.save_pretrained(folder)


# Kinds of adapters: what peft calls them, and what a recipe does.
KINDS = {
    "rsLoRA": ({"use_rslora": True}, ", rslora: true"),
    "DoRA": ({"use_dora": True}, ", dora: true"),
    "LoRA with patterns": ({"rank_pattern": {"v": 2}, "alpha_pattern": {"v": 3}}, ", rank_pattern: {v: 2}, alpha_pattern: {v: 3}"),
    "LoRA with modules_to_save": ({"modules_to_save": ["lm_head"]}, ", modules_to_save: [lm_head]"),
}


def make_adapter(folder, base, **kind):
    model = get_peft_model(load(base), LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, lora_alpha=8, target_modules=["q", "v", "wo"], **kind))
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if p.requires_grad:
                noise = 0.1 * torch.randn(p.shape, generator=generator)
                p.copy_(noise if "lora_A" in name or "lora_B" in name else p * (1 + noise))
    model.save_pretrained(folder)


def load(folder, adapter=None):
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


@torch.no_grad()
def ask_transformers(folder, adapter, tokenizer):
    model = load(folder, adapter)
    said = {"log_probs": [], "greedy": [], "beam4": []}
    for source in SOURCES:
        x = tokenizer([source], return_tensors="pt")
        row = []
        for target in TARGETS:
            y = tokenizer([target], return_tensors="pt").input_ids
            logp = torch.log_softmax(model(**x, labels=y).logits, -1)
            row.append(logp.gather(-1, y[..., None]).double().sum().item())
        said["log_probs"].append(row)
        for key, beams in (("greedy", 1), ("beam4", 4)):
            out = model.generate(**x, num_beams=beams, do_sample=False, max_new_tokens=NEW_TOKENS, length_penalty=1.0,
                                 early_stopping=False)
            said[key].append(tokenizer.decode(out[0], skip_special_tokens=True))
    return said


def ask_t5ctl(probe, folder, adapter, backend):
    command = [str(probe), "-model", str(folder), "-backend", backend] + (["-adapter", str(adapter)] if adapter else [])
    asked = json.dumps({"sources": SOURCES, "targets": TARGETS, "max_new_tokens": NEW_TOKENS})
    return json.loads(subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout)


def compare(what, ours, theirs, tokenizer):
    lengths = [len(tokenizer(t).input_ids) for t in TARGETS]
    worst = max(abs(a - b) / n for x, y in zip(ours["log_probs"], theirs["log_probs"]) for a, b, n in zip(x, y, lengths))
    texts = sum(a != b for key in ("greedy", "beam4") for a, b in zip(ours[key], theirs[key]))
    good = worst <= TOLERANCE and texts == 0
    print(f"{'same     ' if good else 'DIFFERENT'} {what}: log-probabilities within {worst:.1e} a token, "
          f"{texts} of {2 * len(SOURCES)} outputs differ (as {theirs['greedy'][0]!r})", flush=True)
    return good


def finetune(t5ctl, folder, base, method, targets, backend, more=""):
    name = "".join(c if c.isalnum() else "-" for c in f"{method}-{targets}{more}").strip("-").lower()[:60].strip("-")
    recipe = folder / f"{name}.yaml"
    recipe.write_text(RECIPE.format(name=name, base=base, method=method, targets=targets, more=more))
    run(t5ctl, "finetune", recipe, "--output", folder / name, "--backend", backend, "--quiet")
    return folder / name


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\nexit {done.returncode}\n{done.stderr}")


def check(folder, args):
    tokenizer = ByT5Tokenizer()
    base, adapter = folder / "base", folder / "adapter"
    make_base(base, tokenizer)
    make_adapter(adapter, base)
    generator = torch.Generator().manual_seed(8)
    rows = [{"input": w, "target": w.upper()} for w in words(64, generator)]
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    probe = folder / "probe"
    run("go", "build", "-C", ROOT, "-o", probe, "./bench/interop/probe")

    full = finetune(args.t5ctl, folder, base, "full", "[q, v]", args.backend) / "model"
    lora = finetune(args.t5ctl, folder, base, "lora", "[q, v]", args.backend) / "adapter"
    wide = finetune(args.t5ctl, folder, base, "lora", "all-linear", args.backend) / "adapter"
    merged = folder / "merged"
    run(args.t5ctl, "model", "merge", base, "--adapter", wide, "--output", merged, "--quiet")
    cases = {
        "a model of transformers": (base, None), "an adapter of peft": (base, adapter),
        "a model of t5ctl": (full, None), "an adapter of t5ctl": (base, lora),
        "an adapter of t5ctl on all projections": (base, wide), "the same, merged by t5ctl": (merged, None),
    }
    for what, (kind, more) in KINDS.items():
        theirs = folder / f"peft {what}"
        make_adapter(theirs, base, **kind)
        cases[f"{what} of peft"] = (base, theirs)
        cases[f"{what} of t5ctl"] = (base, finetune(args.t5ctl, folder, base, "lora", "[q, v]", args.backend, more) / "adapter")
    good, seen = True, []
    for what, (model, over) in cases.items():
        theirs = ask_transformers(model, over, tokenizer)
        good &= compare(what, ask_t5ctl(probe, model, over, args.backend), theirs, tokenizer)
        seen.append(theirs["log_probs"][0][0])
    apart = seen[:5] + seen[6:]
    if len({round(x, 4) for x in apart}) < len(apart):
        raise SystemExit("adapters or training changed nothing: the comparison says nothing")
    if abs(seen[4] - seen[5]) > 1e-3:
        raise SystemExit("merging changed the model")
    return good


def main():
    parser = argparse.ArgumentParser(description="t5ctl, transformers and peft on each other's folders")
    parser.add_argument("--t5ctl", type=Path, default=ROOT / "bin" / "t5ctl")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--keep", type=Path, help="work in this folder, which must not exist, and keep it")
    args = parser.parse_args()
    if args.keep:
        args.keep.mkdir(parents=True)
        good = check(args.keep.resolve(), args)
    else:
        with tempfile.TemporaryDirectory() as folder:
            good = check(Path(folder), args)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

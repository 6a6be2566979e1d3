"""Writes internal/t5/testdata/train: a tiny model's losses over 50 steps of training in transformers.

    ~/.cache/t5ctl-bench/venv/bin/python internal/t5/testdata/gen/make_training.py

  model/                the weights every run starts from (T5 1.0, tied head), as transformers initialises them
  training.json         the batches, the settings of each run, its loss per step
  training.safetensors  RUN.NAME: two weights after the last step of each run

Eager attention, fp32, one thread, dropout 0. The loss of a step is the mean cross entropy over the step's labels that
are not -100, before the step's update. Step i (from 0) takes batch i modulo the number of batches; a run with
"accumulate" n takes n batches a step, (n*i .. n*i+n-1) modulo their number, and its loss is the mean over the tokens of
all of them. "learning_rates" has the rate of each step. Each run is repeated in fp64: "largest_drift" is the largest
relative difference of a step's loss between the two, so that a tolerance of 1e-4 has a meaning.
"""

import json
import math
import shutil
from pathlib import Path

import torch
import transformers
from make_fixtures import EOS, IGNORE, PAD, ROOT, architecture, dump
from safetensors.torch import save_file
from transformers.optimization import Adafactor

STEPS, BATCHES, ROWS, WARMUP = 50, 8, 4, 10
SEED = 7
KEPT = ["shared.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]

CONFIG = dict(
    model_type="t5", architectures=["T5ForConditionalGeneration"], feed_forward_proj="relu", d_model=32, d_kv=12,
    d_ff=48, num_heads=4, num_layers=2, num_decoder_layers=2, vocab_size=96, relative_attention_num_buckets=8,
    relative_attention_max_distance=16, dropout_rate=0.0, layer_norm_epsilon=1e-6, initializer_factor=1.0,
    is_encoder_decoder=True, use_cache=True, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD,
)

ADAMW = dict(optimizer="adamw", betas=[0.9, 0.999], eps=1e-8, accumulate=1)
ADAFACTOR = dict(optimizer="adafactor", scale_parameter=True, weight_decay=0.0, eps=[1e-30, 1e-3],
                 clip_threshold=1.0, decay_rate=-0.8, schedule="constant", clip_norm=0.0, accumulate=1)
RUNS = {
    "adamw": dict(ADAMW, learning_rate=1e-3, weight_decay=0.0, schedule="constant", clip_norm=0.0),
    # Decoupled decay of all weights but the layer norms, global-norm clipping as torch.nn.utils.clip_grad_norm_,
    # and a linear schedule over 50 steps with 10 of warm-up: (i + 1) / 10, then (50 - i) / 40 of the rate.
    "adamw-decay-clip-linear": dict(ADAMW, learning_rate=3e-3, weight_decay=0.1, schedule="linear", warmup=WARMUP,
                                    clip_norm=1.0),
    "adamw-accumulate": dict(ADAMW, learning_rate=1e-3, weight_decay=0.0, schedule="constant", clip_norm=0.0)
    | {"accumulate": 3},
    "adafactor": dict(ADAFACTOR, learning_rate=1e-2, relative_step=False),
    # Its rate min(1e-2, 1/sqrt(t)) stays at 1e-2 until step 10,000, so the losses are those of the run above.
    "adafactor-relative": dict(ADAFACTOR, learning_rate=None, relative_step=True),
    "adafactor-unscaled": dict(ADAFACTOR, learning_rate=1e-3, relative_step=False) | {"scale_parameter": False},
}


def batches():
    """Short sentences and a rule to learn: the target is the input backwards, each id one higher."""
    generator = torch.Generator().manual_seed(SEED)
    out = []
    for _ in range(BATCHES):
        inputs = torch.full((ROWS, 20), PAD)
        labels = torch.full((ROWS, 14), IGNORE)
        for row in range(ROWS):
            n = int(torch.randint(4, 20, (1,), generator=generator))
            words = torch.randint(3, CONFIG["vocab_size"] - 1, (n,), generator=generator)
            inputs[row, :n], inputs[row, n] = words, EOS
            target = (words.flip(0) + 1)[:13]
            labels[row, : len(target)], labels[row, len(target)] = target, EOS
        out.append((inputs, labels))
    return out


def write_model(folder):
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(SEED)
    cls = architecture("t5")
    model = cls(cls.config_class(**CONFIG)).float()
    model.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


def load(folder, dtype):
    model = architecture("t5").from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.to(dtype).train()


def optimizer_of(model, run):
    named = list(model.named_parameters())
    if run["optimizer"] == "adamw":
        groups = [
            {"params": [p for n, p in named if "layer_norm" not in n], "weight_decay": run["weight_decay"]},
            {"params": [p for n, p in named if "layer_norm" in n], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=run["learning_rate"], betas=tuple(run["betas"]), eps=run["eps"], foreach=False)
    return Adafactor(
        [p for _, p in named], lr=run["learning_rate"], eps=tuple(run["eps"]), clip_threshold=run["clip_threshold"],
        decay_rate=run["decay_rate"], beta1=None, weight_decay=run["weight_decay"],
        scale_parameter=run["scale_parameter"], relative_step=run["relative_step"], warmup_init=False)


def rates_of(run):
    if run["optimizer"] == "adafactor" and run["relative_step"]:
        return [min(1e-2, 1 / math.sqrt(t)) for t in range(1, STEPS + 1)]
    if run["schedule"] == "linear":
        scale = [(i + 1) / WARMUP if i < WARMUP else (STEPS - i) / (STEPS - WARMUP) for i in range(STEPS)]
        return [run["learning_rate"] * s for s in scale]
    return [run["learning_rate"]] * STEPS


def train(folder, run, data, dtype):
    model = load(folder, dtype)
    optimizer = optimizer_of(model, run)
    losses, norms = [], []
    for step, rate in enumerate(rates_of(run)):
        if run["learning_rate"] is not None:
            for group in optimizer.param_groups:
                group["lr"] = rate
        optimizer.zero_grad()
        n = run["accumulate"]
        micro = [data[(n * step + k) % len(data)] for k in range(n)]
        tokens = sum(int((labels != IGNORE).sum()) for _, labels in micro)
        total = 0.0
        for inputs, labels in micro:
            logits = model(input_ids=inputs, attention_mask=(inputs != PAD).long(), labels=labels).logits
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum") / tokens
            loss.backward()
            total += loss.item()
        losses.append(total)
        limit = run["clip_norm"] or math.inf
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), limit, foreach=False).item())
        optimizer.step()
    return model, losses, norms


def main():
    folder = ROOT / "train"
    folder.mkdir(exist_ok=True)
    write_model(folder / "model")
    data = batches()
    tensors, runs = {}, {}
    for name, run in RUNS.items():
        model, losses, norms = train(folder / "model", run, data, torch.float32)
        _, exact, _ = train(folder / "model", run, data, torch.float64)
        drift = max(abs(a - b) / b for a, b in zip(losses, exact))
        print(f"{name}: {losses[0]:.4f} -> {losses[-1]:.4f}, largest drift from fp64 {drift:.1e}")
        if drift > 3e-5:
            raise SystemExit(f"{name}: too sensitive to rounding to be held to 1e-4")
        weights = dict(model.named_parameters())
        tensors |= {f"{name}.{n}": weights[n].detach().contiguous() for n in KEPT}
        runs[name] = {"settings": run, "learning_rates": rates_of(run), "losses": losses, "gradient_norms": norms,
                      "largest_drift": drift}
    save_file(tensors, folder / "training.safetensors", metadata={"format": "pt"})
    (folder / "training.safetensors").chmod(0o644)
    (folder / "training.json").write_text(dump({
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]},
        "steps": STEPS, "kept": KEPT,
        "batches": [{"input_ids": i.tolist(), "labels": t.tolist()} for i, t in data],
        "runs": runs,
    }))


if __name__ == "__main__":
    main()

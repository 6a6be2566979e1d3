"""Writes internal/lora/testdata/preferences.json: what TRL says of pairs, and 20 steps of training on them.

    ~/.cache/t5ctl-bench/venv/bin/pip install --no-deps trl==0.11.4   # the last line whose DPO knows encoder-decoders
    ~/.cache/t5ctl-bench/venv/bin/python internal/lora/testdata/gen/make_preferences.py

The losses are DPOTrainer.dpo_loss of TRL 0.11.4 over its get_batch_logps, both taken from its source as they stand: the
package as a whole asks for older libraries. The model is internal/t5/testdata/train/model with the adapter of
train/q-v/init, the reference is the same with the adapter off. Chosen are the labels of train/training.json, rejected
those of the next row of the batch. A step's loss is the mean over pairs before the update; AdamW without decay, constant
rate, no clipping, no dropout. "right" is the share of pairs whose chosen text has the higher reward.
"""

import ast
import json
import sys
from importlib.metadata import distribution
from types import SimpleNamespace
from typing import Dict, List, Literal, Optional, Tuple, Union

from make_adapters import HERE, T5

import torch
import torch.nn.functional as F
from make_fixtures import PAD, dump, load
from peft import PeftModel

STEPS, RATE = 20, 1e-2
RUNS = {"sigmoid": dict(beta=0.1, label_smoothing=0.0), "smoothed": dict(beta=0.5, label_smoothing=0.1)}


def functions():
    package = distribution("trl")
    assert package.version == "0.11.4"
    source = ast.parse(package.locate_file("trl/trainer/dpo_trainer.py").read_text())
    wanted = [n for n in ast.walk(source) if isinstance(n, ast.FunctionDef) and n.name in ("dpo_loss", "get_batch_logps")]
    for n in wanted:
        n.decorator_list = []
    names = SimpleNamespace(ALPHA_DIVERGENCE=SimpleNamespace(value="alpha"), JS_DIVERGENCE=SimpleNamespace(value="js"))
    scope = dict(torch=torch, F=F, FDivergenceType=names, Dict=Dict, List=List, Literal=Literal, Optional=Optional, Tuple=Tuple, Union=Union)
    exec(compile(ast.Module(wanted, []), "dpo_trainer.py", "exec"), scope)
    return scope["dpo_loss"], scope["get_batch_logps"]


def run(settings, batches, dtype):
    dpo_loss, get_batch_logps = functions()
    trainer = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"), reference_free=False, f_divergence_type="reverse_kl",
                              loss_type="sigmoid", **settings)
    model = PeftModel.from_pretrained(load(T5 / "train" / "model", "t5"), HERE / "train" / "q-v" / "init", is_trainable=True).to(dtype).eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, betas=(0.9, 0.999), eps=1e-8,
                                  weight_decay=0.0, foreach=False)
    losses, right = [], []
    for step in range(STEPS):
        b = batches[step % len(batches)]
        inputs, chosen = torch.tensor(b["input_ids"]), torch.tensor(b["labels"])

        def logps(labels):
            logits = model(input_ids=inputs, attention_mask=(inputs != PAD).long(), labels=labels.clone()).logits
            return get_batch_logps(logits, labels.clone(), is_encoder_decoder=True)[0]

        pair = chosen, chosen.roll(-1, 0)
        with torch.no_grad(), model.disable_adapter():
            reference = [logps(x) for x in pair]
        loss, good, bad = dpo_loss(trainer, *[logps(x) for x in pair], *reference)
        loss = loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        right.append((good > bad).double().mean().item())
    return losses, right


if __name__ == "__main__":
    batches = json.loads((T5 / "train" / "training.json").read_text())["batches"]
    out = {}
    for name, settings in RUNS.items():
        (losses, right), (exact, _) = run(settings, batches, torch.float32), run(settings, batches, torch.float64)
        drift = max(abs(a - b) / b for a, b in zip(losses, exact))
        print(f"{name}: {losses[0]:.4f} -> {losses[-1]:.4f}, right {right[0]} -> {right[-1]}, largest drift from fp64 {drift:.1e}")
        if drift > 3e-5:
            raise SystemExit("too sensitive to rounding")
        out[name] = {"settings": {**settings, "learning_rate": RATE}, "losses": losses, "right": right, "largest_drift": drift}
    (HERE / "preferences.json").write_text(dump({
        "made_with": {"trl": "0.11.4", "torch": torch.__version__.split("+")[0]}, "runs": out}))

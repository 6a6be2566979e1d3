"""Writes internal/lora/testdata: PEFT adapters on a tiny model, what they give, and 20 steps of their training.

    ~/.cache/t5ctl-bench/venv/bin/python internal/lora/testdata/gen/make_adapters.py

  NAME/                 adapter folders as peft's save_pretrained writes them, with random weights in A and B
  adapters.json         NAME: settings, loss, the greedy ids, the names that the adapter sits on
  adapters.safetensors  NAME.logits under the adapter, NAME.merged_logits (two of them) after merge_and_unload,
                        NAME.merged.WEIGHT one merged weight of the base
  train/RUN/init/       the adapter that a training run starts from (A drawn by peft, B zero)
  train/RUN/final/      the same adapter after the run
  training.json         each run's settings and its loss per step

The base of the adapters is internal/t5/testdata/t5-1.1 with the input ids and labels of its fixture.json; that of the
training runs is internal/t5/testdata/train/model with the batches of train/training.json, in their order, without
dropout. Losses are means over the labels that are not -100, before the step's update; AdamW without decay, constant
rate, no clipping. "largest_drift" is the largest relative difference of a loss from the same run in fp64.
"""

import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
T5 = HERE.parent.parent / "t5" / "testdata"
sys.path.insert(0, str(T5 / "gen"))

import peft
import torch
from make_fixtures import GENERATIONS, IGNORE, PAD, dump, generate, greedy_gap, load
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

STEPS = 20
MERGED = "encoder.block.0.layer.0.SelfAttention.v.weight"

# What the adapters look like.
ADAPTERS = {
    "q-v": dict(r=4, lora_alpha=8, target_modules=["q", "v"]),
    "all-linear-rslora": dict(r=4, lora_alpha=8, target_modules="all-linear", use_rslora=True),
    "regex": dict(r=4, lora_alpha=8, target_modules=r"decoder\..*\.EncDecAttention\.(k|v)|encoder\..*\.v"),
    "patterns": dict(r=4, lora_alpha=8, target_modules=["q", "v", "wo"], rank_pattern={"v": 2, r"decoder\..*\.q": 6},
                     alpha_pattern={"wo": 3}),
    "dora": dict(r=4, lora_alpha=8, target_modules=["q", "v"], use_dora=True),
    "modules-to-save": dict(r=4, lora_alpha=8, target_modules=["q", "v"], modules_to_save=["lm_head"]),
}

RUNS = {
    "q-v": dict(r=4, lora_alpha=8, target_modules=["q", "v"], learning_rate=1e-2),
    "all-linear-rslora": dict(r=4, lora_alpha=8, target_modules="all-linear", use_rslora=True, learning_rate=5e-3),
    "dora": dict(r=4, lora_alpha=8, target_modules=["q", "v"], use_dora=True, learning_rate=1e-2),
    "modules-to-save": dict(r=4, lora_alpha=8, target_modules=["q", "v"], modules_to_save=["final_layer_norm"], learning_rate=5e-3),
}


def adapted(base, settings, seed):
    torch.manual_seed(seed)
    return get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", lora_dropout=0.0, **settings))


def save(model, folder, base_name):
    """Saves an adapter; its config names the base by a plain name and not by a path of this machine."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = base_name
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # a set in memory
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "lora_A" in name or "lora_B" in name:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.08)
            elif "lora_magnitude" in name:
                p.mul_(1 + 0.1 * torch.randn(p.shape, generator=generator))
            elif p.requires_grad:
                p.add_(0.05 * torch.randn(p.shape, generator=generator))


def write_adapters():
    fixture = json.loads((T5 / "t5-1.1" / "fixture.json").read_text())
    inputs, labels = torch.tensor(fixture["input_ids"]), torch.tensor(fixture["labels"])
    facts, tensors = {}, {}
    for number, (name, settings) in enumerate(ADAPTERS.items()):
        model = adapted(load(T5 / "t5-1.1", "t5"), settings, number)
        randomise(model, 100 + number)
        save(model, HERE / name, "t5-1.1")

        model = PeftModel.from_pretrained(load(T5 / "t5-1.1", "t5"), HERE / name).eval()
        call = dict(input_ids=inputs, attention_mask=(inputs != PAD).long(), labels=labels)
        with torch.no_grad():
            out = model(**call)
            ids, steps = generate(model, inputs, GENERATIONS["greedy"])
            merged = model.merge_and_unload()
            after = merged(**call)
        tensors[f"{name}.logits"] = out.logits
        if name in ("q-v", "all-linear-rslora"):
            tensors[f"{name}.merged_logits"] = after.logits
        tensors[f"{name}.merged.{MERGED}"] = merged.get_parameter(MERGED).detach()
        if greedy_gap(ids, steps) < 1e-3:
            raise SystemExit(f"{name}: the greedy output hangs on rounding; choose another seed")
        difference = (out.logits - after.logits).abs().max().item()
        print(f"{name}: loss {out.loss.item():.4f} (base {fixture['loss']:.4f}), merging changes logits by {difference:.1e}")
        saved = json.loads((HERE / name / "adapter_config.json").read_text())
        facts[name] = {"settings": settings, "loss": out.loss.item(), "greedy": ids,
                       "merging_changes_logits_by": difference, "target_modules": saved["target_modules"]}
    save_file({k: v.contiguous() for k, v in tensors.items()}, HERE / "adapters.safetensors", metadata={"format": "pt"})
    (HERE / "adapters.safetensors").chmod(0o644)
    (HERE / "adapters.json").write_text(dump({"made_with": versions(), "base": "t5-1.1", "adapters": facts}))


def versions():
    return {"peft": peft.__version__, "torch": torch.__version__.split("+")[0]}


def train(folder, rate, batches, dtype):
    base = load(T5 / "train" / "model", "t5")
    model = PeftModel.from_pretrained(base, folder, is_trainable=True).to(dtype).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, betas=(0.9, 0.999),
                                  eps=1e-8, weight_decay=0.0, foreach=False)
    losses = []
    for step in range(STEPS):
        b = batches[step % len(batches)]
        inputs, labels = torch.tensor(b["input_ids"]), torch.tensor(b["labels"])
        optimizer.zero_grad()
        logits = model(input_ids=inputs, attention_mask=(inputs != PAD).long(), labels=labels).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def write_training():
    batches = json.loads((T5 / "train" / "training.json").read_text())["batches"]
    runs = {}
    for number, (name, run) in enumerate(RUNS.items()):
        folder = HERE / "train" / name
        settings = {k: v for k, v in run.items() if k != "learning_rate"}
        save(adapted(load(T5 / "train" / "model", "t5"), settings, 200 + number), folder / "init", "train/model")
        model, losses = train(folder / "init", run["learning_rate"], batches, torch.float32)
        _, exact = train(folder / "init", run["learning_rate"], batches, torch.float64)
        drift = max(abs(a - b) / b for a, b in zip(losses, exact))
        save(model, folder / "final", "train/model")
        print(f"training {name}: {losses[0]:.4f} -> {losses[-1]:.4f}, largest drift from fp64 {drift:.1e}")
        if drift > 3e-5:
            raise SystemExit(f"{name}: too sensitive to rounding")
        runs[name] = {"settings": {**run, "optimizer": "adamw", "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0},
                      "losses": losses, "largest_drift": drift}
    (HERE / "training.json").write_text(dump({"made_with": versions(), "base": "train/model", "steps": STEPS, "runs": runs}))


if __name__ == "__main__":
    write_adapters()
    write_training()

"""Writes internal/t5/testdata/train/teacher and distillation.json: a tiny model's losses while it learns from a teacher.

    ~/.cache/t5ctl-bench/venv/bin/python internal/t5/testdata/gen/make_distillation.py

The student starts from train/model, with the batches and the loss of make_training.py; the teacher is a smaller random
model. A step's loss is, per label that is not -100,

    (1 - weight) * cross entropy + weight * T^2 * KL(softmax(teacher / T) || softmax(student / T))

(Hinton et al. 2015), the second by torch.nn.functional.kl_div, then the mean over these labels. AdamW, constant rate.
"""

import json

import torch
from make_fixtures import IGNORE, PAD, ROOT, draw_model, dump, load

STEPS, RATE = 20, 1e-3
SETTINGS = {"temperature": 2.0, "weight": 0.7}
TEACHER = dict(config=dict(model_type="t5", feed_forward_proj="relu", d_model=24, d_kv=6, d_ff=32, num_layers=1,
                           num_decoder_layers=1, vocab_size=96), untied=False, dtype="F32")


def run(batches, dtype):
    student = load(ROOT / "train" / "model", "t5").to(dtype).train()
    teacher = load(ROOT / "train" / "teacher", "t5").to(dtype)
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, foreach=False)
    t, w, losses = SETTINGS["temperature"], SETTINGS["weight"], []
    for step in range(STEPS):
        b = batches[step % len(batches)]
        inputs, labels = torch.tensor(b["input_ids"]), torch.tensor(b["labels"])
        call = dict(input_ids=inputs, attention_mask=(inputs != PAD).long(), labels=labels)
        with torch.no_grad():
            guide = teacher(**call).logits
        logits = student(**call).logits
        counted = labels != IGNORE
        hard = torch.nn.functional.cross_entropy(logits[counted], labels[counted])
        soft = torch.nn.functional.kl_div(torch.log_softmax(logits[counted] / t, -1), torch.log_softmax(guide[counted] / t, -1),
                                          reduction="batchmean", log_target=True)
        loss = (1 - w) * hard + w * t * t * soft
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    draw_model(ROOT / "train" / "teacher", TEACHER, 3)
    (ROOT / "train" / "teacher" / "model.safetensors").chmod(0o644)
    batches = json.loads((ROOT / "train" / "training.json").read_text())["batches"]
    losses, exact = run(batches, torch.float32), run(batches, torch.float64)
    drift = max(abs(a - b) / b for a, b in zip(losses, exact))
    print(f"{losses[0]:.4f} -> {losses[-1]:.4f}, largest drift from fp64 {drift:.1e}")
    if drift > 3e-5:
        raise SystemExit("too sensitive to rounding")
    (ROOT / "train" / "distillation.json").write_text(dump({
        "made_with": {"torch": torch.__version__.split("+")[0]}, "settings": {**SETTINGS, "learning_rate": RATE},
        "losses": losses, "largest_drift": drift}))

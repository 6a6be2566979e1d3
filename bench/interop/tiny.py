"""A small byte-level model that trains in seconds, for the checks of what a run tells other tools."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

T5CTL = os.environ.get("T5CTL", str(Path(__file__).resolve().parents[2] / "bin" / "t5ctl"))

RECIPE = """\
version: 1
name: tiny
model: {vocab_size: 384, d_model: 16, d_kv: 4, d_ff: 24, num_layers: 1, num_heads: 2}
tokenizer: {mode: bytes}
data: {train: data.jsonl, validation: data.jsonl, max_input: 16, max_target: 16, max_buckets: 1}
train: {method: full, steps: %d, batch: 4, log_every: 1, evaluate_every: 20, save_every: 20}
generation: {max_new_tokens: 6}
"""


def project(folder, steps):
    """Writes recipe and data."""
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    Path(folder, "tiny.yaml").write_text(RECIPE % steps)
    Path(folder, "data.jsonl").write_text("".join(json.dumps({"input": w, "target": w[::-1]}) + "\n" for w in words))


def train(folder, *flags, **keywords):
    """Starts a training of the project on the pure-Go backend; its run folder is run."""
    command = [T5CTL, "--backend", "go", "train", "tiny.yaml", "--output", "run", *flags]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **keywords)


def finish(process, code=0):
    """Waits for a training and gives what it said."""
    said, _ = process.communicate(timeout=600)
    if process.returncode != code:
        raise SystemExit(f"t5ctl ended with {process.returncode}, not {code}:\n{said}")
    return said


def stop_at(process, folder, step, how=signal.SIGKILL):
    """Sends a signal once the log tells of a step."""
    while process.poll() is None:
        if any(e.get("event") == "step" and e["step"] >= step for e in events(folder)):
            process.send_signal(how)
            break
        time.sleep(0.01)
    process.wait(timeout=60)
    process.stdout.close()


def events(folder):
    """The run's own log, as far as it is written."""
    path = Path(folder, "run", "events.jsonl")
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            pass  # a killed process may leave a line unfinished
    return found


def lasting(folder):
    """What the run measured, by the name that trackers use: {name: {step: value}}. What a resumed run did again counts."""
    measured = {}
    for e in events(folder):
        if e["event"] == "started":
            for steps in measured.values():
                for step in [s for s in steps if s > e["step"]]:
                    del steps[step]
        elif e["event"] == "step":
            for key in ("loss", "learning_rate", "gradient_norm", "epoch", "padded_share", "tokens_per_second", "memory_bytes"):
                measured.setdefault("train/" + key, {})[e["step"]] = e[key]
        elif e["event"] == "evaluated":
            for key, value in e["metrics"].items():
                measured.setdefault("validation/" + key, {})[e["step"]] = value
    return measured

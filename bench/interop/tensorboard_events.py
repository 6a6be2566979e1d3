"""Does the real TensorBoard read what t5ctl writes for it?

    make build
    make interop-venvs
    ~/.cache/t5ctl-bench/tensorboard/bin/python bench/interop/tensorboard_events.py

A small run is killed without warning and resumed, with --tensorboard. Checked twice, with TensorBoard's own reader in
Python and with a TensorBoard server on loopback as its web page asks it: every curve has every step once, with the
value of the run's log (as a 32-bit number); what the killed process had done past its checkpoint is replaced; the
recipe is there as a text. Then a file with one changed byte must not read as whole. Exit 1 when anything differs.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy
import tensorboard
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from tensorboard.util import tensor_util

import tiny

STEPS = 300
failures = []


def check(what, ok, told=""):
    print(("ok    " if ok else "FAIL  ") + what + (f"  {told}" if told and not ok else ""))
    if not ok:
        failures.append(what)


def same(name, curve, want):
    """Compares a curve, [(step, value)], with {step: value}."""
    steps = [s for s, _ in curve]
    off = [s for s, v in curve if numpy.float32(v) != numpy.float32(want.get(s, float("nan")))]
    check(f"{name}: {len(want)} steps", steps == sorted(want) and not off, f"steps {steps[:3]}…{steps[-3:]}, values off at {off[:5]}")


def by_reader(logs, want):
    reader = EventAccumulator(str(logs), size_guidance={SCALARS: 0})
    reader.Reload()
    tags = reader.Tags()
    check("the reader knows the curves and the text", set(tags["scalars"]) == set(want) and tags["tensors"] == ["recipe"], tags)
    for name in sorted(want):
        same("reader " + name, [(e.step, e.value) for e in reader.Scalars(name)], want[name])
    recipe = tensor_util.make_ndarray(reader.Tensors("recipe")[-1].tensor_proto)[0].decode()
    check("the recipe is a text", f"steps: {STEPS}" in recipe, recipe[:80])
    check("the text is the text plugin's", reader.SummaryMetadata("recipe").plugin_data.plugin_name == "text")


def ask(port, path, **query):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
        return json.load(answer)


def by_server(folder, want):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host=127.0.0.1",
                               f"--port={port}", "--samples_per_plugin=scalars=100000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        tags, until = {}, time.time() + 120
        while not tags.get("run/tensorboard") and time.time() < until:
            time.sleep(0.5)
            try:
                tags = ask(port, "data/plugin/scalars/tags")
            except OSError:
                pass
        check("the server lists the run and its curves", set(tags.get("run/tensorboard", {})) == set(want), tags)
        for name in sorted(want):
            points = [(step, value) for _, step, value in ask(port, "data/plugin/scalars/scalars", run="run/tensorboard", tag=name)]
            same("server " + name, points, want[name])
        texts = ask(port, "data/plugin/text/text", run="run/tensorboard", tag="recipe")
        check("the server shows the recipe", "<code>" in texts[-1]["text"] and f"steps: {STEPS}" in texts[-1]["text"])
    finally:
        server.terminate()
        server.wait(timeout=30)


def damaged(path, folder):
    """How many records of a file are read before it ends or is refused, with one byte of the middle changed."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    copy = Path(folder, path.name)
    copy.write_bytes(data)
    count = 0
    try:
        for _ in event_file_loader.RawEventFileLoader(str(copy)).Load():
            count += 1
    except Exception as refused:
        print(f"      refused after {count} records: {refused}")
    return count


def main():
    print("tensorboard", tensorboard.__version__)
    with tempfile.TemporaryDirectory() as folder:
        tiny.project(folder, STEPS)
        tiny.stop_at(tiny.train(folder, "--tensorboard"), folder, 50)
        before = max(e["step"] for e in tiny.events(folder) if e["event"] == "step")
        tiny.finish(tiny.train(folder, "--tensorboard", "--resume"))
        again = [e["step"] for e in tiny.events(folder) if e["event"] == "started"][-1]
        print(f"      killed after step {before}, resumed from step {again}")
        check("the killed process had done steps that were done again", 0 < again < before)
        logs, want = Path(folder, "run", "tensorboard"), tiny.lasting(folder)
        files = sorted(logs.iterdir())
        check("one file for each process", len(files) == 2, files)
        by_reader(logs, want)
        by_server(folder, want)
        whole = sum(1 for _ in event_file_loader.RawEventFileLoader(str(files[1])).Load())
        with tempfile.TemporaryDirectory() as other:
            check(f"a changed byte is noticed ({whole} records when whole)", 0 < damaged(files[1], other) < whole)
    print("failed: " + ", ".join(failures) if failures else "all hold")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

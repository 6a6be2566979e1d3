"""Reads a model card with the Hugging Face hub's own library and says whether it means the same to it.

    python -m venv ~/.cache/t5ctl-bench/hub
    ~/.cache/t5ctl-bench/hub/bin/pip install -r bench/interop/requirements.txt
    ~/.cache/t5ctl-bench/hub/bin/python bench/interop/card.py registry/card/testdata/g2p-stress.md

Checked: the card loads; saved and loaded again it is equal, the t5ctl block included; every figure of
the model-index parses as an EvalResult with a finite value, a source and a data set; every text is text
and every number a number to PyYAML too. Then negative controls: cards with known faults must be refused.
Exit code 0 if all holds, 1 otherwise. Offline.
"""

import math
import os
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import yaml
from huggingface_hub import ModelCard

failures = []


def check(what, ok):
    print(("ok    " if ok else "FAIL  ") + what)
    if not ok:
        failures.append(what)


def texts(value, path=""):
    """Every leaf of the front matter with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                check(f"key {key!r} is text", False)
            yield from texts(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, path + "[]")
    else:
        yield path, value


def main(path):
    card = ModelCard.load(path)
    data = card.data.to_dict()
    with tempfile.TemporaryDirectory() as folder:
        again = os.path.join(folder, "README.md")
        card.save(again)
        loaded = ModelCard.load(again)
        check("saved and loaded again, the data is equal", loaded.data.to_dict() == data)
        check("saved and loaded again, the text is equal", loaded.text.strip() == card.text.strip())
    check("the t5ctl block is kept", data.get("t5ctl", {}).get("schema") == 1)

    results = card.data.eval_results or []
    check(f"{len(results)} figures parse as EvalResult", len(results) > 0)
    for r in results:
        check(f"{r.metric_name}: {r.metric_value!r} is a finite number", isinstance(r.metric_value, (int, float)) and math.isfinite(r.metric_value))
        check(f"{r.metric_name}: task, data set and source are named", all([r.task_type, r.dataset_type, r.dataset_name, r.source_url]))
    with open(path, encoding="utf-8") as f:
        front = yaml.safe_load(f.read().split("---\n")[1])
    numbers = {"value", "ci_low", "ci_high", "rows", "schema"}
    for where, value in texts(front):
        key = where.replace("[]", "").rsplit(".", 1)[-1]
        kind = (int, float) if key in numbers else bool if key == "canaries" else str
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            check(f"{where} is read as {value!r}", False)
    check("PyYAML reads every value as what it is", not any(" is read as " in f for f in failures))

    text = open(path, encoding="utf-8").read()
    for fault, old, new in [
        ("no name of the data set", "      name: cmudict-stress test\n", ""),
        ("no address of the source", "      url:", "      uri:"),
        ("no value", "      value:", "      worth:"),
    ]:
        assert old in text, f"the control {fault!r} does not fit this card"
        try:
            ModelCard(text.replace(old, new, 1))
            check(f"refused: {fault}", False)
        except Exception as e:  # the library raises several kinds
            check(f"refused: {fault} ({type(e).__name__})", True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

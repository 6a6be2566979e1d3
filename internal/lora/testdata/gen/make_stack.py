"""Writes internal/lora/testdata/stack.json: what PEFT gives with two adapters switched on at the same time.

    ~/.cache/t5ctl-bench/venv/bin/python internal/lora/testdata/gen/make_stack.py

The adapters are those of make_adapters.py, on its base; "patterns" lies on "q-v", and "all-linear-rslora" on both. The
logits are those of the first two target positions of each row.
"""

import json

import peft
import torch
from make_adapters import HERE, T5
from make_fixtures import PAD, dump, load
from peft import PeftModel

if __name__ == "__main__":
    fixture = json.loads((T5 / "t5-1.1" / "fixture.json").read_text())
    inputs, labels = torch.tensor(fixture["input_ids"]), torch.tensor(fixture["labels"])
    model = PeftModel.from_pretrained(load(T5 / "t5-1.1", "t5"), HERE / "q-v", adapter_name="q-v").eval()
    out = {}
    names = ["q-v"]
    for name in ("patterns", "all-linear-rslora"):
        model.load_adapter(HERE / name, adapter_name=name)
        names.append(name)
        model.base_model.set_adapter(names)
        model.eval()
        with torch.no_grad():
            logits = model(input_ids=inputs, attention_mask=(inputs != PAD).long(), labels=labels).logits
        out["+".join(names)] = {"stack": list(names), "logits": [round(v, 6) for v in logits[:, :2].flatten().tolist()]}
    (HERE / "stack.json").write_text(dump({"made_with": {"peft": peft.__version__}, "stacks": out}))

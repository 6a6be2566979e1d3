"""Lists what CTranslate2's own converter makes of the tiny byte-level T5, one variable a line, second names resolved.

    python internal/ctranslate2/testdata/list_variables.py | gzip -9n > internal/ctranslate2/testdata/byt5.txt.gz

ctranslate2 4.8.5, transformers 5.23.0, torch 2.15.0.
"""

import hashlib
import shutil
import struct
import sys
import tempfile
from pathlib import Path

from ctranslate2.converters import TransformersConverter

ROOT = Path(__file__).resolve().parents[3]


def variables(path):
    with open(path, "rb") as f:
        def number(code):
            return struct.unpack(code, f.read(struct.calcsize(code)))[0]

        def text():
            return f.read(number("H"))[:-1].decode()

        found = {"": f"{number('I')} {text()} {number('I')}"}
        for _ in range(number("I")):
            name = text()
            dims = [number("I") for _ in range(number("B"))]
            kind, data = number("B"), f.read(number("I"))
            found[name] = f"{'x'.join(map(str, dims)) or '-'} {kind} {hashlib.sha256(data).hexdigest()[:16]}"
        for _ in range(number("I")):
            name, of = text(), text()
            found[name] = found[of]
            if of + "_scale" in found:
                found[name + "_scale"] = found[of + "_scale"]
        return found


def main():
    with tempfile.TemporaryDirectory() as work:
        model = Path(work) / "model"
        shutil.copytree(ROOT / "internal/t5/testdata/byt5", model)
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(ROOT / "models/g2p-base" / name, model)
        for precision in ("float32", "int8", "bfloat16"):
            out = f"{work}/{precision}"
            TransformersConverter(str(model)).convert(out, quantization=precision)
            for name, value in sorted(variables(f"{out}/model.bin").items()):
                sys.stdout.write(f"{precision} {name or '-'} {value}\n")


if __name__ == "__main__":
    main()

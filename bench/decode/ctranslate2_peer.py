"""Generation in CTranslate2: `t5ctl bench decode`'s counterpart. See bench/README.md."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import protocol


def converted(model, precision):
    """The model as CTranslate2's own converter writes it, made by a process of its own where it is missing."""
    folder = Path(f"{Path(model).resolve()}-ct2-{precision}")
    if not (folder / "model.bin").exists():
        convert = Path(sys.executable).with_name("ct2-transformers-converter")
        quantization = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}[precision]
        subprocess.run([str(convert), "--model", str(model), "--output_dir", str(folder), "--quantization", quantization],
                       check=True, capture_output=True)
    return folder


def main():
    p = protocol.parser(__doc__.splitlines()[0])
    p.add_argument("--beams", type=int, default=1)
    p.add_argument("--new-tokens", type=int, default=64)
    args = p.parse_args()
    folder = converted(args.model, args.precision)

    import ctranslate2

    translator = ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=args.threads or os.cpu_count(),
                                        compute_type={"fp32": "float32", "bf16": "bfloat16", "int8": "int8_float32"}[args.precision])
    tokens = json.loads((folder / "shared_vocabulary.json").read_text())
    number = {t: i for i, t in enumerate(tokens)}
    rows = [[tokens[i] for i in row] for row in protocol.ids(args.batch, args.input_tokens, protocol.INPUTS, len(tokens))]

    def once():
        found = translator.translate_batch(rows, beam_size=args.beams, max_decoding_length=args.new_tokens, max_input_length=0)
        out = [[number[t] for t in f.hypotheses[0]] for f in found]
        digest = hashlib.sha256(json.dumps(out, separators=(",", ":")).encode()).hexdigest()
        return sum(map(len, out)), {"output": digest[:16]}

    protocol.repeat(args, "decode-" + ("greedy" if args.beams == 1 else f"beam{args.beams}"), once)


if __name__ == "__main__":
    main()

"""Generation in transformers: `t5ctl bench decode`'s counterpart. See bench/README.md."""

import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import protocol


def main():
    p = protocol.parser(__doc__.splitlines()[0])
    p.add_argument("--beams", type=int, default=1)
    p.add_argument("--new-tokens", type=int, default=64)
    args = p.parse_args()
    imports = protocol.quiet_imports()

    import torch
    from transformers import AutoModelForSeq2SeqLM

    if args.threads:
        torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    model = AutoModelForSeq2SeqLM.from_pretrained(args.model, dtype=dtype).eval()
    inputs = torch.tensor(protocol.ids(args.batch, args.input_tokens, protocol.INPUTS, model.config.vocab_size))
    mask = torch.ones_like(inputs)

    def once():
        out = model.generate(input_ids=inputs, attention_mask=mask, do_sample=False, num_beams=args.beams,
                             max_new_tokens=args.new_tokens)[:, 1:].tolist()
        digest = hashlib.sha256(json.dumps(out, separators=(",", ":")).encode()).hexdigest()
        return sum(map(len, out)), {"output": digest[:16], "imports_rss_mib": round(imports, 1)}

    protocol.repeat(args, "decode-" + ("greedy" if args.beams == 1 else f"beam{args.beams}"), once)


if __name__ == "__main__":
    main()

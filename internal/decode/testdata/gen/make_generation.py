"""Writes what the tests of internal/decode are held against: outputs of transformers' generate under every setting
that t5ctl knows, and the distributions that its sampling warpers leave.

    python3 -m venv ~/.cache/t5ctl-bench/venv
    ~/.cache/t5ctl-bench/venv/bin/pip install -r bench/requirements.txt
    ~/.cache/t5ctl-bench/venv/bin/python internal/decode/testdata/gen/make_generation.py

  strategies.json.gz     variant -> setting -> input_ids (rows without padding) and generated sequences, each after the
                         start token up to and including </s>, padding cut off; scores of beams
  distributions.json.gz  logits, settings, and the tokens that are left with their probabilities (sum 1), fp64 softmax

The models are those of internal/t5/testdata. Inputs are random; their lengths cross the borders of the buckets (32 and
64). All rows of a setting are generated in one padded batch, and each again alone, which must give the same. A seed of
inputs is only used where the outputs cannot hang on rounding: noise of +-5e-4 on every score changes no sequence.
"""

import gzip
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation import logits_process as warpers
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)

HERE = Path(__file__).resolve().parent.parent
MODELS = HERE.parent.parent / "t5" / "testdata"
VARIANTS = ["t5-1.0", "t5-1.1", "t5-1.1-tied", "mt5", "umt5", "byt5", "uneven"]
CLASSES = {"t5": transformers.T5ForConditionalGeneration, "mt5": transformers.MT5ForConditionalGeneration,
           "umt5": transformers.UMT5ForConditionalGeneration}
PAD, EOS = 0, 1
LENGTHS = [3, 31, 32, 33, 64, 65]

BEAMS = dict(num_beams=4, length_penalty=1.0, early_stopping=False)
# BAD and BADS stand for words that occur in the output without them.
SETTINGS = {
    "greedy": dict(max_new_tokens=33),
    "greedy-one": dict(max_new_tokens=1),
    "greedy-repetition": dict(max_new_tokens=20, repetition_penalty=1.4),
    "greedy-reward": dict(max_new_tokens=12, repetition_penalty=0.8),
    "greedy-ngram2": dict(max_new_tokens=20, no_repeat_ngram_size=2),
    "greedy-ngram1": dict(max_new_tokens=12, no_repeat_ngram_size=1),
    "greedy-bad-words": dict(max_new_tokens=16, bad_words_ids="BADS"),
    "greedy-minimum": dict(max_new_tokens=30, min_new_tokens=25),
    "greedy-forced": dict(max_new_tokens=9, forced_bos_token_id=7, forced_eos_token_id=EOS),
    "greedy-suppressed": dict(max_new_tokens=16, suppress_tokens="BAD", begin_suppress_tokens="FIRST"),
    "greedy-forced-begin": dict(max_new_tokens=10, forced_bos_token_id=9, begin_suppress_tokens="FIRST"),
    "beam2": dict(num_beams=2, length_penalty=1.0, early_stopping=False, max_new_tokens=33),
    "beam4-true": dict(BEAMS, early_stopping=True, max_new_tokens=20, num_return_sequences=4),
    "beam4-false": dict(BEAMS, length_penalty=0.3, max_new_tokens=20, num_return_sequences=3),
    "beam4-never": dict(BEAMS, early_stopping="never", length_penalty=1.7, max_new_tokens=20, num_return_sequences=2),
    "beam4-never-negative": dict(BEAMS, early_stopping="never", length_penalty=-0.5, max_new_tokens=20),
    "beam3-repetition": dict(BEAMS, num_beams=3, max_new_tokens=16, repetition_penalty=1.3),
    "beam4-ngram3": dict(BEAMS, max_new_tokens=20, no_repeat_ngram_size=3),
    "beam4-bad-words": dict(BEAMS, max_new_tokens=14, bad_words_ids="BADS"),
    "beam4-minimum": dict(BEAMS, max_new_tokens=18, min_new_tokens=12),
    "beam4-forced": dict(BEAMS, max_new_tokens=8, forced_bos_token_id=7, forced_eos_token_id=EOS, num_return_sequences=4),
    "beam3-all": dict(num_beams=3, length_penalty=0.8, early_stopping=True, max_new_tokens=15, min_new_tokens=4,
                      repetition_penalty=1.2, no_repeat_ngram_size=2, bad_words_ids="BADS", suppress_tokens="BAD"),
}


class Noise(LogitsProcessor):
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids, scores):
        return scores + (torch.rand(scores.shape, generator=self.generator) * 2 - 1) * 5e-4


def load(name):
    folder = MODELS / name
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    model = CLASSES[kind].from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True)
    model.generation_config = transformers.GenerationConfig(decoder_start_token_id=PAD, eos_token_id=EOS, pad_token_id=PAD)
    return model.eval()


def batch(rows):
    ids = torch.full((len(rows), max(map(len, rows))), PAD)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids


def generate(model, rows, settings, **extra):
    ids = batch(rows)
    deep = model.config.num_decoder_layers <= model.config.num_layers  # the cache of transformers breaks otherwise
    out = model.generate(input_ids=ids, attention_mask=(ids != PAD).long(), do_sample=False, use_cache=deep,
                         return_dict_in_generate=True, output_scores=True, **settings, **extra)
    sequences = []
    for row in out.sequences.tolist():
        row = row[1:]
        sequences.append(row[: row.index(EOS) + 1] if EOS in row else row)
    limit = settings["max_new_tokens"]
    return [s[:limit] for s in sequences], out


def inputs(vocab, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, vocab - 1, (n - 1,), generator=generator).tolist() + [EOS] for n in LENGTHS]


def concrete(settings, plain):
    """Puts tokens that occur in the plain outputs where a setting asks for bad ones."""
    words = [s for s in plain if len(s) > 5]
    known = {"BAD": [words[0][1], words[1][2]], "FIRST": sorted({s[0] for s in plain}),
             "BADS": [[words[0][0]], words[1][1:3], words[2][2:5], [EOS]]}
    return {k: known[v] if isinstance(v, str) and v in known else v for k, v in settings.items()}


def stable(model, rows, settings):
    """The sequences and scores, or None where they hang on rounding or on padding."""
    sequences, out = generate(model, rows, settings)
    for seed in range(6):
        if generate(model, rows, settings, logits_processor=LogitsProcessorList([Noise(seed)]))[0] != sequences:
            return None
    per = len(sequences) // len(rows)
    for i, row in enumerate(rows):
        if generate(model, [row], settings)[0] != sequences[i * per : (i + 1) * per]:
            raise SystemExit("padding changes the result")
    return sequences, out.sequences_scores.tolist() if settings.get("num_beams", 1) > 1 else None


def strategies():
    result = {}
    for name in VARIANTS:
        model = load(name)
        result[name] = {}
        for setting, settings in SETTINGS.items():
            for seed in range(1, 400):
                rows = inputs(model.config.vocab_size, seed)
                plain = generate(model, rows, dict(max_new_tokens=16))[0]
                if sum(len(s) > 5 for s in plain) < 3:
                    continue
                chosen = concrete(settings, plain)
                found = stable(model, rows, chosen)
                if found:
                    result[name][setting] = {"seed": seed, "settings": chosen, "input_ids": rows, "sequences": found[0]}
                    if found[1]:
                        result[name][setting]["scores"] = found[1]
                    break
            else:
                raise SystemExit(f"{name} {setting}: no seed will do")
        print(name, {k: v["seed"] for k, v in result[name].items()}, flush=True)
    return result


WARPED = [
    dict(), dict(temperature=0.7), dict(temperature=1.8), dict(top_k=1), dict(top_k=5), dict(top_k=200), dict(top_p=0.5),
    dict(top_p=0.9), dict(top_p=0.99), dict(min_p=0.05), dict(min_p=0.4), dict(typical_p=0.2), dict(typical_p=0.9),
    dict(temperature=0.8, top_k=20, top_p=0.8), dict(temperature=1.3, top_p=0.95, min_p=0.02),
    dict(top_k=30, typical_p=0.7), dict(temperature=0.6, top_k=50, top_p=0.95, min_p=0.01, typical_p=0.95),
]


def distributions():
    cases = []
    for n, settings in enumerate(WARPED):
        generator = torch.Generator().manual_seed(n)
        logits = (torch.randn(1, 96, generator=generator) * 3).round(decimals=3)
        if n == 4:
            logits[0, 10:20] = logits[0].max()  # the k-th best is one of many
        chain = LogitsProcessorList()
        if "temperature" in settings:
            chain.append(warpers.TemperatureLogitsWarper(settings["temperature"]))
        for key, cls in (("top_k", warpers.TopKLogitsWarper), ("top_p", warpers.TopPLogitsWarper),
                         ("min_p", warpers.MinPLogitsWarper)):
            if key in settings:
                chain.append(cls(settings[key]))
        if "typical_p" in settings:
            chain.append(warpers.TypicalLogitsWarper(settings["typical_p"]))
        left = chain(torch.zeros(1, 1, dtype=torch.long), logits.clone())
        p = torch.softmax(left.double(), -1)[0]
        kept = [i for i in range(96) if p[i] > 0]
        cases.append({"settings": settings, "logits": [round(x, 3) for x in logits[0].tolist()], "tokens": kept,
                      "probabilities": [p[i].item() for i in kept]})
    return cases


def dump(value, pad=""):
    if isinstance(value, dict):
        inner = ",\n".join(f"{pad} {json.dumps(k)}: {dump(v, pad + ' ')}" for k, v in value.items())
        return "{\n" + inner + "\n" + pad + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(pad + " " + dump(v, pad + " ") for v in value) + "\n" + pad + "]"
    return json.dumps(value, separators=(",", ":"))


def write(name, value):
    with open(HERE / name, "wb") as out, gzip.GzipFile(fileobj=out, mode="wb", mtime=0, filename="") as packed:
        packed.write((dump(value) + "\n").encode())


def main():
    made = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    with torch.no_grad():
        write("distributions.json.gz", {"made_with": made, "cases": distributions()})
        write("strategies.json.gz", {"made_with": made, "variants": strategies()})


if __name__ == "__main__":
    main()

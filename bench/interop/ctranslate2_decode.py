"""CTranslate2 decodes what `t5ctl model export --format ctranslate2` wrote.

    python bench/interop/ctranslate2_decode.py [T5CTL]

Needs ctranslate2 4.8.5 and numpy. Tiny models of each variant of T5 must give the tokens that transformers gave
(internal/decode/testdata/strategies.json.gz), greedily and with 4 beams; models/g2p-base must give what `t5ctl generate`
gives, in fp32, and nearly that in int8. A changed weight must change the outputs.
"""

import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ctranslate2

ROOT = Path(__file__).resolve().parent.parent.parent
T5CTL = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "bin" / "t5ctl")
VARIANTS = ["t5-1.0", "t5-1.1", "t5-1.1-tied", "mt5", "umt5", "uneven"]
BASE = ROOT / "models" / "g2p-base"
WORDS = ROOT / "recipes/data/cmudict-g2p-base/test.jsonl.gz"


def run(*args):
    return subprocess.run([T5CTL, "--backend", "go", *args], check=True, capture_output=True, text=True).stdout


def export(model, to, precision="fp32"):
    run("model", "export", str(model), "--format", "ctranslate2", "--precision", precision, "--output", str(to))
    return ctranslate2.Translator(str(to), device="cpu", inter_threads=1, intra_threads=1,
                                  compute_type="int8_float32" if precision == "int8" else "float32")


def tokenizer(size):
    """A tokenizer.json with a piece for every id: the tiny models have none of their own."""
    pieces = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]] + [[f"▁t{i}", -float(i)] for i in range(3, size)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [
        {"id": i, "content": pieces[i][0], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i in range(3)], "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                           "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": False}}


def trim(ids):
    """What a padded row of transformers says, without </s>."""
    return ids[: ids.index(1)] if 1 in ids else ids


def variants(work):
    settings = json.loads(gzip.open(ROOT / "internal/decode/testdata/strategies.json.gz").read())["variants"]
    rows = differ = 0
    for name in VARIANTS:
        model = work / name
        shutil.copytree(ROOT / "internal/t5/testdata" / name, model)
        size = json.loads((model / "config.json").read_text())["vocab_size"]
        (model / "tokenizer.json").write_text(json.dumps(tokenizer(size)))
        translator = export(model, work / f"{name}-ct2")
        tokens = json.loads((work / f"{name}-ct2" / "shared_vocabulary.json").read_text())
        ids = {t: i for i, t in enumerate(tokens)}
        for strategy, beams in (("greedy", 1), ("beam4-true", 4)):
            case = settings[name][strategy]
            each = case["settings"].get("num_return_sequences", 1)
            inputs = [[i for i in row if i != 0] for row in case["input_ids"]]
            found = translator.translate_batch([[tokens[i] for i in row] for row in inputs], beam_size=beams,
                                               max_decoding_length=case["settings"]["max_new_tokens"], length_penalty=1)
            for i, f in enumerate(found):
                want = trim(case["sequences"][i * each])
                got = [ids[t] for t in f.hypotheses[0]]
                rows += 1
                if got != want:
                    differ += 1
                    print(f"{name} {strategy} row {i}: {got}, want {want}")
    print(f"variants: {rows} outputs, {differ} differ")
    return differ


def texts(translator, words, beams):
    rows = [[chr(b) for b in w.encode()] + ["</s>"] for w in words]
    found = translator.translate_batch(rows, beam_size=beams, max_decoding_length=64, length_penalty=1)
    return [bytes(ord(t) for t in f.hypotheses[0] if len(t) == 1).decode() for f in found]


def base(work):
    """Words of a committed test set through both."""
    words = sorted({json.loads(line)["input"] for line in gzip.open(WORDS, "rt", encoding="utf-8")})[:200]
    source = work / "words.jsonl"
    source.write_text("".join(json.dumps({"input": w}) + "\n" for w in words))
    bad = 0
    for precision, allowed in (("fp32", 0), ("int8", len(words) // 10)):
        translator = export(BASE, work / f"base-{precision}", precision)
        for beams in (1, 4):
            out = work / f"{precision}-{beams}.jsonl"
            run("generate", "--model", str(BASE), "--input", str(source), "--output", str(out), "--beams", str(beams),
                "--max-new-tokens", "64", *(["--early-stopping", "true"] if beams > 1 else []))
            want = [json.loads(line)["output"] for line in out.read_text().splitlines()]
            got = texts(translator, words, beams)
            differ = [(w, a, b) for w, a, b in zip(words, got, want, strict=True) if a != b]
            print(f"g2p-base {precision}, {beams} beams: {len(words)} outputs, {len(differ)} differ", *differ[:3])
            bad += len(differ) > allowed
    return bad


def control(work):
    """A file with one weight changed loads, and writes something else: the comparison can fail."""
    other = work / "changed"
    shutil.copytree(work / "base-fp32", other)
    data = bytearray((other / "model.bin").read_bytes())
    at = data.index(b"decoder/layer_norm/gamma\0") + 25 + 1 + 4 + 1 + 4
    data[at : at + 4 * 160] = bytes(4 * 160)
    (other / "model.bin").write_bytes(data)
    words = ["tomato", "photograph"]
    return texts(ctranslate2.Translator(str(other)), words, 1) == texts(ctranslate2.Translator(str(work / "base-fp32")), words, 1)


def main():
    print(f"ctranslate2 {ctranslate2.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bad = variants(work) + base(work) + control(work)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

"""Encoding and decoding speed of t5ctl's tokenizer against SentencePiece and HF tokenizers.

    python3 -m venv ~/.cache/t5ctl-bench/tok
    ~/.cache/t5ctl-bench/tok/bin/pip install -r bench/tokenizer/requirements.txt
    ~/.cache/t5ctl-bench/tok/bin/python bench/tokenizer/run.py [ROUNDS]

Every implementation runs on one thread, in turn, ROUNDS times; the median counts. Time is processor
time, so that what else runs on the machine matters less. Token counts must agree. The texts are the repository's own: the Bible corpus of the recipes, and the texts in
many languages among the tokenizer's test vectors.
"""

import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import sentencepiece
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.path.join(ROOT, "internal", "vocab", "testdata")


def texts(folder):
    english = []
    with gzip.open(os.path.join(ROOT, "recipes", "data", "bible-ylt-bbe", "train.jsonl.gz"), "rt", encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            english += [row["input"], row["target"]]
    many = []
    with gzip.open(os.path.join(DATA, "vectors-t5.jsonl.gz"), "rt", encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            if row["cat"] in ("natural", "ja", "fullwidth") and "\n" not in row["text"] and "\r" not in row["text"]:
                many.append(row["text"])
    many *= 2_000_000 // sum(len(t.encode()) for t in many) + 1
    sets = {}
    for name, lines in (("English", english), ("many languages", many)):
        path = os.path.join(folder, name.split()[0])
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        sets[name] = (path, lines, sum(len(t.encode()) for t in lines) / 1e6)
    return sets


def hf5(model):
    """What T5Tokenizer of transformers 5 builds from spiece.model, without its Python layer."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    proto = pb.ModelProto.FromString(open(model, "rb").read())
    vocab = [(p.piece, p.score) for p in proto.pieces] + [(f"<extra_id_{k}>", 0.0) for k in range(99, -1, -1)]
    tok = Tokenizer(Unigram(vocab, unk_id=2, byte_fallback=False))
    tok.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)])
    tok.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)])
    from tokenizers import decoders

    tok.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    return tok


def timed(size, work):
    start = time.process_time()
    result = work()
    return size / (time.process_time() - start), result


def python_sp(sp, lines, size):
    encode, ids = timed(size, lambda: sp.encode(lines, num_threads=1))
    decode, _ = timed(size, lambda: sp.decode(ids, num_threads=1))
    return {"encode": encode, "decode": decode, "tokens": sum(map(len, ids))}


def python_hf(tok, lines, size):
    encode, rows = timed(size, lambda: tok.encode_batch_fast(lines))
    ids = [row.ids for row in rows]
    decode, _ = timed(size, lambda: tok.decode_batch(ids, skip_special_tokens=False))
    return {"encode": encode, "decode": decode, "tokens": sum(map(len, ids))}


def ours(binary, model, mode, path):
    out = subprocess.run([binary, "-model", model, "-mode", mode, "-text", path], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "spiece.model")
        with gzip.open(os.path.join(DATA, "t5-spiece.model.gz")) as f, open(model, "wb") as out:
            out.write(f.read())
        binary = os.path.join(folder, "tokenizer")
        subprocess.run(["go", "build", "-o", binary, "./bench/tokenizer"], check=True, cwd=ROOT)
        sp, hf = sentencepiece.SentencePieceProcessor(model_file=model), hf5(model)
        for name, (path, lines, size) in texts(folder).items():
            runs = {
                "t5ctl, mode hf5": lambda: ours(binary, model, "hf5", path),
                "HF tokenizers": lambda: python_hf(hf, lines, size),
                "t5ctl, mode sp": lambda: ours(binary, model, "sp", path),
                "SentencePiece C++": lambda: python_sp(sp, lines, size),
            }
            results = {run: [] for run in runs}
            for _ in range(rounds):
                for run, work in runs.items():
                    results[run].append(work())
            report(name, size, results)


def report(name, size, results):
    print(f"\n{name}, {size:.1f} MB, median of {len(next(iter(results.values())))} rounds\n")
    print("| | encode MB/s | decode MB/s | tokens |\n| --- | ---: | ---: | ---: |")
    median = {}
    for run, rows in results.items():
        median[run] = tuple(statistics.median(row[k] for row in rows) for k in ("encode", "decode"))
        print(f"| {run} | {median[run][0]:.1f} | {median[run][1]:.1f} | {rows[0]['tokens']:,} |")
    tokens = {run: rows[0]["tokens"] for run, rows in results.items()}
    assert tokens["t5ctl, mode hf5"] == tokens["HF tokenizers"], "token counts differ from HF's"
    assert tokens["t5ctl, mode sp"] == tokens["SentencePiece C++"], "token counts differ from SentencePiece's"
    ratio = lambda a, b, k: median[a][k] / median[b][k]
    print(
        f"\nhf5 encodes at {ratio('t5ctl, mode hf5', 'HF tokenizers', 0):.1f} times HF tokenizers and "
        f"{ratio('t5ctl, mode hf5', 'SentencePiece C++', 0):.2f} times SentencePiece, "
        f"sp at {ratio('t5ctl, mode sp', 'SentencePiece C++', 0):.2f} times SentencePiece"
    )


main()

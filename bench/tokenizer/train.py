"""Compares t5ctl's Unigram trainer with spm_train, and checks that its model loads elsewhere.

    ~/.cache/t5ctl-bench/tok/bin/python bench/tokenizer/train.py [VOCAB_SIZE]

Both train on the Bible corpus of the recipes (train split, inputs and targets); the test split is
what they have not seen. The model of t5ctl is loaded with SentencePiece and, as a folder, with
T5Tokenizer of transformers, whose ids must be those that t5ctl itself gives.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time

import sentencepiece
from transformers import AutoTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def texts(split):
    with gzip.open(os.path.join(ROOT, "recipes", "data", "bible-ylt-bbe", split + ".jsonl.gz"), "rt", encoding="utf-8") as f:
        return [row[key] for row in map(json.loads, f) for key in ("input", "target")]


def count(model, lines):
    return sum(map(len, sentencepiece.SentencePieceProcessor(model_file=model).encode(lines)))


def pieces(model):
    sp = sentencepiece.SentencePieceProcessor(model_file=model)
    return {sp.id_to_piece(i) for i in range(len(sp))}


def main():
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    train, test = texts("train"), texts("test")
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        for name, lines in (("train", train), ("test", test)):
            with open(at(name), "w", encoding="utf-8") as f:
                f.write("\n".join(lines) + "\n")
        subprocess.run(["go", "build", "-o", at("tokenizer"), "./bench/tokenizer"], check=True, cwd=ROOT)

        start = time.process_time()
        sentencepiece.SentencePieceTrainer.train(
            input=at("train"), model_prefix=at("spm"), vocab_size=size, model_type="unigram",
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1, minloglevel=2,
        )
        theirs_time = time.process_time() - start
        before = os.times()
        subprocess.run([at("tokenizer"), "-train", at("train"), "-size", str(size), "-model", at("ours")], check=True)
        after = os.times()
        ours_time = after.children_user + after.children_system - before.children_user - before.children_system

        ours, theirs = at("ours/spiece.model"), at("spm.model")
        print("| | train CPU s | pieces on train | on test |\n| --- | ---: | ---: | ---: |")
        print(f"| spm_train 0.2.3 | {theirs_time:.1f} | {count(theirs, train):,} | {count(theirs, test):,} |")
        print(f"| t5ctl | {ours_time:.1f} | {count(ours, train):,} | {count(ours, test):,} |")
        change = count(ours, test) / count(theirs, test) - 1
        shared = len(pieces(ours) & pieces(theirs)) / size
        print(f"\n{change:+.2%} pieces on unseen text; {shared:.1%} of the {size:,} pieces are the same")
        assert change < 0.01, "over 1 % more pieces than spm_train's model"

        tok = AutoTokenizer.from_pretrained(at("ours"))
        assert type(tok).__name__ == "T5Tokenizer" and len(tok) == size + 100, (type(tok), len(tok))
        out = subprocess.run([at("tokenizer"), "-model", at("ours"), "-mode", "hf5", "-text", at("test"), "-print"], check=True, capture_output=True, text=True)
        ids = [json.loads(line) for line in out.stdout.splitlines()]
        assert ids == tok(test)["input_ids"], "transformers gives other ids"
        print(f"transformers loads the folder and gives the same ids on {len(test):,} lines")


main()

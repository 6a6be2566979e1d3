"""Do the readers of others read the files that t5ctl writes, and t5ctl theirs?

    make build
    ~/.cache/t5ctl-bench/venv/bin/python bench/interop/files.py [T5CTL]

Tokenizers: SentencePiece 0.2.3 reads the spiece.model of `t5ctl tokenizer train` and gives the same ids and pieces;
t5ctl reads a tokenizer that transformers 5.23.0 has saved (tokenizer.json) and gives the same ids. Data: the `datasets`
library 5.0.0 reads the Parquet of `t5ctl generate` row for row, and t5ctl reads the Parquet that
`datasets` has written. Then controls: a changed byte in a Parquet file and another tokenizer must show. Exit 1 when
anything differs.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import sentencepiece
from transformers import T5TokenizerFast

ROOT = Path(__file__).resolve().parent.parent.parent
T5CTL = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "bin" / "t5ctl")
TEXTS = ["the quick brown fox", "jumps over  the lazy dog.", "Straße 42, été", "a", "<extra_id_0> and </s>", "tab\there"]

failures = []
datasets.disable_progress_bars()


def check(what, ok):
    print(("ok    " if ok else "FAIL  ") + what, flush=True)
    if not ok:
        failures.append(what)


def run(*args, ok=True, **kw):
    done = subprocess.run([T5CTL, "--quiet", *map(str, args)], capture_output=True, text=True, **kw)
    if ok and done.returncode != 0:
        raise SystemExit(f"t5ctl {' '.join(map(str, args))}: exit {done.returncode}: {done.stderr}")
    return done


def encode(model, mode):
    lines = run("tokenizer", "encode", "--model", model, "--mode", mode, input="\n".join(TEXTS) + "\n").stdout
    return [json.loads(line) for line in lines.splitlines()]


def tokenizers(work):
    corpus = work / "corpus.txt"
    corpus.write_text("".join(f"{t} {i} the fox and the dog {i * 7}\n" for i in range(300) for t in TEXTS[:4]))
    made = work / "tokenizer"
    run("tokenizer", "train", corpus, "--output", made, "--vocab-size", "300")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(made / "spiece.model"))
    ours = encode(made, "sp")
    check("SentencePiece reads our spiece.model and gives the same ids", ours == theirs.encode(TEXTS))
    other = work / "other"
    run("tokenizer", "train", corpus, "--output", other, "--vocab-size", "200")
    check("(control) another vocabulary gives other ids", encode(other, "sp") != ours)
    saved = work / "saved"
    fast = T5TokenizerFast.from_pretrained(made)
    fast.save_pretrained(saved)
    ids = [fast(t).input_ids for t in TEXTS]
    check("transformers loads our folder and gives the ids of --mode hf5", encode(made, "hf5") == ids)
    check("we read the tokenizer.json that transformers has saved", encode(saved, "json") == ids)


def parquet(work):
    model = ROOT / "models" / "g2p-base"
    rows = [{"id": f"r{i}", "input": f"word {i} é", "target": f"t{i}" if i % 7 else ""} for i in range(500)]
    theirs = work / "theirs.parquet"
    datasets.Dataset.from_list(rows).to_parquet(str(theirs))
    inspected = json.loads(run("data", "inspect", theirs, "--model", model, "--json").stdout)
    check("we read the Parquet that datasets has written", "500" in json.dumps(inspected))
    output = work / "ours.parquet"
    words = work / "words.jsonl"
    words.write_text("".join(json.dumps({"input": w}) + "\n" for w in ["hello", "world", "fox", "phoneme"]))
    run("--backend", "go", "generate", "--model", model, "--input", words, "--output", output)
    jsonl = work / "ours.jsonl"
    run("--backend", "go", "generate", "--model", model, "--input", words, "--output", jsonl)
    want = [json.loads(line) for line in jsonl.read_text().splitlines()]
    got = list(datasets.load_dataset("parquet", data_files=str(output), split="train", cache_dir=str(work / "cache")))
    check(f"datasets reads our Parquet: {len(got)} rows", [r["output"] for r in got] == [r["output"] for r in want] and len(got) == 4)
    check("its inputs are those that were asked", [r["input"] for r in got] == ["hello", "world", "fox", "phoneme"])
    damaged = work / "damaged.parquet"
    data = bytearray(theirs.read_bytes())
    data[-6] ^= 0x7F  # in the length of the footer
    damaged.write_bytes(data)
    check("(control) a changed byte shows", run("data", "inspect", damaged, "--model", model, ok=False).returncode != 0)


def main():
    with tempfile.TemporaryDirectory() as folder:
        tokenizers(Path(folder))
        parquet(Path(folder))
    if failures:
        raise SystemExit(f"{len(failures)} checks failed")


if __name__ == "__main__":
    main()

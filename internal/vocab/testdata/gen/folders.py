"""Makes ../folders.json.gz: model folders with different settings beside the vocabulary, and what
T5Tokenizer and ByT5Tokenizer of transformers make of texts with them.

    python folders.py

Needs what requirements.txt pins, and ../t5-spiece.model.gz, ../mt5like.model.gz and the published
t5-small tokenizer.json under the path in $T5_SMALL_JSON.
"""

import gzip
import json
import os
import tempfile

from transformers import AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
LINES = [
    "hello world", " a <extra_id_0> b ", "a<extra_id_0>b<extra_id_1>", "  <extra_id_99>  <extra_id_98>\n\nx", "x </s> y", "</s>", " <pad> ", "<unk>unk",
    "a <sep> b<sep>c", "▁<extra_id_3> ▁<extra_id_4>", "<extra_id_3>", "<extra_id_100>", "＜/s＞", "é <extra_id_5>\u0301 z", "a \n b", "<extra_id_0> <extra_id_0>", "\u3000<extra_id_7>\u3000",
]
EXTRA = [f"<extra_id_{k}>" for k in range(100)]


def token(content, **flags):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True, **flags}


def decoder(**flags):
    named = {"0": token("<pad>"), "1": token("</s>"), "2": token("<unk>")}
    return named | {str(32099 - k): token(name, **flags) for k, name in enumerate(EXTRA)}


T5 = {"tokenizer_class": "T5Tokenizer"}
FOLDERS = [
    ("model alone", {"spiece.model": "t5"}),
    ("model, listed sentinels", {"spiece.model": "t5", "tokenizer_config.json": T5 | {"extra_ids": 100, "additional_special_tokens": EXTRA}}),
    ("model, sentinels that strip", {"spiece.model": "t5", "tokenizer_config.json": T5 | {"extra_ids": 100, "additional_special_tokens": EXTRA, "added_tokens_decoder": decoder(lstrip=True, rstrip=True)}}),
    ("model, sentinels that strip right", {"spiece.model": "t5", "tokenizer_config.json": T5 | {"added_tokens_decoder": decoder(rstrip=True)}}),
    ("model, a token of its own", {"spiece.model": "t5", "tokenizer_config.json": T5 | {"extra_ids": 100, "additional_special_tokens": EXTRA + ["<sep>"]}}),
    ("model, only a token of its own", {"spiece.model": "t5", "tokenizer_config.json": T5 | {"extra_special_tokens": ["<sep>"]}}),
    ("model, no sentinels", {"spiece.model": "t5", "tokenizer_config.json": T5 | {"extra_ids": 0}}),
    ("model, 120 sentinels", {"spiece.model": "t5", "tokenizer_config.json": T5 | {"extra_ids": 120}}),
    ("model, map", {"spiece.model": "t5", "tokenizer_config.json": T5, "special_tokens_map.json": {"eos_token": "</s>", "additional_special_tokens": EXTRA}}),
    ("model, map with objects", {"spiece.model": "t5", "tokenizer_config.json": T5, "special_tokens_map.json": {"eos_token": token("</s>", rstrip=True), "pad_token": token("<pad>", lstrip=True)}}),
    ("model, end that strips", {"spiece.model": "t5", "tokenizer_config.json": T5 | {"eos_token": token("</s>", lstrip=True, rstrip=True) | {"__type": "AddedToken"}}}),
    ("model, added_tokens.json", {"spiece.model": "t5", "tokenizer_config.json": T5 | {"additional_special_tokens": EXTRA}, "added_tokens.json": {"<extra_id_0>": 32099}, "special_tokens_map.json": {"additional_special_tokens": EXTRA}}),
    ("mT5, null list", {"spiece.model": "mt5", "tokenizer_config.json": T5 | {"extra_ids": 0, "additional_special_tokens": None}}),
    ("mT5", {"spiece.model": "mt5", "tokenizer_config.json": T5 | {"extra_ids": 0}}),
    ("mT5, empty object", {"spiece.model": "mt5", "tokenizer_config.json": T5 | {"extra_ids": 0, "extra_special_tokens": {}}}),
    ("json alone", {"tokenizer.json": "json", "tokenizer_config.json": T5}),
    ("json, listed sentinels", {"tokenizer.json": "json", "tokenizer_config.json": T5 | {"additional_special_tokens": EXTRA}}),
    ("json, sentinels that strip", {"tokenizer.json": "json", "tokenizer_config.json": T5 | {"added_tokens_decoder": decoder(lstrip=True, rstrip=True)}}),
    ("json, a token of its own", {"tokenizer.json": "json", "tokenizer_config.json": T5 | {"extra_special_tokens": ["<sep>"]}}),
    ("json, map with a token of its own", {"tokenizer.json": "json", "tokenizer_config.json": T5 | {"extra_ids": 100}, "special_tokens_map.json": {"additional_special_tokens": EXTRA + ["<sep>"]}}),
    ("json and model", {"tokenizer.json": "json", "spiece.model": "t5", "tokenizer_config.json": T5 | {"extra_ids": 100}}),
    ("ByT5", {"tokenizer_config.json": {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}}),
    ("ByT5, 100 sentinels", {"tokenizer_config.json": {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 100}}),
    ("ByT5, listed", {"tokenizer_config.json": {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 0, "extra_special_tokens": EXTRA}}),
]


def main():
    data = {}
    for name, path in (("t5", "t5-spiece.model.gz"), ("mt5", "mt5like.model.gz")):
        data[name] = gzip.open(os.path.join(HERE, "..", path)).read()
    data["json"] = open(os.environ["T5_SMALL_JSON"], "rb").read()
    cases = []
    for name, files in FOLDERS:
        case = {"name": name, "files": files, "lines": []}
        with tempfile.TemporaryDirectory() as folder:
            for path, content in files.items():
                with open(os.path.join(folder, path), "wb") as out:
                    out.write(data[content] if isinstance(content, str) else json.dumps(content).encode())
            if not any(f.startswith("tokenizer") for f in files):
                json.dump(T5, open(os.path.join(folder, "tokenizer_config.json"), "w"))
            try:
                tok = AutoTokenizer.from_pretrained(folder)
                case["size"] = len(tok)
                for text in LINES:
                    ids = tok(text)["input_ids"]
                    case["lines"].append({"text": text, "ids": ids, "dec": tok.decode(ids), "dec_skip": tok.decode(ids, skip_special_tokens=True)})
            except Exception as e:
                case["error"] = str(e)
            print(name, type(tok).__name__, case.get("size"), case.get("error", "")[:100])
        cases.append(case)
    with open(os.path.join(HERE, "..", "folders.json.gz"), "wb") as raw, gzip.GzipFile("", "wb", 9, raw, 0) as out:
        out.write(json.dumps(cases, ensure_ascii=False, separators=(",", ":")).encode())


main()

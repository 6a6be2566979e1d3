"""Makes a further set of tokenizer vectors in the schema of ../vectors-*.jsonl.

    python vectors.py SEED LINES FOLDER

FOLDER must hold t5-spiece.model, mt5like.model and the three tokenizer.json of the published
models; the vectors are written beside them. Then run

    T5CTL_VECTORS=PARENT-OF-FOLDER go test ./internal/vocab -run TestVectors

(FOLDER itself has to be called "tokenizers"). Needs what requirements.txt pins.
"""

import base64
import json
import os
import random
import shutil
import sys
import tempfile

import sentencepiece
from tokenizers import Tokenizer
from transformers import ByT5Tokenizer, T5Tokenizer

WORDS = """the of and to in a is that for it was on with as his they be at one have this from or had by
hot but some what there we can out other were all your when up use word how said an each she which do
their time if will way about many then them would write like so these her long make thing see him two
internationalization naïve façade Straße Übermut œuvre señor žluťoučký kůň ελληνικά русский язык
українська العربية עברית हिन्दी বাংলা தமிழ் ไทย 한국어 조선말 日本語 中文 汉字 ქართული հայերեն አማርኛ""".split()
SPECIAL = ["<pad>", "</s>", "<unk>", "<s>", "<extra_id_0>", "<extra_id_1>", "<extra_id_42>", "<extra_id_99>",
           "<extra_id_100>", "<extra_id_124>", "▁<extra_id_3>", "＜/s＞", "＜extra_id_7＞", "<extra_id_", "<", "<<pad>>", "▁", "▁▁"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\u00a0", "\u3000", "\u200b", "\u200d", "\u2028", "\x0b", "\x0c", "\x85", "\x1c", "\x1f", "\ufeff"]
MARKS = [chr(c) for c in list(range(0x300, 0x370)) + [0x20D0, 0x20E3, 0xFE0E, 0xFE0F, 0x200C, 0x200D, 0x94D, 0x93C, 0x9CD, 0xE31, 0xE49, 0x3099, 0x309A, 0x1F3FB]]
TIES = ["!!!!!!", "-------", "......", "llgc", "eeee", "__", "====", "xx", "ll", "e1", "...", "**", "00", "11", "~~", "%%"]
BLOCKS = [(0x20, 0x7F), (0xA0, 0x250), (0x250, 0x370), (0x370, 0x530), (0x530, 0x700), (0x900, 0xE00), (0xE00, 0x1200), (0x1100, 0x1200),
          (0x1E00, 0x2000), (0x2000, 0x2C00), (0x2E80, 0x3400), (0x4E00, 0x5000), (0xAC00, 0xB000), (0xF900, 0xFB00),
          (0xFB00, 0xFE00), (0xFE00, 0x10000), (0x10000, 0x11000), (0x1D100, 0x1D800), (0x1F000, 0x1FB00), (0x20000, 0x20400), (0x2F800, 0x2FA20), (0xE0000, 0xE0200)]


def char(rng):
    while True:
        low, high = rng.choice(BLOCKS)
        c = rng.randrange(low, high)
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def part(rng):
    kind = rng.randrange(12)
    if kind <= 3:
        return rng.choice(WORDS)
    if kind == 4:
        return rng.choice(SPECIAL)
    if kind == 5:
        return rng.choice(SPACES) * rng.randint(1, 3)
    if kind == 6:
        return char(rng) + "".join(rng.choice(MARKS) for _ in range(rng.randint(1, 3)))
    if kind == 7:
        return rng.choice(TIES) * rng.randint(1, 12)
    if kind == 8:
        return "".join(char(rng) for _ in range(rng.randint(1, 6)))
    if kind == 9:
        return chr(rng.randrange(0, 0xA0))
    if kind == 10:
        return str(rng.random())[: rng.randint(1, 12)]
    return rng.choice(WORDS).upper()


def line(rng):
    glue = rng.choice(["", " ", " ", " "])
    return glue.join(part(rng) for _ in range(rng.randint(1, 12)))


def raw(rng):
    data = bytearray(line(rng).encode())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        data[at:at + rng.randint(0, 2)] = bytes(rng.choice([0x80, 0xC0, 0xC2, 0xE0, 0xE2, 0xED, 0xA0, 0xBF, 0xF0, 0x90, 0xF4, 0xFF]) for _ in range(rng.randint(1, 3)))
    return bytes(data)


def rows(rng, lines):
    for n in range(lines):
        if n % 12 == 11:
            data = raw(rng)
            yield {"n": n, "cat": "raw", "b64": base64.b64encode(data).decode()}, data.decode(errors="replace"), data
        else:
            text = line(rng)
            yield {"n": n, "cat": "made", "text": text}, text, text


def hf5(model, **kwargs):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(model, os.path.join(folder, "spiece.model"))
        return T5Tokenizer.from_pretrained(folder, **kwargs)


def ids(tokenizer, text):
    return tokenizer(text)["input_ids"]


def main():
    seed, lines, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    at = lambda name: os.path.join(folder, name)
    t5, mt5, byt5 = hf5(at("t5-spiece.model")), hf5(at("mt5like.model"), extra_ids=0), ByT5Tokenizer()
    t5_sp, mt5_sp = (sentencepiece.SentencePieceProcessor(model_file=at(m)) for m in ("t5-spiece.model", "mt5like.model"))
    files = {f: Tokenizer.from_file(at(n)) for f, n in (("t5json", "t5-small-tokenizer.json"), ("flanjson", "flan-t5-small-tokenizer.json"), ("v11json", "flux-t5-v1_1-xxl-tokenizer.json"))}

    def t5_row(row, text, data):
        row["hf5"] = ids(t5, text)
        for field, tokenizer in files.items():
            row[field] = tokenizer.encode(text).ids
        row["sp"] = t5_sp.encode(data)
        row["dec"], row["dec_skip"] = t5.decode(row["hf5"]), t5.decode(row["hf5"], skip_special_tokens=True)
        row["sp_dec"] = t5_sp.decode(row["sp"])

    def mt5_row(row, text, data):
        row["hf5"], row["sp"] = ids(mt5, text), mt5_sp.encode(data)
        row["sp_dec"] = mt5_sp.decode(row["sp"])

    def byt5_row(row, text, data):
        row["ids"] = ids(byt5, text)
        row["dec"], row["dec_skip"] = byt5.decode(row["ids"]), byt5.decode(row["ids"], skip_special_tokens=True)

    for name, fill in (("t5", t5_row), ("mt5like", mt5_row), ("byt5", byt5_row)):
        rng = random.Random(f"{seed} {name}")
        with open(at(f"vectors-{name}.jsonl"), "w", encoding="utf-8") as out:
            for row, text, data in rows(rng, lines):
                fill(row, text, data)
                out.write(json.dumps(row, separators=(",", ":")) + "\n")


main()

"""Makes meteor.jsonl: pairs of made-up sentences and what nltk 3.10.4 scores them without synonyms.

python gen.py > meteor.jsonl     (nltk==3.10.4; WordNet is not needed)
"""
import json
import random

from nltk.translate.meteor_score import meteor_score


class NoSynonyms:
    def synsets(self, word):
        return []


rng = random.Random(20)
words = ("the a cat cats sat sitting sits on mat mats running runs ran dog dogs quickly quick happily happy "
         "houses house relational relate Ångström ünïcode flies die dying , . The A On").split()
for i in range(200):
    refs = [[rng.choice(words) for _ in range(rng.randint(0 if i % 20 == 0 else 1, 14))] for _ in range(rng.choice([1, 1, 2, 3]))]
    hyp = list(rng.choice(refs))
    for _ in range(rng.randint(0, 6)):
        kind = rng.randint(0, 3)
        at = rng.randint(0, len(hyp))
        if kind == 0:
            hyp.insert(at, rng.choice(words))
        elif kind == 1 and hyp:
            hyp.pop(at - 1)
        elif kind == 2:
            hyp = hyp[at:] + hyp[:at]
        elif hyp:
            hyp[at - 1] = rng.choice(words)
    a, b, g = (0.9, 3.0, 0.5) if i % 4 else (rng.choice([0.5, 0.8, 0.9]), rng.choice([1.0, 2.0, 3.0]), rng.choice([0.2, 0.5]))
    score = meteor_score(refs, hyp, wordnet=NoSynonyms(), alpha=a, beta=b, gamma=g)
    print(json.dumps({"hyp": " ".join(hyp), "refs": [" ".join(r) for r in refs], "alpha": a, "beta": b, "gamma": g, "score": score}, ensure_ascii=False))

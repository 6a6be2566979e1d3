"""P-values of a drop of exactly X between the two systems here, by sacreBLEU 2.6.0's paired bootstrap.

    python drop.py        # sacrebleu==2.6.0, numpy==2.4.6

sacreBLEU tests a difference of nothing. Its test of a drop of X is the same, with X taken off the real
difference and off each resampled one.
"""

import gzip
import json
import os

import numpy as np
import sacrebleu

HERE = os.path.dirname(os.path.abspath(__file__))


def statistics(system, metric):
    with gzip.open(os.path.join(HERE, system + ".rows.jsonl.gz"), "rt") as f:
        next(f)
        return np.array([json.loads(line)["stats"][metric] for line in f], dtype="float32")


def main():
    metrics = {"bleu": sacrebleu.BLEU(tokenize="none"), "chrf": sacrebleu.CHRF()}
    for name, metric in metrics.items():
        score = lambda stats: metric._compute_score_from_stats(list(stats)).score
        before, after = statistics("moses-ylt-bbe", name), statistics("seq2seq-all-all", name)
        rng = np.random.default_rng(12345)
        picks = rng.choice(len(before), size=(1000, len(before)), replace=True)
        drops = np.array([score(before[p].sum(0)) for p in picks]) - np.array([score(after[p].sum(0)) for p in picks])
        real = score(before.astype("float64").sum(0)) - score(after.astype("float64").sum(0))
        for bound in (0, 0.5, 1, 1.7, 2, 3):
            distance = np.abs(drops - bound)
            p = (np.sum(distance - distance.mean() > abs(real - bound)) + 1) / (len(drops) + 1)
            print(f"{name} drop {real:.4f} bound {bound}: p = {p * 1001:.0f}/1001")


main()

"""Makes spans.json with T5's own code: how many tokens are masked, in how many spans, and what
the example of a given mask looks like.

    pip install tensorflow-cpu==2.21.0 numpy==2.4.6
    pip download --no-deps t5==0.9.4 && unzip t5-0.9.4-*.whl
    python make_spans.py t5/data/preprocessors.py

The functions are taken out of the file by name, because the package itself imports far more
than they need. The one thing they call, a shuffle, is TensorFlow's stateless one.
"""
import ast
import json
import pathlib
import sys

import tensorflow as tf

NAMES = {"random_spans_helper", "random_spans_noise_mask", "noise_span_to_unique_sentinel",
         "nonnoise_span_to_unique_sentinel"}
HERE = pathlib.Path(__file__).parent


class SeqIO:
    @staticmethod
    def stateless_shuffle(value, seed):
        keys = tf.random.stateless_uniform(tf.shape(value), seed=seed)
        return tf.gather(value, tf.argsort(keys))


class Gin:
    REQUIRED = None


def load(path):
    tree = ast.parse(pathlib.Path(path).read_text())
    nodes = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in NAMES]
    for node in nodes:
        node.decorator_list = []
    scope = {"tf": tf, "seqio": SeqIO, "gin": Gin, "sentinel_id": lambda vocabulary: 32099}
    exec(compile(ast.Module(nodes, []), path, "exec"), scope)
    return scope


def runs(mask):
    return sum(1 for i, m in enumerate(mask) if m and (i == 0 or not mask[i - 1]))


t5 = load(sys.argv[1])
out = {"helper": [], "counts": [], "examples": []}
for density, span in [(0.15, 3.0), (0.15, 20.0), (0.3, 1.0), (0.5, 3.0), (0.5, 32.0), (0.1, 2.5)]:
    for length in [8, 16, 31, 32, 64, 100, 113, 128, 256, 512, 1024]:
        out["helper"].append([density, span, length, *t5["random_spans_helper"](length, density, span, 1, 1)])
    for length in [*range(1, 80), 100, 113, 114, 128, 210, 256, 490, 512, 568, 1000, 2048]:
        seeds = tf.constant([[length, 1], [2, length]], tf.int32)
        mask = t5["random_spans_noise_mask"](length, density, seeds, span).numpy().tolist()
        out["counts"].append([density, span, length, sum(mask), runs(mask)])
        if length in (1, 2, 7, 30, 113) and density in (0.15, 0.5):
            tokens = tf.range(1000, 1000 + length, dtype=tf.int32)
            inputs = t5["noise_span_to_unique_sentinel"](tokens, tf.constant(mask), None, None)
            targets = t5["nonnoise_span_to_unique_sentinel"](tokens, tf.constant(mask), None, None)
            out["examples"].append({"mask": [int(m) for m in mask], "tokens": tokens.numpy().tolist(),
                                    "input": inputs.numpy().tolist(), "target": targets.numpy().tolist()})
(HERE / "spans.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")

"""What the peer programs share: the flags, the token ids and the lines that they print. See README.md."""

import argparse
import json
import os
import resource
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"


def parser(description):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--model", required=True, help="Hugging Face folder")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--input-tokens", type=int, default=128)
    p.add_argument("--precision", choices=["fp32", "bf16", "int8"], default="fp32")
    p.add_argument("--warmup", type=int, default=1, help="repetitions that are printed but do not count")
    p.add_argument("--repeat", type=int, default=3)
    p.add_argument("--threads", type=int, default=0, help="0: what torch chooses")
    return p


def ids(rows, columns, offset, vocab):
    """The same ids on all sides: 3 + (7919 * (row * columns + column) + offset) mod (vocab - 128)."""
    return [[3 + (7919 * (r * columns + c) + offset) % (vocab - 128) for c in range(columns)] for r in range(rows)]


INPUTS, TARGETS = 101, 20011  # the offsets


def quiet_imports():
    """Imports torch and transformers without their chatter; gives the resident memory that this alone takes."""
    import torch  # noqa: F401
    from transformers import GenerationMixin, T5ForConditionalGeneration  # noqa: F401
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return peak_rss_mib()


def peak_rss_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def since_start():
    """Seconds since the process began, as the kernel says."""
    fields = open("/proc/self/stat").read().rpartition(")")[2].split()
    return float(open("/proc/uptime").read().split()[0]) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def say(work, seconds, tokens, warmup, **more):
    line = {"work": work, "seconds": round(seconds, 6), "tokens": tokens, "peak_rss_mib": round(peak_rss_mib(), 1),
            "warmup": warmup, "since_start": round(since_start(), 2), **more}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def repeat(args, work, once):
    """Runs once() as often as the flags say and prints a line each; it gives the tokens and further keys."""
    for i in range(args.warmup + args.repeat):
        start = time.perf_counter()
        tokens, more = once()
        say(work, time.perf_counter() - start, tokens, i < args.warmup, **more)

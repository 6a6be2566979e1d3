"""Writes the model that the benchmark runs on: the shape of T5-small (T5 1.0) with random weights.

    python bench/model.py ~/.cache/t5ctl-bench/t5-small-random
    python bench/model.py --tiny /tmp/tiny          # a few thousand weights, to try the programs

The embedding of </s> is zero, so that with the tied head its logit is always 0 and it never is among the best:
every output runs to the limit on its own and all sides decode the same number of tokens.
"""

import argparse
from pathlib import Path

import torch
from transformers import GenerationConfig, T5Config, T5ForConditionalGeneration

SMALL = dict(d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_decoder_layers=6, num_heads=8, vocab_size=32128)
TINY = dict(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_decoder_layers=2, num_heads=4, vocab_size=1024)


def main():
    parser = argparse.ArgumentParser(description="write the random model of the benchmark")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(1)
    config = T5Config(**(TINY if args.tiny else SMALL), feed_forward_proj="relu", dropout_rate=0.0,
                      decoder_start_token_id=0, architectures=["T5ForConditionalGeneration"])
    model = T5ForConditionalGeneration(config).float()
    with torch.no_grad():
        model.shared.weight[1] = 0
    model.generation_config = GenerationConfig(decoder_start_token_id=0, eos_token_id=1, pad_token_id=0)
    model.save_pretrained(args.folder)


if __name__ == "__main__":
    main()

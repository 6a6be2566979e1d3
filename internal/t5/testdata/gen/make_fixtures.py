"""Writes the reference models and values that the tests of internal/t5 are held against.

    python3 -m venv ~/.cache/t5ctl-bench/venv
    ~/.cache/t5ctl-bench/venv/bin/pip install -r bench/requirements.txt
    ~/.cache/t5ctl-bench/venv/bin/python internal/t5/testdata/gen/make_fixtures.py            # all variants
    ~/.cache/t5ctl-bench/venv/bin/python internal/t5/testdata/gen/make_fixtures.py t5-1.1     # some of them
    ~/.cache/t5ctl-bench/venv/bin/python internal/t5/testdata/gen/make_fixtures.py --search   # look for seeds anew

Each variant is a tiny random model in a folder of its own under internal/t5/testdata:

  config.json, generation_config.json, model.safetensors   the model folder, as transformers loads it
  fixture.json                                             token ids, losses, settings and generated ids
  fixture.safetensors                                      the float tensors named in fixture.json, fp32

What the values are, all in fp32 with eager attention on one thread, dropout off:

  encoder            last hidden state of the encoder [B, S, d]; rows are padded on the right with 0, which is masked
                     (compare where input_ids is not 0)
  logits             [B, T, V] for decoder inputs = labels shifted right (start token 0, -100 read as 0)
  loss               cross entropy, mean over the labels that are not -100
  loss_smoothed      CrossEntropyLoss(label_smoothing=0.1, ignore_index=-100): per token
                     0.9 * -log p(label) + 0.1 * mean over the vocabulary of -log p(v), then the mean over tokens
  loss_z             loss + 1e-4 * mean over tokens of (log Z)^2, log Z = logsumexp of the token's logits
  loss_smoothed_z    both: loss_smoothed + the same z term
  label_logprob      per row, the sum of log p(label) over its labels
  grad.NAME          gradient of loss; grad_smoothed_z.NAME of loss_smoothed_z
  generation         ids after the start token up to and including </s>, padding cut off; scores are the
                     sequences_scores of transformers (sum of log p / length ** length_penalty)

A seed is only used where the outputs cannot hang on rounding: the two best logits of each greedy step are more
than 1e-3 apart, and noise of +-5e-4 on every log-probability changes no sequence of any beam search.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from safetensors.torch import save_file
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

ROOT = Path(__file__).resolve().parent.parent
PAD, EOS, IGNORE = 0, 1, -100
SMOOTHING, Z_LOSS = 0.1, 1e-4
NEW_TOKENS = 24

# The keys of a config.json as the models on the hub have them. Values that a variant does not set are here.
COMMON = dict(
    d_model=32, d_kv=10, d_ff=40, num_heads=4, num_layers=2, num_decoder_layers=2, vocab_size=128,
    relative_attention_num_buckets=8, relative_attention_max_distance=16, dropout_rate=0.1,
    layer_norm_epsilon=1e-6, initializer_factor=1.0, is_encoder_decoder=True, use_cache=True,
    pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD,
)

# name: config, whether lm_head has weights of its own, dtype on disk, batch [lengths of inputs, of targets], seed
VARIANTS = {
    "t5-1.0": dict(  # the published default buckets; save_pretrained writes no lm_head
        config=dict(model_type="t5", feed_forward_proj="relu", d_model=32, d_kv=8, vocab_size=160,
                    relative_attention_num_buckets=32, relative_attention_max_distance=128),
        untied=False, dtype="F32", inputs=[48, 31, 20, 5], targets=[16, 9, 12, 4]),
    "t5-1.1": dict(  # config.json in the form of the hub: tie_word_embeddings false and nothing about scaling
        config=dict(model_type="t5", feed_forward_proj="gated-gelu", tie_word_embeddings=False),
        untied=True, dtype="F32", inputs=[40, 33, 17, 6], targets=[14, 16, 7, 3], hub_config=True),
    "t5-1.1-tied": dict(
        config=dict(model_type="t5", feed_forward_proj="gated-gelu", tie_word_embeddings=True),
        untied=False, dtype="F16", inputs=[36, 28, 11, 4], targets=[12, 15, 8, 5]),
    "mt5": dict(  # never scales the decoder output, whatever the head is
        config=dict(model_type="mt5", feed_forward_proj="gated-gelu", tie_word_embeddings=False),
        untied=True, dtype="F32", inputs=[30, 24, 13, 7], targets=[10, 13, 6, 9], hub_config=True),
    "umt5": dict(  # a relative bias in each layer
        config=dict(model_type="umt5", feed_forward_proj="gated-gelu", d_model=40, d_kv=8),
        untied=True, dtype="F32", inputs=[40, 25, 19, 8], targets=[13, 16, 5, 10]),
    "byt5": dict(  # bytes, deep encoder, inputs longer than max_distance
        config=dict(model_type="t5", feed_forward_proj="gated-gelu", tie_word_embeddings=False, vocab_size=384,
                    num_layers=3, num_decoder_layers=1, d_kv=8, relative_attention_num_buckets=32,
                    relative_attention_max_distance=128),
        untied=True, dtype="F32", inputs=[150, 97, 40], targets=[16, 11, 6]),
    "uneven": dict(  # the decoder deeper than the encoder
        config=dict(model_type="t5", feed_forward_proj="relu", num_layers=1, num_decoder_layers=3, d_model=48, d_kv=16),
        untied=False, dtype="BF16", inputs=[34, 29, 15, 9], targets=[15, 12, 9, 2]),
}

# Found by --search.
SEEDS = {"t5-1.0": 275, "t5-1.1": 43, "t5-1.1-tied": 51, "mt5": 28, "umt5": 54, "byt5": 6, "uneven": 62}

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

GENERATIONS = {
    "greedy": dict(num_beams=1),
    "beam4": dict(num_beams=4, length_penalty=1.0, early_stopping=False),
    "beam4-early": dict(num_beams=4, length_penalty=0.6, early_stopping=True),
    "beam4-return4": dict(num_beams=4, length_penalty=1.0, early_stopping=False, num_return_sequences=4),
    "beam3-never": dict(num_beams=3, length_penalty=2.0, early_stopping="never"),
}


def architecture(model_type):
    return {
        "t5": transformers.T5ForConditionalGeneration,
        "mt5": transformers.MT5ForConditionalGeneration,
        "umt5": transformers.UMT5ForConditionalGeneration,
    }[model_type]


def config_keys(spec):
    keys = {**COMMON, **spec["config"]}
    keys["architectures"] = [architecture(keys["model_type"]).__name__]
    return keys


def deviation(name, shape, cfg, untied):
    """Standard deviations at which a random model's output depends on its input and does not repeat itself."""
    d, inner = cfg["d_model"], cfg["num_heads"] * cfg["d_kv"]
    gain = 3.0 if untied else 9.0  # a tied head repeats the last token unless the layers outweigh its embedding
    if name == "shared.weight":
        return 2.0
    if name == "lm_head.weight":
        return 3.0 / d**0.5
    if "relative_attention_bias" in name:
        return 1.0
    leaf = name.split(".")[-2]
    return {
        "q": 1.6 * (d * cfg["d_kv"]) ** -0.5, "k": 1.6 * d**-0.5, "v": 3.0 * d**-0.5, "o": gain * inner**-0.5,
        "wi": 2.0 * d**-0.5, "wi_0": 2.0 * d**-0.5, "wi_1": 2.0 * d**-0.5, "wo": gain * shape[-1] ** -0.5,
    }[leaf]


def random_weights(spec, seed):
    """The tensors of the model by their names on disk, each drawn in the order of the names."""
    cfg = config_keys(spec)
    with torch.device("meta"):
        cls = architecture(cfg["model_type"])
        shapes = {n: tuple(p.shape) for n, p in cls(cls.config_class(**cfg)).named_parameters()}
    if spec["untied"]:
        shapes["lm_head.weight"] = shapes["shared.weight"]
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name in sorted(shapes):
        values = torch.randn(shapes[name], generator=generator)
        if "layer_norm" in name:
            weights[name] = 1 + 0.2 * values
        else:
            weights[name] = values * deviation(name, shapes[name], cfg, spec["untied"])
    head = "lm_head.weight" if spec["untied"] else "shared.weight"
    weights[head][EOS] *= 1.3  # so that some outputs end before the limit
    return {n: w.to(DTYPES[spec["dtype"]]).contiguous() for n, w in weights.items()}


def load(folder, model_type):
    model = architecture(model_type).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True)
    return model.eval()


def draw_model(folder, spec, seed):
    """Writes the bare tensors and a config of the hub's form, and gives back the model loaded from them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cfg = config_keys(spec)
    (folder / "config.json").write_text(json.dumps(cfg, indent=2, sort_keys=True) + "\n")
    save_file(random_weights(spec, seed), folder / "model.safetensors", metadata={"format": "pt"})
    return load(folder, cfg["model_type"])


def write_model(folder, spec, seed):
    """Writes the model folder through save_pretrained and gives back the model loaded from it."""
    model = draw_model(folder, spec, seed)
    cfg = config_keys(spec)
    hub_config = (folder / "config.json").read_text()
    stored = architecture(cfg["model_type"]).from_pretrained(
        folder, dtype=DTYPES[spec["dtype"]], local_files_only=True).to(DTYPES[spec["dtype"]])
    stored.save_pretrained(folder)
    if spec.get("hub_config"):
        (folder / "config.json").write_text(hub_config)
    again = load(folder, cfg["model_type"])
    for (name, a), (_, b) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        if not torch.equal(a, b):
            raise SystemExit(f"{folder.name}: {name} changed when it was saved and loaded")
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
    return again


def batch(spec, seed):
    """Ids from 3 up, each row ending in </s>, padded on the right: inputs with 0, labels with -100."""
    generator = torch.Generator().manual_seed(seed + 1000)
    vocab = config_keys(spec)["vocab_size"]

    def rows(lengths, fill):
        out = torch.full((len(lengths), max(lengths)), fill)
        for i, n in enumerate(lengths):
            out[i, : n - 1] = torch.randint(3, vocab, (n - 1,), generator=generator)
            out[i, n - 1] = EOS
        return out

    return rows(spec["inputs"], PAD), rows(spec["targets"], IGNORE)


def losses(logits, labels):
    flat, target = logits.flatten(0, 1), labels.flatten()
    plain = torch.nn.functional.cross_entropy(flat, target, ignore_index=IGNORE)
    smooth = torch.nn.functional.cross_entropy(flat, target, ignore_index=IGNORE, label_smoothing=SMOOTHING)
    z = Z_LOSS * torch.logsumexp(flat[target != IGNORE], -1).square().mean()
    return {"loss": plain, "loss_smoothed": smooth, "loss_z": plain + z, "loss_smoothed_z": smooth + z}


def gradient_names(spec):
    names = ["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
             "decoder.block.0.layer.1.EncDecAttention.k.weight", "shared.weight"]
    return names + (["lm_head.weight"] if spec["untied"] else [])


class Noise(LogitsProcessor):
    """Disturbs every log-probability a little, to see whether the outputs hang on it."""

    def __init__(self, seed, size):
        self.generator, self.size = torch.Generator().manual_seed(seed), size

    def __call__(self, input_ids, scores):
        return scores + (torch.rand(scores.shape, generator=self.generator) * 2 - 1) * self.size


def deep_cache_works(model):
    """transformers 5.23 makes a cache of as many layers as the encoder has; a deeper decoder fails in it."""
    return model.config.num_decoder_layers <= model.config.num_layers


def generate(model, inputs, settings, **extra):
    out = model.generate(
        input_ids=inputs, attention_mask=(inputs != PAD).long(), do_sample=False, max_new_tokens=NEW_TOKENS,
        use_cache=deep_cache_works(model), return_dict_in_generate=True, output_scores=True, output_logits=settings["num_beams"] == 1, **settings, **extra)
    sequences = []
    for row in out.sequences.tolist():
        row = row[1:]
        sequences.append(row[: row.index(EOS) + 1] if EOS in row else row)
    return sequences, out


def greedy_gap(sequences, out):
    """The least distance between the two best logits over all greedy steps."""
    gap = float("inf")
    for step, logits in enumerate(out.logits):
        best = logits.topk(2).values
        for row, sequence in enumerate(sequences):
            if step < len(sequence):
                gap = min(gap, (best[row, 0] - best[row, 1]).item())
    return gap


def least_share(spec):
    """How much of each greedy output but one must be distinct tokens: a tied head repeats itself more."""
    return 0.4 if spec["untied"] else 0.3


def all_generations(model, inputs, share):
    """The outputs of all settings, or None where one of them hangs on rounding or says nothing."""
    result = {}
    for name, settings in GENERATIONS.items():
        sequences, out = generate(model, inputs, settings)
        entry = {"settings": {"do_sample": False, "max_new_tokens": NEW_TOKENS, **settings}, "sequences": sequences}
        if name == "greedy":
            entry["least_gap"] = greedy_gap(sequences, out)
            ended = [EOS in s for s in sequences]
            varied = sum(len(set(s)) >= max(3, share * len(s)) for s in sequences)
            if entry["least_gap"] < 2e-3 or all(ended) or not any(ended) or varied < len(sequences) - 1:
                return None
            if len({tuple(s[:3]) for s in sequences}) < len(sequences) - 1:
                return None
        else:
            entry["scores"] = out.sequences_scores.tolist()
            for seed in range(12):
                noise = LogitsProcessorList([Noise(seed, 5e-4)])
                if generate(model, inputs, settings, logits_processor=noise)[0] != sequences:
                    return None
        result[name] = entry
    if result["beam4"]["sequences"] == result["greedy"]["sequences"]:
        return None
    if not any(s[-1] == EOS and len(s) > 2 for s in result["beam4"]["sequences"]):
        return None
    return result


def search(name, spec, folder):
    for seed in range(1, 3000):
        model = draw_model(folder, spec, seed)
        inputs, _ = batch(spec, seed)
        if all_generations(model, inputs, least_share(spec)):
            return seed
    raise SystemExit(f"{name}: no seed will do")


def check_alone(name, model, inputs, generations):
    """Padding must not change a result: each row alone, without its padding, gives the same tokens."""
    for key in ("greedy", "beam4"):
        for row, want in zip(inputs, generations[key]["sequences"]):
            got, _ = generate(model, row[row != PAD][None], GENERATIONS[key])
            if got[0] != want:
                raise SystemExit(f"{name}: {key} gives other tokens for a row alone")


def write_fixture(name, spec, seed, root):
    folder = root / name
    model = write_model(folder, spec, seed)
    inputs, labels = batch(spec, seed)
    mask = (inputs != PAD).long()

    out = model(input_ids=inputs, attention_mask=mask, labels=labels)
    values = losses(out.logits, labels)
    if abs(values["loss"].item() - out.loss.item()) > 1e-6:
        raise SystemExit(f"{name}: the loss is not the one of transformers")
    parameters = dict(model.named_parameters())
    names = gradient_names(spec)
    tensors = {"encoder": out.encoder_last_hidden_state, "logits": out.logits}
    for prefix, key, wanted in (("grad.", "loss", names), ("grad_smoothed_z.", "loss_smoothed_z", names[:2])):
        grads = torch.autograd.grad(values[key], [parameters[n] for n in wanted], retain_graph=True)
        tensors |= {prefix + n: g for n, g in zip(wanted, grads)}

    logp = torch.log_softmax(out.logits, -1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    with torch.no_grad():
        generations = all_generations(model, inputs, least_share(spec))
        if generations is None:
            raise SystemExit(f"{name}: seed {seed} gives outputs that hang on rounding; run with --search")
        check_alone(name, model, inputs, generations)

    save_file({k: v.detach().float().contiguous() for k, v in tensors.items()},
              folder / "fixture.safetensors", metadata={"format": "pt"})
    (folder / "fixture.safetensors").chmod(0o644)
    fixture = {
        "variant": name, "seed": seed,
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]},
        "head_is_tied": "lm_head.weight" not in parameters,
        "decoder_output_is_scaled": scaled(model),
        "label_smoothing": SMOOTHING, "z_loss": Z_LOSS,
        "input_ids": inputs.tolist(), "labels": labels.tolist(),
        **{k: v.item() for k, v in values.items()},
        "label_logprob": (logp * (labels != IGNORE)).sum(-1).tolist(),
        "tensors": {k: list(v.shape) for k, v in tensors.items()},
        "generation": generations,
    }
    (folder / "fixture.json").write_text(dump(fixture))
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    g = generations["greedy"]
    print(f"{name}: seed {seed}, {size // 1024} KiB, loss {values['loss'].item():.4f}, "
          f"least gap {g['least_gap']:.4f}, tied {fixture['head_is_tied']}, scaled {fixture['decoder_output_is_scaled']}")
    for key in ("greedy", "beam4"):
        print("  ", key, [len(s) for s in generations[key]["sequences"]], generations[key]["sequences"][0])


def scaled(model):
    """Whether the model multiplies the decoder's output by d_model ** -0.5: seen from what it does."""
    seen = {}
    hooks = [model.decoder.register_forward_hook(lambda m, a, o: seen.update(decoder=o[0])),
             model.lm_head.register_forward_pre_hook(lambda m, a: seen.update(head=a[0]))]
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, EOS]]), labels=torch.tensor([[5, EOS]]))
    for hook in hooks:
        hook.remove()
    return not torch.equal(seen["decoder"], seen["head"])


def dump(value):
    """JSON with one line a key, and one a row where the value is a list of rows."""
    def rows(v, pad):
        if isinstance(v, dict) and v:
            inner = ",\n".join(f"{pad}  {json.dumps(k)}: {rows(x, pad + '  ')}" for k, x in v.items())
            return "{\n" + inner + "\n" + pad + "}"
        if isinstance(v, list) and v and isinstance(v[0], list):
            return "[\n" + ",\n".join(pad + "  " + json.dumps(x) for x in v) + "\n" + pad + "]"
        return json.dumps(v)
    return rows(value, "") + "\n"


def main():
    parser = argparse.ArgumentParser(description="write the reference models of internal/t5")
    parser.add_argument("variants", nargs="*", default=[], metavar="VARIANT")
    parser.add_argument("--search", action="store_true", help="print seeds that will do instead of writing")
    parser.add_argument("--out", type=Path, default=ROOT)
    args = parser.parse_args()
    for name in args.variants or VARIANTS:
        if args.search:
            with torch.no_grad():
                print(name, search(name, VARIANTS[name], args.out / (name + ".search")), flush=True)
            shutil.rmtree(args.out / (name + ".search"))
        else:
            write_fixture(name, VARIANTS[name], SEEDS[name], args.out)


if __name__ == "__main__":
    main()

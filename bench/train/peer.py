"""Training steps in transformers and peft: `t5ctl bench train`'s counterpart. See bench/README.md.

Two loops: `eager` is the plain PyTorch loop (forward, backward, clip, step), `trainer` is Seq2SeqTrainer with its
defaults. Both: AdamW without decay at a constant rate, gradients clipped to a norm of 1, no dropout, all tokens real.
"""

import contextlib
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import protocol


def main():
    p = protocol.parser(__doc__.splitlines()[0])
    p.add_argument("--method", choices=["full", "lora"], default="full")
    p.add_argument("--loop", choices=["eager", "trainer"], default="eager")
    p.add_argument("--target-tokens", type=int, default=64)
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--alpha", type=float, default=32)
    p.add_argument("--targets", default="q,v")
    args = p.parse_args()
    imports = protocol.quiet_imports()

    import torch
    from transformers import AutoModelForSeq2SeqLM

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_pretrained(args.model, dtype=torch.float32, dropout_rate=0.0)
    if args.method == "lora":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", r=args.rank, lora_alpha=args.alpha,
                                                 lora_dropout=0.0, target_modules=args.targets.split(",")))
    vocab = model.config.vocab_size
    batch = {
        "input_ids": torch.tensor(protocol.ids(args.batch, args.input_tokens, protocol.INPUTS, vocab)),
        "attention_mask": torch.ones(args.batch, args.input_tokens, dtype=torch.long),
        "labels": torch.tensor(protocol.ids(args.batch, args.target_tokens, protocol.TARGETS, vocab)),
    }
    work = "train-" + args.method
    tokens = args.batch * (args.input_tokens + args.target_tokens)
    (eager if args.loop == "eager" else trainer)(args, work, model, batch, tokens, imports)


def eager(args, work, model, batch, tokens, imports):
    import torch

    model.train()
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-4, weight_decay=0.0, fused=True)

    def once():
        optimizer.zero_grad()
        cast = torch.autocast("cpu", torch.bfloat16) if args.precision == "bf16" else contextlib.nullcontext()
        with cast:
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        return tokens, {"loss": loss.item(), "imports_rss_mib": round(imports, 1)}

    protocol.repeat(args, work, once)


def trainer(args, work, model, batch, tokens, imports):
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    rows = [{k: v[i] for k, v in batch.items()} for i in range(args.batch)] * (args.warmup + args.repeat)

    class Clock(TrainerCallback):
        def on_step_begin(self, settings, state, control, **kwargs):
            self.start = time.perf_counter()

        def on_step_end(self, settings, state, control, **kwargs):
            protocol.say(work, time.perf_counter() - self.start, tokens, state.global_step <= args.warmup,
                         imports_rss_mib=round(imports, 1))

    with tempfile.TemporaryDirectory() as folder:
        settings = Seq2SeqTrainingArguments(
            output_dir=folder, per_device_train_batch_size=args.batch, max_steps=args.warmup + args.repeat,
            learning_rate=1e-4, lr_scheduler_type="constant", logging_strategy="no", save_strategy="no",
            report_to="none", disable_tqdm=True, bf16=args.precision == "bf16", use_cpu=True, seed=0)
        Seq2SeqTrainer(model=model, args=settings, train_dataset=rows, callbacks=[Clock()]).train()


if __name__ == "__main__":
    main()

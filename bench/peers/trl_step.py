"""Measures steps of TRL's GRPOTrainer on the CPU. Prints one JSON line.

Prompts of `--prompt` tokens, groups of `--group` completions of exactly `--new` tokens, random
rewards: the work of `joust bench train`. The first step is left out.

    python bench/peers/trl_step.py --model DIR --prompts 8 --group 8 --prompt 64 --new 64

`--dtype`: the weights and computation of `f32` or `bf16`, or `amp`: f32 weights under autocast to
bf16, which is TRL's default.
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import time

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens of a completion")
    parser.add_argument("--steps", type=int, default=2, help="measured steps, after the first")
    parser.add_argument("--dtype", choices=["f32", "bf16", "amp"], default="f32")
    parser.add_argument("--micro", type=int, default=0, help="rows of a micro-batch; 0: all")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    # what TRL prints goes to stderr
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    seconds = Seconds()
    rng = random.Random(0)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    n_prompts = args.prompts * (args.steps + 1)
    rows = [{"prompt": text} for text in prompts(tokenizer, n_prompts, args.prompt, rng)]
    trainer = GRPOTrainer(
        model=args.model,
        reward_funcs=lambda completions, **_: [rng.random() for _ in completions],
        args=settings(args),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[seconds],
    )
    seconds.watch(trainer)
    trainer.train()
    lengths = [row["completions/mean_length"] for row in trainer.state.log_history[:1]]
    if lengths != [float(args.new)]:
        sys.exit(f"completions have {lengths} tokens, wanted {args.new}")
    print(json.dumps(line(args, seconds)), file=output)


def settings(args):
    n_rows = args.prompts * args.group
    micro = args.micro or n_rows
    return GRPOConfig(
        output_dir="outputs/bench/trl",
        use_cpu=True,
        bf16=args.dtype == "amp",
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=n_rows // micro,
        num_generations=args.group,
        max_completion_length=args.new,
        max_steps=args.steps + 1,
        beta=0.0,
        learning_rate=1e-6,
        temperature=1.0,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        shuffle_dataset=False,
        gradient_checkpointing=args.checkpointing,
        disable_tqdm=True,
        model_init_kwargs={"dtype": "bfloat16" if args.dtype == "bf16" else "float32"},
        generation_kwargs={"min_new_tokens": args.new},
    )


def prompts(tokenizer, n, n_tokens, rng):
    """Texts of exactly `n_tokens` tokens: words that are one token each."""
    words = []
    for token in range(len(tokenizer)):
        text = tokenizer.decode([token])
        if text.startswith(" ") and text[1:].isalpha() and text.isascii() and len(text) > 3:
            words.append(text)
    while n > 0:
        text = "".join(rng.choices(words, k=n_tokens))
        if len(tokenizer(text)["input_ids"]) == n_tokens:
            n -= 1
            yield text


class Seconds(TrainerCallback):
    """Wall time of each step and of the generation in it."""

    def __init__(self):
        self.steps = []
        self.generation = []

    def watch(self, trainer):
        generate = trainer._generate_single_turn

        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return generate(*args, **kwargs)
            finally:
                self.generation.append(time.perf_counter() - start)

        trainer._generate_single_turn = timed

    def on_step_begin(self, *_, **__):
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.steps.append(time.perf_counter() - self.start)


def line(args, seconds):
    # on_step_begin comes before the step's completions are generated
    step_s = statistics.median(seconds.steps[1:])
    generation_s = statistics.median(seconds.generation[1:])
    return {
        "bench": "train",
        "program": "trl",
        "dtype": args.dtype,
        "threads": args.threads,
        "prompts": args.prompts,
        "completions": args.group,
        "prompt_tokens": args.prompt,
        "completion_tokens": args.new,
        "step_s": round(step_s, 3),
        "sampling_s": round(generation_s, 3),
        "update_s": round(step_s - generation_s, 3),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
    }


if __name__ == "__main__":
    main()

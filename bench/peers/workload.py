"""The workload of all programs of the comparison, and the JSON line of their results.

The workload is greedy generation: prompts of random token ids, a separate context per sequence, and
exactly `new` tokens per sequence. This file knows no program that generates.
"""

import argparse
import json
import resource
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SEED = 0


@dataclass
class Workload:
    model: Path
    n_prompt_tokens: int
    n_new_tokens: int
    batches: list[int]
    n_reps: int
    n_threads: int

    @classmethod
    def from_args(cls, args):
        batches = [int(batch) for batch in args.batch.split(",")]
        return cls(args.model, args.prompt, args.new, batches, args.reps, args.threads)

    def prompts(self, n_sequences, n_vocab):
        """Random token ids, the same for the same arguments. [n_sequences, n_prompt_tokens]"""
        rng = np.random.default_rng(SEED)
        return rng.integers(0, n_vocab, (n_sequences, self.n_prompt_tokens))


def parser(description):
    """Arguments of all programs of the comparison."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompt", type=int, default=512, help="tokens of a prompt")
    parser.add_argument(
        "--new", type=int, default=64, help="tokens to generate after it, at least 2"
    )
    parser.add_argument(
        "--batch", default="1,8,32", help="numbers of sequences that are decoded at once"
    )
    parser.add_argument("--reps", type=int, default=3, help="repetitions of every measurement")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def decode_figures(batch, median_step_s):
    return {
        "batch": batch,
        "tokens_per_s": round(batch / median_step_s, 2),
        "step_ms": round(median_step_s * 1e3, 3),
    }


def print_line(workload, program, prefill_s, decode, weights_bytes, kv_bytes_per_token, **details):
    """Prints the fields of `joust bench engine`, then the fields of this program only."""
    line = {
        "bench": "engine",
        "program": program,
        "model": workload.model.stem,
        "dtype": "bf16",
        "threads": workload.n_threads,
        "prompt": workload.n_prompt_tokens,
        "new": workload.n_new_tokens,
        "prefill_tokens_per_s": round(workload.n_prompt_tokens / prefill_s, 1),
        "decode": decode,
        "weights_mb": round(weights_bytes / 1e6, 1),
        "kv_bytes_per_token": kv_bytes_per_token,
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
    }
    print(json.dumps(line | details))

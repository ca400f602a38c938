"""Runs steps of GRPO by joust and by TRL in turns, and prints a table of ratios.

Both train the same model on prompts and completions of the same lengths, with random rewards. The
figures of one run can be compared with each other; those of two runs cannot, for machines differ
from hour to hour.

    python bench/peers/compare_train.py --source SmolLM2-135M-Instruct.Q4_1.gguf
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import torch
from compare import HERE, processor, run, seconds
from model_folder import write_folder

MODEL = Path(".cache/smollm2-folder")
COLUMNS = ["prompts", "program", "step s", "sampling s", "update s", "peak GB"]
COLUMNS += ["of TRL's throughput", "of TRL's memory", "floor s"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="a quantised GGUF")
    parser.add_argument("--joust", default="target/release/joust")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompt", default="64,512", help="numbers of tokens of a prompt")
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--micro", type=int, default=8, help="rows of TRL's micro-batches; 0: all, in one"
    )
    parser.add_argument("--dtypes", default="f32", help="f32, bf16 (TRL also with autocast)")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench/train.jsonl"))
    args = parser.parse_args()
    if not (MODEL / "config.json").exists():
        write_folder(args.source, MODEL)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for n_prompt_tokens in map(int, args.prompt.split(",")):
        for dtype in args.dtypes.split(","):
            lines = measure(args, dtype, n_prompt_tokens)
            rows += table_rows(args, dtype, n_prompt_tokens, lines)
    print("| " + " | ".join(COLUMNS) + " |\n" + "|" + "---|" * len(COLUMNS))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    speeds = (f"{dtype} {speed(dtype) / 1e9:.0f} GFLOP/s" for dtype in args.dtypes.split(","))
    rows_of_trl = args.micro or "all"
    print(
        f"\n{processor()}, {os.cpu_count()} threads. {args.prompts} prompts × {args.group} "
        f"completions of {args.new} tokens; TRL in micro-batches of {rows_of_trl} rows. Floor: 2\n"
        "operations per parameter and token that is sampled, and 6 per token that is trained, a\n"
        f"prompt once, at the speed of a large product ({', '.join(speeds)})."
    )


def measure(args, dtype, n_prompt_tokens):
    """The lines of all programs, by program."""
    shape = ["--prompts", args.prompts, "--steps", args.steps]
    trl = [sys.executable, HERE / "trl_step.py", "--model", MODEL, *shape]
    trl += ["--group", args.group, "--prompt", n_prompt_tokens, "--new", args.new]
    trl += ["--micro", args.micro, "--dtype"]
    joust = [args.joust, "bench", "train", "--model", MODEL, *shape, "--json"]
    joust += ["--completions", args.group, "--prompt-tokens", n_prompt_tokens]
    joust += ["--completion-tokens", args.new, "--dtype", dtype]
    small = ["--checkpoint-activations", "--micro-batch-tokens", "1024", "--logits-mib", "32"]
    programs = {
        "joust": joust,
        "joust, checkpointing": [*joust, "--checkpoint-activations"],
        "joust, small": [*joust, *small],
    }
    for mode in ["f32"] if dtype == "f32" else ["bf16", "amp"]:
        programs[f"TRL {mode}"] = [*trl, mode]
    lines = {name: [] for name in programs}
    with args.output.open("a") as output:
        for round_idx in range(args.rounds):
            for name, command in programs.items():
                turn = f"round {round_idx + 1} of {args.rounds}"
                print(f"{turn}: {name}, {n_prompt_tokens}", file=sys.stderr, flush=True)
                lines[name].append(with_sums(run(command, os.cpu_count())))
                output.write(json.dumps(lines[name][-1]) + "\n")
    return lines


def with_sums(line):
    """joust prints the parts of an update, TRL's script the whole."""
    if "step_s" not in line:
        line["update_s"] = line["forward_s"] + line["backward_s"] + line["optimizer_s"]
        line["step_s"] = line["sampling_s"] + line["update_s"]
    return line


def table_rows(args, dtype, n_prompt_tokens, lines):
    def median(name, key):
        return statistics.median(line[key] for line in lines[name])

    # the faster of TRL's modes, with its memory
    of_trl = [name for name in lines if name.startswith("TRL")]
    trl = min(of_trl, key=lambda name: median(name, "step_s"))
    floor = floor_s(args, dtype, n_prompt_tokens)
    for name in lines:
        step_s, peak = median(name, "step_s"), median(name, "peak_rss_mb") / 1e3
        yield [
            f"{n_prompt_tokens} tokens, {dtype}",
            name,
            *(f"{median(name, key):.2f}" for key in ("step_s", "sampling_s", "update_s")),
            f"{peak:.1f}",
            f"{median(trl, 'step_s') / step_s:.2f}×",
            f"{peak / (median(trl, 'peak_rss_mb') / 1e3):.2f}×",
            f"{floor:.2f}",
        ]


def floor_s(args, dtype, n_prompt_tokens):
    """Seconds of the necessary products of a step."""
    n_parameters = n_matrix_parameters()
    n_completion_tokens = args.prompts * args.group * args.new
    n_tokens = args.prompts * n_prompt_tokens + n_completion_tokens
    return 8 * n_parameters * n_tokens / speed(dtype)


def n_matrix_parameters():
    from safetensors import safe_open

    with safe_open(MODEL / "model.safetensors", "pt") as tensors:
        shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]
    return sum(shape[0] * shape[1] for shape in shapes if len(shape) == 2)


def speed(dtype):
    """Operations per second of a large product, by the faster of torch's libraries."""
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    a, b = (torch.randn(2048, 2048, dtype=kind) for _ in range(2))
    products = [
        lambda: torch.nn.functional.linear(a, b),
        lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""),
    ]
    return 2 * 2048**3 / min(seconds(product) for product in products for _ in range(5))


if __name__ == "__main__":
    main()

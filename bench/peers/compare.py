"""Runs joust and its peers on one model, in turns, and prints a table of ratios.

The figures of one run can be compared with each other; those of two runs cannot, for machines
differ from hour to hour.

    python bench/peers/compare.py --model DIR --gguf FILE
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent

# settings that joust makes for itself, and that the peers get, too
SETTINGS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "2000",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_THRESHOLD_": "68719476736",
    "MALLOC_TRIM_THRESHOLD_": "137438953472",
    "MALLOC_TOP_PAD_": "268435456",
    "HF_HUB_OFFLINE": "1",
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="bf16 model folder")
    parser.add_argument("--gguf", type=Path, required=True, help="the same weights for llama.cpp")
    parser.add_argument("--joust", default="target/release/joust")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--batch", default="1,8,32")
    parser.add_argument("--reps", type=int, default=2)
    parser.add_argument(
        "--rounds", type=int, default=2, help="times that all programs run, one after the other"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/bench/engine.jsonl"))
    args = parser.parse_args()
    threads = os.cpu_count()
    torch.set_num_threads(threads)

    shape = ["--prompt", args.prompt, "--new", args.new, "--batch", args.batch, "--reps", args.reps]
    programs = {
        "joust": [args.joust, "bench", "engine", "--model", args.model, "--dtype", "bf16", *shape],
        "transformers": python("transformers_generate.py", args.model, shape, threads),
        # which one is faster depends on the batch: each row is compared with the faster one
        "llama.cpp": python(
            "llama_cpp_generate.py", args.gguf, [*shape, "--flash-attention", "off"], threads
        ),
        "llama.cpp, flash attention": python(
            "llama_cpp_generate.py", args.gguf, [*shape, "--flash-attention", "on"], threads
        ),
    }
    lines = {name: [] for name in programs}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with args.output.open("a") as output:
        for round_idx in range(args.rounds):
            for name, command in programs.items():
                print(
                    f"round {round_idx + 1} of {args.rounds}: {name}", file=sys.stderr, flush=True
                )
                lines[name].append(run(command, threads))
                output.write(json.dumps(lines[name][-1]) + "\n")
    print(table(lines, args))


def python(script, model, shape, threads):
    return [sys.executable, HERE / script, "--model", model, *shape, "--threads", threads]


def run(command, threads):
    """The JSON line of a program; the error of a failing program ends the comparison."""
    environment = {**os.environ, **SETTINGS, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def median_of(lines, figure):
    return statistics.median(figure(line) for line in lines)


def table(lines, args):
    bandwidth, matmul = ceilings()
    first = lines["joust"][0]
    weights, per_token = first["weights_mb"] * 1e6, first["kv_bytes_per_token"]
    n_parameters = weights / 2
    rows = [("prefill", lambda line: line["prefill_tokens_per_s"], matmul / (2 * n_parameters))]
    for idx, figures in enumerate(first["decode"]):
        batch = figures["batch"]
        step_s = (weights + batch * (args.prompt + args.new / 2) * per_token) / bandwidth
        rows.append(
            (
                f"decode, batch {batch}",
                lambda line, idx=idx: line["decode"][idx]["tokens_per_s"],
                batch / step_s,
            )
        )
    head = ["tokens/s", *lines, "of transformers", "of the better llama.cpp", "limit", "of limit"]
    text = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, figure, limit in rows:
        seen = {program: median_of(lines[program], figure) for program in lines}
        ours = seen["joust"]
        cells = [name, *(f"{value:,.0f}" for value in seen.values())]
        llama_cpp = max(value for program, value in seen.items() if program.startswith("llama.cpp"))
        cells += [f"{ours / seen['transformers']:.2f}×", f"{ours / llama_cpp:.2f}×"]
        text.append("| " + " | ".join([*cells, f"{limit:,.0f}", f"{ours / limit:.0%}"]) + " |")
    text.append(
        f"\n{processor()}, {os.cpu_count()} threads. Limits: reads at {bandwidth / 1e9:.1f} GB/s "
        "(weights, and"
    )
    text.append(
        f"keys and values, once per step), bf16 products at {matmul / 1e9:.0f} GFLOP/s "
        "(2 per parameter and token)."
    )
    return "\n".join(text)


def ceilings():
    """Maximum bytes read and bf16 operations per second."""
    memory = torch.ones(1 << 28)
    a, b = (torch.randn(2048, 2048, dtype=torch.bfloat16) for _ in range(2))
    read_s = min(seconds(memory.sum) for _ in range(5))
    product_s = min(seconds(lambda: torch.nn.functional.linear(a, b)) for _ in range(5))
    return memory.numel() * 4 / read_s, 2 * 2048**3 / product_s


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    known = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags]
    return f"{names[0] if names else 'processor'} ({', '.join(known) or 'no bf16 instructions'})"


if __name__ == "__main__":
    main()

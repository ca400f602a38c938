#!/usr/bin/env python3
"""Runs all GPU checks and benchmarks and records their results: kernels against their reference
implementations, whole models against the CPU, speed against the memory bandwidth and against
transformers, memory against the plan.

    python bench/gpu/run.py --joust target/release/joust --output gpu-results \
        [--only kernels,decode] [--minutes 25]

With --only it runs in parts: results accumulate in OUTPUT, and the summary covers all of them.
Steps by importance: machine,products,kernels,decode (about 8 minutes) - votes,precision,peer -
greedy,sanitizer.

Needs a CUDA GPU with 80 GB (H100), and a Python with torch 2.11.0+cu130 (and transformers, for the
peer); no Rust. The binary may come from another machine of the same architecture; libtorch is taken
from this Python's torch. Weights are random, drawn on the GPU in the shape of RRM-32B. Every step
has a time limit; a failure is reported and does not stop the rest. Writes OUTPUT/results.jsonl (one
line per figure) and OUTPUT/summary.md.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from summary import write_summary

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class Bench:
    """One run: its output folder, its deadline and its results."""

    def __init__(self, args):
        self.joust = str(Path(args.joust).resolve())
        self.output = Path(args.output).resolve()
        self.output.mkdir(parents=True, exist_ok=True)
        earlier = self.output / "results.jsonl"
        lines = earlier.read_text(encoding="utf-8").splitlines() if earlier.exists() else []
        self.rows = [json.loads(line) for line in lines]
        self.failures = [
            (row["step"], row["failed"])
            for row in self.rows
            if "failed" in row and "part" not in row
        ]
        self.end = time.time() + 60 * args.minutes
        import torch

        libraries = str(Path(torch.__file__).parent / "lib")
        self.env = dict(
            os.environ, LD_LIBRARY_PATH=libraries + ":" + os.environ.get("LD_LIBRARY_PATH", "")
        )
        self.model = Path(tempfile.mkdtemp()) / "rrm-32b"
        shutil.copytree(HERE / "rrm-32b", self.model)
        # the tokenizer does not matter: prompts are made of token ids
        for path in (ROOT / "data/models/nano-rrm").iterdir():
            if path.name.startswith("tokenizer"):
                shutil.copy(path, self.model)

    def add(self, step, figures):
        row = {"step": step, **figures}
        self.rows.append(row)
        with open(self.output / "results.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def fail(self, step, why):
        self.failures.append((step, why))
        self.add(step, {"failed": why})
        print(f"FAILED {step}: {why}", flush=True)

    def run(self, step, args, seconds, prefix=(), env=None):
        """Runs joust and returns the JSON lines that it printed; None if it failed."""
        left = self.end - time.time()
        if left < 10:
            self.fail(step, "no time left")
            return None
        command = [*prefix, self.joust, *map(str, args)]
        print(f"{step}: {' '.join(command)}", flush=True)
        start = time.time()
        code, out, err = finish(command, {**self.env, **(env or {})}, min(seconds, left))
        print(f"  {time.time() - start:.1f} s, exit code {code}", flush=True)
        if code is None:
            self.fail(step, f"took more than {min(seconds, left):.0f} s")
        elif code != 0:
            told = err.strip() or out.strip()
            self.fail(step, told if len(told) < 3000 else told[:1500] + " ... " + told[-1500:])
        elif err.strip():
            self.add(step, {"noted": err.strip()[:1500]})
        lines = []
        for line in out.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                pass
        for line in lines:
            self.add(step, line)
        return lines if code == 0 else None


def finish(command, env, seconds):
    """Exit code and output of a command. After the time limit it and its children are killed, and
    the exit code is None.
    """
    process = subprocess.Popen(
        command,
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
        return process.returncode, out, err
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return None, out, err


def machine(bench):
    """The machine, and the plan of the model on its GPU."""
    args = [
        "doctor",
        "--model",
        bench.model,
        "--device",
        "cuda",
        "--quantization",
        "fp8",
        "--max-context",
        8192,
    ]
    code, out, err = finish([bench.joust, *map(str, args), "--json"], bench.env, 60)
    if code != 0:
        bench.fail("machine", err.strip() or "no answer")
        return
    report = json.loads(out)
    bench.add(
        "machine",
        {key: report[key] for key in ("joust", "libtorch", "gpu", "cuda_compiler", "plan")},
    )


# prints the shapes for which cuBLASLt refuses one scale per row; the environment sets its workspace
PROBE = """
import json, torch
f8 = torch.float8_e4m3fn
shapes = [(5120, 7168, 1), (5120, 5120, 0), (5120, 55296, 0), (27648, 5120, 0), (5120, 152064, 0)]
for k, n, has_bias in shapes:
    weight = torch.randn(n, k, device="cuda").to(f8).t()
    bias = torch.zeros(n, device="cuda", dtype=torch.bfloat16) if has_bias else None
    scale = torch.ones(1, n, device="cuda")
    for m in (1, 2, 3, 4, 8, 15, 16, 17, 32, 48, 64, 128, 256, 257, 2048):
        x = torch.randn(m, k, device="cuda").to(f8)
        out = torch.empty(m, n, device="cuda", dtype=torch.bfloat16)
        def run():
            ones = torch.ones(m, 1, device="cuda")
            torch._scaled_mm(x, weight, scale_a=ones, scale_b=scale, bias=bias,
                             out_dtype=torch.bfloat16, use_fast_accum=True, out=out)
            torch.cuda.synchronize()
        try:
            run()
        except RuntimeError as error:
            print(json.dumps({"refused": [m, k, n], "why": str(error)[:90]}))
print(json.dumps({"probed": True}))
"""


def products(bench):
    """The FP8 products with one scale per row that libtorch refuses."""
    for workspace in ("1024", "32768"):
        env = dict(os.environ, CUBLASLT_WORKSPACE_SIZE=workspace)
        code, out, err = finish([sys.executable, "-c", PROBE], env, 90)
        for line in out.splitlines():
            if line.startswith("{"):
                bench.add(f"products, workspace of {workspace} KiB", json.loads(line))
        if code != 0:
            bench.fail(
                f"products, workspace of {workspace} KiB",
                err.strip()[-800:] or "took more than 90 s",
            )


def kernels(bench):
    """Each kernel against its reference implementation, and its speed."""
    for kv in ([], ["--kv-fp8"]):
        args = ["bench", "gpu", "--model", bench.model, "--context", 2048, *kv]
        bench.run(f"kernels{''.join(kv)} at 2048", args, 120)
    args = ["bench", "gpu", "--model", bench.model, "--context", 2048, "--rows", "1,64"]
    bench.run("kernels, small workspace", args, 120, env={"CUBLASLT_WORKSPACE_SIZE": "1024"})
    bench.run(
        "kernels, prefill",
        ["bench", "gpu", "--model", bench.model, "--rows", "2048", "--context", 16],
        120,
    )


def sanitizer(bench):
    """compute-sanitizer on the kernels."""
    if not shutil.which("compute-sanitizer"):
        bench.fail("sanitizer", "compute-sanitizer is not installed")
        return
    # libraries make driver calls that may fail; only memory errors of kernels count
    # the program restarts itself with other settings unless this variable is set
    env = {"JOUST_STARTED": "1", "CUBLASLT_WORKSPACE_SIZE": "32768"}
    prefix = [
        "compute-sanitizer",
        "--tool",
        "memcheck",
        "--report-api-errors",
        "no",
        "--error-exitcode",
        "9",
    ]
    for name, model, context in (
        ("tiny", ROOT / "tests/golden/models/tiny-qwen2", 40),
        ("rrm-32b", bench.model, 64),
    ):
        for kv in ([], ["--kv-fp8"]):
            args = [
                "bench",
                "gpu",
                "--model",
                model,
                "--rows",
                "1,3",
                "--context",
                context,
                "--reps",
                0,
                *kv,
            ]
            if bench.run(f"sanitizer {name}{''.join(kv)}", args, 180, prefix, env) is not None:
                bench.add(f"sanitizer {name}{''.join(kv)}", {"clean": True})


def greedy(bench):
    """Greedy tokens on the GPU and on the CPU in f32, and with and without kernels in bf16."""
    prompts = bench.output / "prompts.jsonl"
    texts = [
        "What is 17 + 25?",
        "Count down from nine:",
        "a",
        "The judge reads the question and both answers.",
    ]
    prompts.write_text(
        "".join(json.dumps({"prompt": text}) + "\n" for text in texts), encoding="utf-8"
    )
    models = [
        "data/models/nano-rrm",
        "data/models/nano-policy",
        *(
            f"tests/golden/models/{name}"
            for name in ("tiny-qwen2", "tiny-qwen3", "tiny-llama", "tiny-llama3")
        ),
    ]

    def tokens(model, more):
        args = [
            "generate",
            "--model",
            model,
            "--input",
            prompts,
            "--max-tokens",
            64,
            "--temperature",
            0,
            *more,
        ]
        code, out, err = finish([bench.joust, *map(str, args)], bench.env, 60)
        if code != 0:
            raise RuntimeError(err.strip()[-800:] or "took more than 60 s")
        return [json.loads(line)["token_ids"] for line in out.splitlines()]

    def same(a, b):
        """Tokens until the first difference, over all tokens."""
        agreed = sum(
            next((i for i, (x, y) in enumerate(zip(p, q)) if x != y), len(p)) for p, q in zip(a, b)
        )
        return agreed, sum(map(len, a))

    for model in models:
        figures = {"model": model}
        try:
            cpu = tokens(model, ["--device", "cpu", "--dtype", "f32"])
            agreed, all_tokens = same(cpu, tokens(model, ["--device", "cuda", "--dtype", "f32"]))
            figures.update(f32_agreed=agreed, f32_tokens=all_tokens)
            if agreed != all_tokens:
                bench.fail(f"greedy {model}", "other tokens than on the CPU")
            bf16 = ["--device", "cuda", "--dtype", "bf16"]
            plain = tokens(model, [*bf16, "--no-gpu-kernels"])
        except RuntimeError as error:
            bench.fail(f"greedy {model}", str(error))
            continue
        for name, more in (
            ("kernels", ["--no-cuda-graphs"]),
            ("graphs", []),
            ("fp8", ["--quantization", "fp8"]),
            ("kv_fp8", ["--kv-dtype", "fp8"]),
        ):
            try:
                figures[f"bf16_{name}_agreed"] = same(plain, tokens(model, [*bf16, *more]))[0]
            except RuntimeError as error:
                figures[f"bf16_{name}_refused"] = str(error)
        bench.add("greedy", {**figures, "bf16_tokens": sum(map(len, plain))})


def precision(bench):
    """Distance of FP8 from bf16, at the size of the judge and in a small trained model."""
    limits = ["--max-context", 2048, "--kv-memory-mib", 1024]
    args = [
        "bench",
        "precision",
        "--model",
        bench.model,
        "--random-weights",
        "--device",
        "cuda",
        *limits,
    ]
    bench.run("precision rrm-32b", args, 240)
    for model in ("data/models/nano-rrm", "data/models/nano-policy"):
        args = ["bench", "precision", "--model", model, "--device", "cuda", "--prompt", 64]
        bench.run(f"precision {Path(model).name}", args, 60)


FP8 = ["--random-weights", "--device", "cuda", "--quantization", "fp8"]


def decode(bench):
    """Decoding and prefill of the judge, with each optional feature on and off."""
    engine = ["bench", "engine", "--model", bench.model, *FP8]
    at_2k = ["--prompt", 2048, "--max-context", 2304]
    bench.run("decode, bf16 keys and values", [*engine, *at_2k, "--batch", "1,16,32,64"], 240)
    bench.run(
        "decode, fp8 keys and values",
        [*engine, *at_2k, "--batch", "1,16,32,64", "--kv-dtype", "fp8"],
        240,
    )
    short = [*at_2k, "--batch", "1,16,64", "--reps", 1]
    bench.run("decode without graphs", [*engine, *short, "--no-cuda-graphs"], 180)
    few = ["--prompt", 2048, "--max-context", 2304, "--batch", "1,16", "--reps", 1, "--new", 8]
    bench.run("decode without kernels", [*engine, *few, "--no-gpu-kernels"], 180)
    bench.run("decode, fp8 head", [*engine[:-1], "fp8_with_head", *short], 180)
    for step_tokens, prompt in ((2048, 4096), (4096, 4096), (8192, 8192)):
        args = ["--prompt", prompt, "--max-context", prompt + 256, "--batch", 1, "--new", 8]
        args += ["--step-tokens", step_tokens]
        bench.run(f"prefill in steps of {step_tokens}", [*engine, *args, "--reps", 5], 120)
    for mib in (0, 24):
        bench.run(
            f"decode, {mib} MiB fetched ahead", [*engine, *short, "--fetch-ahead-mib", mib], 180
        )


def votes(bench):
    """16 votes on one prompt of 4,096 tokens against one."""
    for name, more in (
        ("auto", []),
        ("fp8", ["--kv-dtype", "fp8"]),
        ("each context by itself", ["--no-shared-attention"]),
    ):
        args = [
            "bench",
            "votes",
            "--model",
            bench.model,
            *FP8,
            *more,
            "--reps",
            2,
            "--votes",
            "1,4,16",
        ]
        bench.run(f"votes, {name}", args, 180)


def peer(bench):
    """transformers in bf16 with the same shape, on the same GPU."""
    command = [sys.executable, str(HERE / "transformers_peer.py"), str(bench.model)]
    code, out, err = finish(command, dict(os.environ), max(10, min(300, bench.end - time.time())))
    for line in out.splitlines():
        if line.startswith("{"):
            bench.add("transformers", json.loads(line))
    if code != 0:
        bench.fail("transformers", err.strip()[-1500:] or "took too long")


STEPS = [machine, products, kernels, decode, votes, precision, peer, greedy, sanitizer]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--joust", default=str(ROOT / "target/release/joust"))
    parser.add_argument("--output", default="gpu-results")
    parser.add_argument(
        "--only",
        default="",
        help="steps by name, with commas: " + ",".join(s.__name__ for s in STEPS),
    )
    parser.add_argument("--minutes", type=float, default=25.0)
    args = parser.parse_args()
    wanted = [name for name in args.only.split(",") if name]
    unknown = set(wanted) - {step.__name__ for step in STEPS}
    if unknown:
        parser.error(f"unknown steps: {', '.join(sorted(unknown))}")
    bench = Bench(args)
    for step in STEPS:
        if not wanted or step.__name__ in wanted:
            try:
                step(bench)
                write_summary(bench.rows, bench.failures, bench.output / "summary.md")
            except Exception as error:  # the other steps are worth having
                bench.fail(step.__name__, f"{type(error).__name__}: {error}")
    print((bench.output / "summary.md").read_text(encoding="utf-8"))
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())

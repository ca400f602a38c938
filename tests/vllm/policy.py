"""A policy that real vLLM servers on the CPU sample: weights that arrive, and ways that lose them.

The drill of a start must refuse servers whose weights, head, context or log-probabilities are not
the policy's, with the remedy in one line. Then GRPO on nano-policy runs on engines, on one server,
with a server that is killed and started again, and on two servers; accuracy and the difference of
log-probabilities stand side by side. `make test-vllm-policy` runs it; see docs/rollout-servers.md.

    python tests/vllm/policy.py --vllm .cache/vllm/bin/vllm --joust target/release/joust
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from server import Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "data" / "models" / "nano-policy"
# the policy with a head of its own
UNTIE = """
import json, shutil, sys
from safetensors.torch import load_file, save_file
source, target = sys.argv[1:]
shutil.copytree(source, target)
weights = load_file(f"{source}/model.safetensors")
weights = {name: tensor.float() for name, tensor in weights.items()}
weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
save_file(weights, f"{target}/model.safetensors", metadata={"format": "pt"})
config = json.load(open(f"{target}/config.json"))
config.update(tie_word_embeddings=False, torch_dtype="float32")
json.dump(config, open(f"{target}/config.json", "w"))
"""


class Checks:
    def __init__(self, binary: str, folder: pathlib.Path, steps: int):
        self.binary, self.folder, self.steps = binary, folder, steps
        self.failures = []

    def expect(self, name: str, is_right: bool, told: str) -> None:
        print(f"{'ok  ' if is_right else 'FAIL'} {name}: {told}", flush=True)
        if not is_right:
            self.failures.append(name)

    def command(self, name: str, servers: list, *settings: str) -> list:
        args = [self.binary, "train", "configs/quickstart.toml", "--clean", f"run.name={name}"]
        args += [f"run.output_dir={self.folder}", f"train.steps={self.steps}"]
        args += ["reward.judge.kind=rule", "eval.every=0", "eval.max_prompts=200"]
        if servers:
            urls = json.dumps([server.url for server in servers])
            args += ["rollout.kind=vllm", f"rollout.servers.urls={urls}"]
            args += ["rollout.servers.weights_dtype=f32", "rollout.servers.timeout_s=300"]
            # no key of engines but the default
            args += ["rollout.engine.max_batch=64"]
        return args + list(settings)

    def train(self, name: str, servers: list, *settings: str) -> subprocess.CompletedProcess:
        command = self.command(name, servers, *settings)
        return subprocess.run(command, cwd=ROOT, text=True, capture_output=True)

    def refused(self, name: str, servers: list, words: list, *settings: str) -> None:
        """A start that must fail, with these words in one line."""
        run = self.train("refused", servers, "train.steps=4", *settings)
        errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
        line = errors[-1] if errors else run.stderr[-300:]
        self.expect(name, run.returncode != 0 and all(word in line for word in words), line)

    def rows(self, name: str) -> list:
        text = (self.folder / name / "metrics.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def learned(self, name: str, run: subprocess.CompletedProcess, seconds: float) -> None:
        """A run that must have ended; prints what it learned and how its numbers differ."""
        if run.returncode != 0:
            self.expect(name, False, run.stderr[-600:])
            return
        rows = self.rows(name)
        accuracy = [row["eval/accuracy"] for row in rows if "eval/accuracy" in row]
        steps = [row for row in rows if row["step"] > 0]
        means = [row["sampling/sampling_logp_difference/mean"] for row in steps]
        highest = max(row["sampling/sampling_logp_difference/max"] for row in steps)
        sums = {
            key: sum(row.get(f"sampling/{key}", 0) for row in steps)
            for key in ("retries", "bad_answers", "stale_groups")
        }
        difference = sum(means) / len(means)
        told = (
            f"accuracy {accuracy[0]:.3f} before, {accuracy[-1]:.3f} after {len(steps)} steps; "
            f"log-probabilities differ by {difference:.1e} on average, {highest:.1e} at most; "
            f"{sums}; {seconds:.0f} s"
        )
        is_right = len(steps) == self.steps and difference < 1e-4 and highest < 1e-2
        self.expect(name, is_right and sums["bad_answers"] == 0, told)

    def timed(self, name: str, servers: list, *settings: str) -> None:
        began = time.time()
        run = self.train(name, servers, *settings)
        self.learned(name, run, time.time() - began)

    def killed_in_the_middle(self, server: Server) -> None:
        began = time.time()
        command = self.command("killed", [server], "rollout.servers.outage_s=1200")
        run = subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        metrics = self.folder / "killed" / "metrics.jsonl"
        wanted = max(2, self.steps // 4)
        while run.poll() is None:
            if metrics.exists() and len(metrics.read_text().splitlines()) > wanted:
                break
            time.sleep(0.05)
        server.kill()
        print(f"     killed after {time.time() - began:.0f} s", flush=True)
        server.start()
        server.wait()
        print(f"     up again after {time.time() - began:.0f} s", flush=True)
        out, errors = run.communicate()
        done = subprocess.CompletedProcess(command, run.returncode, out, errors)
        self.learned("killed", done, time.time() - began)
        if "newest weights" not in errors and "is not up" not in errors:
            self.expect("killed: noticed", False, errors[-600:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vllm", required=True)
    parser.add_argument("--joust", required=True)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="joust-vllm-"))
    checks = Checks(str(pathlib.Path(args.joust).resolve()), folder, args.steps)
    python = str(pathlib.Path(args.vllm).resolve().parent / "python")
    untied = folder / "untied"
    subprocess.run([python, "-c", UNTIE, str(MODEL), str(untied)], check=True)

    def server(model: pathlib.Path, *more: str, **kinds) -> Server:
        return Server(args.vllm, model, folder, "policy", *more, **kinds)

    with server(MODEL) as tied:
        checks.timed("tied", [tied])
    with server(untied, dev_mode=False) as plain:
        checks.refused("no development mode", [plain], [plain.url, "VLLM_SERVER_DEV_MODE=1"])
    with server(untied, "--max-model-len", "256") as short:
        checks.refused("a short context", [short], [short.url, "--max-model-len 512"])

    checks.timed("engine", [])
    with server(untied) as first:
        untempered = ["--logprobs-mode processed_logprobs"]
        checks.refused("untempered", [first], untempered, "rollout.temperature=0.7")
        nowhere = "rollout.servers.weights_dir_on_server=/nowhere"
        checks.refused("another path", [first], ["/collective_rpc: 500", "restart"], nowhere)
    with server(untied) as first:
        checks.timed("vllm", [first])
        checks.killed_in_the_middle(first)
        with server(untied) as second:
            checks.timed("two", [first, second])
    with server(untied, "--logprobs-mode", "processed_logprobs") as processed:
        checks.timed("tempered", [processed], "rollout.temperature=0.7", "rollout.top_p=0.95")
    with server(untied, dtype="bfloat16") as coarse:
        run = checks.train("bf16", [coarse], "rollout.servers.weights_dtype=bf16")
        rows = checks.rows("bf16") if run.returncode == 0 else []
        means = [row["sampling/sampling_logp_difference/mean"] for row in rows if row["step"] > 0]
        told = f"differences per step up to {max(means):.1e}" if means else run.stderr[-400:]
        checks.expect("bf16", len(means) == args.steps, told)
    if checks.failures:
        sys.exit(f"failed: {', '.join(checks.failures)} (files: {folder})")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

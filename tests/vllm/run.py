"""The http judge against a real vLLM on the CPU: nano-rrm as it is shipped.

Serves data/models/nano-rrm, has the engine judge and the http judge vote on 40 held-out pairs in
both orders, greedily, and compares every vote. Then a server that reads text by another tokenizer
must be refused before any vote. `make test-vllm` runs it; see docs/judge-servers.md.

    python tests/vllm/run.py --vllm .cache/vllm/bin/vllm --joust target/release/joust
"""

import argparse
import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from server import Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "data" / "models" / "nano-rrm"
N_PAIRS = 40
MAX_TOKENS = 500


@contextlib.contextmanager
def served(vllm: str, model: pathlib.Path, folder: pathlib.Path, *args: str):
    """A vLLM server of a model: its base address, and the seconds until it was up."""
    with Server(vllm, model, folder, "rrm", *args, dev_mode=False) as server:
        yield f"{server.url}/v1", server.seconds


def joust(binary: str, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run([binary, *args], cwd=ROOT, text=True, capture_output=True)


def judge(binary: str, folder: pathlib.Path, name: str, *settings: str):
    """Summary and votes (pair, first answer shown, verdict, text) of a judge on the pairs."""
    output = folder / name
    common = ["reward.judge.temperature=0", f"reward.judge.max_thinking_tokens={MAX_TOKENS}"]
    arguments = ["--input", str(folder / "pairs.jsonl"), "--output", str(output)]
    arguments += ["--votes", "2", "--json"]
    run = joust(binary, "judge", *settings, *common, *arguments)
    if run.returncode != 0:
        sys.exit(f"{name}: exit {run.returncode}\n{run.stderr}")
    verdicts = (output / "verdicts.jsonl").read_text()
    return json.loads(run.stdout), [json.loads(line) for line in verdicts.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vllm", required=True)
    parser.add_argument("--joust", required=True)
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="joust-vllm-"))
    binary = str(pathlib.Path(args.joust).resolve())
    pairs = joust(binary, "data", "pairs", "--n", str(N_PAIRS), "--seed", "77", "--split", "eval")
    (folder / "pairs.jsonl").write_text(pairs.stdout)

    engine = ["reward.judge.kind=engine", f"reward.judge.model={MODEL}"]
    (folder / "empty.toml").write_text("")
    config = str(folder / "empty.toml")
    wanted, wanted_verdicts = judge(binary, folder, "engine", config, *engine)
    failures = []
    cases = [("as shipped", []), ("with a reasoning parser", ["--reasoning-parser", "deepseek_r1"])]
    for name, options in cases:
        with served(args.vllm, MODEL, folder, *options) as (url, seconds):
            http = [
                "reward.judge.kind=http",
                f'reward.judge.urls=["{url}"]',
                "reward.judge.model=rrm",
                f"reward.judge.tokenizer={MODEL}",
                "reward.judge.concurrency=8",
            ]
            found, verdicts = judge(binary, folder, name.replace(" ", "-"), config, *http)
        equal = sum(a == b for a, b in zip(wanted_verdicts, verdicts, strict=True))
        print(
            f"{name}: {equal} of {N_PAIRS} pairs as the engine judge, {found['invalid_votes']} of "
            f"{found['votes']} votes invalid, accuracy {found['accuracy']:.4f} (engine "
            f"{wanted['accuracy']:.4f}); vLLM was up after {seconds:.0f} s",
            flush=True,
        )
        if equal != N_PAIRS or found["invalid_votes"] != wanted["invalid_votes"]:
            failures.append(name)

    # without `auto_map` transformers 5 reads text by Qwen2's own splits
    other = folder / "other-tokenizer"
    shutil.copytree(MODEL, other)
    described = json.loads((other / "tokenizer_config.json").read_text())
    del described["auto_map"]
    (other / "tokenizer_config.json").write_text(json.dumps(described))
    with served(args.vllm, other, folder) as (url, _):
        http = ["reward.judge.kind=http", f'reward.judge.urls=["{url}"]', "reward.judge.model=rrm"]
        http += [f"reward.judge.tokenizer={MODEL}", "reward.judge.max_thinking_tokens=160"]
        run = joust(binary, "judge", config, *http, "--input", str(folder / "pairs.jsonl"),
                    "--output", str(folder / "refused"))
        wrong_name = joust(binary, "judge", config, http[0], http[1], "reward.judge.model=other",
                           "--input", str(folder / "pairs.jsonl"),
                           "--output", str(folder / "refused"))
    for name, answer, words in [
        ("another tokenizer", run, "--tokenizer"),
        ("another name", wrong_name, 'it has "rrm"'),
    ]:
        print(f"{name}: exit {answer.returncode}, {answer.stderr.strip()}", flush=True)
        if answer.returncode != 2 or words not in answer.stderr:
            failures.append(name)
    if failures:
        sys.exit(f"failed: {', '.join(failures)} (files: {folder})")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

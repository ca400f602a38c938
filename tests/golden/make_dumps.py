"""Makes tests/golden/dumps-0528abc/: dumps of `joust score` and `joust serve`, and the output of
commands of the same program that read them.

    python3 tests/golden/make_dumps.py --binary OLD/target/release/joust --root OLD

Made by the program of commit 0528abc; `tests/it/earlier_dumps.rs` reads them with the current
program. Needs the standard library only. A rule judges by the known answers, so that votes repeat;
times in the tables are those of the run.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import urllib.request

FOLDER = pathlib.Path(__file__).parent / "dumps-0528abc"
SETTINGS = ["reward.judge.kind=rule", "reward.tournament.kind=round_robin", "run.seed=3"]
GROUPS = [
    {
        "prompt": "What is 12 + 30?",
        "completions": ["42", "43", "It is 41.", "The answer is 42."],
        "answer": "42",
        "group_id": "first",
    },
    {
        "messages": [{"role": "user", "content": "What is 6 * 7? ∑"}],
        "completions": ["6*7=42", "36"],
        "answer": 42,
        "group_id": "second",
    },
    {"prompt": "Equal?", "completions": ["a", "a"], "answer": "b", "group_id": "equal"},
]
# commands on the folder `score`, whose output the current program must repeat
COMMANDS = {
    "show_rewards": ["dump", "show", "score/rewards.parquet", "--json"],
    "show_matches": ["dump", "show", "score/matches.parquet", "--json"],
    "show_votes": ["dump", "show", "score/votes.parquet", "--json"],
    "show_completions": ["dump", "show", "score/completions.parquet", "--json"],
    "show_serve": ["dump", "show", "serve", "--json", "--rows", "0"],
    "pairs": ["dump", "pairs", "score/completions.parquet"],
    "best": ["dump", "best", "score/completions.parquet"],
    "rate_bradley_terry": ["rate", "--input", "score/matches.parquet"],
    "rate_elo": ["rate", "--input", "score/matches.parquet", "--method", "elo"],
    "rate_win_rate": ["rate", "--input", "score/matches.parquet", "--method", "win-rate"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--root", required=True, help="the folder of that program's source")
    args = parser.parse_args()
    binary = os.path.abspath(args.binary)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    lines = "".join(json.dumps(group, ensure_ascii=False) + "\n" for group in GROUPS)
    (FOLDER / "groups.jsonl").write_text(lines)
    config = os.path.join(os.path.abspath(args.root), "configs/quickstart.toml")
    score = [binary, "score", config, "--input", "groups.jsonl", "--output", "score", *SETTINGS]
    subprocess.run(score, cwd=FOLDER, check=True)
    serve(binary, config)
    outputs = {name: lines_of([binary, *command]) for name, command in COMMANDS.items()}
    commands = {
        name: {"command": command, "output": outputs[name]} for name, command in COMMANDS.items()
    }
    (FOLDER / "read.json").write_text(json.dumps(commands, ensure_ascii=False) + "\n")


def serve(binary, config):
    """Scores the groups by a server that dumps two groups per set, and writes its answers."""
    command = [binary, "serve", config, "serve.port=0", "serve.dump=serve", "serve.dump_every=2"]
    process = subprocess.Popen([*command, *SETTINGS], cwd=FOLDER, stdout=subprocess.PIPE, text=True)
    address = re.search(r"http://([0-9.:]+)", process.stdout.readline()).group(0)
    for group in GROUPS:
        body = json.dumps(group).encode()
        answer = urllib.request.urlopen(f"{address}/v1/score_group", body).read()
        with open(FOLDER / "answers.jsonl", "a") as file:
            file.write(answer.decode() + "\n")
    process.send_signal(signal.SIGTERM)
    process.wait()


def lines_of(command):
    done = subprocess.run(command, cwd=FOLDER, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    main()

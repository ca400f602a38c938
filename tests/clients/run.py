"""Runs the trainers' and SDKs' own clients against a `joust serve` with the nano judge.

    python3 tests/clients/run.py --binary target/release/joust [PACKAGE ...]

Each package has a virtual environment of its own below .cache/clients, made at its first run.
Packages whose dependencies need a GPU or another Python are installed without them, with what their
clients import; those that need torch share one installation. Prints a table; the exit code is 1 if
a check failed or a package could not be installed.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
CACHE = ROOT / ".cache/clients"
SETTINGS = ["serve.port=0", "serve.group_size=4", "serve.collect_s=120"]
SETTINGS += ["reward.judge.temperature=0", 'reward.tournament.kind="round_robin"']
# A package without an answer for this long has failed.
PATIENCE_S = 900

# requirements with their dependencies; those without; whether torch is needed; cases
PACKAGES = {
    "openai": (["openai==3.57.0"], [], False, [[]]),
    "cohere": (["cohere==7.3.1"], [], False, [[]]),
    "openrlhf": (["-r", "openrlhf.txt"], ["openrlhf==0.11.2"], True, [[]]),
    "ms-swift": (["-r", "ms-swift.txt"], ["ms-swift==4.6.0"], True, [[]]),
    "verl": (["-r", "verl.txt"], ["verl==0.9.1"], True, [["manager"], ["naive"]]),
    "nemo-gym": (["-r", "nemo-gym.txt"], ["nemo-gym==0.7.0"], False, [[]]),
}
TORCH = ["torch==2.11.0", "numpy"]


def site_packages(folder):
    [found] = (folder / "lib").glob("python3*/site-packages")
    return found


def install(folder, *groups, beside=None):
    """A virtual environment with these groups of arguments for pip; made once. The packages of the
    environment `beside` are found after its own, also by pip."""
    done = folder / "installed.json"
    wanted = json.dumps([*groups])
    if done.exists() and done.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    if beside:
        path = site_packages(folder) / "beside.pth"
        path.write_text(f"{site_packages(beside)}\n")
    for arguments in groups:
        pip = [folder / "bin/python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", *arguments], cwd=HERE, check=True)
    done.write_text(wanted)


def prepare(package):
    """The Python of a package's environment."""
    whole, bare, needs_torch, _ = PACKAGES[package]
    folder = CACHE / package
    groups = [whole]
    if bare:
        # NeMo-Gym names a newer Python than many systems have; its client runs on this one
        groups.append(["--no-deps", "--ignore-requires-python", *bare])
    if needs_torch:
        install(CACHE / "torch", TORCH)
    install(folder, *groups, beside=CACHE / "torch" if needs_torch else None)
    return folder / "bin/python"


def start_server(binary):
    command = [binary, "serve", "configs/quickstart.toml", *SETTINGS]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found = re.search(r"http://[0-9.:]+", process.stdout.readline())
    return process, found.group(0)


def checks_of(package, python, address):
    """The checks of a package, each with its name, whether it passed, and what it said."""
    rows = []
    for case in PACKAGES[package][3]:
        script = f"client_{package.replace('-', '_')}.py"
        command = [python, script, address, *case]
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        try:
            settings = {"cwd": HERE, "env": environment, "timeout": PATIENCE_S}
            ran = subprocess.run(command, capture_output=True, text=True, **settings)
            output, problem = ran.stdout, ran.stderr if ran.returncode else None
        except subprocess.TimeoutExpired as error:
            output, problem = (error.stdout or b"").decode(), f"no end after {PATIENCE_S} s"
        lines = [line for line in output.splitlines() if line.startswith('{"check"')]
        rows += [json.loads(line) for line in lines]
        if problem is not None:
            words = " ".join(problem.strip().splitlines()[-3:])
            rows.append({"check": f"runs {' '.join(case)}".strip(), "ok": False, "said": words})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=ROOT / "target/release/joust")
    parser.add_argument("packages", nargs="*", default=list(PACKAGES), metavar="PACKAGE")
    args = parser.parse_args()
    n_passed = n_failed = 0
    for package in args.packages:
        print(package, flush=True)
        try:
            python = prepare(package)
            # a server of its own, so that no check meets the groups of another
            server, address = start_server(os.path.abspath(args.binary))
            try:
                rows = checks_of(package, python, address)
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait()
        except subprocess.CalledProcessError as error:
            rows = [{"check": "is installed", "ok": False, "said": str(error)[-300:]}]
        for row in rows:
            print(f"  {'pass' if row['ok'] else 'FAIL'}  {row['check']:45}  {row['said'][:110]}")
            n_passed, n_failed = n_passed + row["ok"], n_failed + (not row["ok"])
    print(f"{n_passed} passed, {n_failed} failed")
    return 1 if n_failed or not n_passed else 0


if __name__ == "__main__":
    sys.exit(main())

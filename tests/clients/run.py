"""Runs the trainers' and SDKs' own clients against a `joust serve` with the nano judge.

    python3 tests/clients/run.py --binary target/release/joust [PACKAGE ...]

Each package has a virtual environment of its own below .cache/clients, made at its first run.
Packages whose dependencies need a GPU or another Python are installed without them, with what their
clients import; those that need torch share one installation. Prints what a client does and how each
check ended, as it happens; a client that says nothing for five minutes is ended, and the line says
where it waited. The exit code is 1 if a check failed or a package could not be installed.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

from checks import SILENCE_S
from watched import Failed, Watched

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
CACHE = ROOT / ".cache/clients"
SETTINGS = ["serve.port=0", "serve.group_size=4", "serve.collect_s=120"]
SETTINGS += ["reward.judge.temperature=0", 'reward.tournament.kind="round_robin"']
# Maximum time of one call of pip.
INSTALL_S = 1800
# Maximum time until the server says its address.
START_S = 120

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


class Report:
    """Prints one line per event, with the seconds since the package's beginning."""

    def __init__(self):
        self.n_passed = self.n_failed = 0
        self.start = time.monotonic()

    def package(self, name):
        self.start = time.monotonic()
        print(name, flush=True)

    def line(self, verdict, what, said=""):
        elapsed = f"{time.monotonic() - self.start:6.0f} s"
        print(f"  {verdict}  {elapsed}  {what:45}  {said[:200]}".rstrip(), flush=True)

    def doing(self, what):
        self.line("    ", what)

    def check(self, name, is_ok, said):
        self.n_passed, self.n_failed = self.n_passed + is_ok, self.n_failed + (not is_ok)
        self.line("pass" if is_ok else "FAIL", name, " ".join(said.split()))


def site_packages(folder):
    [found] = (folder / "lib").glob("python3*/site-packages")
    return found


def call(command):
    """Runs a command that installs something; its last words are the reason if it fails."""
    try:
        ran = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(map(str, command[-3:]))}: no end after {INSTALL_S} s") from None
    if ran.returncode:
        raise Failed(" ".join(ran.stderr.strip().splitlines()[-3:]))


def install(folder, report, *groups, beside=None):
    """A virtual environment with these groups of arguments for pip; made once. The packages of the
    environment `beside` are found after its own, also by pip."""
    done = folder / "installed.json"
    wanted = json.dumps([*groups])
    if done.exists() and done.read_text() == wanted:
        return
    call([sys.executable, "-m", "venv", folder])
    if beside:
        path = site_packages(folder) / "beside.pth"
        path.write_text(f"{site_packages(beside)}\n")
    for arguments in groups:
        report.doing(f"installs {' '.join(arguments)}")
        pip = [folder / "bin/python", "-m", "pip", "install", "--quiet"]
        call([*pip, "--disable-pip-version-check", *arguments])
    done.write_text(wanted)


def prepare(package, report):
    """The Python of a package's environment."""
    whole, bare, needs_torch, _ = PACKAGES[package]
    folder = CACHE / package
    groups = [whole]
    if bare:
        # NeMo-Gym names a newer Python than many systems have; its client runs on this one
        groups.append(["--no-deps", "--ignore-requires-python", *bare])
    if needs_torch:
        install(CACHE / "torch", report, TORCH)
    install(folder, report, *groups, beside=CACHE / "torch" if needs_torch else None)
    return folder / "bin/python"


def start_server(binary):
    server = Watched([binary, "serve", "configs/quickstart.toml", *SETTINGS], cwd=ROOT)
    found = re.search(r"http://[0-9.:]+", server.line(START_S) or "")
    if found is None:
        server.stop()
        raise Failed(f"joust serve: {server.reason()}")
    return server, found.group(0)


def check_case(package, case, python, address, report):
    """Runs one case of a package's client and reports its lines as they come."""
    script = f"client_{package.replace('-', '_')}.py"
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    client = Watched([python, script, address, *case], cwd=HERE, env=environment)
    doing = "starts"
    try:
        # a silent client ends itself and says where it was; this limit is for those that cannot
        while (line := client.line(SILENCE_S + 60)) is not None:
            if line.startswith('{"doing"'):
                doing = json.loads(line)["doing"]
                report.doing(doing)
            elif line.startswith('{"check"'):
                row = json.loads(line)
                report.check(row["check"], row["ok"], row["said"])
    except Failed as failed:
        raise Failed(f"{doing}: {failed}") from None
    code = client.wait()
    if code != 0:
        raise Failed(f"{doing}: exit code {code}: {client.reason()}")


def check_package(package, binary, report):
    python = prepare(package, report)
    # a server of its own, so that no check meets the groups of another
    server, address = start_server(binary)
    try:
        for case in PACKAGES[package][3]:
            try:
                check_case(package, case, python, address, report)
            except Failed as failed:
                report.check(f"runs {' '.join(case)}".strip(), False, str(failed))
    finally:
        has_ended = server.stop()
    if not has_ended:
        report.check("the server ends at SIGTERM", False, "it had to be killed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=ROOT / "target/release/joust")
    parser.add_argument("packages", nargs="*", default=list(PACKAGES), metavar="PACKAGE")
    args = parser.parse_args()
    report = Report()
    for package in args.packages:
        report.package(package)
        try:
            check_package(package, os.path.abspath(args.binary), report)
        except Failed as failed:
            report.check("is installed, and a server runs", False, str(failed))
    print(f"{report.n_passed} passed, {report.n_failed} failed")
    return 1 if report.n_failed or not report.n_passed else 0


if __name__ == "__main__":
    sys.exit(main())

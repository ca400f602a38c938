"""Plays faults against the program, and prints what each of them lost, invented or made unreadable.

    make faults          or: .venv/bin/python tests/faults/play.py --binary target/release/joust

Kills of runs and servers at random moments (by a seed), signals, full disks, dead and lying judges,
clients that leave. Exit code 1 unless every count is 0. Needs polars, which reads the dumps; full
disks need the right to mount in a user namespace. Below a quarter of an hour on two cores.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True

import clients  # noqa: E402
import disks  # noqa: E402
import judges  # noqa: E402
import serving  # noqa: E402
import tally  # noqa: E402
import training  # noqa: E402
from program import Program  # noqa: E402
from sockets import WAYS_TO_GO  # noqa: E402


def situations(seed):
    """Name, function and its arguments after tally and program."""
    train, sft = ("train", training.TRAIN, 3, 4), ("sft", training.SFT, 2, 3)
    rows = [
        ("train: killed and resumed", training.killed, seed, *train),
        ("sft: killed and resumed", training.killed, seed, *sft),
        ("train: SIGTERM and Ctrl-C", training.told_to_end, seed, training.TRAIN),
        ("train: disk full", disks.train),
        ("serve: killed, whole groups", serving.whole_groups, seed, 8),
        ("serve: killed, single completions", serving.single_completions, seed, 6),
        ("serve: killed, jobs", serving.jobs, seed, 6),
        ("serve: disk full", disks.server),
        ("judge: every form of an answer", judges.honest),
        ("judge: dead, broken or lying", judges.lying),
        ("judge: not there, comes and goes", judges.refused),
        ("judge: a third of the calls fails", judges.mixed, seed),
        ("clients: leave in the middle", clients.leave_in_the_middle),
    ]
    for way in WAYS_TO_GO:
        rows.append((f"clients: leave and retry, {way}", clients.leave_and_retry, seed, way))
        rows.append((f"clients: leave while judged, {way}", clients.leave_while_judged, way))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/joust")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="situations whose name has this text")
    args = parser.parse_args()
    disks.enter_namespace()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="joust-faults-"))
    program = Program(args.binary, folder)
    tallies = []
    for name, situation, *rest in situations(args.seed):
        if args.only not in name:
            continue
        if "disk" in name and not disks.may_mount():
            print(f"NOT RUN: {name}: no right to mount a small file system", flush=True)
            continue
        tallies.append(tally.run(name, situation, program, *rest))
        print(" | ".join(tallies[-1].row()), flush=True)
    print(f"\n{tally.table(tallies)}")
    if tallies and all(row.is_clean for row in tallies):
        shutil.rmtree(folder)
        return 0
    print(f"logs, configs and dumps: {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""Situations of a full disk: a small file system in memory, that becomes larger in the end.

A server serves, on a full disk too, and accepts no job that it cannot keep; a run ends with one
line and exit code 1, and goes on once there is room. Nothing half-written is left.
"""

import os
import pathlib
import subprocess
import sys

import dumps
import serving
import training
from program import Server, as_json, ended, log_lines, parallel
from sockets import Gone, Http1

# Set where the program may mount: in a user namespace of its own, or as root.
MAY_MOUNT = "JOUST_FAULTS_MAY_MOUNT"


def enter_namespace():
    """Starts this program again where it may mount; stays where that is not allowed."""
    if MAY_MOUNT in os.environ:
        return
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    probe = subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    if probe.returncode == 0:
        os.environ[MAY_MOUNT] = "1"
        os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])


def may_mount():
    return MAY_MOUNT in os.environ


class SmallDisk:
    """A file system of some KiB at a folder."""

    def __init__(self, folder, kib):
        self.path = pathlib.Path(folder)
        self.path.mkdir(parents=True)
        self.mount(f"size={kib}k")

    def mount(self, options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)]
        subprocess.run(command, check=True)

    def enlarge(self):
        self.mount("remount,size=1g")

    def fill(self):
        """Takes what is left."""
        with open(self.path / "filling", "wb", buffering=0) as filling:
            try:
                while True:
                    filling.write(bytes(4096))
            except OSError:
                pass

    def close(self):
        subprocess.run(["umount", "-l", str(self.path)], check=False)


def long_group(at):
    """A group of 8 kB."""
    group = serving.group(at)
    group["completions"] = [text + " so" * 600 for text in group["completions"]]
    return group | {"answer": "none"}


def server(tally, program):
    """A disk that fills up under load, stays full over a kill, and gets room."""
    disk = SmallDisk(program.folder / "disk-server", 3072)
    config = program.config("full-disk", serving.RULE + serving.SERVE)
    dump = disk.path / "dump"
    answered, accepted = {}, {}
    try:
        with Server(program, config, f"serve.dump={dump}") as running:
            serve_until_full(running, tally, answered, accepted)
            one_line_a_minute(running, tally)
            running.kill()
            start_on_full_disk(running, disk, tally)
            disk.enlarge()
            if running.process.poll() is not None:
                running.start()
            else:
                running.kill()
                running.start()
            jobs_are_there(running, accepted, tally)
            rows_of_later = later_groups(running, tally)
            tally.check(running.stop() == 0, "lost", "with room, the server did not end well")
        rows = dumps.sets(dump, tally)
        dumps.check_evidence(rows, tally)
        by_prompt = dumps.groups(rows)
        for prompt, rewards in rows_of_later.items():
            found = by_prompt.get(prompt, [])
            tally.check(len(found) == 1, "lost", f"{prompt}: {len(found)} times in the dump")
        for prompt, found in by_prompt.items():
            tally.check(len(found) == 1, "invented", f"{prompt}: {len(found)} times in the dump")
    finally:
        disk.close()


def serve_until_full(running, tally, answered, accepted):
    """Three times as many groups as there is room for, every tenth a job."""

    def ask(at):
        tally.trial()
        path = "/v1/jobs" if at % 10 == 9 else "/v1/score_group"
        try:
            status, data = Http1(running.port, "POST", path, long_group(at)).answer()
        except (Gone, TimeoutError) as error:
            tally.count("lost", f"{path} on a full disk: {error}")
            return
        answer = as_json(data)
        if path == "/v1/jobs" and status == 202:
            accepted[at] = answer["job_id"]
        elif path == "/v1/jobs":
            refused = status in (503, 507)
            tally.check(refused, "lost", f"a job on a full disk: {status} {data[:160]}")
        elif tally.check(status == 200, "lost", f"on a full disk: {status} {data[:160]}"):
            answered[at] = answer["rewards"]

    parallel(ask, range(700), 4)
    status, data = Http1(running.port, "GET", "/ready").answer()
    says_so = b"dump" in data or b"disk" in data
    tally.check(says_so, "lost", f"/ready does not speak of the disk: {status} {data[:200]}")


def one_line_a_minute(running, tally):
    n_lines = len(log_lines(running.process, "ERROR"))
    tally.check(n_lines <= 5, "invented", f"{n_lines} lines of the same error in the log")


def start_on_full_disk(running, disk, tally):
    """The server starts on the full disk, and serves."""
    tally.trial()
    disk.fill()
    try:
        running.start()
        status, data = Http1(running.port, "POST", "/v1/score_group", serving.group(0)).answer()
        tally.check(status == 200, "lost", f"started on a full disk: {status} {data[:160]}")
    except (RuntimeError, OSError, Gone) as error:
        tally.count("lost", f"no start on a full disk: {error}")
    (disk.path / "filling").unlink()


def jobs_are_there(running, accepted, tally):
    for at, job in accepted.items():
        try:
            serving.rewards_of_job(running, job)
        except (RuntimeError, OSError, Gone) as error:
            tally.count("lost", f"accepted job {at} after a kill: {error}")


def later_groups(running, tally):
    """Groups that come once there is room; their rewards by prompt."""
    rewards = {}
    for at in range(100_000, 100_020):
        tally.trial()
        _, answer = serving.until_answered(
            running, "POST", "/v1/score_group", serving.group(at), patience_s=20
        )
        rewards[f"Group {at}?"] = answer["rewards"]
    return rewards


def train(tally, program):
    """A run on disks that are too small for its first, second, … files, and then large."""
    whole, _ = training.undisturbed(program, "train", training.TRAIN)
    size = sum(path.stat().st_size for path in whole.dir.rglob("*") if path.is_file()) // 1024
    for number, share in enumerate((0.05, 0.35, 0.7, 0.95)):
        tally.trial()
        disk = SmallDisk(program.folder / "runs" / f"disk-{number}", int(size * share))
        run = training.Run(program, "train", training.TRAIN, f"disk-{number}/run")
        run.dir = disk.path / "run"
        run.args[-2:] = [f"run.output_dir={disk.path}", "run.name=run"]
        try:
            process = run.start()
            code = ended(process)
            errors = [line for line in open(process.log) if line.startswith("error: ")]
            tally.check(code == 1, "lost", f"on a full disk, exit {code}")
            tally.check(len(errors) == 1, "lost", f"{len(errors)} lines of error, exit {code}")
            for broken in dumps.unreadable_tables(run.dir):
                tally.count("unreadable", broken)
            disk.enlarge()
            code = run.finish()
            if tally.check(code == 0, "lost", f"with room, the run ended with {code}"):
                training.compare(whole, run, tally, f"{share} of the room")
        finally:
            disk.close()

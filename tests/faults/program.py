"""The program under test: runs and servers as processes that are killed and started again.

Knows no situation.
"""

import itertools
import json
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Maximum time of anything that must happen, in seconds.
PATIENCE_S = 120


class Program:
    """A binary, and the folder in which its logs and configs lie."""

    def __init__(self, binary, folder):
        self.binary = str(pathlib.Path(binary).resolve())
        self.folder = pathlib.Path(folder)
        self.numbers = itertools.count(1)
        # of undisturbed runs, by command
        self.seconds = {}

    def start(self, *args, **more):
        """Starts a command in the project's root; what it says goes to a file of the folder."""
        log = open(self.folder / f"{next(self.numbers):03}-{args[0]}.log", "wb")
        more = {"stdout": log, "stderr": log} | more
        process = subprocess.Popen(
            [self.binary, *map(str, args)], cwd=ROOT, stdin=subprocess.DEVNULL, **more
        )
        process.log = log.name
        log.close()
        return process

    def run(self, *args, **more):
        """Runs a command to its end and returns its exit code."""
        process = self.start(*args, **more)
        return ended(process)

    def config(self, name, text):
        """Writes a config file and returns its path."""
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        return path


def ended(process, patience_s=PATIENCE_S):
    """Exit code of a process; one that does not end is killed, and `None` returned."""
    try:
        return process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A `joust serve` on one port over all its starts, so that clients find it again."""

    def __init__(self, program, config, *settings, **more):
        self.program, self.config, self.settings, self.more = program, config, settings, more
        self.port = free_port()
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self):
        """Starts the server and waits until it listens. Raises where it ends instead."""
        self.begin()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                said = pathlib.Path(self.process.log).read_text()[-300:].strip()
                raise RuntimeError(f"exit {self.process.returncode} at its start: {said}")
            if self.listens():
                return
            time.sleep(0.02)
        raise RuntimeError("the server does not listen")

    def begin(self):
        """Starts the server without waiting for it."""
        port = f"serve.port={self.port}"
        self.process = self.program.start("serve", self.config, port, *self.settings, **self.more)

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Ends the server by a signal, as a scheduler does, and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return ended(self.process)

    def resident_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


def parallel(function, items, n_threads):
    """Calls a function of each item in some threads, in order; raises the first exception."""
    items, lock, failed = iter(items), threading.Lock(), []

    def work():
        while not failed:
            with lock:
                item = next(items, None)
            if item is None:
                return
            try:
                function(item)
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def metric(page, name):
    """Sum of a metric over its labels, of a page of /metrics."""
    found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+]+)$", page, re.M)
    return sum(map(float, found))


def log_lines(process, level):
    """Lines of a level in a process's log."""
    text = pathlib.Path(process.log).read_text(errors="replace")
    return [line for line in text.splitlines() if level in line]


def as_json(data):
    """JSON of a body; `None` for anything else."""
    try:
        return json.loads(data)
    except ValueError:
        return None

"""Programs whose lines are read as they come, each within a time limit. A program that says nothing
for longer is ended, with its children."""

import os
import pathlib
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time

# Time to end after SIGTERM, or after the end of its output.
GRACE_S = 30


class Failed(Exception):
    """A program that did not end as it should; the message is the reason."""


class Watched:
    """A running program."""

    def __init__(self, command, **settings):
        self.stderr = tempfile.TemporaryFile(mode="w+", errors="replace")
        pipes = {"stdout": subprocess.PIPE, "stderr": self.stderr, "text": True}
        # a session of its own, so that its children can be ended with it
        self.process = subprocess.Popen(command, start_new_session=True, **pipes, **settings)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def line(self, limit_s):
        """The next line of its output, or None at its end; Failed if there is neither in time."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            # a child may hold the pipe open after the program's end
            has_ended = self.process.poll() is not None
            try:
                return self.lines.get(timeout=1)
            except queue.Empty:
                if has_ended:
                    return None
        self.kill()
        raise Failed(f"no line for {limit_s} s")

    def stop(self):
        """Sends SIGTERM; returns whether it ended by itself in time."""
        self.process.terminate()
        return self.wait() is not None

    def wait(self):
        """Its exit code; None if it did not end in time and was killed."""
        try:
            return self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.kill()

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended, and its children with it
        self.process.wait()

    def errors(self):
        self.stderr.seek(0)
        return self.stderr.read()

    def reason(self):
        """Its last words; of a client that was silent, where its main thread waited."""
        words = self.errors()
        _, silent, stacks = words.rpartition("Timeout (")
        if not silent:
            return " ".join(words.strip().splitlines()[-3:])
        # the last thread is the main one; its innermost call comes first
        main = re.split(r"^(?:Current thread|Thread) ", stacks, flags=re.MULTILINE)[-1]
        calls = re.findall(r'File "([^"]+)", line (\d+) in (\S+)', main)[:4]
        told = [f"{pathlib.Path(path).name}:{line} {name}" for path, line, name in calls]
        return f"silent for {stacks.partition(')')[0]} in {' < '.join(told)}"

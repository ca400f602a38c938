"""A real vLLM server on the CPU, which a test starts, kills and starts again."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request

# vLLM's engine starts more threads than a small machine has; spinning ones stop the rest
ENVIRONMENT = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server of a model, in a session of its own with its engine's processes."""

    def __init__(self, vllm: str, model: pathlib.Path, folder: pathlib.Path, name: str, *args: str,
                 dev_mode: bool = True, dtype: str = "float32"):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / f"vllm-{self.port}.log"
        self.command = [vllm, "serve", str(model), "--served-model-name", name]
        self.command += ["--host", "127.0.0.1", "--port", str(self.port), "--enforce-eager"]
        # a prompt in two chunks ends vLLM 0.32 on CPUs where its request has a seed
        self.command += ["--max-num-batched-tokens", "32768", "--dtype", dtype, *args]
        self.environment = {**os.environ, **ENVIRONMENT}
        self.environment["VLLM_SERVER_DEV_MODE"] = "1" if dev_mode else "0"
        self.process = None
        self.start()

    def start(self) -> None:
        self.began = time.time()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )

    def wait(self, limit_s: int = 1200) -> float:
        """Waits until it is up; returns the seconds that it took."""
        while True:
            if self.process.poll() is not None or time.time() - self.began > limit_s:
                text = self.log_path.read_text(errors="replace")
                sys.exit(f"vLLM did not start:\n{text[-4000:]}")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/health", timeout=2)
                return time.time() - self.began
            time.sleep(1)

    def kill(self) -> None:
        """Ends it and its engine's processes at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> "Server":
        self.seconds = self.wait()
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

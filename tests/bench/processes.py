"""Measured processes: started, watched by their log, with their CPU time and memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

from tests.bench.naming import KEY
from tests.e2e.program import with_default_signals
from tests.support.samples import Samples

__all__ = ["ApiProcess", "MeasuredProcess", "ProcessLauncher"]

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 120.0


class MeasuredProcess:
    """Process that serves on a port. It is killed at the end of the ``with`` block.

    Args:
        command: Command line.
        port: Port of its HTTP server.
        log: File of its output.
        env: Whole environment.
    """

    def __init__(self, command: list[str], port: int, log: Path, env: dict[str, str]) -> None:
        self.port = port
        self._log = log
        self.started = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                with_default_signals(command),
                cwd=log.parent,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop it by SIGTERM."""
        self._process.terminate()
        self._process.wait(30)

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads, by its Linux CPU clock."""
        return time.clock_gettime(~self._process.pid << 3 | 2)

    def memory_mb(self) -> float:
        """Return its resident memory in MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6

    def check_running(self) -> None:
        """Raise RuntimeError if it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._log.name} ended:\n{self._log.read_text('utf-8', 'replace')[-2000:]}")

    def wait_for_log(self, message: str, count: int = 1) -> None:
        """Wait until its log contains a message a number of times."""
        self._wait(lambda: self._log.read_bytes().count(message.encode()) >= count, message)

    def count_in_log(self, message: str) -> int:
        """Return how often its log contains a message."""
        return self._log.read_bytes().count(message.encode())

    def wait_serving(self) -> None:
        """Wait until it accepts connections."""
        self._wait(lambda: _accepts(self.port), "serving")

    def wait_ready(self) -> None:
        """Wait until an exporter has read all that was there at first."""
        self.wait_serving()
        self._wait(lambda: self._get("/-/ready")[0] == HTTPStatus.OK, "ready", pause=0.05)

    def poll_and_request_counts(self) -> tuple[int, int]:
        """Return the number of polls and of requests, by the metrics of an exporter."""
        samples = Samples.parse(self._get("/metrics")[1].decode())
        polls, requests = (samples.sum(f"late_exporter_{name}_total") for name in ("polls", "api_requests"))
        return int(polls), int(requests)

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body

    def _wait(self, is_done: Callable[[], bool], description: str, *, pause: float = 0.002) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not is_done():
            self.check_running()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._log.name}: timeout after {TIMEOUT_SECONDS:g} s: {description}")
            time.sleep(pause)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 30).close()
    except OSError:
        return False
    return True


class ApiProcess(MeasuredProcess):
    """Process of tests.bench.late."""

    def url(self, logs: int) -> str:
        """Return the base URL of the list of a size."""
        return f"http://127.0.0.1:{self.port}/{logs}/api"

    def hold_requests(self) -> None:
        """Make requests wait."""
        self._get("/_bench/hold")

    def release_requests(self) -> None:
        """Answer requests, and those that wait."""
        self._get("/_bench/release")

    def wait_for_request(self) -> None:
        """Wait until a request is waiting."""
        self._wait(lambda: self._get("/_bench/")[1] != b"0", "a request", pause=0.02)


class ProcessLauncher:
    """Launcher of the processes of a bench.

    Args:
        folder: Working directory of the processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process_count = 0
        self._env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}

    def _start(self, kind: type[MeasuredProcess], arguments: list[str], port: int, **env: str) -> Any:
        self._process_count += 1
        log = self.folder / f"{self._process_count:03}-{arguments[1].rpartition('.')[2]}.log"
        return kind([sys.executable, *arguments], port, log, self._env | env)

    def api(self, size: int) -> ApiProcess:
        """Start a Late API with a list of a size."""
        port = _free_port()
        api: ApiProcess = self._start(ApiProcess, ["-m", "tests.bench.late", str(port), str(size)], port)
        return api

    def exporter(
        self, api: ApiProcess, logs: int, state: Path, *options: str, interval: str = "30s"
    ) -> MeasuredProcess:
        """Start the exporter as a user has it, with a key or with a configuration file."""
        port = _free_port()
        has_file = any(option.startswith("--config.file=") for option in options)
        arguments = [
            *([] if has_file else [f"--api.base-url={api.url(logs)}"]),
            "--api.quota-share=1",
            "--poll.feeds=publishing",
            "--status.feeds=none",
            f"--poll.interval={interval}",
            f"--state.url=sqlite:///{state}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--metrics.max-label-values=1000000",
            "--metrics.max-accounts=1000000",
        ]
        env = {} if has_file else {"LATE_API_KEY": KEY}
        command = ["-m", "late_exporter", "run", *arguments, *options]
        process: MeasuredProcess = self._start(MeasuredProcess, command, port, **env)
        return process

    def script(self, api: ApiProcess, logs: int, *, interval: float = 30) -> MeasuredProcess:
        """Start the script of afternoon.py."""
        port = _free_port()
        env = {
            "LATE_API_URL": api.url(logs),
            "LATE_API_KEY": KEY,
            "PORT": str(port),
            "INTERVAL": str(interval),
        }
        process: MeasuredProcess = self._start(MeasuredProcess, ["-m", "tests.bench.afternoon"], port, **env)
        return process


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port

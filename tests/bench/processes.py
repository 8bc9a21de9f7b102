"""Measured processes: started, watched by their log, with their CPU time and memory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

from tests.bench.late import DAYS
from tests.bench.naming import KEY
from tests.e2e.program import with_default_signals

__all__ = ["ApiProcess", "LeanApiProcess", "MeasuredProcess", "ProcessLauncher"]

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 120.0

UNLIMITED = 1_000_000_000
"""Requests per minute, high enough that neither program is limited."""

HIDDEN_MODULES = {"pinned": ("httptools", "pygments", "rich"), "httptools": ("pygments", "rich")}
"""Optional modules that developers may have installed and users may not."""


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

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads, by its Linux CPU clock."""
        return time.clock_gettime(~self._process.pid << 3 | 2)

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Return its memory in MB; VmHWM for the peak."""
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        return int(status.partition(f"{field}:")[2].split()[0]) * 1024 / 1e6

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

    def url(self, logs: int, generation: str = "late") -> str:
        """Return the base URL of the list of a size."""
        suffix = "" if generation == "late" else f"-{generation}"
        return f"http://127.0.0.1:{self.port}/{logs}{suffix}/api"

    def send_command(self, command: str = "") -> dict[str, Any]:
        """Send a command, and return the numbers of requests and of waiting requests."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", f"/_bench/{command}")
        status: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return status

    @property
    def request_count(self) -> int:
        """Return the number of requests."""
        request_count: int = self.send_command()["requests"]
        return request_count

    def hold_requests(self) -> None:
        """Make requests wait."""
        self.send_command("hold")

    def wait_for_request(self) -> None:
        """Wait until a request is waiting."""
        self._wait(lambda: self.send_command()["waiting"] > 0, "a request", pause=0.02)


class LeanApiProcess(MeasuredProcess):
    """Process of tests.bench.lean."""

    def url(self, logs: int) -> str:
        """Return the base URL of the lists of a size."""
        return f"http://127.0.0.1:{self.port}/{logs}/api"


class ProcessLauncher:
    """Launcher of the processes of a bench.

    Args:
        folder: Working directory of the processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process_count = 0
        self._python_paths = {name: self._hide_modules(*modules) for name, modules in HIDDEN_MODULES.items()}

    def _hide_modules(self, *modules: str) -> str:
        """Return a PYTHONPATH on which some modules cannot be imported."""
        folder = self.folder / f"without-{'-'.join(modules)}"
        folder.mkdir()
        for module in modules:
            (folder / f"{module}.py").write_text("raise ImportError('hidden by the bench')\n", "ascii")
        return f"{folder}{os.pathsep}{ROOT}"

    def _start(self, kind: type[MeasuredProcess], arguments: list[str], port: int, **env: str) -> Any:
        self._process_count += 1
        log = self.folder / f"{self._process_count:03}-{arguments[1].rpartition('.')[2]}.log"
        base = {"PATH": os.environ["PATH"], "PYTHONPATH": self._python_paths["pinned"]}
        return kind([sys.executable, *arguments], port, log, base | env)

    def api(self, *sizes: int, rate_limit: int = UNLIMITED, days: float = DAYS) -> ApiProcess:
        """Start a Late API with lists of these sizes and days, which allows a number of requests per minute."""
        port = _free_port()
        arguments = ["-m", "tests.bench.late", str(port), str(rate_limit), str(days), *map(str, sizes)]
        api: ApiProcess = self._start(ApiProcess, arguments, port)
        return api

    def lean_api(self, *sizes: int) -> LeanApiProcess:
        """Start an API for many workspaces, with lists of these sizes."""
        port = _free_port()
        arguments = ["-m", "tests.bench.lean", str(port), *map(str, sizes)]
        api: LeanApiProcess = self._start(LeanApiProcess, arguments, port)
        return api

    def exporter(
        self,
        api: ApiProcess | LeanApiProcess,
        logs: int,
        state: Path,
        *options: str,
        interval: str = "30s",
        httptools: bool = False,
    ) -> MeasuredProcess:
        """Start the exporter, by default without httptools, as a user has it."""
        port = _free_port()
        defaults = [
            f"--api.base-url={api.url(logs)}",
            "--api.quota-share=1",
            "--poll.feeds=publishing",
            "--status.feeds=none",
            f"--poll.interval={interval}",
            f"--state.url=sqlite:///{state}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--metrics.max-label-values=1000000",
            "--metrics.max-accounts=1000000",
        ]
        env = {"LATE_API_KEY": KEY, "PYTHONPATH": self._python_paths["httptools" if httptools else "pinned"]}
        names = {option.partition("=")[0] for option in options}
        if "--config.file" in names:  # It has the addresses and the keys.
            del env["LATE_API_KEY"]
            names.add("--api.base-url")
        arguments = [option for option in defaults if option.partition("=")[0] not in names]
        arguments = ["-m", "late_exporter", "run", *arguments, *options]
        process: MeasuredProcess = self._start(MeasuredProcess, arguments, port, **env)
        return process

    def cpu_seconds_of(self, arguments: Sequence[str]) -> float:
        """Run Python with some arguments, and return its CPU time; raise RuntimeError if it fails."""
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": self._python_paths["pinned"]}
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=self.folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"exit code {process.returncode} of {' '.join(arguments)}")
        return usage.ru_utime + usage.ru_stime

    def socket_server(self, size: int) -> MeasuredProcess:
        """Start a server that sends a number of bytes."""
        port = _free_port()
        process: MeasuredProcess = self._start(MeasuredProcess, ["-m", "tests.bench.bare", str(port), str(size)], port)
        return process

    def requester(self, api: ApiProcess, logs: int) -> MeasuredProcess:
        """Start a program that only requests the newest page, as often as the exporter polls."""
        process: MeasuredProcess = self._start(
            MeasuredProcess, ["-m", "tests.bench.request", api.url(logs), KEY], _free_port()
        )
        return process

    def script(self, api: ApiProcess, logs: int, *, samples: int = 0, interval: float = 30) -> MeasuredProcess:
        """Start the script of afternoon.py, with a number of samples from its start."""
        port = _free_port()
        arguments = ["-m", "tests.bench.padded", str(samples)] if samples else ["-m", "tests.bench.afternoon"]
        env = {
            "LATE_API_URL": api.url(logs),
            "LATE_API_KEY": KEY,
            "PORT": str(port),
            "INTERVAL": str(interval),
        }
        process: MeasuredProcess = self._start(MeasuredProcess, arguments, port, **env)
        return process


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port

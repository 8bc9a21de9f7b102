"""Measured processes: started, watched by their log, with their CPU time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Self, TypeVar

from tests.e2e.program import HttpResponse, http_get, wait_until, with_default_signals, write_workspaces
from tests.support.postgres import free_port
from tests.support.samples import Samples

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk_" + "b" * 64


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

    def wait_for_log(self, message: str, count: int = 1) -> None:
        """Wait until its log contains a message a number of times."""
        self._wait(lambda: self.count_in_log(message) >= count)

    def count_in_log(self, message: str) -> int:
        """Return how often its log contains a message."""
        return self._log.read_bytes().count(message.encode())

    def wait_serving(self) -> None:
        """Wait until it answers requests."""
        self._wait(lambda: self._get("/-/healthy"))

    def wait_ready(self) -> None:
        """Wait until an exporter has completed its first sync."""
        self._wait(lambda: self._get("/-/ready").status == HTTPStatus.OK)

    def samples(self) -> Samples:
        """Return what a scrape gets."""
        return Samples.parse(self._get("/metrics").text)

    def poll_and_request_counts(self) -> tuple[int, int]:
        """Return the number of polls and of requests, by the metrics of an exporter."""
        samples = self.samples()
        polls, requests = (samples.sum(f"late_exporter_{name}_total") for name in ("polls", "api_requests"))
        return int(polls), int(requests)

    def _get(self, path: str) -> HttpResponse:
        return http_get(f"http://127.0.0.1:{self.port}{path}", timeout=60)

    def _wait(self, is_done: Callable[[], object]) -> None:
        def is_done_or_ended() -> object:
            assert self._process.poll() is None, self._log.read_text("utf-8", "replace")[-2000:]
            return is_done()

        wait_until(is_done_or_ended, describe=self._log.read_text)


class ApiProcess(MeasuredProcess):
    """Process of tests.bench.late."""

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}/api"

    def hold_requests(self) -> None:
        """Make requests wait."""
        self._get("/_bench/hold")

    def release_requests(self) -> None:
        """Answer requests, and those that wait."""
        self._get("/_bench/release")

    def wait_for_request(self) -> None:
        """Wait until a request is waiting."""
        self._wait(lambda: self._get("/_bench/waiting").body != b"0")


ProcessT = TypeVar("ProcessT", bound=MeasuredProcess)


class ProcessLauncher:
    """Launcher of the processes of a bench.

    Args:
        folder: Working directory of the processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process_count = 0

    def _start(self, kind: type[ProcessT], module: str, port: int, *arguments: str, **env: str) -> ProcessT:
        self._process_count += 1
        log = self.folder / f"{self._process_count:03}-{module.rpartition('.')[2]}.log"
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env}
        return kind([sys.executable, "-m", module, *arguments], port, log, environment)

    def api(self, size: int) -> ApiProcess:
        """Start a Late API with a list of a size."""
        port = free_port()
        return self._start(ApiProcess, "tests.bench.late", port, str(port), str(size))

    def exporter(
        self, api: ApiProcess, state: Path, *options: str, generation: str = "zernio", interval: str = "30s"
    ) -> MeasuredProcess:
        """Start the exporter as a user has it."""
        port = free_port()
        arguments = (
            f"--api.base-url={api.url}",
            f"--api.generation={generation}",
            "--api.quota-share=1",
            "--poll.feeds=publishing",
            "--status.feeds=none",
            f"--poll.interval={interval}",
            f"--state.url=sqlite:///{state}",
            f"--web.listen-address=127.0.0.1:{port}",
            *options,
        )
        key = {} if options else {"ZERNIO_API_KEY": KEY}
        return self._start(MeasuredProcess, "late_exporter", port, "run", *arguments, **key)

    def exporter_of_workspaces(self, api: ApiProcess, count: int) -> MeasuredProcess:
        """Start the exporter with a number of workspaces, each of a key of its own."""
        write_workspaces(self.folder, count)
        return self.exporter(api, self.folder / f"{count}-workspaces.db", "--config.file=late.yml")

    def requester(self, api: ApiProcess) -> MeasuredProcess:
        """Start a program that only requests the newest page, as often as the exporter polls."""
        return self._start(MeasuredProcess, "tests.bench.request", 0, api.url, KEY)

    def cpu_seconds_of(self, arguments: Sequence[str]) -> float:
        """Run Python with some arguments, and return its CPU time."""
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert not process.returncode, arguments
        return usage.ru_utime + usage.ru_stime

    def script(self, api: ApiProcess, *, interval: float = 30) -> MeasuredProcess:
        """Start the script of afternoon.py."""
        port = free_port()
        env = {"LATE_API_URL": api.url, "LATE_API_KEY": KEY, "PORT": str(port), "INTERVAL": str(interval)}
        return self._start(MeasuredProcess, "tests.bench.afternoon", port, **env)

"""Measured processes: watched by their output, with their CPU time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from tests.e2e.late import KEY
from tests.e2e.program import ROOT, ExporterProcess, wait_until, write_workspaces


class MeasuredProcess(ExporterProcess):
    """Process of late-exporter, or of another program."""

    timeout = 60.0

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads, by its Linux CPU clock."""
        return time.clock_gettime(~self.pid << 3 | 2)

    def memory_mb(self) -> float:
        """Return its resident memory in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6

    def wait_for_output(self, message: str, count: int = 1) -> None:
        """Wait until its output contains a message a number of times."""
        wait_until(lambda: self.count_in_output(message) >= count, describe=lambda: self.stderr)

    def count_in_output(self, message: str) -> int:
        """Return how often its output contains a message."""
        return (self.stdout + self.stderr).count(message)

    def poll_and_request_counts(self) -> tuple[int, int]:
        """Return the number of polls and of requests, by the metrics of an exporter."""
        samples = self.scrape()
        polls, requests = (samples.sum(f"late_exporter_{name}_total") for name in ("polls", "api_requests"))
        return int(polls), int(requests)


class ApiProcess(MeasuredProcess):
    """Process of tests.bench.late."""

    @property
    def base_url(self) -> str:
        return f"{self.url}/api"

    def hold_requests(self) -> None:
        """Make requests wait."""
        self.get("/_bench/hold")

    def release_requests(self) -> None:
        """Answer requests, and those that wait."""
        self.get("/_bench/release")

    def wait_for_request(self) -> None:
        """Wait until a request is waiting."""
        wait_until(lambda: self.get("/_bench/waiting").body != b"0")


ProcessT = TypeVar("ProcessT", bound=MeasuredProcess)


class ProcessLauncher:
    """Launcher of the processes of a bench, which start with their ``with`` blocks.

    Args:
        folder: Working directory of the processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _create(self, kind: type[ProcessT], module: str, *arguments: str, **env: str) -> ProcessT:
        process = kind(self.folder, *arguments, env=env)
        process.program = ("-m", module)
        return process

    def api(self, size: int) -> ApiProcess:
        """Return a Late API with a list of a size."""
        return self._create(ApiProcess, "tests.bench.late", str(size))

    def exporter(
        self, api: ApiProcess, state: Path, *options: str, generation: str = "zernio", interval: str = "30s"
    ) -> MeasuredProcess:
        """Return the exporter as a user has it."""
        return MeasuredProcess.for_api(
            self.folder,
            api.base_url,
            f"--api.generation={generation}",
            "--api.quota-share=1",
            "--poll.feeds=publishing",
            "--status.feeds=none",
            "--metrics.zero-hold=75s",
            *options,
            env={} if options else None,
            interval=interval,
            state=state,
        )

    def exporter_of_workspaces(self, api: ApiProcess, count: int) -> MeasuredProcess:
        """Return the exporter with a number of workspaces, each of a key of its own."""
        write_workspaces(self.folder, count)
        return self.exporter(api, self.folder / f"{count}-workspaces.db", "--config.file=late.yml")

    def requester(self, api: ApiProcess) -> MeasuredProcess:
        """Return a program that only requests the newest page, as often as the exporter polls."""
        return self._create(MeasuredProcess, "tests.bench.request", api.base_url, KEY)

    def script(self, api: ApiProcess, *, interval: float = 30) -> MeasuredProcess:
        """Return the script of afternoon.py."""
        env = {"LATE_API_URL": api.base_url, "LATE_API_KEY": KEY, "INTERVAL": str(interval)}
        return self._create(MeasuredProcess, "tests.bench.afternoon", **env)

    def cpu_seconds_of(self, arguments: Sequence[str]) -> float:
        """Run Python with some arguments, and return its CPU time."""
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert not process.returncode, arguments
        return usage.ru_utime + usage.ru_stime

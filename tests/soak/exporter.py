"""The exporter of a soak: a process that is configured, killed, restarted and measured."""

from __future__ import annotations

import http.client
import signal
import socket
import time
from collections import deque
from pathlib import Path

from tests.e2e.late import KEY
from tests.e2e.program import ExporterProcess, http_get
from tests.soak.checks import MemoryHistory, ProcessMemory
from tests.support.samples import Samples

__all__ = ["CONFIG_FLAG", "SAMPLE_INTERVAL", "WORKSPACES", "SoakExporter"]

WORKSPACES = {"acme": KEY, "beta": "sk_" + "be7a0000" * 8}
"""Keys by workspace."""

CONFIG_FLAG = "--config.file=late.yml"
SAMPLE_INTERVAL = 0.5
WARM_UP = 5.0
"""Seconds after the start of a process in which its memory is not measured."""


class SoakExporter:
    """Exporter with its configuration, its state and the memory history of all its processes.

    Args:
        folder: Working directory of the exporter.
        api_url: Base URL of the API.
    """

    def __init__(self, folder: Path, api_url: str) -> None:
        self.folder = folder
        self.memory = MemoryHistory()
        self.is_running = False
        self.started_at = 0.0
        self._api_url = api_url
        self._intervals = deque(("1s", "900ms"))
        self._port = _free_port()
        self._process = ExporterProcess(folder, "run", CONFIG_FLAG)
        self._sampled_at = 0.0

    @property
    def address(self) -> str:
        """Return the address of its HTTP server, host and port."""
        return f"127.0.0.1:{self._port}"

    @property
    def stderr(self) -> str:
        """Return the log of the current process."""
        return self._process.stderr

    @property
    def exit_code(self) -> int | None:
        """Return the exit code of the current process, or None if it runs."""
        return self._process.exit_code

    def write_keys(self) -> None:
        """Write a key file per workspace."""
        for name, key in WORKSPACES.items():
            file = self.folder / f"{name}.key"
            file.touch(0o600)
            file.write_text(key)

    def configure(self, workspaces: tuple[str, ...]) -> None:
        """Write the configuration file, with another poll interval each time."""
        self._intervals.rotate()
        rows = [
            f"  - {{name: {name}, api_key_file: {name}.key, api_base_url: '{self._api_url}'}}" for name in workspaces
        ]
        lines = [
            "workspaces:",
            *rows,
            "api: {timeout: 2s}",
            f"poll: {{interval: {self._intervals[0]}, reconcile-interval: 1m}}",
            "state: {url: 'sqlite:///state.db'}",
            f"web: {{listen-address: '{self.address}'}}",
        ]
        file = self.folder / "late.yml"
        file.with_suffix(".new").write_text("\n".join(lines) + "\n")
        file.with_suffix(".new").replace(file)

    def start(self) -> None:
        """Start a new process."""
        self._process.start()
        self.memory.processes.append(ProcessMemory([]))
        self.is_running, self.started_at = True, time.monotonic()

    def stop(self) -> int:
        """Stop the process by SIGTERM and return its exit code."""
        self.is_running = False
        return self._process.stop()

    def kill(self) -> None:
        """Kill the process."""
        self.is_running = False
        self._process.kill()

    def is_serving(self) -> bool:
        """Return whether it answers HTTP requests."""
        try:
            return http_get(f"http://{self.address}/-/healthy", timeout=5).status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def reload(self) -> bool:
        """Send SIGHUP and return True, or return False if the process is not ready for signals yet."""
        if not self.is_serving():
            return False
        self._process.send_signal(signal.SIGHUP)
        return True

    def scrape(self) -> Samples:
        """Return the metrics, none if it does not answer."""
        try:
            response = http_get(f"http://{self.address}/metrics", timeout=5)
        except (OSError, http.client.HTTPException):
            return Samples()
        return Samples.parse(response.text)

    def sample_memory(self, seconds: float) -> None:
        """Add a sample to the memory history, unless the last one is recent or the process has just started.

        Args:
            seconds: Time since the start of the soak.
        """
        now = time.monotonic()
        if self.is_running and now - self._sampled_at >= SAMPLE_INTERVAL and now - self.started_at >= WARM_UP:
            self._sampled_at = now
            self.memory.processes[-1].samples.append((seconds, self.memory_kib()))

    def memory_kib(self) -> float:
        """Return the resident memory in KiB, 0 if the process does not run."""
        if not self.is_running:
            return 0.0
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        return float(status.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in status else 0.0

    def state_bytes(self) -> int:
        """Return the size of the state, including its write-ahead log."""
        return sum(file.stat().st_size for file in self.folder.glob("state.db*"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port

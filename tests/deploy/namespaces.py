"""Sandbox of Linux namespaces: processes in it end with it, and nothing outside changes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from tests.e2e.program import DEFAULT_TIMEOUT, run_command, wait_until
from tests.support.samples import Samples

# PID 1 adopts orphans; bash reaps them.
INIT_SCRIPT = "sleep infinity & wait"

EXPORTER = "http://127.0.0.1:10077"
LOGS = "late_publishing_logs_total"


def run(*command: str | Path, **options: Any) -> str:
    """Run a command and return its output including errors; raise AssertionError if it fails."""
    return run_command(*command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, errors="replace", **options)


def children(pid: int) -> list[int]:
    """Return the child processes of a single-threaded process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def assert_confined(status: str) -> None:
    """Assert by its /proc/PID/status that a process has no capabilities, cannot get any, and has a filter of calls."""
    restrictions = dict(re.findall(r"^(CapEff|CapBnd|NoNewPrivs|Seccomp):\s+(\w+)", status, re.MULTILINE))
    assert restrictions == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}


def remove_cgroups(name: str) -> bool:
    """Remove empty cgroups left behind by container engines; return whether all are gone."""
    groups = sorted(Path("/sys/fs/cgroup").glob(f"**/{name}/**/"), reverse=True)
    for group in groups:
        with suppress(OSError):  # still in use
            group.rmdir()
    return not any(group.exists() for group in groups)


class Sandbox:
    """Separate mount and process namespaces, and optionally a network namespace.

    Args:
        network: Whether the sandbox has its own isolated network.
        volatile: Folders mounted as empty tmpfs.
    """

    def __init__(self, *, network: bool = True, volatile: Sequence[Path] = ()) -> None:
        self._namespaces = ["--mount", "--pid", *(["--net"] if network else [])]
        self._network = network
        self._volatile = volatile
        self._init_process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        # Kill everything in the sandbox if the test process dies.
        command = [
            "setpriv",
            "--pdeathsig=KILL",
            "unshare",
            *self._namespaces,
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            "-c",
            INIT_SCRIPT,
        ]
        self._init_process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        init_pid = self._init_process.pid
        self._pid = wait_until(lambda: children(init_pid))[0]
        if self._network:
            self.run("ip", "link", "set", "lo", "up")
        for folder in self._volatile:
            folder.mkdir(parents=True, exist_ok=True)
            self.run("mount", "-t", "tmpfs", "tmpfs", folder)
        return self

    def __exit__(self, *_: object) -> None:
        if self._init_process is not None:
            self._init_process.kill()
            self._init_process.wait(DEFAULT_TIMEOUT)

    def command(self, *command: str | Path) -> list[str]:
        """Return the command line that runs a command in the sandbox."""
        return ["nsenter", f"--target={self._pid}", *self._namespaces, "--", *map(str, command)]

    def run(self, *command: str | Path, **options: Any) -> str:
        """Run a command in the sandbox and return its output."""
        return run(*self.command(*command), **options)

    @contextmanager
    def run_in_background(self, *command: str | Path, log: Path, **options: Any) -> Iterator[int]:
        """Run a command in the background; yield the pid of its ancestor and kill it at the end."""
        with log.open("ab") as output:
            nsenter = subprocess.Popen(
                self.command(*command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
            )
        try:
            yield nsenter.pid
        finally:
            # Kill the command itself; its nsenter parent only waits for it.
            for pid in children(nsenter.pid) or [nsenter.pid]:
                os.kill(pid, signal.SIGKILL)
            nsenter.wait(DEFAULT_TIMEOUT)

    def get(self, url: str) -> str:
        """Return a successful response of a server in the sandbox; raise ConnectionError otherwise."""
        try:
            return self.run("curl", "--silent", "--show-error", "--fail", "--max-time", "5", url)
        except AssertionError as exc:
            raise ConnectionError(str(exc)) from None

    def scrape_when_ready(self, describe: Callable[[], object]) -> Samples:
        """Return the metrics of the exporter in the sandbox, after its first complete poll."""
        wait_until(
            lambda: "is ready" in self.get(f"{EXPORTER}/-/ready") and f"{LOGS}{{" in self.get(f"{EXPORTER}/metrics"),
            describe=describe,
        )
        return Samples.parse(self.get(f"{EXPORTER}/metrics"))

"""A small Debian system that boots systemd and is discarded afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.deploy.container_engine import DEBIAN
from tests.deploy.namespaces import Sandbox, children, remove_cgroups, run
from tests.e2e.program import wait_until
from tests.support.samples import Samples

TOOLS = ("systemd-nspawn", "systemd-analyze")

# Boot with cgroup v2, even if this machine also has v1.
BOOT_SCRIPT = """
umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
mkdir "/sys/fs/cgroup/$2" && echo $$ >"/sys/fs/cgroup/$2/cgroup.procs" &&
exec systemd-nspawn --quiet --register=no --keep-unit --console=pipe --directory="$1" --boot
"""


class SystemdMachine:
    """A running systemd.

    Args:
        sandbox: Sandbox in which it runs.
        pid: PID of its init process, seen from outside.
    """

    def __init__(self, sandbox: Sandbox, pid: int) -> None:
        self._sandbox = sandbox
        self._pid = pid

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command on the machine and return its output."""
        return run("nsenter", f"--target={self._pid}", "--all", "--", *command, check=check).strip()

    def systemctl(self, *arguments: str) -> str:
        """Run systemctl and return its output, even if it fails."""
        return self.run("systemctl", "--no-pager", *arguments, check=False)

    def unit_property(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.systemctl("show", "--value", f"--property={name}", unit)

    def scrape_when_ready(self) -> Samples:
        """Return the metrics of the exporter, after its first complete poll."""
        return self._sandbox.scrape_when_ready(lambda: self.systemctl("status", "late-exporter"))


@contextmanager
def boot(sandbox: Sandbox, changes: Path) -> Iterator[SystemdMachine]:
    """Boot in a sandbox with an overlay: ``changes`` is laid over Debian and receives all writes."""
    root, work = (changes.with_name(f"{changes.name}-{name}") for name in ("root", "work"))
    for folder in (root, work):
        folder.mkdir()
    layers = f"lowerdir={DEBIAN},upperdir={changes},workdir={work}"
    sandbox.run("mount", "-t", "overlay", "-o", layers, "overlay", root)
    log = changes.with_name("boot.log")
    group = f"late-exporter-{os.getpid()}"
    try:
        with sandbox.run_in_background("sh", "-c", BOOT_SCRIPT, "boot", root, group, log=log) as nspawn_pid:
            pid = wait_until(lambda: _systemd_pid(nspawn_pid), describe=log.read_text)
            try:
                machine = SystemdMachine(sandbox, pid)
                wait_until(
                    lambda: machine.systemctl("is-system-running") in ("running", "degraded"),
                    describe=lambda: log.read_text() + machine.systemctl("list-jobs"),
                )
                yield machine
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    finally:
        wait_until(lambda: remove_cgroups(group))


def _systemd_pid(pid: int) -> int:
    """Return the systemd process among the descendants of a process, or 0."""
    while pid:
        if Path(f"/proc/{pid}/comm").read_text("utf-8") == "systemd\n":
            return pid
        pid = next(iter(children(pid)), 0)
    return 0

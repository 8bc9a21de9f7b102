"""A small Debian that boots a systemd of its own, and is gone afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.deploy.containers import CACHE, UNREAD
from tests.deploy.sandbox import Sandbox, children, remove_groups, run
from tests.e2e.program import wait_until

__all__ = ["TOOLS", "Machine", "boot", "make_root"]

TOOLS = ("mmdebstrap", "systemd-nspawn", "systemd-analyze", "nsenter", "unshare", "curl")

ROOT = CACHE / "debian"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3")
# What boots has version 2 of cgroups, though this machine may have both.
BOOT = """
umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
mkdir "/sys/fs/cgroup/$2" && echo $$ >"/sys/fs/cgroup/$2/cgroup.procs" &&
exec systemd-nspawn --quiet --register=no --keep-unit --console=pipe --directory="$1" --boot
"""


def make_root() -> None:
    """Make the Debian that boots, unless it is there already."""
    made = ROOT / "made"
    if made.exists():
        return
    unread = [f"--dpkgopt=path-exclude={path}" for path in UNREAD]
    wanted = ["--variant=minbase", f"--include={','.join(PACKAGES)}", *unread]
    with Sandbox(network=False) as sandbox:
        sandbox.run("rm", "-rf", ROOT)
        sandbox.run("mmdebstrap", "--quiet", "--mode=root", *wanted, "trixie", ROOT)
    made.touch()


class Machine:
    """A running systemd.

    Args:
        pid: Its first process, as others see it.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(self, *command: str, check: bool = True) -> str:
        """What a command prints that runs on it."""
        return run("nsenter", f"--target={self._pid}", "--all", "--", *command, check=check).strip()

    def systemctl(self, *arguments: str) -> str:
        """What systemctl prints, also where it says no."""
        return self.run("systemctl", "--no-pager", *arguments, check=False)

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", "--value", f"--property={name}", unit)


@contextmanager
def boot(sandbox: Sandbox, changes: Path) -> Iterator[Machine]:
    """Boot in a sandbox, with the files of a folder laid over the Debian; what changes is kept in that folder."""
    make_root()
    root, work = (changes.with_name(f"{changes.name}-{name}") for name in ("root", "work"))
    for folder in (root, work):
        folder.mkdir()
    layers = f"lowerdir={ROOT},upperdir={changes},workdir={work}"
    sandbox.run("mount", "-t", "overlay", "-o", layers, "overlay", root)
    log = changes.with_name("boot.log")
    group = f"late-exporter-{os.getpid()}"
    try:
        with sandbox.running("sh", "-c", BOOT, "boot", root, group, log=log) as booting:
            pid = wait_until(lambda: _systemd(booting), describe=log.read_text)
            try:
                yield _booted(Machine(pid), log)
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    finally:
        wait_until(lambda: remove_groups(group))


def _booted(running: Machine, log: Path) -> Machine:
    """The machine once it is up."""
    wait_until(
        lambda: running.systemctl("is-system-running") in ("running", "degraded"),
        describe=lambda: log.read_text() + running.systemctl("list-jobs"),
    )
    return running


def _systemd(pid: int) -> int:
    """The systemd among the descendants of a process; 0 while there is none."""
    while pid:
        if Path(f"/proc/{pid}/comm").read_text("utf-8") == "systemd\n":
            return pid
        pid = next(iter(children(pid)), 0)
    return 0

"""A place of its own on this machine: what runs in it ends with it, and nothing outside is touched."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.e2e.program import PATIENCE, eventually

__all__ = ["Sandbox", "run"]

# The first process takes over those whose parents ended; bash notices when they end too.
FIRST = "sleep infinity & wait"


def run(*command: str | Path, timeout: float = 300.0, check: bool = True, **options: object) -> str:
    """What a command prints, errors included; an AssertionError with all of it where it fails."""
    done = subprocess.run(  # type: ignore[call-overload] # options are subprocess' own
        [*map(str, command)],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        **options,
    )
    assert not check or 0 == done.returncode, f"{' '.join(map(str, command))}\n{done.stdout}"
    return str(done.stdout)


class Sandbox:
    """Namespaces of their own for mounts and processes, and for the network too unless it is to be the machine's.

    Args:
        network: Whether there is a network that only what runs in here sees.
        volatile: Folders that are empty whenever this is entered.
    """

    def __init__(self, *, network: bool = True, volatile: Sequence[Path] = ()) -> None:
        self._namespaces = ["--mount", "--pid", *(["--net"] if network else [])]
        self._network = network
        self._volatile = volatile
        self._holder: subprocess.Popen[bytes] | None = None
        self._pid = ""

    def __enter__(self) -> Self:
        command = ["unshare", *self._namespaces, "--fork", "--kill-child", "--mount-proc", "bash", "-c", FIRST]
        self._holder = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self._pid = eventually(lambda: children.read_text("ascii").strip())
        if self._network:
            self.run("ip", "link", "set", "lo", "up")
        for folder in self._volatile:
            folder.mkdir(parents=True, exist_ok=True)
            self.run("mount", "-t", "tmpfs", "tmpfs", folder)
        return self

    def __exit__(self, *_: object) -> None:
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait(PATIENCE)

    def command(self, *command: str | Path) -> list[str]:
        """The command line that runs a command in here."""
        return ["nsenter", f"--target={self._pid}", *self._namespaces, "--", *map(str, command)]

    def run(self, *command: str | Path, timeout: float = 300.0, check: bool = True, **options: object) -> str:
        """What a command prints that runs in here."""
        return run(*self.command(*command), timeout=timeout, check=check, **options)

    def get(self, url: str) -> str:
        """The good answer of a server in here; OSError while there is none."""
        try:
            return self.run("curl", "--silent", "--show-error", "--fail", "--max-time", "5", url)
        except AssertionError as exc:
            raise ConnectionError(str(exc)) from None

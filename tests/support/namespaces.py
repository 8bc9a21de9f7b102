"""Network namespaces of Linux: a network of its own for each of several processes, which can be cut off."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

NUMBERS = itertools.count(1)


class Namespace:
    """A network namespace with a link to this machine.

    Attributes:
        name: Name of the namespace.
        host_address: Address of this machine on the link.
        address: Address of the namespace on the link.
    """

    def __init__(self) -> None:
        number = next(NUMBERS)
        self.name = f"late-{os.getpid()}-{number}"
        self._link = f"late{os.getpid() % 100_000}-{number}"  # at most 15 characters
        network = f"10.{200 + os.getpid() % 50}.{number % 256}"
        self.host_address, self.address = f"{network}.1", f"{network}.2"

    @property
    def command(self) -> tuple[str, ...]:
        """Beginning of a command that runs in the namespace."""
        return ("ip", "netns", "exec", self.name)

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            _ip("address", "add", f"{self.host_address}/30", "dev", self._link)
            _ip("link", "set", self._link, "up")
            for arguments in (
                ("address", "add", f"{self.address}/30", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                _ip("-netns", self.name, *arguments)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _ip("netns", "delete", self.name)

    def hang(self) -> None:
        """Lose all packets between the namespace and this machine."""
        _ip("link", "set", self._link, "down")

    def resume(self) -> None:
        """Pass packets on again; connections continue, if they have not timed out."""
        _ip("link", "set", self._link, "up")

    heal = resume

    def listen(self) -> socket.socket:
        """Return a socket that listens on the loopback interface of the namespace."""
        with ThreadPoolExecutor(1) as executor:  # Only the thread moves, and ends.
            return executor.submit(self._listen).result()

    def _listen(self) -> socket.socket:
        with Path("/run/netns", self.name).open("rb") as namespace:
            os.setns(namespace.fileno(), os.CLONE_NEWNET)  # type: ignore[attr-defined,unused-ignore] # Python 3.12
            return socket.create_server(("127.0.0.1", 0))


def missing_right() -> str:
    """Return why namespaces cannot be used here; nothing if they can."""
    if os.getuid() != 0 or shutil.which("ip") is None or not hasattr(os, "setns"):
        return "network namespaces need root, ip, and Python 3.12"
    try:
        with Namespace():
            return ""
    except subprocess.CalledProcessError as exc:
        return f"network namespaces cannot be used: {exc.stderr}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

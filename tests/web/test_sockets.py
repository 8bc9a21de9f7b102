"""Sockets are bound without disturbing other processes, or passed by systemd."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from late_exporter.config.types import UnixPath
from late_exporter.errors import LateError
from late_exporter.web.sockets import bind_socket, systemd_sockets
from tests.web.test_server import running_server

FIRST = 400
"""Number of a file descriptor that is not open."""

IN_USE = r"^cannot listen on unix:/.*/late\.sock: Address already in use; choose another --web.listen-address$"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a path for a socket."""
    return tmp_path / "late.sock"


def test_path_in_use(path: Path) -> None:
    """A path that another process serves is rejected, and that process is not disturbed."""
    with bind_socket(UnixPath(path)):
        with pytest.raises(LateError, match=IN_USE):
            bind_socket(UnixPath(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_path_of_a_file(path: Path) -> None:
    """A file that is not a socket is never removed."""
    path.write_text("precious")
    with pytest.raises(LateError, match=IN_USE):
        bind_socket(UnixPath(path))
    assert path.read_text() == "precious"


@pytest.fixture
def descriptors() -> Iterator[list[int]]:
    """Return a list of file descriptors to pass like systemd; open ones are closed at the end."""
    numbers: list[int] = []
    yield numbers
    for number in numbers:
        with suppress(OSError):
            os.close(number)


def pass_descriptor(numbers: list[int], number: int) -> None:
    """Duplicate a file descriptor to the next number."""
    numbers.append(fcntl.fcntl(number, fcntl.F_DUPFD, FIRST))
    assert FIRST + len(numbers) - 1 == numbers[-1]
    os.set_inheritable(numbers[-1], True)  # noqa: FBT003 - standard library


def environment(count: str) -> dict[str, str]:
    """Return the environment of this process if it is passed some descriptors."""
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": "a:b", "HOME": "/"}


async def test_systemd_sockets(descriptors: list[int], path: Path) -> None:
    """Passed sockets are served, are not inherited by children, and their variables are removed."""
    with socket.create_server(("127.0.0.1", 0)) as port, bind_socket(UnixPath(path)) as unix:
        pass_descriptor(descriptors, port.fileno())
        pass_descriptor(descriptors, unix.fileno())
    environ = environment("2")
    sockets = systemd_sockets(environ, first=FIRST)
    assert environ == {"HOME": "/"}
    assert [listener.fileno() for listener in sockets] == [FIRST, FIRST + 1]
    assert [listener.get_inheritable() for listener in sockets] == [False, False]
    async with running_server(*sockets) as harness:
        assert await harness.get("/a") == (200, b"/a")
        assert await (await harness.connect(path=path)).get("/b") == (200, b"/b")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        environment("1") | {"LISTEN_PID": str(os.getpid() + 1)},
        environment("1") | {"LISTEN_PID": f"0{os.getpid()}"},
        environment("x"),
    ],
)
def test_no_systemd_sockets(descriptors: list[int], environ: dict[str, str]) -> None:
    """Variables for another process are ignored and removed."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        pass_descriptor(descriptors, port.fileno())
    assert systemd_sockets(environ, first=FIRST) == []
    assert {name: text for name, text in environ.items() if name.startswith("LISTEN")} == {}
    assert os.get_inheritable(FIRST)


@pytest.mark.parametrize("kind", ["none", "datagram", "not listening"])
def test_invalid_descriptor(descriptors: list[int], kind: str) -> None:
    """A file descriptor that is not a listening socket is rejected by its number."""
    if kind != "none":
        with socket.socket(type=socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM) as listener:
            pass_descriptor(descriptors, listener.fileno())
    with pytest.raises(LateError, match=f"^descriptor {FIRST} of systemd is not a listening socket$"):
        systemd_sockets(environment("1"), first=FIRST)

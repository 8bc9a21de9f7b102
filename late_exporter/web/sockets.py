"""Listening sockets: of TCP addresses, Unix sockets and systemd."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

from late_exporter.config.types import Address, UnixPath
from late_exporter.errors import LateError

BACKLOG = 1024
"""Connections that may wait to be accepted; beyond it a client tries again after a second."""


def bind_socket(address: Address | UnixPath, option: str = "--web.listen-address") -> socket.socket:
    """Return a socket that listens on an address; an empty host means all interfaces.

    Raises:
        LateError: The address cannot be used.
    """
    try:
        listener = (
            _bind_path(address.path)
            if isinstance(address, UnixPath)
            else _bind(address.host, address.port)
        )
    except OSError as exc:
        reason = (exc.strerror or str(exc)).partition(" (while ")[
            0
        ]  # Python 3.11 repeats the address
        raise LateError(f"cannot listen on {address}: {reason}; choose another {option}") from exc
    return _configure(listener)


def systemd_sockets(
    environ: MutableMapping[str, str] = os.environ, *, first: int = 3
) -> list[socket.socket]:
    """Return the sockets that systemd passes, and remove its variables from the environment.

    ``first`` is the number of the first file descriptor, see sd_listen_fds(3).

    Raises:
        LateError: A file descriptor is not a listening socket.
    """
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    return [_configure(_systemd_socket(number)) for number in range(first, first + int(count))]


def _systemd_socket(number: int) -> socket.socket:
    with suppress(OSError):  # is no socket
        listener = socket.socket(fileno=number)
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.set_inheritable(False)
            return listener
        listener.detach()
    raise LateError(f"descriptor {number} of systemd is not a listening socket")


def _bind(host: str, port: int) -> socket.socket:
    is_dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_dual or ":" in host else socket.AF_INET
    return socket.create_server(
        (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=is_dual
    )


def _bind_path(path: Path) -> socket.socket:
    """Return a socket that listens on a path; a stale socket file is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and _is_stale(path):
            path.unlink()
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _is_stale(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - standard library; a server that is stuck accepts no connection
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED


def _configure(listener: socket.socket) -> socket.socket:
    listener.setblocking(False)  # noqa: FBT003 - standard library
    if listener.family != socket.AF_UNIX:
        # Inherited by connections. Without it a scrape on a kept-alive connection waits 40 ms for
        # an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(bound: socket.socket, *, secure: bool = False) -> str:
    """Return the address at which a user reaches a socket."""
    if bound.family == socket.AF_UNIX:
        return f"unix:{bound.getsockname()}"
    host, port = bound.getsockname()[:2]
    host = {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104 - displayed, not bound
    return f"{'https' if secure else 'http'}://{Address(host, port)}"

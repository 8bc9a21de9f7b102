"""An HTTP server for an ASGI application, run and stopped by whoever asks for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn

from late_exporter.errors import LateError

__all__ = ["listen", "serve"]

BACKLOG = 128
GRACE = 2
"""Seconds that answers under way get at the end."""


class _Server(uvicorn.Server):
    """A server that leaves the process' signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Whoever runs the server decides when it stops."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address; an empty host is every interface, IPv4 and IPv6.

    Raises:
        LateError: The address cannot be used; the message names it.
    """
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = _bind(host, port)
    except OSError as exc:
        reason = (exc.strerror or str(exc)).partition(" (while ")[0]  # Python 3.11 names the address a second time
        raise LateError(f"cannot listen on {shown}: {reason}") from exc
    # Connections inherit it. Without it a scrape on a kept connection waits 40 ms for the client's acknowledgement.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _bind(host: str, port: int) -> socket.socket:
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=BACKLOG)


async def serve(app: Any, sockets: Sequence[socket.socket], *, date_header: bool = True) -> None:
    """Serve until cancelled; then answers under way get a moment to end."""
    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=date_header,
        lifespan="off",
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        ws="none",
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=list(sockets)))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
    raise RuntimeError("the web server ended by itself")

"""Many clients that keep the connections of a server busy, without a password."""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

MAX_OPEN = 300
"""Connections that are open at once; the oldest is closed for the next one."""

TIMEOUT = 30.0

Attack = Callable[[socket.socket, ssl.SSLContext | None], object]


def silent(_: socket.socket, __: ssl.SSLContext | None) -> None:
    """Send nothing."""


def half_open(client: socket.socket, context: ssl.SSLContext | None) -> None:
    """Send the first bytes of a handshake or request, and nothing more."""
    client.sendall(client_hello(context)[:100] if context else b"GET /metr")


def unfinished(client: socket.socket, context: ssl.SSLContext | None) -> None:
    """Send all that makes the server answer the handshake, and nothing more."""
    client.sendall(client_hello(context) if context else b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")


def idle(client: socket.socket, context: ssl.SSLContext | None) -> None:
    """Complete the handshake, and send nothing more."""
    if context:
        with suppress(OSError):
            context.wrap_socket(client, server_hostname="127.0.0.1").detach()


def client_hello(context: ssl.SSLContext) -> bytes:
    """Return the first message of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


@contextmanager
def crowd(port: int, attack: Attack, count: int, context: ssl.SSLContext | None) -> Iterator[None]:
    """Attack a port of this machine with many connections, of which the newest stay open during the block."""
    clients: deque[socket.socket] = deque()
    try:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), TIMEOUT)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            clients.append(client)
            if len(clients) > MAX_OPEN:
                clients.popleft().close()
            with suppress(OSError):  # the server may have closed it for another one already
                attack(client, context)
        yield
    finally:
        for client in clients:
            client.close()

"""Strangers who attack the web server of an exporter on this machine, for some seconds.

Each runs in a process of its own: ``python -m tests.support.attackers NAME PORT SECONDS``.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

GET = "GET {} HTTP/1.1\r\nHost: x\r\nAccept: {}\r\nX: {}\r\n\r\n"
READERS = 120
BURST = 100
MAX_OPEN = 300
RATE = 850
LARGE_RATE = 250
"""Connections per second of a stranger: who leaves at once after a small request, and all others. A server in
one thread cannot accept thousands, and more would measure its queue."""


def connect(port: int) -> socket.socket:
    """Return a connection."""
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.settimeout(5)
    return connection


def reset(connection: socket.socket) -> None:
    """Close a connection so that the server cannot send any more."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def leaving(paths: Iterator[str], *, rate: int = RATE, padding: int = 0, reads: int = 0) -> Callable[[int], None]:
    """Return an attack that sends a request and leaves, at once or after it has read something."""
    started_at = time.monotonic()
    numbers = itertools.count()

    def attack(port: int) -> None:
        time.sleep(max(0.0, started_at + next(numbers) / rate - time.monotonic()))
        connection = connect(port)
        with suppress(OSError):
            connection.sendall(GET.format(next(paths), "*/*", "x" * padding).encode())
            if reads:
                connection.recv(reads)
        reset(connection)

    return attack


def combinations() -> Iterator[str]:
    """Yield paths of the metrics, each with other workspaces, and all with the longest query."""
    for number in itertools.count():
        names = "&".join(f"workspace=w{bit}" for bit in range(20) if number >> bit & 1)
        yield f"/metrics?{names}&x={'x' * 27_000}"


def reading_slowly(path: str, accept: str) -> Callable[[int], None]:
    """Return an attack by many clients, each of which reads a few bytes now and then."""
    readers: list[socket.socket] = []

    def attack(port: int) -> None:
        while len(readers) < READERS:
            reader = connect(port)
            reader.sendall(GET.format(path, accept, "").encode())
            reader.setblocking(False)  # noqa: FBT003 - standard library
            readers.append(reader)
            time.sleep(0.02)
        for reader in readers:
            with suppress(OSError):
                reader.recv(2048)
        time.sleep(0.5)

    return attack


def pipelining(path: str) -> Callable[[int], None]:
    """Return an attack by many clients that send requests as fast as they can and read nothing."""
    clients: list[socket.socket] = []
    requests = GET.format(path, "*/*", "").encode() * 50

    def attack(port: int) -> None:
        while len(clients) < READERS:
            client = connect(port)
            client.setblocking(False)  # noqa: FBT003 - standard library
            clients.append(client)
        for client in [*clients]:
            try:
                client.send(requests)
            except BlockingIOError:
                pass
            except OSError:
                client.close()
                clients.remove(client)
        time.sleep(0.05)

    return attack


def idling(*texts: bytes) -> Callable[[int], None]:
    """Return an attack by connections that send too little for an answer, of which the newest stay open."""
    clients: deque[socket.socket] = deque()

    def attack(port: int) -> None:
        for text in texts:
            clients.append(connect(port))
            clients[-1].sendall(text)
        while len(clients) > MAX_OPEN:
            clients.popleft().close()
        time.sleep(len(texts) / LARGE_RATE)

    return attack


def client_hello() -> bytes:
    """Return the first message of a TLS client."""
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


def bursting(port: int) -> None:
    """Open many connections at once, send nothing, and leave."""
    connections = []
    for _ in range(BURST):
        connection = socket.socket()
        connection.setblocking(False)  # noqa: FBT003 - standard library
        connection.connect_ex(("127.0.0.1", port))
        connections.append(connection)
    time.sleep(0.1)
    for connection in connections:
        reset(connection)


ATTACKS: Mapping[str, Callable[[int], None]] = {
    "pages": leaving(itertools.repeat("/"), rate=LARGE_RATE, padding=27_000),
    "unknown pages": leaving(f"/platforms/nosuch{number}" for number in itertools.count()),
    "combinations": leaving(combinations(), rate=LARGE_RATE),
    "half responses": leaving(itertools.repeat("/metrics"), reads=4096),
    "slow readers": reading_slowly("/", "application/json"),
    "slow scrapers": reading_slowly("/metrics", "*/*"),
    "pipelines": pipelining("/metrics"),
    "bursts": bursting,
    "idle clients": idling(b"", b"GET /metr", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"),
    "handshakes": idling(b"", client_hello()[:100], client_hello()),
}


def main(name: str, port: int, seconds: float) -> None:
    """Attack until the time is over."""
    until = time.monotonic() + seconds
    count = 0
    while time.monotonic() < until:
        with suppress(OSError):
            ATTACKS[name](port)
            count += 1
    sys.stdout.write(f"{count}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))

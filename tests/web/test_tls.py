from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from late_exporter.config.tls import Tls, create_context
from late_exporter.web.tls import CHUNK_BYTES, TlsTransport

CA = trustme.CA()
SERVER = CA.issue_cert("localhost")
CERT, KEY = SERVER.cert_chain_pems[0].bytes().decode(), SERVER.private_key_pem.bytes().decode()


class SocketTransport(asyncio.Transport):
    """Transport of a connection that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.state = "open"

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def is_closing(self) -> bool:
        return self.state != "open"

    def take(self) -> bytes:
        """Return and forget what was written."""
        data = b"".join(self.sent)
        self.sent.clear()
        return data


class Receiver(asyncio.Protocol):
    """Protocol above TLS that keeps what it receives."""

    def __init__(self) -> None:
        self.received = b""
        self.events: list[str] = []

    def connection_made(self, _: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, _: Exception | None) -> None:
        self.events.append("lost")

    def pause_writing(self) -> None:
        self.events.append("paused")

    def resume_writing(self) -> None:
        self.events.append("resumed")


class Connection:
    """Server side of a TLS connection, with its client."""

    def __init__(self, *, accepts: bool = True) -> None:
        self.socket, self.receiver = SocketTransport(), Receiver()
        self.handshakes: dict[TlsTransport, None] = {}
        context = create_context(Tls(cert=CERT, key=KEY), Path())
        self.transport = TlsTransport(context, lambda _: self.receiver if accepts else None, self.handshakes)
        self.transport.connection_made(self.socket)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client_context = ssl.create_default_context()
        CA.configure_trust(client_context)
        self.client = client_context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def exchange(self, step: Callable[[], Any]) -> Any:
        """Repeat a step of the client, passing bytes between both sides, until it needs no more of them."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                result = None
            data = self.outgoing.read()
            if data:
                self.transport.data_received(data)
            answer = self.socket.take()
            self.incoming.write(answer)
            if result is not None or not answer:
                return result

    def complete_handshake(self) -> None:
        """Complete the handshake."""

        def shake_hands() -> bool:
            self.client.do_handshake()
            return True

        self.exchange(shake_hands)


@pytest.fixture
def connection() -> Connection:
    """Return an open connection."""
    return Connection()


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Switch the garbage collector off."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_silent_clients_start_no_tls(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS begins with the first byte."""
    wrapped: list[ssl.SSLContext] = []
    wrap_bio = ssl.SSLContext.wrap_bio

    def record(self: ssl.SSLContext, *args: Any, **options: Any) -> ssl.SSLObject:
        wrapped.append(self)
        return wrap_bio(self, *args, **options)

    monkeypatch.setattr(ssl.SSLContext, "wrap_bio", record)
    assert [connection.transport] == list(connection.handshakes)
    assert [] == wrapped
    connection.transport.data_received(b"\x16")
    assert 1 == len(wrapped)
    connection.transport.data_received(b"\x03")
    assert 1 == len(wrapped)


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("is_complete", [False, True])
def test_memory_is_freed_at_the_end(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, *, is_complete: bool
) -> None:
    """The state of TLS is freed when the connection ends, without the garbage collector and with references to it."""
    states: list[weakref.ref[ssl.SSLObject]] = []
    wrap_bio = ssl.SSLContext.wrap_bio

    def record(self: ssl.SSLContext, *args: Any, **options: Any) -> ssl.SSLObject:
        state = wrap_bio(self, *args, **options)
        states.append(weakref.ref(state))
        return state

    with monkeypatch.context() as patch:
        patch.setattr(ssl.SSLContext, "wrap_bio", record)
        if is_complete:
            connection.complete_handshake()
        else:
            connection.transport.data_received(b"\x16")
    assert states[0]() is not None
    connection.transport.connection_lost(None)
    assert states[0]() is None
    assert {} == connection.handshakes
    connection.transport.write(b"late")
    connection.transport.close()


def test_both_directions(connection: Connection) -> None:
    """Data of any size arrives in both directions, and is encrypted in small pieces."""
    connection.complete_handshake()
    assert ({}, ["made"]) == (connection.handshakes, connection.receiver.events)
    request, response = b"q" * 100_000, b"r" * 300_000
    connection.exchange(lambda: connection.client.write(request))
    assert request == connection.receiver.received
    connection.transport.write(response)
    assert max(map(len, connection.socket.sent)) < CHUNK_BYTES + 1000
    connection.incoming.write(connection.socket.take())
    received = b""
    while len(received) < len(response):
        received += connection.client.read(1 << 20)
    assert response == received


def test_the_end_is_announced(connection: Connection) -> None:
    """A connection that is closed ends TLS for the client, and ignores what arrives afterwards."""
    connection.complete_handshake()
    connection.transport.close()
    connection.transport.close()
    assert "closed" == connection.socket.state
    connection.incoming.write(connection.socket.take())
    assert b"" == connection.client.read(1)
    connection.client.write(b"secret")
    connection.transport.data_received(connection.outgoing.read())
    assert b"" == connection.receiver.received

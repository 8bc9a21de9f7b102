"""TLS connections of the server, whose memory is bounded and freed as soon as they end.

asyncio's own TLS allocates 256 KiB for each connection before the client has sent a byte, and frees it only when the
garbage collector finds it. Why that matters is in docs/decisions/0005-own-accept-loop.md.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

CHUNK_BYTES = 16 * 1024
"""Size in which data is decrypted and encrypted, so that OpenSSL's buffers never hold much more."""


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """Protocol of a TCP or Unix connection, and the transport of the protocol above TLS.

    TLS begins with the first byte of the client, so that silent connections need no memory for it.

    Args:
        connect: Called with the client's certificate, as ``SSLObject.getpeercert()`` returns it, after the handshake;
            returns the protocol above, or None to reject the client.
        handshakes: Contains the connection until its handshake is complete, or it is closed.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        connect: Callable[[Mapping[str, Any]], asyncio.Protocol | None],
        handshakes: MutableMapping[TlsTransport, None],
    ) -> None:
        super().__init__()
        self.opened_at = time.monotonic()
        self._context = context
        self._connect = connect
        self._handshakes = handshakes
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._protocol: asyncio.Protocol | None = None
        self._is_closing = False

    # The protocol of the connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream socket has no other transport
        self._transport = transport
        self._handshakes[self] = None

    def data_received(self, data: bytes) -> None:
        if self._tls is None and not self._is_closing:
            self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        for start in range(0, len(data), CHUNK_BYTES):
            if self._is_closing:  # data may still arrive after the connection was closed
                return
            self._incoming.write(data[start : start + CHUNK_BYTES])
            self._receive()

    def eof_received(self) -> None:
        self._is_closing = True  # returning None closes the connection

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the buffers and the state of TLS, even if this transport is still referenced."""
        self._is_closing = True
        self._tls = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(exc)
        self._handshakes.pop(self, None)

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    # The transport of the protocol above.

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_BYTES):
            if self._tls is None or self._is_closing:
                return
            try:
                self._tls.write(view[start : start + CHUNK_BYTES])
            except ssl.SSLError:
                self.abort()
                return
            self._flush()

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        if self._tls is not None:
            with suppress(ssl.SSLError):  # the client's part of the shutdown is not awaited
                self._tls.unwrap()
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._is_closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._context if name == "sslcontext" else self._transport.get_extra_info(name, default)

    def _receive(self) -> None:
        """Continue the handshake, or pass decrypted data to the protocol."""
        try:
            if self._protocol is None:
                self._handshake()
            while self._tls is not None and self._protocol is not None and not self._is_closing:
                data = self._tls.read(CHUNK_BYTES)
                if not data:  # the client has ended TLS
                    self.close()
                    return
                self._protocol.data_received(data)
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError:
            self._flush()  # the alert, which says why
            self._is_closing = True
            self._transport.close()

    def _handshake(self) -> None:
        if self._tls is None:
            return
        self._tls.do_handshake()
        self._flush()
        self._handshakes.pop(self, None)
        protocol = self._connect(self._tls.getpeercert() or {})
        if protocol is None:
            self.abort()
            return
        self._protocol = protocol
        protocol.connection_made(self)

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._transport.write(data)

"""HTTP server for an ASGI application.

Connections are accepted here and handled by uvicorn's HTTP protocol, so that every connection starts with the current
TLS configuration and slow or idle clients cannot lock out others. Why uvicorn's own accept loop is not enough is in
docs/decisions/0005-own-accept-loop.md.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import resource
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from late_exporter.config.web import WebConfig
from late_exporter.web.asgi import App, ClientDisconnected, Message, Receive, Send
from late_exporter.web.rate import LineLimiter
from late_exporter.web.tls import TlsTransport

CHECK_SECONDS = 1.0
"""Interval at which slow clients are closed, while any connection is in use; a process at rest does not wake up."""

SHUTDOWN_SECONDS = 2
"""Seconds that responses in progress get to finish at shutdown."""

KEEP_ALIVE = 75
"""Seconds after which idle connections are closed; longer than common scrape intervals."""

CLIENT_TIMEOUT = 10.0
"""Seconds within which a client has to complete its TLS handshake or its request, or read any part of a response."""

RESPONSE_TIMEOUT = 120.0
"""Seconds within which a client has to read a whole response."""

MAX_CONNECTIONS = 256
"""Maximum number of connections; beyond it an idle or slow one is closed for a new one."""

DESCRIPTOR_SHARE = 0.5
"""Share of the file descriptors for connections; the state and the API need some."""

HEADER_CHUNK_BYTES = 4 * 1024
MAX_HEADER_BYTES = 32 * 1024
"""Maximum size of the request line and the headers."""

WRITE_BUFFER_BYTES = 32 * 1024
"""Unsent bytes of a connection beyond which the next part of its response waits."""


async def serve(
    app: App,
    sockets: Sequence[socket.socket],
    *,
    web_config: Callable[[], WebConfig] = WebConfig,
    date_header: bool = True,
    descriptor_share: float = DESCRIPTOR_SHARE,
) -> None:
    """Serve until cancelled, then let responses in progress finish for a moment.

    ``web_config`` returns the current configuration, whose TLS context is used for the next connection.
    ``descriptor_share`` is the share of the file descriptors of the process that connections may take.
    """
    config = uvicorn.Config(
        _reporting_disconnects(app),
        access_log=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES - HEADER_CHUNK_BYTES,
        http=_HttpConnection,
        lifespan="off",
        log_config=None,
        log_level="warning",
        proxy_headers=False,  # clients could forge their address
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        ws="none",
    )
    server = _Server(config, web_config, date_header=date_header, max_descriptors=max_descriptors(descriptor_share))
    logger, line_limiter = logging.getLogger("uvicorn.error"), LineLimiter()
    logger.addFilter(line_limiter)  # it writes a line for every invalid request
    try:
        await server.run(sockets)
    finally:
        for listener in sockets:
            listener.close()
        await server.shutdown()
        logger.removeFilter(line_limiter)


class _Server:
    """Accept loop, limits and shutdown of the connections, which uvicorn's HTTP protocol handles."""

    def __init__(
        self, config: uvicorn.Config, web_config: Callable[[], WebConfig], *, date_header: bool, max_descriptors: int
    ) -> None:
        self._config = config
        self._web_config = web_config
        self._date_header = date_header
        self._state = ServerState()
        self._max_descriptors = max_descriptors
        self._handshakes: dict[TlsTransport, None] = {}  # in the order in which they were opened
        self._has_activity = asyncio.Event()
        self._has_logged_limit = False

    @property
    def _connections(self) -> list[_HttpConnection]:
        return cast("list[_HttpConnection]", list(self._state.connections))

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            for listener in listeners:
                group.create_task(self._accept(listener))
            while True:
                await self._has_activity.wait()
                self._has_activity.clear()
                await asyncio.sleep(CHECK_SECONDS)
                self._close_slow_clients()
                if self._handshakes or any(connection.is_active for connection in self._connections):
                    self._has_activity.set()

    async def shutdown(self) -> None:
        """Let responses in progress finish for a moment, and close all connections."""
        for handshake in list(self._handshakes):
            handshake.abort()
        try:
            for connection in self._connections:
                connection.shutdown()
            with suppress(TimeoutError):
                async with asyncio.timeout(SHUTDOWN_SECONDS):
                    while self._state.connections or self._state.tasks:  # noqa: ASYNC110 - uvicorn has no event for it
                        await asyncio.sleep(0.02)
        finally:
            for task in self._state.tasks:
                task.cancel()
            for connection in self._connections:
                connection.transport.abort()

    def _note_activity(self) -> None:
        """Renew the date of responses, and start to look for slow clients."""
        if self._date_header:
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._has_activity.set()

    def _close_slow_clients(self) -> None:
        for handshake in list(self._handshakes):
            if time.monotonic() - handshake.opened_at > CLIENT_TIMEOUT:
                handshake.abort()
        for connection in self._connections:
            if connection.is_overdue():
                connection.transport.abort()

    async def _accept(self, listener: socket.socket) -> None:
        # Not sock_accept: a connection that it has accepted when it is cancelled is never closed.
        while True:
            await _wait_readable(listener)
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                continue
            except OSError as exc:  # out of file descriptors, or the client has disconnected already
                if exc.errno in (errno.EMFILE, errno.ENFILE) and not self._has_logged_limit:
                    self._has_logged_limit = True
                    logging.getLogger(__name__).warning(
                        "no connection can be accepted: %s; raise it with ulimit -n, or LimitNOFILE of systemd",
                        exc.strerror,
                    )
                await asyncio.sleep(0.1)
                continue
            self._make_room()
            await self._open(client)

    def _make_room(self) -> None:
        connections = self._connections
        if len(connections) + len(self._handshakes) < min(MAX_CONNECTIONS, self._max_descriptors):
            return
        if len(self._handshakes) >= len(connections):
            next(iter(self._handshakes)).abort()
        else:
            min(connections, key=lambda connection: connection.close_order).transport.abort()

    async def _open(self, client: socket.socket) -> None:
        config = self._web_config()
        create_connection = partial(
            _HttpConnection, self._note_activity, config=self._config, server_state=self._state, app_state={}
        )

        def connect(certificate: Mapping[str, Any]) -> _HttpConnection | None:
            return create_connection() if _is_allowed(certificate, config.allowed_sans) else None

        create_protocol: Callable[[], asyncio.Protocol] = create_connection
        if config.ssl_context is not None:
            create_protocol = partial(TlsTransport, config.ssl_context, connect, self._handshakes)
        self._note_activity()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(create_protocol, client)
        except OSError:  # the client has disconnected
            client.close()


class _HttpConnection(H11Protocol):
    """HTTP connection that knows for how long its client has kept it waiting.

    Args:
        note_activity: Called when it receives data.
    """

    def __init__(self, note_activity: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._note_activity = note_activity
        self._resumptions = 0
        self._step: object = None
        self._progress: object = None
        self._step_at = self._progress_at = time.monotonic()

    @property
    def waits_for_client(self) -> bool:
        """True if the client has to send a request or the rest of it, or to read a response."""
        if self.conn.their_state is h11.IDLE:
            unread_data, _ = self.conn.trailing_data
            expects_data = bool(unread_data) or self.cycle is None
        else:
            expects_data = self.conn.their_state is h11.SEND_BODY
        return expects_data or self.transport.get_write_buffer_size() > 0

    @property
    def is_active(self) -> bool:
        """False if it is idle between two requests, which uvicorn limits."""
        return self.waits_for_client or self.conn.our_state is not h11.IDLE

    @property
    def close_order(self) -> tuple[bool, bool, float]:
        """Sort key: idle connections, those that wait for the client, those whose client waits; each oldest first."""
        waits_for_server = self.is_active and not self.waits_for_client
        return waits_for_server, self.waits_for_client, self._progress_at

    def is_overdue(self) -> bool:
        """Return whether the client has made no progress for too long, or reads a response too slowly."""
        now, waits_for_client = time.monotonic(), self.waits_for_client
        step = (waits_for_client, self.cycle)
        progress = (*step, self._resumptions, self.transport.get_write_buffer_size())
        if step != self._step:
            self._step, self._step_at = step, now
        if progress != self._progress:
            self._progress, self._progress_at = progress, now
        is_stuck = now - self._progress_at > CLIENT_TIMEOUT or now - self._step_at > RESPONSE_TIMEOUT
        return waits_for_client and is_stuck

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        super().connection_made(transport)
        self._step = (self.waits_for_client, self.cycle)
        self._progress = (self.waits_for_client, self.cycle, 0, 0)

    def data_received(self, data: bytes) -> None:
        self._note_activity()
        # h11 limits the size of an incomplete head only, so a large head must not arrive in one piece.
        for start in range(0, len(data), HEADER_CHUNK_BYTES):
            if self.transport.is_closing():  # data may still arrive after the connection was closed
                return
            super().data_received(data[start : start + HEADER_CHUNK_BYTES])
        # uvicorn stops the timer when data arrives, and starts it only after a response: not after the rest of a body
        # whose response was sent before.
        if self.conn.our_state is h11.IDLE and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # After a reset, uvicorn's timer would keep the connection in memory.

    def send_400_response(self, msg: str) -> None:
        """Respond to an invalid request if it has no response yet, and close the connection.

        If its body is invalid, the application has the request already. uvicorn would log a traceback when one of both
        sends a second response.
        """
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            with suppress(h11.LocalProtocolError):  # the response to a HEAD request ends before its body
                super().send_400_response(msg)
        self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True  # what the application sends is discarded

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore a request to change the protocol, as HTTP allows; uvicorn would log how to install WebSockets."""

    def resume_writing(self) -> None:
        self._resumptions += 1  # the client has read a part of a response, and the next part follows
        super().resume_writing()


def _reporting_disconnects(app: App) -> App:
    """Return an application whose ``send`` raises ClientDisconnected, because that of uvicorn discards silently."""

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        cycle: Any = send.__self__  # type: ignore[attr-defined] # a method of uvicorn's request

        async def send_or_raise(message: Message) -> None:
            await send(message)
            if cycle.disconnected:
                raise ClientDisconnected

        with suppress(ClientDisconnected):
            await app(scope, receive, send_or_raise)

    return run


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():  # it was cancelled
        future.set_result(None)


async def _wait_readable(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.add_reader(listener, _set_done, future)
    try:
        await future
    finally:
        loop.remove_reader(listener)


def max_descriptors(share: float) -> int:
    """Return the number of file descriptors that connections may take, which is a share of all."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if limit == resource.RLIM_INFINITY else max(1, int(limit * share))


def _is_allowed(certificate: Mapping[str, Any], allowed_sans: frozenset[str]) -> bool:
    """Return whether a client's certificate has one of the names; no names allow every client."""
    names = {
        str(ipaddress.ip_address(name)) if kind == "IP Address" else str(name)
        for kind, name in certificate.get("subjectAltName", ())
    }
    return not allowed_sans or not allowed_sans.isdisjoint(names)

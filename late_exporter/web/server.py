"""HTTP server: uvicorn's protocol, with limits for slow, idle and many clients.

Each connection is a task, which starts with the current TLS configuration; to cancel it closes the
connection. Why uvicorn's own accept loop is not enough is in docs/development/decisions.md.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from late_exporter.config.types import Address
from late_exporter.config.web import WebConfig
from late_exporter.errors import LateError
from late_exporter.web.replies import App, Message, Receive, Send

SHUTDOWN_SECONDS = 2
"""Seconds that responses in progress get to finish at shutdown."""

KEEP_ALIVE = 75.0
"""Seconds after which idle connections are closed; longer than common scrape intervals."""

CLIENT_TIMEOUT = 10.0
"""Seconds within which a client has to complete its TLS handshake or its request."""

RESPONSE_TIMEOUT = 60.0
"""Seconds within which a client has to read a response, from its first part on."""

MAX_CONNECTIONS = 256
"""Maximum number of connections; beyond it an idle or slow one is closed for a new one."""

ACCEPTS_PER_TURN = 16
"""Maximum number of connections that are accepted before requests get their turn."""

ACCEPT_RETRY_SECONDS = 1.0
"""Seconds until connections are accepted again after the system has refused one."""

DESCRIPTOR_SHARE = 0.5
"""Share of the file descriptors for connections; the state and the API need some."""

HEADER_CHUNK_BYTES = 4 * 1024
MAX_HEADER_BYTES = 32 * 1024
"""Maximum size of the request line and the headers."""

WRITE_BUFFER_BYTES = 32 * 1024
"""Unsent bytes of a connection beyond which the next part of its response waits."""

BACKLOG = 1024
"""Connections that may wait to be accepted; beyond it a client tries again after a second."""

# asyncio allocates a buffer of this size for each TLS connection, by default 256 KiB.
asyncio.sslproto.SSLProtocol.max_size = 16 * 1024


def bind_socket(address: Address, option: str = "--web.listen-address") -> socket.socket:
    """Return a socket that listens on an address; an empty host means all interfaces.

    Raises:
        LateError: The address cannot be used.
    """
    is_dual = not address.host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_dual or ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server(
            address, family=family, backlog=BACKLOG, dualstack_ipv6=is_dual
        )
    except OSError as exc:
        # Python 3.11 repeats the address.
        reason = (exc.strerror or str(exc)).partition(" (while ")[0]
        raise LateError(f"cannot listen on {address}: {reason}; choose another {option}") from exc
    listener.setblocking(False)  # noqa: FBT003 - standard library
    # Inherited by connections. Without it a scrape on a kept-alive connection waits 40 ms for an
    # acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(bound: socket.socket, *, secure: bool = False) -> str:
    """Return the address at which a user reaches a socket."""
    host, port = bound.getsockname()[:2]
    host = {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104 - displayed, not bound
    return f"{'https' if secure else 'http'}://{Address(host, port)}"


async def serve(
    app: App, sockets: Sequence[socket.socket], *, web_config: Callable[[], WebConfig] = WebConfig
) -> None:
    """Serve until cancelled, then let responses in progress finish for a moment.

    ``web_config`` returns the current configuration, whose TLS context is used for the next
    connection.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES - HEADER_CHUNK_BYTES,
        log_config=None,
        log_level=logging.ERROR,  # what strangers send must not fill the disk with warnings
        proxy_headers=False,  # clients could forge their address
        ws="none",
    )
    server = _Server(config, web_config)
    try:
        async with asyncio.TaskGroup() as group:
            for listener in sockets:
                group.create_task(server.accept(listener))
    finally:
        for listener in sockets:
            listener.close()
        await server.shutdown()


def connection_limit() -> int:
    """Return the number of connections that file descriptors allow, up to MAX_CONNECTIONS."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    share = MAX_CONNECTIONS if limit == resource.RLIM_INFINITY else int(limit * DESCRIPTOR_SHARE)
    return max(1, min(MAX_CONNECTIONS, share))


class _Server:
    """Accept loop, limit and shutdown of connections."""

    def __init__(self, config: uvicorn.Config, web_config: Callable[[], WebConfig]) -> None:
        self._config = config
        self._web_config = web_config
        self._state = ServerState()
        self._connections: dict[asyncio.Task[None], _Connection] = {}

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        # Not sock_accept: a connection that it has accepted when it is cancelled is never closed.
        while True:
            await _wait_readable(listener)
            try:
                for _ in range(ACCEPTS_PER_TURN):
                    self._open(listener.accept()[0])
            except (BlockingIOError, ConnectionError):  # no more, or one has disconnected already
                pass
            except OSError as exc:
                logging.getLogger("late_exporter.web").warning(
                    "cannot accept: %s; see ulimit -n, or LimitNOFILE of systemd", exc.strerror
                )
                await asyncio.sleep(ACCEPT_RETRY_SECONDS)

    def _open(self, client: socket.socket) -> None:
        if len(self._connections) >= connection_limit():
            task = min(self._connections, key=lambda task: self._connections[task].turn)
            del self._connections[task]
            task.cancel()
        config = self._web_config()
        connection = _Connection(self._config, self._state)
        task = asyncio.create_task(connection.run(client, config.ssl_context))
        self._connections[task] = connection
        task.add_done_callback(lambda task: self._connections.pop(task, None))

    async def shutdown(self) -> None:
        """Let responses in progress finish for a moment, and close all connections."""
        for task, connection in self._connections.items():
            if connection.transport is None:
                task.cancel()
            elif not connection.transport.is_closing():
                connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):  # what is not done then is cancelled
                await asyncio.gather(*self._connections, *self._state.tasks, return_exceptions=True)


async def _wait_readable(stream: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    is_readable = asyncio.Event()
    loop.add_reader(stream, is_readable.set)
    try:
        await is_readable.wait()
    finally:
        loop.remove_reader(stream)


class _Turn(IntEnum):
    """Whose turn it is on a connection; to make room, the lower ones are closed first."""

    NONE = 0
    """The client may send another request."""
    CLIENT = 1
    """The client has to send a request or the rest of it, or to read a response."""
    SERVER = 2
    """The client waits for a response."""


class _Connection(H11Protocol):
    """HTTP connection whose client has limited time for its turns.

    Attributes:
        turn: Whose turn it is, and since when; the least useful connection has the lowest value.
    """

    def __init__(self, config: uvicorn.Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, app_state={})
        self._app: App = self.app
        self.app = self._respond
        self.turn = (_Turn.CLIENT, self.loop.time())
        self._lost = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._request: asyncio.Task[Any] | None = None

    async def run(self, client: socket.socket, ssl_context: ssl.SSLContext | None) -> None:
        """Serve a connection until it ends; if this is cancelled, it is closed."""
        try:
            async with asyncio.timeout(CLIENT_TIMEOUT):
                if ssl_context is not None:
                    await _wait_readable(client)  # a silent client needs no memory for TLS
                await self.loop.connect_accepted_socket(lambda: self, client, ssl=ssl_context)
            await self._lost.wait()
        except OSError:  # the client has disconnected, is too slow, or its handshake has failed
            pass
        finally:
            if self.transport is None:
                client.close()
            elif not self._lost.is_set():
                self.transport.abort()

    async def _respond(self, scope: Message, receive: Receive, send: Send) -> None:
        """Run the application until its client leaves; uvicorn would let it run on."""
        self._request = asyncio.current_task()
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._lost.is_set():
                raise
        finally:
            self._request = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        # h11 limits the size of an incomplete head only, so a large head must not arrive in one
        # piece.
        for start in range(0, len(data), HEADER_CHUNK_BYTES):
            if self.transport.is_closing():  # data may still arrive after the connection was closed
                return
            super().data_received(data[start : start + HEADER_CHUNK_BYTES])
        self._update_turn()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._update_turn()

    def on_response_complete(self) -> None:
        # Requests that are sent before the response to the one before are not served: no client
        # needs that, and hundreds of them would have their turns before a scrape.
        if self.conn.trailing_data[0]:
            self.transport.close()
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the time of an idle connection is limited here
        self._update_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)
        self._lost.set()
        if self._request is not None:
            self._request.cancel()

    def send_400_response(self, msg: str) -> None:
        """Respond to an invalid request if it has no response yet, and close the connection.

        If its body is invalid, the application has the request already. uvicorn would log a
        traceback when one of both sends a second response.
        """
        with suppress(h11.LocalProtocolError):
            super().send_400_response(msg)
        # abort() has no effect on a TLS connection that was closed twice.
        if not self.transport.is_closing():
            self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True  # what the application sends is discarded

    def _update_turn(self) -> None:
        """Start the time of a turn, unless it is the turn that it was before."""
        turn = self._find_turn()
        if turn is not self.turn[0]:
            self.turn = (turn, self.loop.time())
            self._start_timer()

    def _find_turn(self) -> _Turn:
        if self.cycle is None:
            return _Turn.CLIENT
        if self.cycle.response_complete:
            return _Turn.CLIENT if self.conn.trailing_data[0] else _Turn.NONE
        return _Turn.CLIENT if self.cycle.response_started else _Turn.SERVER

    def _start_timer(self) -> None:
        self._stop_timer()
        turn, began_at = self.turn
        is_reading = bool(self.cycle) and not self.cycle.response_complete
        if turn is _Turn.NONE:
            self._timer = self.loop.call_at(began_at + KEEP_ALIVE, self.transport.abort)
        elif turn is _Turn.CLIENT:
            seconds = RESPONSE_TIMEOUT if is_reading else CLIENT_TIMEOUT
            self._timer = self.loop.call_at(began_at + seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

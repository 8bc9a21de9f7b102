"""HTTP server for an ASGI application.

Connections are accepted here and handled by uvicorn's HTTP protocol, so that every connection starts with the current
TLS configuration and slow or idle clients cannot lock out others. Why uvicorn's own accept loop is not enough is in
docs/decisions/0005-own-accept-loop.md.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from late_exporter.config.types import Address, UnixPath
from late_exporter.config.web import WebConfig
from late_exporter.errors import LateError
from late_exporter.web.asgi import App

BACKLOG = 128
SHUTDOWN_SECONDS = 2
"""Seconds that responses in progress get to finish at shutdown."""

KEEP_ALIVE = 75
"""Seconds after which idle connections are closed; longer than common scrape intervals."""

CLIENT_TIMEOUT = 10.0
"""Seconds within which a client has to complete its TLS handshake or its request, or read any part of a response."""

MAX_CONNECTIONS = 256
"""Maximum number of connections; beyond it an idle or slow one is closed for a new one."""

MAX_HEADER_BYTES = 32 * 1024
"""Maximum size of the request line and the headers."""

FIRST_SYSTEMD_FD = 3
"""Number of the first file descriptor that systemd passes, see sd_listen_fds(3)."""


def bind_socket(address: Address | UnixPath) -> socket.socket:
    """Return a socket that listens on an address; an empty host means all interfaces, IPv4 and IPv6.

    Raises:
        LateError: The address cannot be used.
    """
    try:
        listener = _bind_path(address.path) if isinstance(address, UnixPath) else _bind(address.host, address.port)
    except OSError as exc:
        reason = (exc.strerror or str(exc)).partition(" (while ")[0]  # Python 3.11 repeats the address
        raise LateError(f"cannot listen on {address}: {reason}") from exc
    return _configure(listener)


def systemd_sockets(
    environ: MutableMapping[str, str] = os.environ, *, first: int = FIRST_SYSTEMD_FD
) -> list[socket.socket]:
    """Return the sockets that systemd passes to this process, and remove its variables from the environment.

    Raises:
        LateError: A file descriptor is not a listening socket.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    return [_configure(_systemd_socket(number)) for number in range(first, first + int(count))]


def _systemd_socket(number: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=number)
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.detach()
            raise OSError  # noqa: TRY301 - the same error as for a descriptor that is no socket
    except OSError:
        raise LateError(f"--web.systemd-socket: descriptor {number} is not a listening socket") from None
    listener.set_inheritable(False)
    return listener


def _bind(host: str, port: int) -> socket.socket:
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=BACKLOG)


def _bind_path(path: Path) -> socket.socket:
    """Return a socket that listens on a path; a stale socket file is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode) and _is_stale(path):
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
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            return False
    return False


def _configure(listener: socket.socket) -> socket.socket:
    listener.setblocking(False)  # noqa: FBT003 - standard library
    if listener.family != socket.AF_UNIX:
        # Inherited by connections. Without it a scrape on a kept-alive connection waits 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def serve(
    app: App,
    sockets: Sequence[socket.socket],
    *,
    web_config: Callable[[], WebConfig] = WebConfig,
    date_header: bool = True,
) -> None:
    """Serve until cancelled, then let responses in progress finish for a moment.

    ``web_config`` returns the current configuration, whose TLS context is used for the next connection.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=date_header,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        http=_HttpConnection,
        lifespan="off",
        log_config=None,
        log_level="warning",
        proxy_headers=False,  # clients could forge their address
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE,
        ws="none",
    )
    server = _Server(config, web_config)
    server_task = asyncio.ensure_future(server.serve(sockets=list(sockets)))
    try:
        await asyncio.shield(server_task)
    except asyncio.CancelledError:
        server.should_exit = True
        await server_task
        raise
    raise RuntimeError("the web server stopped unexpectedly")


class _Server(uvicorn.Server):
    """Server of uvicorn with its own accept loop, and without signal handlers."""

    def __init__(self, config: uvicorn.Config, web_config: Callable[[], WebConfig]) -> None:
        super().__init__(config)
        self._web_config = web_config
        self._accept_tasks: list[asyncio.Task[None]] = []
        self._open_tasks: dict[asyncio.Task[None], None] = {}  # in the order in which they were started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def connections(self) -> list[_HttpConnection]:
        return cast("list[_HttpConnection]", list(self.server_state.connections))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = []
        self._accept_tasks = [asyncio.ensure_future(self._accept(listener)) for listener in sockets or ()]
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Close the connections of slow clients, once per second."""
        if counter % 10 == 0:
            for connection in self.connections:
                if connection.idle_seconds() > CLIENT_TIMEOUT:
                    connection.transport.abort()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let responses in progress finish, and close all connections."""
        for task in (*self._accept_tasks, *self._open_tasks):
            task.cancel()
        await super().shutdown(sockets)
        for connection in self.connections:
            connection.transport.abort()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # out of file descriptors, or the client has disconnected already
                await asyncio.sleep(0.1)
                continue
            self._make_room()
            task = loop.create_task(self._open(client))
            self._open_tasks[task] = None
            task.add_done_callback(self._open_tasks.pop)
            await asyncio.sleep(0)  # in a flood of new connections, let the open ones have their turn

    def _make_room(self) -> None:
        connections = self.connections
        if len(connections) + len(self._open_tasks) < MAX_CONNECTIONS:
            return
        if len(self._open_tasks) > len(connections):
            next(iter(self._open_tasks)).cancel()
        else:
            min(connections, key=lambda connection: connection.close_order).transport.abort()

    async def _open(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        config = self._web_config()
        create_connection = partial(_HttpConnection, config=self.config, server_state=self.server_state, app_state={})
        try:
            if config.ssl_context is None:
                await loop.connect_accepted_socket(create_connection, client)
                return
            raw_transport, _ = await loop.connect_accepted_socket(_EarlyData, client)
            try:
                early_data = _EarlyData()
                transport = await loop.start_tls(
                    raw_transport,
                    early_data,
                    config.ssl_context,
                    server_side=True,
                    ssl_handshake_timeout=CLIENT_TIMEOUT,
                    ssl_shutdown_timeout=SHUTDOWN_SECONDS,
                )
            except BaseException:
                raw_transport.abort()
                raise
        except OSError:  # the client has disconnected, or its handshake failed
            client.close()
            return
        if transport is None or transport.is_closing() or not _is_allowed(transport, config.allowed_sans):
            raw_transport.abort()
            return
        connection = create_connection(raw_transport=raw_transport)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if early_data.data:
            connection.data_received(early_data.data)


class _EarlyData(asyncio.Protocol):
    """Data that arrives with the end of the TLS handshake, before the HTTP protocol is attached."""

    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


class _HttpConnection(H11Protocol):
    """HTTP connection that knows for how long its client has kept it waiting.

    Args:
        raw_transport: Transport below TLS, which buffers encrypted data; None without TLS.
    """

    def __init__(self, *args: Any, raw_transport: asyncio.WriteTransport | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._raw_transport = raw_transport
        self._progress: object = None
        self._progress_at = time.monotonic()

    @property
    def waits_for_client(self) -> bool:
        """True if the client has to send a request or the rest of it, or to read a response."""
        if self.conn.their_state is h11.IDLE:
            unread_data, _ = self.conn.trailing_data
            expects_data = bool(unread_data) or self.cycle is None
        else:
            expects_data = self.conn.their_state is h11.SEND_BODY
        return expects_data or self._unsent_bytes() > 0

    @property
    def close_order(self) -> tuple[bool, bool, float]:
        """Sort key: idle connections, those that wait for the client, those whose client waits; each oldest first."""
        waits_for_server = not self.waits_for_client and self.conn.our_state is not h11.IDLE
        return waits_for_server, self.waits_for_client, self._progress_at

    def idle_seconds(self) -> float:
        """Return the seconds since the client has made progress, 0 if the connection does not wait for it."""
        now, waits_for_client = time.monotonic(), self.waits_for_client
        progress = (waits_for_client, self.cycle, self._unsent_bytes())
        if progress != self._progress:
            self._progress, self._progress_at = progress, now
        return now - self._progress_at if waits_for_client else 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._progress = (self.waits_for_client, self.cycle, 0)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():  # data may still arrive after the connection was closed
            super().data_received(data)

    def _unsent_bytes(self) -> int:
        transports = (self.transport, self._raw_transport)
        return sum(transport.get_write_buffer_size() for transport in transports if transport is not None)


def _is_allowed(transport: asyncio.BaseTransport, allowed_sans: frozenset[str]) -> bool:
    """Return whether the client's certificate has one of the names; no names allow every client."""
    certificate: dict[str, Any] = transport.get_extra_info("peercert") or {}
    names = {
        str(ipaddress.ip_address(name)) if kind == "IP Address" else str(name)
        for kind, name in certificate.get("subjectAltName", ())
    }
    return not allowed_sans or not allowed_sans.isdisjoint(names)

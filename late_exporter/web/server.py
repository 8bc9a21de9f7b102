"""An HTTP server for an ASGI application, run and stopped by whoever asks for it.

Sockets are accepted here and spoken to by uvicorn: so that each connection begins with the TLS configuration of its
moment, and no client can keep another one out.
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

__all__ = ["bind_socket", "serve", "systemd_sockets"]

BACKLOG = 128
SHUTDOWN_SECONDS = 2
"""Seconds that answers under way get at the end."""

KEEP_ALIVE = 75
"""Seconds that a connection may idle: longer than people let pass between two scrapes."""

CLIENT_TIMEOUT = 10.0
"""Seconds that a client may take for its handshake, for its request, or to take any of its answer."""

MAX_CONNECTIONS = 256
"""Past it, the connection that has been of no use for longest makes room for the next one."""

MAX_HEAD = 32 * 1024
"""Bytes of a request's line and headers."""

FIRST_INHERITED = 3
"""File descriptor of the first socket that systemd passes on; see sd_listen_fds(3)."""


def bind_socket(address: Address | UnixPath) -> socket.socket:
    """A socket bound to an address; an empty host is every interface, IPv4 and IPv6.

    Raises:
        LateError: The address cannot be used; the message names it.
    """
    try:
        bound = _bind_path(address.path) if isinstance(address, UnixPath) else _bind(address.host, address.port)
    except OSError as exc:
        reason = (exc.strerror or str(exc)).partition(" (while ")[0]  # Python 3.11 names the address a second time
        raise LateError(f"cannot listen on {address}: {reason}") from exc
    return _prepared(bound)


def systemd_sockets(
    environ: MutableMapping[str, str] = os.environ, *, first: int = FIRST_INHERITED
) -> list[socket.socket]:
    """The sockets that systemd listens on for this process; they are taken out of the environment.

    Raises:
        LateError: One of them is none.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    return [_prepared(_adopted(number)) for number in range(first, first + int(count))]


def _adopted(number: int) -> socket.socket:
    try:
        bound = socket.socket(fileno=number)
        if not bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            bound.detach()
            raise OSError  # noqa: TRY301 - told as what is no socket at all
    except OSError:
        raise LateError(f"--web.systemd-socket: descriptor {number} is no listening socket") from None
    bound.set_inheritable(False)
    return bound


def _bind(host: str, port: int) -> socket.socket:
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=BACKLOG)


def _bind_path(path: Path) -> socket.socket:
    """A socket at a path; one that nobody listens on any more is replaced."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode) and _is_abandoned(path):
                path.unlink()
        bound.bind(str(path))
        bound.listen(BACKLOG)
    except BaseException:
        bound.close()
        raise
    return bound


def _is_abandoned(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - the socket's own way; whoever is stuck accepts nobody
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            return False
    return False


def _prepared(bound: socket.socket) -> socket.socket:
    bound.setblocking(False)  # noqa: FBT003 - the socket's own way
    if bound.family != socket.AF_UNIX:
        # Connections inherit it. Without it a scrape on a kept connection waits 40 ms for an acknowledgement.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


async def serve(
    app: App,
    sockets: Sequence[socket.socket],
    *,
    web_config: Callable[[], WebConfig] = WebConfig,
    date_header: bool = True,
) -> None:
    """Serve until cancelled; then answers under way get a moment to end.

    Args:
        app: The application.
        sockets: They listen already.
        web_config: Gives the TLS configuration of the next connection.
        date_header: Whether answers carry ``Date``.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=date_header,
        h11_max_incomplete_event_size=MAX_HEAD,
        http=_HttpConnection,
        lifespan="off",
        log_config=None,
        log_level="warning",
        proxy_headers=False,  # whoever asks could say that somebody else does
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE,
        ws="none",
    )
    server = _Server(config, web_config)
    serving = asyncio.ensure_future(server.serve(sockets=list(sockets)))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
    raise RuntimeError("the web server ended by itself")


class _Server(uvicorn.Server):
    """Accepts connections, and leaves the process' signals alone."""

    def __init__(self, config: uvicorn.Config, web: Callable[[], WebConfig]) -> None:
        super().__init__(config)
        self._web = web
        self._accepting: list[asyncio.Task[None]] = []
        self._opening: dict[asyncio.Task[None], None] = {}

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Whoever runs the server decides when it stops."""
        yield

    @property
    def connections(self) -> list[_HttpConnection]:
        """Those that are open."""
        return cast("list[_HttpConnection]", list(self.server_state.connections))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        self.servers = []
        self._accepting = [asyncio.ensure_future(self._accept(bound)) for bound in sockets or ()]
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Also close, each second, the connections of clients that take too long."""
        if counter % 10 == 0:
            for connection in self.connections:
                if connection.waited() > CLIENT_TIMEOUT:
                    connection.abort()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let answers under way end, and then nobody stays."""
        for task in (*self._accepting, *self._opening):
            task.cancel()
        await super().shutdown(sockets)
        for connection in self.connections:
            connection.abort()

    async def _accept(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(bound)
            except OSError:  # no file descriptors left, or the client is gone already
                await asyncio.sleep(0.1)
                continue
            self._make_room()
            opening = loop.create_task(self._open(accepted))
            self._opening[opening] = None
            opening.add_done_callback(self._opening.pop)
            await asyncio.sleep(0)  # where many come at once, those who are here have their turn too

    def _make_room(self) -> None:
        connections = self.connections
        if len(connections) + len(self._opening) < MAX_CONNECTIONS:
            return
        if len(self._opening) > len(connections):
            next(iter(self._opening)).cancel()
        else:
            min(connections, key=lambda connection: (connection.serves, connection.waits, connection.since)).abort()

    async def _open(self, accepted: socket.socket) -> None:
        web = self._web()
        protocol = partial(
            _HttpConnection,
            config=self.config,
            server_state=self.server_state,
            app_state={},
            allowed_sans=web.allowed_sans,
        )
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                accepted,
                ssl=web.ssl_context,
                ssl_handshake_timeout=CLIENT_TIMEOUT if web.ssl_context else None,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS if web.ssl_context else None,
            )
        except OSError:  # no handshake
            accepted.close()


class _HttpConnection(H11Protocol):
    """A connection that knows how long its client keeps it waiting.

    Args:
        allowed_sans: Names of which the client's certificate has to carry one; empty: any will do.
    """

    def __init__(self, *args: Any, allowed_sans: frozenset[str] = frozenset(), **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._allowed_sans = allowed_sans
        self._seen: object = None
        self.since = time.monotonic()

    @property
    def waits(self) -> bool:
        """Whether the client has to do something: send a request, or its rest, or take the answer."""
        if self.conn.their_state is h11.IDLE:
            rest, _ = self.conn.trailing_data
            sends = bool(rest) or self.cycle is None
        else:
            sends = self.conn.their_state is h11.SEND_BODY
        return sends or self._unsent() > 0

    @property
    def serves(self) -> bool:
        """Whether the client has done all that it has to, and has no answer yet."""
        return not self.waits and self.conn.our_state is not h11.IDLE

    def waited(self) -> float:
        """Seconds for which the client has brought nothing forward."""
        now, waits = time.monotonic(), self.waits
        seen = (waits, self.cycle, self._unsent())
        if seen != self._seen:
            self._seen, self.since = seen, now
        return now - self.since if waits else 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Part with a client whose certificate is for others."""
        super().connection_made(transport)
        self._seen = (self.waits, self.cycle, 0)
        if self._allowed_sans and self._allowed_sans.isdisjoint(_sans(transport)):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """What comes after the end is not heard."""
        if not self.transport.is_closing():
            super().data_received(data)

    def _unsent(self) -> int:
        """Bytes of answers that wait to be sent; those that are encrypted already are on the transport below."""
        below = getattr(getattr(self.transport, "_ssl_protocol", None), "_transport", None)
        return sum(one.get_write_buffer_size() for one in (self.transport, below) if one is not None)

    def abort(self) -> None:
        """End it at once."""
        self.transport.abort()


def _sans(transport: asyncio.Transport) -> Iterator[str]:
    """The names in the client's certificate."""
    certificate: dict[str, Any] = transport.get_extra_info("peercert") or {}
    for kind, name in certificate.get("subjectAltName", ()):
        yield str(ipaddress.ip_address(name)) if kind == "IP Address" else str(name)

"""Late API over real HTTP, served in a thread, with faults of all kinds."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qsl

import msgspec

from late_exporter.simulator import SimulatedApi
from tests.support.clock import VirtualClock
from tests.support.status_api import StatusApi
from tests.support.world import World

KEY = "sk_" + "c0ffee42" * 8

Headers: TypeAlias = Mapping[str, str]
FaultHandler: TypeAlias = Callable[["HttpExchange"], None]
"""Function that responds to a request in place of the API."""


class HttpExchange:
    """A request, and the ways to respond to it."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        self.path, _, self.query = handler.path.partition("?")
        self.headers = dict(handler.headers.items())

    @property
    def key(self) -> str:
        """Return the Authorization header."""
        return self.headers.get("Authorization", "")

    def send(
        self, status: int, body: bytes = b"", headers: Headers | None = None, *, length: int | None = None
    ) -> None:
        """Send a response. ``length`` overrides its Content-Length, to send a wrong one."""
        fields = {"Content-Type": "application/json", "Content-Length": str(length or len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.write(f"HTTP/1.1 {status} Answer\r\n{head}\r\n".encode("latin-1") + body)

    def write(self, data: bytes) -> None:
        """Send raw bytes."""
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def close(self) -> None:
        """Close the connection after this request."""
        self._handler.close_connection = True


class RequestHandler(BaseHTTPRequestHandler):
    """Lets the API respond to each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpServer

    def do_GET(self) -> None:
        exchange, owner = HttpExchange(self), self.server.owner
        owner.requests.append(exchange)
        try:
            (owner.fault or owner.respond)(exchange)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        pass


class HttpServer(ThreadingHTTPServer):
    """A server that knows its open connections."""

    daemon_threads = True
    request_queue_size = 64
    owner: LateServer

    def process_request(self, request: Any, client_address: Any) -> None:
        self.owner.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.owner.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class RealClock(VirtualClock):
    """System clock for a world that takes a virtual one."""

    @property
    def now(self) -> float:
        """Return the Unix time."""
        return time.time()

    @now.setter
    def now(self, _: float) -> None:
        pass


class LateServer:
    """Simulated API over HTTP, with faults. Hold ``lock`` to change its world.

    Args:
        key: Accepted API key.

    Attributes:
        world: Source of the logs, which is empty at first.
        delay: Delay of every normal response, in seconds.
        status_documents: Responses of the status endpoints by path.
        fault: Function that responds to all requests, if there is one.
        requests: All requests.
    """

    def __init__(self, *, key: str = KEY) -> None:
        self.world = World(RealClock())
        self.keys = {key}
        self.delay = 0.0
        self.fault: FaultHandler | None = None
        self.api = SimulatedApi(self.world.archives, clock=time.time, keys=self.keys, rate_limit=1_000_000)
        self.requests: list[HttpExchange] = []
        self.connections: set[socket.socket] = set()
        self.lock = threading.RLock()
        self.status_documents = StatusApi().documents
        self._stopping = threading.Event()
        self._server = HttpServer(("127.0.0.1", 0), RequestHandler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop serving, end all delays, and shut down all connections."""
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()

    @property
    def port(self) -> int:
        """Return its port."""
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        """Return the base URL of the API."""
        return f"http://127.0.0.1:{self.port}/api"

    def respond(self, exchange: HttpExchange) -> None:
        """Respond normally."""
        self.pause(self.delay)
        with self.lock:
            response = self.api.handle("GET", exchange.path, exchange.query, exchange.headers)
        status, body = response.status, response.body
        document = self.status_documents.get(exchange.path.removeprefix("/api"))
        if status == HTTPStatus.NOT_FOUND and document is not None:
            # A world of logs has no status endpoints.
            document = document(dict(parse_qsl(exchange.query))) if callable(document) else document
            status, body = HTTPStatus.OK, msgspec.json.encode(document)
        exchange.send(status, body, response.headers)

    def pause(self, seconds: float) -> None:
        """Wait in a response, until the server stops."""
        self._stopping.wait(seconds)


def respond_with(
    status: int, body: bytes | str | Mapping[str, Any] = b"", headers: Headers | None = None
) -> FaultHandler:
    """Return a fault that sends a fixed response; a mapping is sent as JSON."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    return lambda exchange: exchange.send(status, data, headers)


def hang(late: LateServer) -> FaultHandler:
    """Return a fault that sends nothing for a minute and then closes the connection."""

    def fault(exchange: HttpExchange) -> None:
        late.pause(60)
        exchange.close()

    return fault


def drip(late: LateServer, pause: float = 0.2) -> FaultHandler:
    """Return a fault that sends an endless body, byte by byte."""

    def fault(exchange: HttpExchange) -> None:
        exchange.send(200, b"{", length=100_000)
        for _ in range(1000):
            late.pause(pause)
            exchange.write(b" ")

    return fault

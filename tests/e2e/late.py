"""Late API over real HTTP, served in a thread, with faults of all kinds."""

from __future__ import annotations

import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self, TypeAlias
from urllib.parse import parse_qsl

import msgspec

from late_exporter.simulator import SimulatedApi, StaticLogs
from tests.support.clock import VirtualClock
from tests.support.status_api import StatusApi
from tests.support.world import World

__all__ = [
    "KEY",
    "FaultHandler",
    "HttpExchange",
    "LateServer",
    "OtherServer",
    "ReceivedRequest",
    "drip",
    "hang",
    "respond_with",
]

KEY = "sk_" + "c0ffee42" * 8

Headers: TypeAlias = Mapping[str, str]
FaultHandler: TypeAlias = Callable[["HttpExchange"], None]
"""Function that responds to a request in place of the API."""


class ReceivedRequest(NamedTuple):
    """Request as the server received it; ``time`` is a Unix time."""

    time: float
    path: str
    query: str
    headers: Headers
    status: int


class HttpExchange:
    """One request, with the ways to respond to it."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        self.path, _, self.query = handler.path.partition("?")
        self.headers = dict(handler.headers.items())
        self.status = 0

    @property
    def key(self) -> str:
        """Return the Authorization header."""
        return self.headers.get("Authorization", "")

    def send(
        self, status: int, body: bytes = b"", headers: Headers | None = None, *, length: int | None = None
    ) -> None:
        """Send a response. ``length`` overrides its Content-Length, to send a wrong one."""
        self.status = status
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

    def reset(self) -> None:
        """Reset the connection."""
        linger = struct.pack("ii", 1, 0)
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()


class RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpServer

    def do_GET(self) -> None:
        exchange = HttpExchange(self)
        received_at = time.time()
        index = self.server.owner.record(
            ReceivedRequest(received_at, exchange.path, exchange.query, exchange.headers, 0)
        )
        try:
            self.server.owner.handle(exchange)
        except OSError:
            self.close_connection = True
        finally:
            self.server.owner.requests[index] = self.server.owner.requests[index]._replace(status=exchange.status)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        pass


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    owner: ThreadedServer

    def process_request(self, request: Any, client_address: Any) -> None:
        self.owner.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.owner.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class ThreadedServer(ABC):
    """HTTP server in a thread, which can be stopped and restarted on the same port."""

    def __init__(self) -> None:
        self.requests: list[ReceivedRequest] = []
        self.connections: set[socket.socket] = set()
        self.lock = threading.RLock()
        self.port = 0
        self._server: HttpServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Return its URL."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve, on the same port as before if there was one."""
        self._server = HttpServer(("127.0.0.1", self.port), RequestHandler)
        self._server.owner = self
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and shut down all connections."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._server.server_close()
        self._server = None

    def record(self, request: ReceivedRequest) -> int:
        """Record a request and return its index."""
        with self.lock:
            self.requests.append(request)
            return len(self.requests) - 1

    @abstractmethod
    def handle(self, exchange: HttpExchange) -> None:
        """Respond to a request."""


class RealClock(VirtualClock):
    """System clock for a world that takes a virtual one."""

    @property
    def now(self) -> float:
        """Return the Unix time."""
        return time.time()

    @now.setter
    def now(self, _: float) -> None:
        pass


class LateServer(ThreadedServer):
    """Simulated API over HTTP, with faults. Hold ``lock`` to change its world.

    Args:
        source: Source of the logs; None for ``world``, which is empty at first.
        rate_limit: Allowed requests per key and minute.
        delay: Delay of every normal response, in seconds.
        key: Accepted API key.

    Attributes:
        status_documents: Responses of the status endpoints by path, None for 404; a function gets the parameters.
    """

    def __init__(
        self, source: StaticLogs | None = None, *, rate_limit: int = 1_000_000, delay: float = 0.0, key: str = KEY
    ) -> None:
        super().__init__()
        self.world = World(RealClock())
        self.keys = {key}
        self.delay = delay
        self.fault: FaultHandler | None = None
        self.api = SimulatedApi(source or self.world.archives, clock=time.time, keys=self.keys, rate_limit=rate_limit)
        self.status_documents = StatusApi().documents
        self._stopping = threading.Event()

    @property
    def url(self) -> str:
        """Return the base URL of the API."""
        return f"{self.address}/api"

    def paths(self, since: int = 0) -> Sequence[str]:
        """Return the paths of the requests, from an index on."""
        return [request.path.removeprefix("/api") for request in self.requests[since:]]

    def handle(self, exchange: HttpExchange) -> None:
        """Respond by the fault, if there is one, or normally."""
        if self.fault is not None:
            self.fault(exchange)
            return
        self.respond(exchange)

    def respond(self, exchange: HttpExchange) -> None:
        """Respond normally."""
        if self.delay:
            self._stopping.wait(self.delay)
        with self.lock:
            response = self.api.handle("GET", exchange.path, exchange.query, exchange.headers)
        status, body = response.status, response.body
        document = self.status_documents.get(exchange.path.removeprefix("/api"))
        if status == HTTPStatus.NOT_FOUND and document is not None:
            # A world of logs has no status endpoints.
            document = document(dict(parse_qsl(exchange.query))) if callable(document) else document
            status, body = HTTPStatus.OK, msgspec.json.encode(document)
        exchange.send(status, body, response.headers)

    def stop(self) -> None:
        """Stop serving, and end all delays."""
        self._stopping.set()
        super().stop()
        self._stopping.clear()

    def pause(self, seconds: float) -> None:
        """Wait in a response, until the server stops."""
        self._stopping.wait(seconds)


class OtherServer(ThreadedServer):
    """Server of another host, which must never receive the key."""

    def handle(self, exchange: HttpExchange) -> None:
        """Respond with an empty log list."""
        exchange.send(200, b'{"logs": [], "pagination": {"total": 0}}')


def respond_with(
    status: int, body: bytes | str | Mapping[str, Any] = b"", headers: Headers | None = None
) -> FaultHandler:
    """Return a fault that sends a fixed response; a mapping is sent as JSON."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    return lambda exchange: exchange.send(status, data, headers)


def hang(late: LateServer, seconds: float = 60.0) -> FaultHandler:
    """Return a fault that sends nothing for a time and then closes the connection."""

    def fault(exchange: HttpExchange) -> None:
        late.pause(seconds)
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

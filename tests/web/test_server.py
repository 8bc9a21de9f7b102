from __future__ import annotations

import asyncio
import errno
import math
import os
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import trustme

from late_exporter.config.types import Address
from late_exporter.config.web import WebConfig
from late_exporter.web import server
from late_exporter.web.replies import Message, Reply, send_reply
from late_exporter.web.server import bind_socket, serve
from tests.web.requests import DEADLINE, wait_until

BUFFER = 1 << 16
LARGE = 12 << 20
"""Size of a response that no buffer holds completely."""

PART = 1 << 19
"""Size of a part of it that the client cannot have before the server has sent more."""

LOOPBACK = Address("127.0.0.1", 0)
REQUEST = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
SIZED_POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
CLOSING_REQUEST = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
UPGRADE = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n"
CHUNKED_POST = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

CA, STRANGER = trustme.CA(), trustme.CA()
SERVER = CA.issue_cert("localhost", "127.0.0.1")
PROMETHEUS = CA.issue_cert("prometheus.example", "10.0.0.1", "2001:db8::1", "ops@example.org")
FOREIGN = STRANGER.issue_cert("prometheus.example")


def tls_config(client_ca: trustme.CA | None = None) -> WebConfig:
    """Return a configuration with TLS, which may require client certificates of an authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    SERVER.configure_cert(context)
    if client_ca is not None:
        client_ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return WebConfig(ssl_context=context)


def client_context(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """Return the TLS context of a client."""
    context = ssl.create_default_context()
    CA.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


class Application:
    """Respond with the path, with a large body, only when allowed, or fail; record the paths, before and after."""

    def __init__(self) -> None:
        self.requested_paths: list[str] = []
        self.answered_paths: list[str] = []
        self.cancelled_paths: list[str] = []
        self.released = asyncio.Event()

    async def __call__(self, scope: Message, _: Callable[[], Awaitable[Message]], send: Any) -> None:
        """Answer."""
        try:
            await self._answer(scope, send)
        except asyncio.CancelledError:
            self.cancelled_paths.append(scope["path"])
            raise

    async def _answer(self, scope: Message, send: Any) -> None:
        self.requested_paths.append(scope["path"])
        if scope["path"] == "/bug":
            raise ZeroDivisionError
        if scope["path"] == "/slow":
            await self.released.wait()
        body = b"x" * LARGE if scope["path"] == "/large" else scope["path"].encode()
        await send_reply(Reply(body=body), scope, send)
        self.answered_paths.append(scope["path"])


class Client:
    """Client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def response(self) -> tuple[int, bytes]:
        """Return the status and the body of the next response."""
        async with asyncio.timeout(DEADLINE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
            return int(head.split()[1]), await self.reader.readexactly(length)

    async def get(self, path: str = "/") -> tuple[int, bytes]:
        """Send a request and return the status and the body of the response."""
        self.send(REQUEST % path.encode())
        return await self.response()

    async def read_to_end(self, size: float = math.inf) -> bytes:
        """Return the next bytes, fewer if the connection is closed before."""
        received = b""
        async with asyncio.timeout(DEADLINE):
            with suppress(OSError):
                while len(received) < size and (more := await self.reader.read(1 << 20)):
                    received += more
        return received

    async def wait_disconnected(self) -> None:
        """Wait until the server closes the connection, without reading; a client notices that when it writes."""
        async with asyncio.timeout(DEADLINE):
            while not self.disconnected:
                self.writer.write(b"x")
                await asyncio.sleep(0.01)

    @property
    def disconnected(self) -> bool:
        """True if the server has closed the connection."""
        return self.writer.transport.is_closing() or self.reader.at_eof()

    def abort(self) -> None:
        """Close the connection at once."""
        self.writer.transport.abort()


class ServerHarness:
    """Running server with its clients."""

    def __init__(self, app: Application, sockets: list[socket.socket]) -> None:
        self.app = app
        self.web = WebConfig()
        self.port = sockets[0].getsockname()[1]
        self.serving = asyncio.ensure_future(serve(app, sockets, web_config=lambda: self.web))
        self._clients: list[Client] = []
        self._passed = 0.0
        for listener in sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        loop = asyncio.get_running_loop()
        loop.time = lambda: time.monotonic() + self._passed  # type: ignore[method-assign]

    async def advance(self, seconds: float) -> None:
        """Let time pass, after the server has received what was sent to it."""
        for passing in (0.0, seconds):
            self._passed += passing
            for _ in range(100):
                await asyncio.sleep(0)

    async def connect(self, context: ssl.SSLContext | None = None, *, host: str = "127.0.0.1") -> Client:
        """Open a connection, with TLS if there is a context."""
        async with asyncio.timeout(DEADLINE):
            streams = await asyncio.open_connection(host, self.port, ssl=context)
        client = Client(*streams)
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._clients.append(client)
        return client

    async def get(self, path: str = "/", context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
        """Send a request and return the status and the body of the response."""
        client = await self.connect(context)
        try:
            return await client.get(path)
        finally:
            client.abort()

    async def stop(self) -> None:
        """Stop the server."""
        if not self.serving.cancelling():
            self.serving.cancel()
        async with asyncio.timeout(DEADLINE):
            with suppress(asyncio.CancelledError):
                await self.serving

    async def close(self) -> None:
        """Close the clients and stop the server."""
        for client in self._clients:
            client.abort()
        self.app.released.set()
        await self.stop()
        await asyncio.sleep(0)  # the connections of the clients are closed


@asynccontextmanager
async def running_server(*listeners: socket.socket) -> AsyncIterator[ServerHarness]:
    """Run a server on the sockets, by default on a port of this machine."""
    harness = ServerHarness(Application(), [*listeners] or [bind_socket(LOOPBACK)])
    try:
        yield harness
    finally:
        await harness.close()


@pytest.fixture
async def harness() -> AsyncIterator[ServerHarness]:
    """Run a server without TLS."""
    async with running_server() as harness:
        yield harness


@pytest.fixture(params=["plain", "tls"])
def context(request: pytest.FixtureRequest, harness: ServerHarness) -> ssl.SSLContext | None:
    """Let the server use TLS or not; return the context of its clients."""
    if request.param == "plain":
        return None
    harness.web = tls_config()
    return client_context()


@pytest.mark.parametrize("path", ["/slow", "/large"])
async def test_a_request_of_a_client_that_leaves_is_cancelled(
    harness: ServerHarness, context: ssl.SSLContext | None, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """Requests of clients that leave keep nothing in memory and write nothing to the log."""
    for _ in range(10):
        client = await harness.connect(context)
        client.send(REQUEST % path.encode())
        await wait_until(lambda: path in harness.app.requested_paths)
        client.abort()
        await wait_until(lambda: harness.app.cancelled_paths == [path])
        harness.app.requested_paths.clear()
        harness.app.cancelled_paths.clear()
    assert (await harness.get("/", context))[0] == 200
    assert harness.app.answered_paths == ["/"]
    assert caplog.messages == []


async def test_requests_before_a_response_are_not_served(
    harness: ServerHarness, context: ssl.SSLContext | None
) -> None:
    """A client that sends many requests at once gets the first response only; others do not wait for it."""
    client = await harness.connect(context)
    client.send((REQUEST % b"/a") * 100)
    assert await client.response() == (200, b"/a")
    await client.read_to_end()
    assert harness.app.requested_paths == ["/a"]


async def test_certificates_of_clients(harness: ServerHarness) -> None:
    """Clients are accepted if their certificate is signed by the authority; a changed configuration applies at once."""
    harness.web = tls_config(CA)
    assert await harness.get("/", client_context(PROMETHEUS)) == (200, b"/")
    for certificate in (None, FOREIGN):
        # With TLS 1.3 a client learns when it reads that it was rejected.
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await harness.get("/secret", client_context(certificate))
    harness.web = WebConfig()
    assert await harness.get("/") == (200, b"/")
    assert harness.app.requested_paths == ["/", "/"]


SLOW: dict[str, tuple[bytes, bytes]] = {
    "silent": (b"", b""),
    "a head byte by byte": (b"GET / HTTP/1.1\r\nX: ", b"x"),
    "a response that is not read": (REQUEST % b"/large", b""),
    "a last response that is not read": (CLOSING_REQUEST % b"/large", b""),
}
"""First and repeated data of each slow client."""


async def test_slow_clients(harness: ServerHarness, context: ssl.SSLContext | None) -> None:
    """Slow clients delay no one else and are disconnected after the timeout, whatever they send meanwhile."""
    slow = {name: await harness.connect(context) for name in SLOW}
    for name, client in slow.items():
        client.send(SLOW[name][0])
    await wait_until(lambda: harness.app.requested_paths.count("/large") == 2)
    assert await harness.get("/quick", context) == (200, b"/quick")
    for _ in range(3):
        assert [name for name, client in slow.items() if client.disconnected] == []
        await harness.advance(server.CLIENT_TIMEOUT / 3 - 0.5)
        for name, client in slow.items():
            client.send(SLOW[name][1])
    assert await harness.get("/quick", context) == (200, b"/quick")
    await harness.advance(2.5)
    for name, client in slow.items():
        if "not read" not in name:
            await client.wait_disconnected()
    await harness.advance(server.RESPONSE_TIMEOUT)
    for client in slow.values():
        await client.wait_disconnected()


@pytest.mark.parametrize("drip", [b"", b"\x16\x03\x01\x02\x00"])
async def test_slow_handshakes(harness: ServerHarness, drip: bytes) -> None:
    """Unfinished handshakes delay no one else and are closed after the timeout."""
    harness.web = tls_config()
    client = await harness.connect()
    client.send(drip)
    assert await harness.get("/", client_context()) == (200, b"/")
    await harness.advance(server.CLIENT_TIMEOUT - 1)
    assert not client.disconnected
    client.send(drip[:1])
    await harness.advance(2)
    assert await client.read_to_end() == b""


async def test_idle_connections_are_closed(harness: ServerHarness, context: ssl.SSLContext | None) -> None:
    """They are kept longer than slow ones; the time begins with the end of the last response."""
    client = await harness.connect(context)
    assert await client.get("/a") == (200, b"/a")
    await harness.advance(server.KEEP_ALIVE - 1)
    assert not client.disconnected
    assert await client.get("/b") == (200, b"/b")
    await harness.advance(server.KEEP_ALIVE - 1)
    assert not client.disconnected
    await harness.advance(2)
    assert await client.read_to_end() == b""


async def test_half_a_second_request(harness: ServerHarness, context: ssl.SSLContext | None) -> None:
    """A client has as little time for its second request as for its first one."""
    client = await harness.connect(context)
    assert await client.get("/a") == (200, b"/a")
    client.send(b"GET /b")
    await harness.advance(server.CLIENT_TIMEOUT - 1)
    assert not client.disconnected
    await harness.advance(2)
    assert await client.read_to_end() == b""


@pytest.mark.parametrize("parts", [(SIZED_POST, b"body"), (CHUNKED_POST % b"/a", b"4\r\nbody\r\n0\r\n\r\n")])
async def test_a_request_with_a_body_is_the_last(harness: ServerHarness, parts: tuple[bytes, bytes]) -> None:
    """It gets its response, whether its body arrives or not, and no request after it is served."""
    for sent in (parts[0], b"".join(parts) + REQUEST % b"/b"):
        client = await harness.connect()
        client.send(sent)
        assert await client.response() == (200, b"/a")
        assert await client.read_to_end() == b""
    assert harness.app.requested_paths == ["/a", "/a"]


@pytest.mark.parametrize("is_fast_enough", [True, False])
async def test_slow_readers(harness: ServerHarness, context: ssl.SSLContext | None, *, is_fast_enough: bool) -> None:
    """A client that reads slowly gets the complete response, if it needs less time than there is for a response."""
    received, pause = 0, 3.0
    client = await harness.connect(context)
    client.send(REQUEST % b"/large")
    await client.reader.readuntil(b"\r\n\r\n")
    for _ in range(int(server.RESPONSE_TIMEOUT / pause) + (-3 if is_fast_enough else 2)):
        with suppress(asyncio.IncompleteReadError, OSError):
            received += len(await client.reader.readexactly(PART))
        await harness.advance(pause)
    received += len(await client.read_to_end(LARGE - received))
    assert is_fast_enough is (received == LARGE)


async def test_there_is_always_room(
    harness: ServerHarness, context: ssl.SSLContext | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit the connections that have been idle longest are closed for new ones, before a handshake, too."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 5)
    monkeypatch.setattr(server, "CLIENT_TIMEOUT", 3600.0)  # which would make room, too
    idle_clients = [await harness.connect() for _ in range(20)]
    assert await harness.get("/", context) == (200, b"/")
    await wait_until(lambda: sum(client.disconnected for client in idle_clients) >= 15)
    assert not any(client.disconnected for client in idle_clients[-4:])


async def test_waiting_clients_keep_their_connection(harness: ServerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that waits for a response is not disconnected, for new connections or however long it takes."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    served = await harness.connect()
    served.send(REQUEST % b"/slow")
    await wait_until(lambda: harness.app.requested_paths == ["/slow"])
    for _ in range(10):
        assert await (await harness.connect()).get() == (200, b"/")
    idle_clients = [await harness.connect() for _ in range(10)]
    await wait_until(lambda: sum(client.disconnected for client in idle_clients) >= 8)
    await harness.advance(3600)
    harness.app.released.set()
    assert await served.response() == (200, b"/slow")


async def test_few_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may open few files accepts fewer connections, and answers anyway."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (12, 12))
    async with running_server() as harness:
        clients = [await harness.connect() for _ in range(40)]
        assert await harness.get("/") == (200, b"/")
        await wait_until(lambda: sum(client.disconnected for client in clients) >= 35)


class ExhaustedListener(socket.socket):
    """Listener of a process that is out of file descriptors for a while."""

    failures = 1

    def accept(self) -> tuple[socket.socket, Any]:
        """Fail as the system does without a free descriptor, then accept."""
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def test_a_burst_of_connections_waits_in_the_queue() -> None:
    """None is refused for a second, as without a queue."""
    with bind_socket(LOOPBACK) as listener, ExitStack() as clients:
        for _ in range(300):
            clients.enter_context(socket.create_connection(listener.getsockname()[:2], timeout=DEADLINE))


async def test_no_file_descriptors(caplog: pytest.LogCaptureFixture) -> None:
    """A process without a free descriptor says so, and accepts the connection when it has one again."""
    async with running_server(ExhaustedListener(fileno=bind_socket(LOOPBACK).detach())) as harness:
        client = await harness.connect()
        await harness.advance(server.ACCEPT_RETRY_SECONDS)
        assert await client.get("/") == (200, b"/")
    assert caplog.messages == ["cannot accept: Too many open files; see ulimit -n, or LimitNOFILE of systemd"]


async def test_a_head_ends_at_its_limit(harness: ServerHarness) -> None:
    """A larger head is rejected, also if it arrives complete and in one piece."""
    for size in (server.MAX_HEADER_BYTES, 50_000, 65_000, 97_000):
        client = await harness.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * size + b"\r\n\r\n")
        assert (await client.read_to_end()).startswith(b"HTTP/1.1 400 "), size
    assert harness.app.requested_paths == []


async def test_strangers_write_no_log_lines(
    harness: ServerHarness, context: ssl.SSLContext | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Invalid requests, upgrades that are not supported, and requests without TLS to a TLS port are not logged."""
    for request in (b"\0\r\n\r\n", UPGRADE, REQUEST % b"/a"):
        for client in (await harness.connect(context), await harness.connect()):
            client.send(request)
            await client.read_to_end(size=1)
    assert await harness.get("/", context) == (200, b"/")
    assert caplog.messages == []


@pytest.mark.parametrize("path", ["/", "/slow", "/large"])
@pytest.mark.parametrize("moment", ["before", "during"])
async def test_an_invalid_body_is_no_bug(
    harness: ServerHarness, caplog: pytest.LogCaptureFixture, path: str, moment: str
) -> None:
    """A request whose body is invalid is not logged, also not with a traceback."""
    client = await harness.connect()
    client.send(CHUNKED_POST % path.encode())
    if moment == "during":
        await wait_until(lambda: bool(harness.app.requested_paths))
    client.send(b"zz\r\n\r\n")
    await client.read_to_end()
    harness.app.released.set()
    await harness.stop()
    assert caplog.messages == []


async def test_bugs_are_logged_with_their_traceback(harness: ServerHarness, caplog: pytest.LogCaptureFixture) -> None:
    """An error of the application is logged."""
    client = await harness.connect()
    client.send(REQUEST % b"/bug")
    assert (await client.read_to_end()).startswith(b"HTTP/1.1 500 ")
    assert caplog.text.count("Traceback ") == 1


async def test_ipv6() -> None:
    """An IPv6 address is served, and an empty host means IPv4 and IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    for address, hosts in ((Address("::1", 0), ["::1"]), (Address("", 0), ["::1", "127.0.0.1"])):
        async with running_server(bind_socket(address)) as harness:
            for host in hosts:
                assert await (await harness.connect(host=host)).get() == (200, b"/")


async def test_shutdown_finishes_responses(harness: ServerHarness) -> None:
    """At shutdown responses in progress are finished."""
    client = await harness.connect()
    client.send(REQUEST % b"/slow")
    await wait_until(lambda: harness.app.requested_paths == ["/slow"])
    harness.serving.cancel()
    await harness.advance(0)
    harness.app.released.set()
    assert await client.response() == (200, b"/slow")
    assert await client.read_to_end() == b""
    await harness.stop()


async def test_shutdown_does_not_wait_for_slow_clients(harness: ServerHarness, context: ssl.SSLContext | None) -> None:
    """Slow clients do not delay the shutdown, and their connections are closed."""
    slow = [await harness.connect()]
    slow[0].send(b"\x16")
    for data, _ in SLOW.values():
        slow.append(await harness.connect(context))
        slow[-1].send(data)
    waiting = await harness.connect(context)
    waiting.send(REQUEST % b"/slow")
    await wait_until(lambda: "/slow" in harness.app.requested_paths)
    harness.serving.cancel()
    await harness.advance(server.SHUTDOWN_SECONDS + 1)
    await harness.stop()
    assert harness.serving.cancelled()
    for client in (*slow, waiting):
        await client.wait_disconnected()

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import ssl
import stat
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from late_exporter.config.tls import Tls, create_context
from late_exporter.config.types import Address, UnixPath
from late_exporter.config.web import WebConfig
from late_exporter.errors import LateError
from late_exporter.web import server
from late_exporter.web.server import bind_socket, serve, systemd_sockets

Message = MutableMapping[str, Any]

DEADLINE = 60.0
"""Seconds after which something that should have happened has not; a busy machine is slow, not wrong."""

LARGE = 48 << 20
"""Bytes of an answer that no buffer of the system takes whole."""

LOOPBACK = Address("127.0.0.1", 0)
REQUEST = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"

CA, STRANGER = trustme.CA(), trustme.CA()
SERVER, RENEWED = CA.issue_cert("localhost", "127.0.0.1"), CA.issue_cert("localhost", "127.0.0.1")
PROMETHEUS = CA.issue_cert("prometheus.example", "10.0.0.1", "2001:db8::1", "ops@example.org")
MALLORY = CA.issue_cert("mallory.example")
FOREIGN = STRANGER.issue_cert("prometheus.example")


def configuration(certificate: trustme.LeafCert = SERVER, **more: Any) -> WebConfig:
    """TLS with a certificate, and with what else there is to say of it."""
    tls = Tls(
        cert=certificate.cert_chain_pems[0].bytes().decode(), key=certificate.private_key_pem.bytes().decode(), **more
    )
    return WebConfig(ssl_context=create_context(tls, Path()), allowed_sans=frozenset(tls.client_allowed_sans))


def mutual(*sans: str) -> WebConfig:
    """TLS that asks for certificates of one authority, perhaps with these names alone."""
    return configuration(
        client_ca=CA.cert_pem.bytes().decode(), client_auth_type="RequireAndVerifyClientCert", client_allowed_sans=sans
    )


def trusting(certificate: trustme.LeafCert | None = None, authority: trustme.CA = CA) -> ssl.SSLContext:
    """A client's side of TLS."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


class Application:
    """Answers with the path, with much, or not before it may; remembers the paths."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_go = asyncio.Event()

    async def __call__(self, scope: Message, _: Callable[[], Awaitable[Message]], send: Any) -> None:
        """Answer."""
        self.asked.append(scope["path"])
        if scope["path"] == "/slow":
            await self.may_go.wait()
        body = b"x" * LARGE if scope["path"] == "/large" else scope["path"].encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Client:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        """Send bytes, whoever hears them."""
        self.writer.write(data)

    async def answer(self) -> tuple[int, bytes]:
        """The status and the body of the next answer."""
        async with asyncio.timeout(DEADLINE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
            return int(head.split()[1]), await self.reader.readexactly(length)

    async def get(self, path: str = "/") -> tuple[int, bytes]:
        """Ask and have an answer."""
        self.send(REQUEST % path.encode())
        return await self.answer()

    async def rest(self) -> bytes:
        """What comes until the end."""
        got = b""
        async with asyncio.timeout(DEADLINE):
            with suppress(OSError):
                while more := await self.reader.read(1 << 20):
                    got += more
        return got

    async def loses(self, drip: bytes = b"", *, deaf: bool = False) -> None:
        """Wait until the other side has ended it; meanwhile send something again and again, and read if not deaf."""
        reading = asyncio.ensure_future(asyncio.Event().wait() if deaf else self.rest())
        try:
            async with asyncio.timeout(DEADLINE):
                while not (self.writer.transport.is_closing() or reading.done()):
                    if drip:
                        self.writer.write(drip)
                    await asyncio.sleep(0.02)
        finally:
            reading.cancel()

    @property
    def lost(self) -> bool:
        """Whether the other side has ended it."""
        return self.writer.transport.is_closing() or self.reader.at_eof()

    def abort(self) -> None:
        """End it without a word."""
        self.writer.transport.abort()


class House:
    """A server that runs, and its clients."""

    def __init__(self, app: Application, sockets: list[socket.socket]) -> None:
        self.app = app
        self.web = WebConfig()
        self.port = sockets[0].getsockname()[1] if sockets[0].family != socket.AF_UNIX else 0
        self.serving = asyncio.ensure_future(serve(app, sockets, web_config=lambda: self.web))
        self._sockets = sockets
        self._clients: list[Client] = []

    async def connect(
        self, context: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", path: Path | None = None
    ) -> Client:
        """A new connection, over TLS where there is a context."""
        async with asyncio.timeout(DEADLINE):
            if path is not None:
                name = None if context is None else "localhost"
                streams = await asyncio.open_unix_connection(path, ssl=context, server_hostname=name)
            else:
                streams = await asyncio.open_connection(host, self.port, ssl=context)
        client = Client(*streams)
        self._clients.append(client)
        return client

    async def get(self, path: str = "/", context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
        """The answer to one request on a connection of its own."""
        client = await self.connect(context)
        try:
            return await client.get(path)
        finally:
            client.abort()

    async def stop(self) -> None:
        """End the server."""
        self.serving.cancel()
        async with asyncio.timeout(DEADLINE):
            with suppress(asyncio.CancelledError):
                await self.serving

    async def close(self) -> None:
        """End the clients and the server."""
        for client in self._clients:
            client.abort()
        self.app.may_go.set()
        await self.stop()
        for bound in self._sockets:
            bound.close()


@asynccontextmanager
async def opened(*addresses: Address | UnixPath, web: WebConfig | None = None) -> AsyncIterator[House]:
    """A house at addresses."""
    house = House(Application(), [bind_socket(address) for address in addresses or (LOOPBACK,)])
    house.web = web or WebConfig()
    try:
        yield house
    finally:
        await house.close()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """A house without TLS."""
    async with opened() as house:
        yield house


@pytest.fixture(params=["plain", "tls"])
def secure(request: pytest.FixtureRequest) -> bool:
    """Without TLS, and with it."""
    return bool(request.param == "tls")


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)


async def test_answers(house: House) -> None:
    """Requests are answered, one after another on one connection and on several."""
    client = await house.connect()
    assert [(200, b"/a"), (200, b"/b")] == [await client.get("/a"), await client.get("/b")]
    assert (200, b"/c") == await house.get("/c")


async def test_pipelined_requests(house: House) -> None:
    """Requests that come together are answered in their order."""
    client = await house.connect()
    client.send(REQUEST % b"/a" + REQUEST % b"/b" + REQUEST % b"/c")
    assert [b"/a", b"/b", b"/c"] == [(await client.answer())[1] for _ in range(3)]


async def test_large_answers(house: House, *, secure: bool) -> None:
    """An answer that needs many writes arrives whole."""
    house.web = configuration() if secure else WebConfig()
    status, body = await house.get("/large", trusting() if secure else None)
    assert (200, LARGE) == (status, len(body))


async def test_tls(house: House) -> None:
    """TLS of a current version is spoken, with HTTP/1.1 where the client has a choice."""
    house.web = configuration()
    context = trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = await house.connect(context)
    assert (200, b"/") == await client.get()
    spoken: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
    assert ("TLSv1.3", "http/1.1") == (spoken.version(), spoken.selected_alpn_protocol())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_versions(house: House, version: ssl.TLSVersion) -> None:
    """Old versions of TLS are refused by the server, and it lives on."""
    house.web = configuration()
    context = trusting()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await house.connect(context)
    assert [] == house.app.asked
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (200, b"/") == await house.get("/", context)


async def test_client_does_not_trust(house: House) -> None:
    """A client that knows another authority goes away; the server lives on."""
    house.web = configuration()
    with pytest.raises(ssl.SSLCertVerificationError):
        await house.connect(trusting(authority=STRANGER))
    assert (200, b"/") == await house.get("/", trusting())


NO_TLS = (
    REQUEST % b"/secret",
    b"\x16\x03\x01\xff\xff" + b"x" * 100,
    b"\0" * 100_000,
)


async def test_no_tls_on_a_tls_port(house: House) -> None:
    """What is no TLS gets no answer but an end; the server lives on."""
    for noise in NO_TLS:
        house.web = configuration()
        client = await house.connect()
        client.send(noise)
        assert b"HTTP" not in await client.rest()
        assert (200, b"/") == await house.get("/", trusting())
    assert {"/"} == set(house.app.asked)


async def test_tls_on_a_plain_port(house: House) -> None:
    """TLS where there is none is refused; the server lives on."""
    with pytest.raises(OSError, match=r"SSL|reset"):
        await house.connect(trusting())
    assert (200, b"/") == await house.get("/")


async def refused(house: House, context: ssl.SSLContext) -> bool:
    """Whether a client has no answer; with TLS 1.3 it hears of that when it reads."""
    before = len(house.app.asked)
    try:
        client = await house.connect(context)
        client.send(REQUEST % b"/secret")
        said = await client.rest()
    except OSError:
        said = b""
    return (b"", before) == (said, len(house.app.asked))


CERTIFICATES: list[tuple[trustme.LeafCert | None, tuple[str, ...], bool]] = [
    (None, (), False),
    (PROMETHEUS, (), True),
    (FOREIGN, (), False),
    (PROMETHEUS, ("other.example", "prometheus.example"), True),
    (PROMETHEUS, ("10.0.0.1",), True),
    (PROMETHEUS, ("2001:db8::1",), True),
    (PROMETHEUS, ("ops@example.org",), True),
    (PROMETHEUS, ("example", "Prometheus.example", "*.example", "10.0.0.2"), False),
    (MALLORY, ("prometheus.example",), False),
    (FOREIGN, ("prometheus.example",), False),
    (None, ("prometheus.example",), False),
]
"""A client's certificate, the names that are allowed, and whether it is let in."""


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_certificates_of_clients(house: House, newest: ssl.TLSVersion) -> None:
    """Who has a certificate of the authority, with one of the names where there are some, is answered; others not."""
    for certificate, sans, welcome in CERTIFICATES:
        house.web = mutual(*sans)
        context = trusting(certificate)
        context.maximum_version = newest
        if welcome:
            assert (200, b"/") == await house.get("/", context), sans
        else:
            assert await refused(house, context), sans
    house.web = WebConfig()
    assert (200, b"/") == await house.get("/")


async def test_certificate_if_given(house: House) -> None:
    """Where a certificate is optional, none is welcome, and a wrong one is not."""
    house.web = configuration(client_ca=CA.cert_pem.bytes().decode(), client_auth_type="VerifyClientCertIfGiven")
    assert (200, b"/") == await house.get("/", trusting())
    assert (200, b"/") == await house.get("/", trusting(PROMETHEUS))
    assert await refused(house, trusting(FOREIGN))


async def test_a_wrong_name_is_not_heard(house: House) -> None:
    """A request that comes in one piece with the end of the handshake is not heard when the name is wrong."""
    house.web = mutual("prometheus.example")
    for certificate, heard in ((MALLORY, []), (PROMETHEUS, ["/secret"])):
        client = await house.connect()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        speaking = trusting(certificate).wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                speaking.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.send(outgoing.read())
                incoming.write(await client.reader.read(1 << 16))
        speaking.write(REQUEST % b"/secret")
        client.send(outgoing.read())
        if heard:
            await until(lambda: bool(house.app.asked))
        else:
            await client.rest()
        assert heard == house.app.asked


async def test_renewed_certificate(house: House) -> None:
    """The next connection has the new certificate; one that is open goes on."""
    house.web = configuration()
    old = await house.connect(trusting())
    assert (200, b"/") == await old.get()
    house.web = configuration(RENEWED)
    new = await house.connect(trusting())
    shown = [client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True) for client in (old, new)]
    assert [
        ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode()) for certificate in (SERVER, RENEWED)
    ] == shown
    assert [(200, b"/a"), (200, b"/b")] == [await old.get("/a"), await new.get("/b")]


async def test_tls_comes_and_goes(house: House) -> None:
    """A server that had no TLS can have it for the next connection, and the other way round."""
    assert (200, b"/") == await house.get("/")
    house.web = configuration()
    assert (200, b"/") == await house.get("/", trusting())
    house.web = WebConfig()
    assert (200, b"/") == await house.get("/")


BODY = b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
KNOWN_BODY = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"

SLOW: dict[str, tuple[bytes, bytes]] = {
    "silent": (b"", b""),
    "half a head": (b"GET / HT", b""),
    "a head byte by byte": (b"GET / HTTP/1.1\r\nX: ", b"x"),
    "a head line by line": (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
    "empty lines": (b"", b"\r\n"),
    "half a body": (KNOWN_BODY + b"x", b""),
    "an endless body": (BODY, b"1\r\nx\r\n"),
    "an endless body of a known size": (KNOWN_BODY, b"x"),
    "half a second head": (REQUEST % b"/" + b"GET", b""),
    "an answer that is not read": (REQUEST % b"/large", b""),
    "answers that are not read": ((REQUEST % b"/large") * 5, b""),
}
"""What each slow client begins with, and what it sends again and again."""


async def test_slow_clients(house: House, monkeypatch: pytest.MonkeyPatch, *, secure: bool) -> None:
    """Whoever keeps the server waiting holds up nobody, and is parted with after a while."""
    house.web, context = (configuration(), trusting()) if secure else (WebConfig(), None)
    slow = {name: await house.connect(context) for name in SLOW}
    for name, client in slow.items():
        client.send(SLOW[name][0])
    await until(lambda: 5 <= house.app.asked.count("/body") + house.app.asked.count("/large"))
    assert (200, b"/quick") == await house.get("/quick", context)
    assert [] == [name for name, client in slow.items() if client.lost]

    monkeypatch.setattr(server, "CLIENT_TIMEOUT", 0.2)
    ending = {
        name: asyncio.ensure_future(
            # Who reads nothing notices by writing; what is written then is no help.
            client.loses(b"\n", deaf=True) if "not read" in name else client.loses(SLOW[name][1])
        )
        for name, client in slow.items()
    }
    assert (200, b"/quick") == await house.get("/quick", context)
    await asyncio.wait(ending.values(), timeout=DEADLINE)
    assert [] == [name for name, task in ending.items() if not task.done() or task.exception()]


@pytest.mark.parametrize("drip", [b"", b"\x16"])
async def test_slow_handshakes(house: House, monkeypatch: pytest.MonkeyPatch, drip: bytes) -> None:
    """A handshake that does not end holds up nobody, and is parted with after a while."""
    monkeypatch.setattr(server, "CLIENT_TIMEOUT", 0.5)
    house.web = configuration()
    client = await house.connect()
    client.send(b"\x16\x03\x01\x02\x00")
    assert (200, b"/") == await house.get("/", trusting())
    await client.loses(drip)


async def test_idle_connections_stay(house: House, monkeypatch: pytest.MonkeyPatch, *, secure: bool) -> None:
    """A connection that had its answer may idle while others are parted with."""
    monkeypatch.setattr(server, "CLIENT_TIMEOUT", 0.2)
    house.web, context = (configuration(), trusting()) if secure else (WebConfig(), None)
    idle = await house.connect(context)
    assert (200, b"/a") == await idle.get("/a")
    await (await house.connect(context)).loses()
    assert (200, b"/b") == await idle.get("/b")


async def test_slow_answers_are_no_fault_of_the_client(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that waits for the server is not parted with, however long that takes."""
    monkeypatch.setattr(server, "CLIENT_TIMEOUT", 0.2)
    patient = await house.connect()
    patient.send(REQUEST % b"/slow")
    await (await house.connect()).loses()
    house.app.may_go.set()
    assert (200, b"/slow") == await patient.answer()


async def test_slow_readers_that_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes its answer slowly, but takes it, has all of it."""
    house.web = configuration()
    reading = await house.connect(trusting())
    reading.send(REQUEST % b"/large")
    await reading.reader.readuntil(b"\r\n\r\n")
    monkeypatch.setattr(server, "CLIENT_TIMEOUT", 1.5)
    got, until_then = 0, asyncio.get_running_loop().time() + 3.0
    while got < LARGE:
        got += len(await reading.reader.read(1 << 20))
        await asyncio.sleep(0.04 if asyncio.get_running_loop().time() < until_then else 0)
    assert LARGE == got


@pytest.mark.parametrize("tls", [None, "after a handshake", "without a handshake"])
async def test_there_is_always_room(house: House, monkeypatch: pytest.MonkeyPatch, tls: str | None) -> None:
    """However many do nothing, one more is served: those that have been of no use for longest make room."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 5)
    house.web, context = (configuration(), trusting()) if tls else (WebConfig(), None)
    useless = [await house.connect(None if tls == "without a handshake" else context) for _ in range(20)]
    assert (200, b"/") == await house.get("/", context)
    await until(lambda: 15 <= sum(client.lost for client in useless))
    assert [client.lost for client in useless] == sorted((client.lost for client in useless), reverse=True)
    assert (200, b"/") == await house.get("/", context)


async def test_room_is_not_made_by_those_who_are_served(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for an answer has it, however many others come meanwhile."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    served = await house.connect()
    served.send(REQUEST % b"/slow")
    await until(lambda: ["/slow"] == house.app.asked)
    for _ in range(10):
        assert (200, b"/") == await (await house.connect()).get()
    useless = [await house.connect() for _ in range(10)]
    await until(lambda: 8 <= sum(client.lost for client in useless))
    house.app.may_go.set()
    assert (200, b"/slow") == await served.answer()


async def test_a_flood(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that come faster than they can be opened hold up nobody for good."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 8)
    client = await house.connect()
    flood = [socket.create_connection(("127.0.0.1", house.port)) for _ in range(100)]
    try:
        assert (200, b"/") == await house.get("/")
    finally:
        for one in flood:
            one.close()
    await client.rest()


TOO_MUCH = (
    b"GET /" + b"x" * 100_000,
    b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
    b"x" * 10_000_000,
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 100_000,
)


async def test_too_much(house: House) -> None:
    """A head that is too large is refused, and its sender parted with; nothing of it is kept."""
    for head in TOO_MUCH:
        client = await house.connect()
        client.send(head)
        said = await client.rest()
        assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 200 ")) or not said
        assert (200, b"/") == await house.get("/")


async def test_a_head_that_is_large_enough(house: House) -> None:
    """Thousands of bytes of cookies are no fault."""
    client = await house.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 20_000 + b"\r\n\r\n")
    assert (200, b"/") == await client.answer()


NOISE = (
    b"\r\n\r\n\r\n",
    b"\x00\xff" * 10,
    b"GET / HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\n",
)


async def test_noise(house: House) -> None:
    """What is no request is refused; the server lives on."""
    for noise in NOISE:
        client = await house.connect()
        client.send(noise + b"x" * 10)
        client.writer.write_eof()
        await client.rest()
        assert (200, b"/") == await house.get("/")
        assert "/secret" not in house.app.asked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path for a socket."""
    return tmp_path / "late.sock"


async def test_unix_path(path: Path, *, secure: bool) -> None:
    """A path of the file system is served like a port."""
    async with opened(UnixPath(path), web=configuration() if secure else None) as house:
        context = trusting() if secure else None
        client = await house.connect(context, path=path)
        assert [(200, b"/a"), (200, b"/b")] == [await client.get("/a"), await client.get("/b")]


def test_abandoned_path(path: Path) -> None:
    """A socket that a process left behind is replaced."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert stat.S_ISSOCK(path.stat().st_mode)
    with bind_socket(UnixPath(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_path_in_use(path: Path) -> None:
    """A path that somebody serves is refused by name, and goes on being served."""
    with bind_socket(UnixPath(path)):
        with pytest.raises(LateError, match=rf"^cannot listen on unix:{path}: Address already in use$"):
            bind_socket(UnixPath(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_path_of_somebody_who_is_stuck(path: Path) -> None:
    """A path is in use as well where nobody accepts what comes."""
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(path))
        stuck.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for one in waiting:
            one.setblocking(False)  # noqa: FBT003 - the socket's own way
            with suppress(BlockingIOError):
                one.connect(str(path))
        with pytest.raises(LateError, match="Address already in use"):
            bind_socket(UnixPath(path))
        for one in waiting:
            one.close()


def test_path_of_a_file(path: Path) -> None:
    """What is no socket is never removed."""
    path.write_text("precious")
    with pytest.raises(LateError, match=rf"^cannot listen on unix:{path}: Address already in use$"):
        bind_socket(UnixPath(path))
    assert "precious" == path.read_text()


def test_path_of_a_link(path: Path) -> None:
    """A link is not followed and not removed."""
    path.symlink_to("elsewhere.sock")
    with pytest.raises(LateError, match="Address already in use"):
        bind_socket(UnixPath(path))
    assert path.is_symlink()


def test_path_nowhere(path: Path) -> None:
    """A folder that is not there is no place for a socket."""
    with pytest.raises(LateError, match=r"late\.sock/below: (Not a directory|No such file or directory)$"):
        bind_socket(UnixPath(path / "below"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", ""])
def test_address_in_use(host: str) -> None:
    """A port that is taken is refused by name."""
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with bind_socket(Address(host, 0)) as taken:
        address = Address(host, taken.getsockname()[1])
        with pytest.raises(LateError) as caught:
            bind_socket(address)
    assert f"cannot listen on {address}: Address already in use" == str(caught.value)


def has_ipv6() -> bool:
    """Whether the machine has a loopback of IPv6."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


async def test_several_addresses(path: Path) -> None:
    """All addresses are served at once."""
    async with opened(Address("127.0.0.1", 0), UnixPath(path), Address("127.0.0.2", 0)) as house:
        assert (200, b"/a") == await house.get("/a")
        assert (200, b"/b") == await (await house.connect(path=path)).get("/b")
    assert ["/a", "/b"] == house.app.asked


async def test_ipv6() -> None:
    """IPv6 is served by its address, and beside IPv4 where there is none."""
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    async with opened(Address("::1", 0)) as house:
        assert (200, b"/") == await (await house.connect(host="::1")).get()
    async with opened(Address("", 0)) as house:
        assert (200, b"/") == await (await house.connect(host="::1")).get()
        assert (200, b"/") == await (await house.connect(host="127.0.0.1")).get()


FIRST = 400
"""A descriptor that nobody has."""


@pytest.fixture
def passed() -> Iterator[list[int]]:
    """Descriptors from a number on, as systemd passes them; those that are left are closed."""
    numbers: list[int] = []
    yield numbers
    for number in numbers:
        with suppress(OSError):
            os.close(number)


def give(numbers: list[int], number: int) -> None:
    """Pass a descriptor on under the next number."""
    numbers.append(fcntl.fcntl(number, fcntl.F_DUPFD, FIRST))
    assert FIRST + len(numbers) - 1 == numbers[-1]
    os.set_inheritable(numbers[-1], True)  # noqa: FBT003 - its own way


def environment(count: str, pid: int | None = None) -> dict[str, str]:
    """The environment of a process with sockets."""
    return {
        "LISTEN_PID": str(os.getpid() if pid is None else pid),
        "LISTEN_FDS": count,
        "LISTEN_FDNAMES": "a:b",
        "HOME": "/",
    }


async def test_inherited(passed: list[int], path: Path) -> None:
    """Sockets that were passed to this process are served; they go to no child, and the environment forgets them."""
    with socket.create_server(("127.0.0.1", 0)) as port, bind_socket(UnixPath(path)) as unix:
        give(passed, port.fileno())
        give(passed, unix.fileno())
    environ = environment("2")
    sockets = systemd_sockets(environ, first=FIRST)
    assert {"HOME": "/"} == environ
    assert [FIRST, FIRST + 1] == [bound.fileno() for bound in sockets]
    assert [False, False] == [bound.get_inheritable() for bound in sockets]
    house = House(Application(), sockets)
    try:
        assert (200, b"/a") == await house.get("/a")
        assert (200, b"/b") == await (await house.connect(path=path)).get("/b")
    finally:
        await house.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        environment("1", os.getpid() + 1),
        environment("1") | {"LISTEN_PID": ""},
        environment("1") | {"LISTEN_PID": f"0{os.getpid()}"},
        environment("x"),
        environment("-1"),
        environment(""),
        environment("0"),
    ],
)
def test_nothing_inherited(passed: list[int], environ: dict[str, str]) -> None:
    """What is meant for another process, or for none, is left alone; the environment forgets it."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        give(passed, port.fileno())
    assert [] == systemd_sockets(environ, first=FIRST)
    assert {} == {name: text for name, text in environ.items() if name.startswith("LISTEN")}
    assert os.get_inheritable(FIRST)


@pytest.mark.parametrize("kind", ["none", "pipe", "datagram", "not listening"])
def test_unusable_inheritance(passed: list[int], kind: str) -> None:
    """A descriptor that nobody can connect to is refused by its number."""
    if kind == "pipe":
        reading, writing = os.pipe()
        give(passed, reading)
        os.close(reading)
        os.close(writing)
    elif kind != "none":
        with socket.socket(type=socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM) as bound:
            give(passed, bound.fileno())
    with pytest.raises(LateError, match=f"^--web.systemd-socket: descriptor {FIRST} is not a listening socket$"):
        systemd_sockets(environment("1"), first=FIRST)


async def test_answers_under_way_end(house: House) -> None:
    """At the end an answer that has begun is sent, and nobody new is let in."""
    client = await house.connect()
    client.send(REQUEST % b"/slow")
    await until(lambda: ["/slow"] == house.app.asked)
    house.serving.cancel()
    await until(lambda: not can_connect(house.port))
    house.app.may_go.set()
    assert (200, b"/slow") == await client.answer()
    assert b"" == await client.rest()
    await house.stop()


def can_connect(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


async def test_the_end_waits_for_nobody_for_long(house: House, *, secure: bool) -> None:
    """Clients that are stuck in every way do not keep the server from ending; their connections are closed."""
    house.web, context = (configuration(), trusting()) if secure else (WebConfig(), None)
    slow = {name: await house.connect(context) for name in SLOW}
    slow["slow"] = await house.connect(context)
    slow["shaking hands"] = await house.connect()
    for name, client in slow.items():
        client.send(SLOW[name][0] if name in SLOW else REQUEST % b"/slow" if name == "slow" else b"\x16")
    await until(lambda: "/slow" in house.app.asked)
    await house.stop()
    assert house.serving.cancelled()
    ending = {name: asyncio.ensure_future(client.loses(b"\n")) for name, client in slow.items()}
    await asyncio.wait(ending.values(), timeout=DEADLINE)
    assert [] == [name for name, task in ending.items() if not task.done() or task.exception()]


async def test_the_end_before_the_beginning() -> None:
    """A server that is ended at once ends at once."""
    house = House(Application(), [bind_socket(LOOPBACK)])
    await house.close()
    assert house.serving.done()

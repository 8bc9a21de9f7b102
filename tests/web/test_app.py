from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import MutableMapping, Sequence
from typing import Any

import msgspec
import pytest

from late_exporter.exposition.exposition import EncodedBody, Exposition
from late_exporter.status import FeedHealth, WorkspaceHealth
from late_exporter.web.app import create_app
from late_exporter.web.asgi import App

Message = MutableMapping[str, Any]

SYNCED = FeedHealth(name="publishing", is_synced=True, outcome="success")


class Metrics(Exposition):
    """Answers with one text, and remembers what it was asked for and whether that was served."""

    def __init__(self, encoding: str | None = None) -> None:
        super().__init__({})
        self.encoding = encoding
        self.asked: list[tuple[str | None, str | None]] = []
        self.servings: list[int] = []

    def get_body(self, accept: str | None, accept_encoding: str | None) -> EncodedBody:
        """Remembers the two headers."""
        self.asked.append((accept, accept_encoding))
        version = len(self.asked)
        return EncodedBody("text/plain; version=0.0.4; charset=utf-8", self.encoding, b"late_up 1\n", version)

    def mark_served(self, version: int | None = None) -> bool:
        """Remembers the version."""
        self.servings.append(version or 0)
        return False


class Response(msgspec.Struct):
    """What the application sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


def application(*feeds: FeedHealth, metrics: Metrics | None = None, telemetry_path: str = "/metrics") -> App:
    """The application over one workspace with one feed that is fine, or the given ones."""
    workspace = WorkspaceHealth(name="acme", base_url="https://getlate.dev/api", feeds=feeds or (SYNCED,))
    return create_app(
        metrics or Metrics(), lambda: [workspace], telemetry_path=telemetry_path, version="1.2.3", clock=lambda: 0.0
    )


async def call(
    app: App, path: str = "/", method: str = "GET", *, headers: Sequence[tuple[bytes, bytes]] = (), query: bytes = b""
) -> Response:
    """Sends one request."""
    sent: list[Message] = []

    async def receive() -> Message:
        pytest.fail("the body of a request is never read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers}
    await app(scope, receive, send)
    start, body = sent
    names = [name.decode() for name, _ in start["headers"]]
    assert sorted(set(names)) == sorted(names)
    return Response(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body["body"])


@pytest.mark.parametrize(
    ("status", "content_type", "start", "path"),
    [
        (200, "text/html; charset=utf-8", "<!doctype html>", "/"),
        (200, "text/plain; version=0.0.4; charset=utf-8", "late_up 1\n", "/metrics"),
        (200, "text/plain; charset=utf-8", "late-exporter is healthy\n", "/-/healthy"),
        (200, "text/plain; charset=utf-8", "late-exporter is ready\n", "/-/ready"),
        (404, "text/plain; charset=utf-8", "not found\n", "/metrics/"),
        (404, "text/plain; charset=utf-8", "not found\n", "/favicon.ico"),
        (404, "text/plain; charset=utf-8", "not found\n", ""),
        (404, "text/plain; charset=utf-8", "not found\n", "/\udcff"),
    ],
)
async def test_routes(status: int, content_type: str, start: str, path: str) -> None:
    """Four paths are served, others are not found; a query changes nothing and HEAD is GET without the body."""
    got = await call(application(), path, query=b"a=%ff&name[]=x")
    head = await call(application(), path, "HEAD")
    assert (status, content_type) == (got.status, got.headers["content-type"])
    assert got.text.startswith(start)
    assert str(len(got.body)) == got.headers["content-length"]
    assert (status, got.headers, b"") == (head.status, head.headers, head.body)


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/nowhere"])
async def test_nothing_is_cached_or_guessed(path: str) -> None:
    """No answer may be kept by a cache or taken for another type than it says."""
    headers = (await call(application(), path)).headers
    assert ("no-store", "nosniff") == (headers["cache-control"], headers["x-content-type-options"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", ""])
async def test_wrong_method(method: str) -> None:
    """Another method is refused with the ones that are allowed, without reading its body."""
    metrics = Metrics()
    response = await call(application(metrics=metrics), "/metrics", method)
    assert (405, "GET, HEAD") == (response.status, response.headers["allow"])
    assert ([], []) == (metrics.asked, metrics.servings)
    assert 404 == (await call(application(), "/nowhere", method)).status


async def test_telemetry_path() -> None:
    """The metrics move to the telemetry path, even to the root."""
    assert b"late_up 1\n" == (await call(application(telemetry_path="/late"), "/late")).body
    assert 404 == (await call(application(telemetry_path="/late"), "/metrics")).status
    assert b'href="./late"' in (await call(application(telemetry_path="/late"))).body
    assert b"late_up 1\n" == (await call(application(telemetry_path="/"))).body


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        ((None, None), []),
        (("text/plain", "gzip"), [(b"accept", b"text/plain"), (b"Accept-Encoding", b"gzip")]),
        (("a, b", ""), [(b"accept", b"a"), (b"x", b"y"), (b"accept", b"b"), (b"accept-encoding", b"")]),
        (("\xff\x00;q=", None), [(b"accept", b"\xff\x00;q="), (b"\xfe", b"\xff")]),
    ],
)
async def test_negotiation(expected: tuple[str | None, str | None], headers: list[tuple[bytes, bytes]]) -> None:
    """The exposition gets the two headers as they came, whatever bytes they are."""
    metrics = Metrics()
    await call(application(metrics=metrics), "/metrics", headers=headers)
    assert [expected] == metrics.asked


@pytest.mark.parametrize("encoding", [None, "gzip"])
async def test_metrics_headers(encoding: str | None) -> None:
    """An encoded body says so, and every answer says what it depends on."""
    headers = (await call(application(metrics=Metrics(encoding)), "/metrics")).headers
    assert (encoding, "Accept, Accept-Encoding") == (headers.get("content-encoding"), headers["vary"])


async def test_served_once_a_body() -> None:
    """The exposition hears of every body that was sent and of its version, and of nothing else."""
    metrics = Metrics()
    app = application(metrics=metrics)
    for method, path in (("HEAD", "/metrics"), ("POST", "/metrics"), ("GET", "/"), ("GET", "/-/ready")):
        await call(app, path, method)
    assert [] == metrics.servings
    await call(app, "/metrics")
    await call(app, "/metrics")
    assert [2, 3] == metrics.servings


async def test_not_served_when_sending_fails() -> None:
    """A body that could not be sent was not served."""
    metrics = Metrics()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await application(metrics=metrics)(
            {"type": "http", "method": "GET", "path": "/metrics", "headers": []}, receive, send
        )
    assert (1, []) == (len(metrics.asked), metrics.servings)


REFUSED = "Unauthorized: the key was refused"


@pytest.mark.parametrize(
    ("reason", "feed"),
    [
        ("first sync under way, 1,234 logs read", FeedHealth(name="f", logs=1234)),
        ("first sync under way, 0 logs read", FeedHealth(name="f", outcome="success")),
        ("waiting for the first poll", FeedHealth(name="f")),
        (f"first sync has not succeeded: {REFUSED}", FeedHealth(name="f", outcome="unauthorized", error=REFUSED)),
        ("first sync has not succeeded: two lines", FeedHealth(name="f", outcome="store_error", error="two\r\nlines")),
        ("first sync has not succeeded: The API asked to wait.", FeedHealth(name="f", outcome="rate_limited")),
    ],
)
async def test_not_ready(reason: str, feed: FeedHealth) -> None:
    """A feed whose first sync is not complete is a reason in one line."""
    response = await call(application(feed), "/-/ready")
    assert (503, f"acme/f: {reason}\n") == (response.status, response.text)


async def test_ready_needs_every_feed() -> None:
    """Each feed that is not synced has its line; one that was synced and fails now stays ready."""
    failing = FeedHealth(name="connections", is_synced=True, outcome="unavailable", error="timeout")
    assert 200 == (await call(application(SYNCED, failing), "/-/ready")).status
    response = await call(application(SYNCED, FeedHealth(name="a"), FeedHealth(name="b\nc")), "/-/ready")
    assert "acme/a: waiting for the first poll\nacme/b c: waiting for the first poll\n" == response.text


async def test_surrogates_are_replaced() -> None:
    """A text that UTF-8 cannot hold is sent with question marks."""
    app = application(FeedHealth(name="f\ud800"))
    assert "acme/f?: waiting for the first poll\n" == (await call(app, "/-/ready")).text
    assert "<bdi>f?</bdi>" in (await call(app)).text


async def test_page_policy() -> None:
    """The page may use its own style, by hash, and its icon: no script, no frame, no form, no referrer."""
    response = await call(application())
    style = re.search(r"<style>(.*?)</style>", response.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ) == response.headers["content-security-policy"]
    assert ("no-referrer", "DENY") == (response.headers["referrer-policy"], response.headers["x-frame-options"])


async def test_page_reads_the_state_of_now() -> None:
    """Every request renders what the health says then, by the clock."""
    workspaces: list[WorkspaceHealth] = []
    app = create_app(Metrics(), lambda: workspaces, version="1.2.3", clock=lambda: 1_763_993_002.0)
    assert "No feed is configured" in (await call(app)).text
    workspaces.append(WorkspaceHealth(name="acme", base_url="https://getlate.dev/api", feeds=(SYNCED,)))
    text = (await call(app)).text
    assert "The feed is polled and up to date" in text
    assert "as of 14:03:22 UTC" in text


async def exchange(app: App, kind: str, *events: str) -> list[Message]:
    """Sends the events of a scope that is not HTTP."""
    incoming = iter(events)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": next(incoming)}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": kind, "path": "/metrics", "headers": []}, receive, send)
    return sent


async def test_lifespan() -> None:
    """Startup and shutdown are acknowledged."""
    sent = await exchange(application(), "lifespan", "lifespan.startup", "lifespan.shutdown")
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == [message["type"] for message in sent]


async def test_websocket() -> None:
    """A websocket is closed before it opens."""
    assert [{"type": "websocket.close", "code": 1000}] == await exchange(
        application(), "websocket", "websocket.connect"
    )

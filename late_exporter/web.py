"""The ASGI application: it reads memory and nothing else."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import msgspec

from late_exporter.health import FeedHealth, WorkspaceHealth
from late_exporter.landing import STYLE, State, page, plain, state_of, trouble

__all__ = ["Answer", "App", "Body", "create_app"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]
Headers: TypeAlias = tuple[tuple[str, str], ...]

TEXT: Headers = (("content-type", "text/plain; charset=utf-8"),)
METHODS = ("GET", "HEAD")
ALWAYS: Headers = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE: Headers = (
    ("content-type", "text/html; charset=utf-8"),
    ("content-security-policy", POLICY),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
)


class Answer(Protocol):
    """The metrics as one scraper asked for them."""

    @property
    def content_type(self) -> str:
        """Value of the header Content-Type."""

    @property
    def content_encoding(self) -> str | None:
        """Value of the header Content-Encoding, None for identity."""

    @property
    def body(self) -> bytes:
        """The encoded metrics."""

    @property
    def version(self) -> int:
        """The publication it is from."""


class Body(Protocol):
    """Where the metrics come from."""

    def answer(self, accept: str | None, accept_encoding: str | None, /) -> Answer:
        """What fits the request's headers, None where it has none."""

    def served(self, version: int, /) -> object:
        """A scraper was sent the body of an answer of this version."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A response; ``sent`` is called once its body went out."""

    body: bytes
    status: int = 200
    headers: Headers = TEXT
    sent: Callable[[], object] | None = None


def create_app(
    exposition: Body,
    health: Callable[[], Sequence[WorkspaceHealth]],
    *,
    version: str,
    telemetry_path: str = "/metrics",
    clock: Callable[[], float] = time.time,
    documentation: str = "",
) -> App:
    """The application; ``documentation`` is the URL of a link on the landing page, left out where empty."""

    def landing(_: Message) -> Reply:
        html = page(health(), now=clock(), version=version, telemetry_path=telemetry_path, documentation=documentation)
        return Reply(body=html.encode("utf-8", "replace"), headers=PAGE)

    routes = {
        "/": landing,
        "/-/healthy": lambda _: _text("late-exporter is healthy"),
        "/-/ready": lambda _: _readiness(health()),
        telemetry_path: lambda scope: _metrics(exposition, scope),
    }

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _respond(_route(routes, scope), send, head=scope["method"] == "HEAD")
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    return app


def _route(routes: MutableMapping[str, Callable[[Message], Reply]], scope: Message) -> Reply:
    if scope["path"] not in routes:
        return _text("not found", 404)
    if scope["method"] not in METHODS:
        return _text("method not allowed", 405, ("allow", ", ".join(METHODS)))
    return routes[scope["path"]](scope)


def _metrics(exposition: Body, scope: Message) -> Reply:
    answer = exposition.answer(_header(scope, b"accept"), _header(scope, b"accept-encoding"))
    headers: Headers = (("content-type", answer.content_type), ("vary", "Accept, Accept-Encoding"))
    if answer.content_encoding is not None:
        headers += (("content-encoding", answer.content_encoding),)
    return Reply(body=answer.body, headers=headers, sent=partial(exposition.served, answer.version))


def _readiness(workspaces: Sequence[WorkspaceHealth]) -> Reply:
    reasons = list(_reasons(workspaces))
    return _text("\n".join(reasons), 503) if reasons else _text("late-exporter is ready")


def _reasons(workspaces: Sequence[WorkspaceHealth]) -> Iterator[str]:
    for workspace in workspaces:
        for feed in workspace.feeds:
            if not feed.synced:
                yield f"{plain(workspace.name)}/{plain(feed.name)}: {_reason(feed)}"


def _reason(feed: FeedHealth) -> str:
    match state_of(feed):
        case State.FAILING:
            return f"first sync has not succeeded: {trouble(feed)}"
        case State.WAITING:
            return "waiting for the first poll"
        case _:
            return f"first sync under way, {feed.logs:,} logs read"


def _text(line: str, status: int = 200, *headers: tuple[str, str]) -> Reply:
    return Reply(body=f"{line}\n".encode("utf-8", "replace"), status=status, headers=TEXT + headers)


def _header(scope: Message, name: bytes) -> str | None:
    values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    return ", ".join(values) if values else None


async def _respond(reply: Reply, send: Send, *, head: bool) -> None:
    headers = (*reply.headers, *ALWAYS, ("content-length", str(len(reply.body))))
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if head else reply.body})
    if reply.sent is not None and not head:
        reply.sent()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return

"""The ASGI application: it reads memory and nothing else; what webhooks tell only wakes who polls."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import TypeAlias

import msgspec

from late_exporter.errors import LateError
from late_exporter.exposition.exposition import Exposition
from late_exporter.ingest.webhooks import MAX_PAYLOAD_BYTES, WebhookReceiver
from late_exporter.status import FeedHealth, WorkspaceHealth
from late_exporter.web.asgi import App, Message, Receive, Send
from late_exporter.web.landing import STYLE, FeedStatus, feed_state, problem_text, render_page, single_line

__all__ = ["Lifecycle", "create_app"]

Headers: TypeAlias = tuple[tuple[str, str], ...]

TEXT: Headers = (("content-type", "text/plain; charset=utf-8"),)
READING = ("GET", "HEAD")
COMMANDING = ("POST", "PUT")
TELLING = ("POST",)
SIGNATURES = (b"x-late-signature", b"x-zernio-signature")
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


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True):
    """Callbacks of ``/-/reload`` and ``/-/quit``.

    Args:
        reload: Reload the configuration; raises LateError if that fails.
        quit: Stop the process.
    """

    reload: Callable[[], Awaitable[None]]
    quit: Callable[[], None]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A response; ``sent`` is called once its body went out."""

    body: bytes
    status: int = 200
    headers: Headers = TEXT
    sent: Callable[[], object] | None = None


Route: TypeAlias = tuple[Sequence[str], Callable[[Message], Awaitable[Reply]]]
"""The methods that a path has, and what it does."""


def create_app(
    exposition: Exposition,
    health: Callable[[], Sequence[WorkspaceHealth]],
    *,
    version: str,
    telemetry_path: str = "/metrics",
    clock: Callable[[], float] = time.time,
    documentation: str = "",
    lifecycle: Lifecycle | None = None,
    webhooks: WebhookReceiver | None = None,
) -> App:
    """The application.

    Args:
        exposition: Where the metrics come from.
        health: How the workspaces are doing.
        version: Of the program.
        telemetry_path: Of the metrics.
        clock: Unix time in seconds.
        documentation: URL of a link on the landing page; left out where empty.
        lifecycle: What ``/-/reload`` and ``/-/quit`` do; None: they are refused.
        webhooks: Takes webhooks; None: they have no path.
    """

    def landing(_: Message) -> Reply:
        html = render_page(
            health(), now=clock(), version=version, telemetry_path=telemetry_path, documentation=documentation
        )
        return Reply(body=html.encode("utf-8", "replace"), headers=PAGE)

    routes: dict[str, Route] = {
        "/": _reading(landing),
        "/-/healthy": _reading(lambda _: _text("late-exporter is healthy")),
        "/-/ready": _reading(lambda _: _readiness(health())),
        "/-/reload": _commanding(lifecycle, _reload),
        "/-/quit": _commanding(lifecycle, _quit),
        telemetry_path: _reading(lambda scope: _metrics(exposition, scope)),
    }

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            told = webhooks is not None and webhooks.handles(scope["path"])
            reply = await (_tell(webhooks, scope, receive) if webhooks and told else _route(routes, scope))
            await _respond(reply, send, head=scope["method"] == "HEAD")
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    return app


async def _route(routes: Mapping[str, Route], scope: Message) -> Reply:
    if scope["path"] not in routes:
        return _text("not found", 404)
    methods, respond = routes[scope["path"]]
    if scope["method"] not in methods:
        return _not_allowed(methods)
    return await respond(scope)


async def _tell(webhooks: WebhookReceiver, scope: Message, receive: Receive) -> Reply:
    if scope["method"] not in TELLING:
        return _not_allowed(TELLING)
    body = await _body(receive, MAX_PAYLOAD_BYTES)
    if body is None:
        return _text("cut off", HTTPStatus.BAD_REQUEST)
    signatures = [value for name, value in scope["headers"] if name.lower() in SIGNATURES]
    status = webhooks.receive(scope["path"], body, signatures)
    return Reply(body=b"", status=status) if status == HTTPStatus.NO_CONTENT else _text(status.phrase.lower(), status)


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The body of a request, None where it was broken off; one that is larger ends somewhere beyond the limit."""
    body = bytearray()
    more = True
    while more and len(body) <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def _not_allowed(methods: Sequence[str]) -> Reply:
    return _text("method not allowed", 405, ("allow", ", ".join(methods)))


def _reading(show: Callable[[Message], Reply]) -> Route:
    async def respond(scope: Message) -> Reply:
        return show(scope)

    return READING, respond


def _commanding(lifecycle: Lifecycle | None, command: Callable[[Lifecycle], Awaitable[Reply]]) -> Route:
    async def respond(scope: Message) -> Reply:
        if lifecycle is None:
            return _text("this is for those who start with --web.enable-lifecycle", 403)
        if _header(scope, b"origin") is not None:  # a page that somebody looks at, not somebody
            return _text("not for browsers", 403)
        return await command(lifecycle)

    return COMMANDING, respond


async def _reload(lifecycle: Lifecycle) -> Reply:
    try:
        await lifecycle.reload()
    except LateError as exc:
        return _text(f"not reloaded, all stays as it was:\n{exc}", 500)
    return _text("reloaded")


async def _quit(lifecycle: Lifecycle) -> Reply:
    return Reply(body=b"stopping\n", sent=lifecycle.quit)


def _metrics(exposition: Exposition, scope: Message) -> Reply:
    answer = exposition.get_body(_header(scope, b"accept"), _header(scope, b"accept-encoding"))
    headers: Headers = (("content-type", answer.content_type), ("vary", "Accept, Accept-Encoding"))
    if answer.content_encoding is not None:
        headers += (("content-encoding", answer.content_encoding),)
    return Reply(body=answer.body, headers=headers, sent=partial(exposition.mark_served, answer.version))


def _readiness(workspaces: Sequence[WorkspaceHealth]) -> Reply:
    reasons = list(_reasons(workspaces))
    return _text("\n".join(reasons), 503) if reasons else _text("late-exporter is ready")


def _reasons(workspaces: Sequence[WorkspaceHealth]) -> Iterator[str]:
    for workspace in workspaces:
        for feed in workspace.feeds:
            if not feed.is_synced:
                yield f"{single_line(workspace.name)}/{single_line(feed.name)}: {_reason(feed)}"


def _reason(feed: FeedHealth) -> str:
    match feed_state(feed):
        case FeedStatus.FAILING:
            return f"first sync has not succeeded: {problem_text(feed)}"
        case FeedStatus.WAITING:
            return "waiting for the first poll"
        case _:
            return f"first sync under way, {feed.logs:,} logs read"


def _text(line: str, status: int = 200, *headers: tuple[str, str]) -> Reply:
    return Reply(body=f"{line}\n".encode("utf-8", "replace"), status=status, headers=TEXT + headers)


def _header(scope: Message, name: bytes) -> str | None:
    values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    return ", ".join(values) if values else None


async def _respond(reply: Reply, send: Send, *, head: bool) -> None:
    bodiless = reply.status == HTTPStatus.NO_CONTENT
    length: Headers = () if bodiless else (("content-length", str(len(reply.body))),)
    headers = (*(() if bodiless else reply.headers), *ALWAYS, *length)
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

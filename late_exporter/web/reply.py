"""Routes and responses of the ASGI applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import TypeAlias

import msgspec

from late_exporter.web.access import AccessError
from late_exporter.web.asgi import Message, Send

Headers: TypeAlias = tuple[tuple[str, str], ...]

TEXT_HEADERS: Headers = (("content-type", "text/plain; charset=utf-8"),)
COMMON_HEADERS: Headers = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))
READ_METHODS = ("GET", "HEAD")

PART_BYTES = 32 * 1024
"""Size of the parts of a response, so that a slow client costs no copy of a large body."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Response to a request."""

    body: bytes
    status: int = 200
    headers: Headers = TEXT_HEADERS


Route: TypeAlias = tuple[Sequence[str], Callable[[Message], Awaitable[Reply]]]
"""Methods of a path, and its handler."""


async def respond(route: Route | None, scope: Message, send: Send) -> None:
    """Send the reply of a route; None if there is no such path."""
    methods, handle = route or ((), None)
    if handle is None:
        reply = text_reply("not found", HTTPStatus.NOT_FOUND)
    elif scope["method"] not in methods:
        reply = text_reply(
            "method not allowed", HTTPStatus.METHOD_NOT_ALLOWED, ("allow", ", ".join(methods))
        )
    else:
        try:
            reply = await handle(scope)
        except AccessError as exc:
            reply = error_reply(exc)
    await send_reply(reply, scope, send)


def error_reply(exc: AccessError) -> Reply:
    return text_reply(str(exc), exc.status, *exc.headers)


def text_reply(text: str, status: int = 200, *headers: tuple[str, str]) -> Reply:
    return Reply(
        body=f"{text}\n".encode("utf-8", "replace"), status=status, headers=TEXT_HEADERS + headers
    )


def get_header(scope: Message, name: bytes) -> str:
    return ", ".join(
        value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name
    )


async def send_reply(reply: Reply, scope: Message, send: Send) -> None:
    has_content = reply.status != HTTPStatus.NO_CONTENT
    headers = [*reply.headers, *COMMON_HEADERS, ("date", formatdate(usegmt=True))]
    if has_content:
        headers.append(("content-length", str(len(reply.body))))
    if {b"content-length", b"transfer-encoding"} <= {name.lower() for name, _ in scope["headers"]}:
        # A proxy may disagree about where the request ends: what follows may be from another
        # client.
        headers.append(("connection", "close"))
    encoded_headers = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    body = reply.body if has_content and scope["method"] != "HEAD" else b""
    await send({"type": "http.response.start", "status": reply.status, "headers": encoded_headers})
    for start in range(
        0, max(len(body), 1), PART_BYTES
    ):  # waits until the client has read most of the parts before
        part, has_more = body[start : start + PART_BYTES], start + PART_BYTES < len(body)
        await send({"type": "http.response.body", "body": part, "more_body": has_more})

"""Replies to requests: ASGI types, rejected requests, and replies that requests share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, MutableMapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, TypeAlias

import msgspec

from late_exporter.errors import LateError

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Coroutine[Any, Any, Message]]
Send: TypeAlias = Callable[[Message], Coroutine[Any, Any, None]]
App: TypeAlias = Callable[[Message, Receive, Send], Coroutine[Any, Any, None]]

Headers: TypeAlias = tuple[tuple[str, str], ...]

TEXT_HEADERS: Headers = (("content-type", "text/plain; charset=utf-8"),)
COMMON_HEADERS: Headers = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))

PART_BYTES = 32 * 1024
"""Size of the parts of a response, so that a slow client costs no copy of a large body."""

MAX_KEPT_REPLIES = 10
"""Maximum number of replies that are kept for further requests."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Response to a request."""

    body: bytes
    status: int = 200
    headers: Headers = TEXT_HEADERS


class AccessError(LateError):
    """A request that is rejected, with the status, the text and the headers of the response."""

    def __init__(self, status: HTTPStatus, text: str = "", *headers: tuple[str, str]) -> None:
        super().__init__(text or status.phrase.lower())
        self.status = status
        self.headers = headers

    def reply(self) -> Reply:
        return text_reply(str(self), self.status, *self.headers)


def text_reply(text: str, status: int = 200, *headers: tuple[str, str]) -> Reply:
    body = f"{text}\n".encode("utf-8", "replace")
    return Reply(body=body, status=status, headers=TEXT_HEADERS + headers)


def get_header(scope: Message, name: bytes) -> str:
    values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    return ", ".join(values)


async def send_reply(reply: Reply, scope: Message, send: Send) -> None:
    """Send a reply in parts, each once the client has read most of those before."""
    headers = [
        *reply.headers,
        *COMMON_HEADERS,
        ("date", formatdate(usegmt=True)),
        ("content-length", str(len(reply.body))),
    ]
    content_length = get_header(scope, b"content-length")
    if content_length not in ("", "0") or get_header(scope, b"transfer-encoding"):
        # No path reads a body, and no part of one may pass for the next request.
        headers.append(("connection", "close"))
    encoded_headers = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": encoded_headers})

    body = b"" if scope["method"] == "HEAD" else reply.body
    for start in range(0, max(len(body), 1), PART_BYTES):
        end = start + PART_BYTES
        has_more = end < len(body)
        await send({"type": "http.response.body", "body": body[start:end], "more_body": has_more})
        if has_more:
            # In a turn of the event loop the server learns that the client has left. Without it,
            # each further part writes a line to the log.
            await asyncio.sleep(0)


class SharedReplies:
    """Replies that are made one at a time, and shared by all requests for the same one.

    No more than ``max_waiting`` wait.

    Args:
        seconds: Time for which further requests get a reply that was made.
        monotonic: Returns the time in seconds.
    """

    def __init__(
        self,
        *,
        max_waiting: int,
        seconds: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_waiting = max_waiting
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._tasks: dict[Hashable, asyncio.Task[Reply]] = {}
        self._kept: dict[Hashable, tuple[float, Reply]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Reply]]) -> Reply:
        """Return the reply of a key, which ``make`` makes.

        Raises:
            AccessError: Too many other replies wait.
        """
        made_at, reply = self._kept.get(key, (0.0, None))
        if reply is not None and self._monotonic() < made_at + self._seconds:
            return reply

        if key not in self._tasks:
            if len(self._tasks) >= self._max_waiting:
                raise AccessError(
                    HTTPStatus.SERVICE_UNAVAILABLE, "too many requests", ("retry-after", "1")
                )
            self._tasks[key] = asyncio.create_task(self._make(key, make))
        # Not cancelled with its client: others may share it, and a thread cannot be stopped.
        return await asyncio.shield(self._tasks[key])

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[Reply]]) -> Reply:
        try:
            async with self._lock:
                reply = await make()
        finally:
            del self._tasks[key]
        if self._seconds:
            self._kept.pop(key, None)
            self._kept[key] = (self._monotonic(), reply)
            if len(self._kept) > MAX_KEPT_REPLIES:
                del self._kept[next(iter(self._kept))]
        return reply

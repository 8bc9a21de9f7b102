"""Requests to an ASGI application without a server, and waiting for their effects."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable

import msgspec
import pytest

from late_exporter.web.replies import App, Message

DEADLINE = 60.0
"""Seconds after which a test fails; a busy machine may be slow."""


class Response(msgspec.Struct):
    """Response of an application, with the names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode()


async def call(
    app: App,
    path: str = "/",
    method: str = "GET",
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    query: bytes = b"",
) -> Response:
    """Send a request, whose body is never read; return the response without its date."""
    sent: list[Message] = []

    async def receive() -> Message:
        pytest.fail("the body of a request is never read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": [*headers]}
    await app(scope, receive, send)
    start, *parts = sent
    start["headers"] = [(name, value) for name, value in start["headers"] if name != b"date"]
    names = [name.decode().lower() for name, _ in start["headers"]]
    assert sorted(set(names)) == sorted(names)
    values = (value.decode() for _, value in start["headers"])
    return Response(start["status"], dict(zip(names, values, strict=True)), b"".join(part["body"] for part in parts))


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


def basic_auth(user: str, password: str) -> tuple[bytes, bytes]:
    """Return the header of a user and a password."""
    return b"Authorization", b"Basic " + base64.b64encode(f"{user}:{password}".encode())

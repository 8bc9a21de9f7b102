"""Types of ASGI, and routing between applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


def by_path(path: str, app: App, other_app: App) -> App:
    """Return an application that handles a path by ``app``, and all others by ``other_app``."""

    async def route(scope: Message, receive: Receive, send: Send) -> None:
        await (app if scope["path"] == path else other_app)(scope, receive, send)

    return route

"""Types of ASGI."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, MutableMapping
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Coroutine[Any, Any, Message]]
Send: TypeAlias = Callable[[Message], Coroutine[Any, Any, None]]
App: TypeAlias = Callable[[Message, Receive, Send], Coroutine[Any, Any, None]]

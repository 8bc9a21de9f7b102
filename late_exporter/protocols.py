"""Injected dependencies, and values that they exchange."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

Offload: TypeAlias = Callable[..., Awaitable[Any]]
"""Runs a call in the store's thread and returns its result."""


class ApiResponse(NamedTuple):
    """A successful response of the API.

    Args:
        body: Response body.
        date: Clock of the API as a Unix time in seconds, None if the response has no date.
    """

    body: bytes
    date: float | None


class RequestRecord(NamedTuple):
    """A finished request, as it is counted.

    Args:
        path_template: Path without ids.
        code: HTTP status, or the kind of error if there was no response.
    """

    path_template: str
    code: str
    seconds: float


class Logger(Protocol):
    """Logger of events with fields."""

    def debug(self, event: str, **fields: Any) -> object:
        """Log an event of interest in troubleshooting."""

    def info(self, event: str, **fields: Any) -> object:
        """Log a normal event."""

    def warning(self, event: str, **fields: Any) -> object:
        """Log an event that may need action."""

"""What is given from outside, as far as it is used: the API, a log, the thread of the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from late_exporter.status import Quota

__all__ = ["Answer", "Client", "Log", "Offload", "Request"]

Offload: TypeAlias = Callable[..., Awaitable[Any]]
"""Runs a call in the store's thread."""


class Answer(Protocol):
    """A good answer of the API."""

    @property
    def body(self) -> bytes:
        """What it says."""

    @property
    def date(self) -> float | None:
        """The API's clock, a Unix time in seconds."""


class Request(Protocol):
    """A request that ended."""

    @property
    def endpoint(self) -> str:
        """The path without ids."""

    @property
    def code(self) -> str:
        """HTTP status or kind of error."""

    @property
    def seconds(self) -> float:
        """How long it took."""


class Client(Protocol):
    """The API as one workspace sees it."""

    @property
    def quota(self) -> Quota | None:
        """What the API last said of the key's rate limit."""

    @property
    def limit(self) -> int:
        """Requests a minute allowed to the key."""

    @property
    def key_readings(self) -> int:
        """How often another key was read, for whichever feed asked first."""

    def key_changed(self) -> bool:
        """Whether there is another key to try."""

    def drain(self) -> tuple[Sequence[Request], float]:
        """The requests that ended and the seconds waited since last asked."""

    async def get(self, path: str, params: Mapping[str, str | int], *, endpoint: str) -> Answer | None:
        """The answer to a GET, None for 404; raises ApiError."""


class Log(Protocol):
    """Takes an event and its fields."""

    def debug(self, event: str, **fields: Any) -> object:
        """For those who look for something."""

    def info(self, event: str, **fields: Any) -> object:
        """For those who want to know."""

    def warning(self, event: str, **fields: Any) -> object:
        """For those who have to act."""

"""What is given from outside, as far as it is used: the API, a log, the thread of the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from late_exporter.status import Quota

__all__ = ["ApiResponse", "Client", "Logger", "Offload", "RequestRecord"]

Offload: TypeAlias = Callable[..., Awaitable[Any]]
"""Runs a call in the store's thread."""


class ApiResponse(Protocol):
    """A good answer of the API."""

    @property
    def body(self) -> bytes:
        """What it says."""

    @property
    def date(self) -> float | None:
        """The API's clock, a Unix time in seconds."""


class RequestRecord(Protocol):
    """A request that ended."""

    @property
    def path_template(self) -> str:
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
    def rate_limit(self) -> int:
        """Requests a minute allowed to the key."""

    @property
    def key_reload_count(self) -> int:
        """How often another key was read, for whichever feed asked first."""

    def key_file_changed(self) -> bool:
        """Whether there is another key to try."""

    def pop_request_log(self) -> tuple[Sequence[RequestRecord], float]:
        """The requests that ended and the seconds waited since last asked."""

    async def get(self, path: str, params: Mapping[str, str | int], *, path_template: str) -> ApiResponse | None:
        """The answer to a GET, None for 404; raises ApiError."""


class Logger(Protocol):
    """Takes an event and its fields."""

    def debug(self, event: str, **fields: Any) -> object:
        """For those who look for something."""

    def info(self, event: str, **fields: Any) -> object:
        """For those who want to know."""

    def warning(self, event: str, **fields: Any) -> object:
        """For those who have to act."""

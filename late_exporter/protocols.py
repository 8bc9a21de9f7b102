"""Protocols of injected dependencies, and the values that they exchange."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from late_exporter.status import Quota

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


class Client(Protocol):
    """API client of one workspace."""

    @property
    def profile_id(self) -> str | None:
        """Profile to which the workspace is limited; None if it has all logs of the key."""

    @property
    def quota(self) -> Quota | None:
        """Rate limit of the key as last reported by the API."""

    @property
    def rate_limit(self) -> int:
        """Requests per minute that the key allows."""

    @property
    def key_reload_count(self) -> int:
        """Number of times that the key file had another key, also now."""

    def pop_request_log(self) -> tuple[Sequence[RequestRecord], float]:
        """Return the requests that finished since the last call, and the seconds they waited for the rate limiter."""

    def quota_wait(self, requests: int = 1) -> float:
        """Return the seconds until the quota allows the last of some further requests, as far as can be told now."""

    async def get(self, path: str, params: Mapping[str, str | int], *, path_template: str) -> ApiResponse | None:
        """Send a GET request; return None for 404, raise ApiError for any other failure."""


class Logger(Protocol):
    """Logger of events with fields."""

    def debug(self, event: str, **fields: Any) -> object:
        """Log an event of interest in troubleshooting."""

    def info(self, event: str, **fields: Any) -> object:
        """Log a normal event."""

    def warning(self, event: str, **fields: Any) -> object:
        """Log an event that may need action."""

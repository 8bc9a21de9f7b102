"""Every error the exporter raises on purpose, split by what the caller does next.

LateError
├── ApiError             a poll failed; the next one tries again
│   ├── Unauthorized     the key was refused (401, 403): back off until it changes
│   ├── RateLimited      429: no request before ``until``
│   ├── ApiUnavailable   no usable answer: network, timeout, 5xx, redirect, 4xx
│   │   ├── EndpointNotFound  404: the API does not have the endpoint
│   │   └── BadRequest   400: what was asked for cannot be had, however often it is tried
│   └── BadPayload       an answer that is not what the API documents
├── StoreError           the state could not be read or written; nothing was counted
│   ├── StoreInUse       another process works on it
│   └── StoreOutdated    an earlier version wrote it; starting the exporter brings it up to date
└── ConfigError          the user has to change something; the command ends with exit code 2
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ApiError",
    "ApiUnavailable",
    "BadPayload",
    "BadRequest",
    "ConfigError",
    "EndpointNotFound",
    "LateError",
    "RateLimited",
    "StoreError",
    "StoreInUse",
    "StoreOutdated",
    "Unauthorized",
]


class LateError(Exception):
    """Root of all errors of this package; its text is fit to be shown to a user.

    ``outcome`` is what a poll that it ends is counted as.
    """

    outcome = "unavailable"


class ApiError(LateError):
    """A request to the Late API did not give what was asked for."""


class Unauthorized(ApiError):
    """The API refused the key."""

    outcome = "unauthorized"


class RateLimited(ApiError):
    """The API asked to wait.

    Args:
        message: What was refused.
        until: Monotonic time in seconds before which no request may be sent.
    """

    outcome = "rate_limited"

    def __init__(self, message: str, *, until: float) -> None:
        super().__init__(message)
        self.until = until


class ApiUnavailable(ApiError):
    """There was no usable answer."""


class EndpointNotFound(ApiUnavailable):
    """The API does not have the endpoint."""


class BadRequest(ApiUnavailable):
    """The API does not know what it was asked for."""


class BadPayload(ApiError):
    """The answer is not a log list: too large, not JSON, or of another shape."""

    outcome = "bad_payload"


class StoreError(LateError):
    """The state file could not be opened, read or written."""

    outcome = "store_error"


class StoreInUse(StoreError):
    """Another process works on the state."""


class StoreOutdated(StoreError):
    """The state is of an earlier version of this program."""


class ConfigError(LateError):
    """One or more mistakes in flags, environment or file, all reported at once."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems

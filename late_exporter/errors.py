"""Every error the exporter raises on purpose, split by what the caller does next.

LateError
├── ApiError             a poll failed; the next one tries again
│   ├── Unauthorized     the key was rejected (401): back off until it changes
│   │   └── Forbidden    403: the key lacks the right to this path
│   ├── RateLimited      429: no request before ``until``
│   ├── ApiUnavailable   no usable response: network, timeout, 5xx, redirect, 4xx
│   │   ├── EndpointNotFound  404: the API does not have the endpoint
│   │   ├── CertificateRejected  TLS: the message has the remedy, and not that of the network
│   │   └── BadRequest   400: the request is not supported, a retry cannot succeed
│   └── BadPayload       a response that is not what the API documents
│       └── ResponseTooLarge  fewer rows may fit
├── UnrecognisedLogs     keys of logs without ids have changed: only newer logs count from now on
├── StoreError           the state could not be read or written; nothing was counted
│   ├── StoreInUse       another process has it open
│   ├── StoreFenced      the workspace belongs to another process, or was changed by one
│   ├── StoreMissing     there is none yet; starting the exporter creates it
│   └── StoreOutdated    an earlier version wrote it; it has to be upgraded
├── ExporterStopping     the process is being stopped: a reload ends without a result
└── ConfigError          the user has to change something; the command ends with exit code 2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class LateError(Exception):
    """Root of all errors of this package; the message is written for users.

    Attributes:
        outcome: Label value that counts a poll ended by this error.
    """

    outcome = "unavailable"

    def without_frames(self) -> Self:
        """Return this error without its traceback and cause, which keep pages in memory."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class ApiError(LateError):
    """A request to the Zernio API failed.

    Args:
        message: Error message without the request id, so that equal failures have equal ``args``.
        status: HTTP status of the response, None if the error is not about one.

    Attributes:
        request_id: Id by which the vendor finds the request; empty if unknown.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = ""

    def add_hint(self, hint: str) -> None:
        """Add its remedy to the message, unless it is there."""
        if not self.args[0].endswith(hint):
            self.args = (f"{self.args[0]}; {hint}",)

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} (request id {self.request_id})" if self.request_id else message


class Unauthorized(ApiError):
    """The API rejected the key."""

    outcome = "unauthorized"


class Forbidden(Unauthorized):
    """The API knows the key, but the key lacks the right to the path.

    Args:
        message: Error message.
        code: Error code of the API, for example ``unclassified_resource`` for a path that no right
            covers.
    """

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message, status=403)
        self.code = code


class RateLimited(ApiError):
    """The API is rate limiting requests.

    Args:
        message: Error message.
        until: Monotonic time in seconds before which no request may be sent.
    """

    outcome = "rate_limited"

    def __init__(self, message: str, *, until: float) -> None:
        super().__init__(message, status=429)
        self.until = until


class ApiUnavailable(ApiError):
    """The API returned no usable response."""


class EndpointNotFound(ApiUnavailable):
    """The API does not have the endpoint."""


class CertificateRejected(ApiUnavailable):
    """The certificate of the API, or of a proxy in between, is not accepted."""


class BadRequest(ApiUnavailable):
    """The API does not support the request."""


class BadPayload(ApiError):
    """The response is not a log list: too large, not JSON, or not of the documented shape."""

    outcome = "bad_payload"


class ResponseTooLarge(BadPayload):
    """The response takes more memory than the exporter spends on one; a part may take less."""


class UnrecognisedLogs(LateError):
    """The API shows the fields by which logs without ids are recognised in another form."""


REQUEST_FAILURES = (ApiUnavailable, BadPayload, Forbidden)
"""Errors that may concern a single request; others concern all of the key, or the state."""


class StoreError(LateError):
    """The state could not be opened, read or written."""

    outcome = "store_error"


class StoreInUse(StoreError):
    """Another process has the state open."""


class StoreFenced(StoreError):
    """The workspace belongs to another process, or was changed by one.

    Its state has to be loaded again.
    """


class StoreMissing(StoreError):
    """There is no state yet."""


class StoreOutdated(StoreError):
    """The state was written by an earlier version, and has to be upgraded."""


class ExporterStopping(LateError):
    """The process is being stopped."""

    def __init__(self) -> None:
        super().__init__("the exporter is stopping")


class ConfigError(LateError):
    """One or more configuration errors, all reported at once."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems

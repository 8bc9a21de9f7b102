"""Responses: their headers, and the error of an unsuccessful one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from late_exporter.errors import ApiError, ApiUnavailable, BadRequest, Forbidden, Unauthorized
from late_exporter.health import Quota
from late_exporter.log import redact

MINUTE = 60.0
MAX_RETRY_AFTER = 86_400.0
"""Longest wait in seconds; a header that asks for a longer one is assumed to be wrong."""

MAX_RATE_LIMIT = 10**9

_REQUEST_ID = re.compile(r"[0-9A-Za-z._:/+=@-]{1,64}")

MAX_MESSAGE_LENGTH = 200
MAX_NAME_LENGTH = 60
_MAX_INPUT_LENGTH = 4096
"""Characters of a text that are searched for keys; more than can be left of it after redaction."""

_ERRORS: Mapping[int, type[ApiError]] = {400: BadRequest, 401: Unauthorized}


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


def parse_quota(headers: Mapping[str, str]) -> Quota | None:
    """Return the rate limit of the key, None if it is not reported."""
    limit, remaining, reset = (
        parse_number(headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining", "Reset")
    )
    if limit is None or not 1 <= limit <= MAX_RATE_LIMIT or remaining is None:
        return None
    return Quota(int(limit), int(remaining), reset)


def retry_delay(headers: Mapping[str, str]) -> float:
    """Return the seconds to wait after a 429: those of Retry-After, or a minute."""
    seconds = parse_number(headers.get("Retry-After"))
    return MINUTE if seconds is None or seconds < 0 else min(seconds, MAX_RETRY_AFTER)


def request_id(headers: Mapping[str, str]) -> str:
    """Return the id that the API gave to a request.

    Empty if it has none, or one that is not fit for a message.
    """
    text = headers.get("X-Request-Id", "").strip()
    return text if _REQUEST_ID.fullmatch(text) else ""


def parse_number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def parse_date(text: str | None) -> float | None:
    try:
        return (
            parsedate_to_datetime(text or "").replace(tzinfo=UTC).timestamp()
        )  # Dates of HTTP are in UTC.
    except (ValueError, TypeError, OverflowError):
        return None


class ErrorBody(msgspec.Struct, frozen=True):
    """Error response, of which all but the message may be missing."""

    error: str
    code: str | None = None
    param: str | None = None
    required_group: str | None = None
    details: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        names = {"code": self.code, "param": self.param}
        notes = ", ".join(f"{name} {value}" for name, value in names.items() if value)
        return f"{self.error} ({notes})" if notes else self.error


def parse_error(body: bytes, key: str) -> ErrorBody:
    """Return the texts of an error response, shortened and without any keys.

    A response that is not an error as the API documents it, such as one of a proxy, is its own
    message.
    """
    try:
        document = msgspec.json.decode(body, type=ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = ErrorBody(body.decode("utf-8", "replace"))
    message = "; ".join(
        [document.error, *(f"{name} {detail}" for name, detail in (document.details or {}).items())]
    )
    names = (document.code, document.param, document.required_group)
    code, param, group = (_clean(name or "", key, MAX_NAME_LENGTH) for name in names)
    return ErrorBody(
        _clean(message, key, MAX_MESSAGE_LENGTH) or "no error message", code, param, group
    )


def status_error(status: int, body: ErrorBody, location: str = "") -> ApiError:
    """Return the error for an unsuccessful status, except 404 and 429, which the client handles."""
    match status:
        case 301 | 302 | 303 | 307 | 308:
            host = re.match(r"(?:https?:)?//([a-z0-9.-]{1,100})(?![^:/?#])", location)
            place = host[1] if host else "elsewhere"
            problem = (
                f"redirected to {place}; redirects are not followed, to keep the API key from other"
                " hosts"
            )
        case 403 if body.required_group:
            problem = (
                f"the API key lacks a right: {body}; grant the key the group {body.required_group}"
            )
        case 403 if body.code == "unclassified_resource":
            problem = f"a restricted API key cannot use this path: {body}"
        case 401 | 403:
            problem = f"the API key was rejected: {body}"
        case _:
            problem = str(body)
    message = f"{status}: {problem}"
    if status == HTTPStatus.FORBIDDEN:
        return Forbidden(message, code=body.code or "")
    return _ERRORS.get(status, ApiUnavailable)(message, status=status)


def _clean(text: str, key: str, max_length: int) -> str:
    """Return a text as one line without control characters and keys; the key may be any text."""
    text = text.replace(key, "[redacted]")[:_MAX_INPUT_LENGTH]
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    # A text is shortened last, because a part of a key is not recognised as one.
    return redact(line)[:max_length]

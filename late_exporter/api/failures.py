"""Translate a failed connection or an unsuccessful response into an error with a short message that contains no key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from late_exporter.errors import ApiError, ApiUnavailable, BadRequest, Forbidden, Unauthorized
from late_exporter.log import redact

MAX_MESSAGE_LENGTH = 200
MAX_NAME_LENGTH = 60
_MAX_INPUT_LENGTH = 4096
"""Characters of a text that are searched for keys; more than can be left of it after redaction."""

_ERRORS: Mapping[int, type[ApiError]] = {400: BadRequest, 401: Unauthorized}


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
    """Return the texts of an error response, shortened and without keys, including others than ``key``.

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
            problem = f"redirected to {place}; redirects are not followed, to keep the API key from other hosts"
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

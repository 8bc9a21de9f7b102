"""Translate a failed connection or an unsuccessful response into an error with a short message that contains no key."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from late_exporter.errors import ApiError, ApiUnavailable, BadRequest, Forbidden, Unauthorized
from late_exporter.log import redact

MAX_MESSAGE_LENGTH = 200
MAX_NAME_LENGTH = 60
_MAX_INPUT_LENGTH = 4096
"""Characters of a text that are searched for keys; more than can be left of it after redaction."""


class ErrorBody(NamedTuple):
    """Cleaned texts of an error response; all but the message are empty if the API did not send them."""

    message: str
    code: str = ""
    param: str = ""
    required_group: str = ""

    def __str__(self) -> str:
        names = {"code": self.code, "param": self.param}
        notes = ", ".join(f"{name} {value}" for name, value in names.items() if value)
        return f"{self.message} ({notes})" if notes else self.message


def parse_error(body: bytes, key: str) -> ErrorBody:
    """Return the texts of an error response, shortened and without keys, including others than ``key``."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    names: list[str] = []
    if isinstance(document, dict) and "error" in document:
        message, details = str(document["error"]), document.get("details")
        if isinstance(details, dict):
            message = "; ".join([message, *(f"{name} {detail}" for name, detail in details.items())])
        texts = [document.get(name) for name in ("code", "param", "required_group")]
        names = [_clean(text, key, MAX_NAME_LENGTH) if isinstance(text, str) else "" for text in texts]
    else:
        message = "" if isinstance(document, list) else body.decode("utf-8", "replace")
    return ErrorBody(_clean(message, key, MAX_MESSAGE_LENGTH) or "no error message", *names)


def status_error(status: int, body: ErrorBody, location: str = "") -> ApiError:
    """Return the error for an unsuccessful status, except 404 and 429, which the client handles."""
    match status:
        case 301 | 302 | 303 | 307 | 308:
            host = re.match(r"(?:https?:)?//([a-z0-9.-]{1,100})(?![^:/?#])", location)
            place = host[1] if host else "elsewhere"
            problem = f"redirected to {place}; redirects are not followed, to keep the API key from other hosts"
            return ApiUnavailable(f"{status}: {problem}", status=status)
        case 400:
            return BadRequest(f"{status}: {body}", status=status)
        case 401:
            return Unauthorized(f"{status}: the API key was rejected: {body}", status=status)
        case 403:
            message = f"{status}: {_describe_refusal(body)}"
            return Forbidden(message, code=body.code, required_group=body.required_group)
        case _:
            return ApiUnavailable(f"{status}: {body}", status=status)


def _describe_refusal(body: ErrorBody) -> str:
    if body.required_group:
        return f"the API key lacks a right: {body}; grant the key the group {body.required_group}"
    if body.code == "unclassified_resource":
        return f"a restricted API key cannot use this path: {body}"
    return f"the API key was rejected: {body}"


def _clean(text: str, key: str, max_length: int) -> str:
    """Return a text as one line without control characters and keys; the key may be any text."""
    text = text.replace(key, "[redacted]")[:_MAX_INPUT_LENGTH]
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    # A text is shortened last, because a part of a key is not recognised as one.
    return redact(line)[:max_length]

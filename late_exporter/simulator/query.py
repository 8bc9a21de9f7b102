"""Query parameters of a request, and the rejection of a request."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION_PART = re.compile(r"([0-9]{1,6})([smhd])")
DURATION = re.compile(rf"({DURATION_PART.pattern})+")
MAX_DAYS = 365
"""Maximum duration, because times after the year 9999 cannot be written."""


ERROR_TYPES: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
"""Documented types of errors by status; those of other statuses are ``invalid_request_error``."""


class RequestRejected(Exception):
    """Request that is answered with an error, by default the name of its status."""

    def __init__(self, status: HTTPStatus, error: str = "", *, code: str = "", **fields: Any) -> None:
        self.error = error or status.phrase.capitalize()
        super().__init__(self.error)
        self.status = status
        self.document = {
            "error": self.error,
            "type": ERROR_TYPES.get(status, "invalid_request_error"),
            "code": code or status.name.lower(),
            **fields,
        }


class QueryParameters:
    """Parsed query string. ``raise_errors`` reports all invalid parameters at once."""

    def __init__(self, query: str) -> None:
        self._values = dict(parse_qsl(query))
        self._errors: dict[str, str] = {}

    def integer(self, name: str, default: int, low: int, high: int | None = None) -> int:
        text = self._values.get(name, str(default))
        number = int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else None
        if number is None or number < low or (high is not None and number > high):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            self._errors[name] = f"must be an integer {bounds}"
            return default
        return number

    def choice(self, name: str, allowed: Collection[str], default: str = "all") -> str | None:
        """Return one of the allowed values, or None for ``all``."""
        value = self._values.get(name, default)
        if value == "all":
            return None
        if value not in allowed:
            self._errors[name] = f"must be one of: {', '.join((*allowed, 'all'))}"
        return value

    def filters(self, **allowed: Collection[str]) -> dict[str, str]:
        """Return the parameters with one of their allowed values, without those that are absent or ``all``."""
        choices = {name: self.choice(name, values) for name, values in allowed.items()}
        return {name: value for name, value in choices.items() if value is not None}

    def choices(self, name: str, allowed: Collection[str]) -> tuple[str, ...]:
        """Return the allowed values of a comma-separated list, empty if the parameter is absent."""
        values = tuple(filter(None, self._values.get(name, "").split(",")))
        if unknown := [value for value in values if value not in allowed]:
            self._errors[name] = f"{unknown[0]} is not one of: {', '.join(allowed)}"
        return values

    def duration(self, name: str, default: float) -> float:
        """Return a duration such as ``90s`` or ``1h30m``, in seconds."""
        text = self._values.get(name)
        if text is None:
            return default
        seconds = sum(int(number) * UNIT_SECONDS[unit] for number, unit in DURATION_PART.findall(text))
        if not DURATION.fullmatch(text) or seconds > MAX_DAYS * UNIT_SECONDS["d"]:
            self._errors[name] = f"must be a duration such as 90s, 30m or 1h30m, at most {MAX_DAYS}d"
        return seconds

    def time(self, name: str, default: float) -> float:
        text = self._values.get(name)
        if text is None:
            return default
        try:
            time = datetime.fromisoformat(text)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            self._errors[name] = "must be a time such as 2026-11-20T08:00:00Z"
            return default

    def reject_unknown(self, allowed: Collection[str]) -> None:
        """Record an error for every parameter with another name."""
        for name in self._values:
            if name not in allowed:
                self._errors[name] = f"is not one of the accepted parameters: {', '.join(allowed)}"

    def has(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        """Return a text, empty if the parameter is absent."""
        return self._values.get(name, "")

    def raise_errors(self) -> None:
        """Raise RequestRejected if a parameter is invalid."""
        if self._errors:
            raise RequestRejected(
                HTTPStatus.BAD_REQUEST,
                "Invalid query",
                code="VALIDATION_ERROR",
                param=next(iter(self._errors)),
                details=self._errors,
            )

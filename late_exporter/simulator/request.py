"""Request to the simulated API, with its query parameters, and the rejection of a request."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from late_exporter.simulator.service import SimulatedApi


class RequestRejected(Exception):
    """Request that is answered with an error, by default the name of its status."""

    def __init__(self, status: HTTPStatus, error: str = "", *, code: str = "", **fields: Any) -> None:
        error = error or status.phrase.capitalize()
        super().__init__(error)
        self.status = status
        self.document = {"error": error, "code": code or status.name.lower(), **fields}


class Request:
    """Request for an endpoint. Its methods return query parameters, and reject the request if one is invalid.

    Args:
        api: API that answers it.
        query: Query string.
        now: Unix time of the request.

    Attributes:
        source: Source of the logs.
        argument: Variable part of the path, for example a post id.
    """

    def __init__(self, api: SimulatedApi, query: str, now: float) -> None:
        self.api, self.source, self.now = api, api.source, now
        self.argument = ""
        self._values = dict(parse_qsl(query))

    def text(self, name: str) -> str:
        """Return a parameter; empty if there is none."""
        return self._values.get(name, "")

    def integer(self, name: str, default: int, low: int, high: int = 999_999_999) -> int:
        text = self._values.get(name, str(default))
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            _reject(name, f"must be an integer between {low} and {high}")
        return int(text)

    def choice(self, name: str, allowed: Collection[str]) -> str | None:
        """Return one of the allowed values, or None for ``all``."""
        value = self._values.get(name, "all")
        if value != "all" and value not in allowed:
            _reject(name, f"must be one of: {', '.join((*allowed, 'all'))}")
        return None if value == "all" else value

    def time(self, name: str, default: float) -> float:
        try:
            time = datetime.fromisoformat(self._values[name]) if name in self._values else None
        except ValueError:
            _reject(name, "must be a time such as 2026-11-20T08:00:00Z")
        return default if time is None else (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _reject(name: str, problem: str) -> NoReturn:
    details = {name: problem}
    raise RequestRejected(HTTPStatus.BAD_REQUEST, "Invalid query", code="VALIDATION_ERROR", param=name, details=details)

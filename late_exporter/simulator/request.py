"""Request to the simulated API, with its query parameters, and the rejection of a request."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from late_exporter.simulator.log_list import StaticLogs, parse_time
from late_exporter.simulator.world import SimulatedWorld


class RequestRejected(Exception):
    """Request that is answered with an error, by default the name of its status."""

    def __init__(
        self, status: HTTPStatus, error: str = "", *, code: str = "", **fields: Any
    ) -> None:
        error = error or status.phrase.capitalize()
        super().__init__(error)
        self.status = status
        self.document = {"error": error, "code": code or status.name.lower(), **fields}


class Request:
    """Request for an endpoint, whose methods return query parameters or reject it.

    Args:
        source: Source of the logs.
        query: Query string.
        now: Unix time of the request.
    """

    def __init__(self, source: StaticLogs, query: str, now: float) -> None:
        self.source = source
        self.now = now
        self._values = dict(parse_qsl(query))

    @property
    def world(self) -> SimulatedWorld:
        """World of the logs. Lists of logs alone have no status and no incidents."""
        if not isinstance(self.source, SimulatedWorld):
            raise RequestRejected(HTTPStatus.NOT_FOUND)
        return self.source

    def text(self, name: str) -> str:
        """Return a parameter; empty if there is none, or if it is ``all``."""
        value = self._values.get(name, "")
        return "" if value == "all" else value

    def integer(self, name: str, default: int, low: int, high: int = 999_999_999) -> int:
        text = self._values.get(name, str(default))
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise _rejection(name, f"must be an integer between {low} and {high}")
        return int(text)

    def time(self, name: str, default: float) -> float:
        try:
            return parse_time(self._values[name]) if name in self._values else default
        except ValueError:
            raise _rejection(name, "must be a time such as 2026-11-20T08:00:00Z") from None


def _rejection(name: str, problem: str) -> RequestRejected:
    status = HTTPStatus.BAD_REQUEST
    details = {name: problem}
    return RequestRejected(
        status, "Invalid query", code="VALIDATION_ERROR", param=name, details=details
    )

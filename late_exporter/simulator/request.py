"""Requests to the simulated API: their parameters, their rejection, and the quota of their key."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from late_exporter.simulator.log_list import StaticLogs, parse_time
from late_exporter.simulator.world import SimulatedWorld

WINDOW_SECONDS = 60.0


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
    """Request for an endpoint. Its methods return query parameters, and reject invalid ones.

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

    def choice(self, name: str, values: Collection[str]) -> str:
        """Return a parameter that has one of some values; empty as ``text``."""
        value = self.text(name)
        if value and value not in values:
            raise _rejection(name, f"must be one of {', '.join(values)}, all")
        return value

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

    def require_known(self, names: Collection[str]) -> None:
        """Reject the request if it has a parameter that the endpoint does not know."""
        for name in self._values:
            if name not in names:
                raise _rejection(name, f"is not one of {', '.join(names)}")


def _rejection(name: str, problem: str) -> RequestRejected:
    return RequestRejected(
        HTTPStatus.BAD_REQUEST,
        "Invalid query",
        code="VALIDATION_ERROR",
        param=name,
        details={name: problem},
    )


class KeyQuota:
    """Accepted requests of a key in the last 60 seconds, each of which takes a slot of a limit."""

    def __init__(self) -> None:
        self._times = deque[float]()

    def take_slot(self, limit: int, now: float) -> None:
        """Take a slot for a request, which is rejected if none is free."""
        if not self.remaining(limit, now):
            error = "Rate limit exceeded. Please try again later."
            raise RequestRejected(HTTPStatus.TOO_MANY_REQUESTS, error, code="rate_limit_exceeded")
        self._times.append(now)

    def remaining(self, limit: int, now: float) -> int:
        """Return the number of free slots."""
        while self._times and self._times[0] + WINDOW_SECONDS <= now:
            self._times.popleft()
        return max(0, limit - len(self._times))

    def reset(self, limit: int, now: float) -> float:
        """Return the Unix time at which the next slot frees."""
        if not self._times:
            return now
        return self._times[max(0, len(self._times) - limit)] + WINDOW_SECONDS

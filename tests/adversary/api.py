"""An API that fails requests, some of them forever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from late_exporter.api.responses import ApiResponse
from late_exporter.errors import ApiUnavailable, BadRequest, Forbidden, ResponseTooLarge
from late_exporter.simulator.log_list import LogRow
from tests.support.client import QueryParams
from tests.support.late_api import (
    FakeLateApi,
    Fault,
    bad_gateway,
    cut_off,
    empty,
    empty_list,
    no_logs,
    rate_limited,
    unauthorized,
    unavailable,
)


def stale_page(_: FakeLateApi, body: bytes) -> bytes:
    """Respond with the last third of a page as if the list had no other logs, as a replica that lags behind may."""
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:  # A list that is gone may answer with a page of HTML.
        return body
    if not isinstance(document.get("logs"), list) or "pagination" not in document:
        return body
    rows = document["logs"][len(document["logs"]) * 2 // 3 :]
    pagination = {**document["pagination"], "total": len(rows), "hasMore": False}
    return msgspec.json.encode({**document, "logs": rows, "pagination": pagination})


FAULTS: Mapping[str, Fault] = {
    "429": rate_limited,
    "401": unauthorized,
    "5xx": unavailable,
    "cut": cut_off,
    "empty": empty,
    "null": no_logs,
    "html": bad_gateway,
    "empty list": empty_list,
    "stale page": stale_page,
}
"""How one request fails."""

MISLEADING = frozenset({"empty list", "stale page"})
"""Faults that look like success."""

FAILURES = ("post 500", "post 403", "pending 500", "pending 400", "deep row", "window", "large pages")
"""Requests that fail until they are mended: those that new logs do not need, or that can be divided."""

LARGE_ROWS = 7
"""Rows of a response beyond which it is too large."""


def _row_count(response: ApiResponse) -> int:
    try:
        return len(msgspec.json.decode(response.body).get("logs") or ())
    except msgspec.DecodeError:  # A list that is gone may answer with a page of HTML.
        return 0


class HostileApi(FakeLateApi):
    """The API of one workspace, at its worst.

    Attributes:
        failures: Names of the requests that fail.
        broken_post: Post whose logs cannot be read.
        broken_row: Publishing log that costs every page below the first that has it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.failures: set[str] = set()
        self.broken_post = ""
        self.broken_row: LogRow | None = None

    def heal(self) -> None:
        """End all failures."""
        self.clear_events()
        self.failures.clear()
        self.broken_row = None

    def _respond(self, path: str, params: QueryParams) -> ApiResponse | None:
        response = super()._respond(path, params)
        self._fail(path, params, response)
        return response

    def _fail(self, path: str, params: QueryParams, response: ApiResponse | None) -> None:
        """Raise an error if a request fails."""
        is_post = bool(self.broken_post) and path == f"/v1/posts/{self.broken_post}/logs"
        if is_post and "post 500" in self.failures:
            raise ApiUnavailable("500: oops", status=500)
        if is_post and "post 403" in self.failures:
            raise Forbidden("403: not allowed", code="restricted")
        if params.get("status") == "pending":
            if "pending 500" in self.failures:
                raise ApiUnavailable("500: oops", status=500)
            if "pending 400" in self.failures:
                raise BadRequest("400: Invalid status", status=400)
        if "from" in params and "window" in self.failures:
            raise ApiUnavailable("500: oops", status=500)
        if "large pages" in self.failures and response is not None and _row_count(response) > LARGE_ROWS:
            raise ResponseTooLarge("the response is larger than 2 MiB")
        is_deep = "limit" in params and (int(params.get("skip", 0)) > 0 or "to" in params)
        if is_deep and self.broken_row is not None and response is not None:
            row_id = self.broken_row["_id"]
            if f'"{row_id}"'.encode() in response.body:
                raise ApiUnavailable("500: oops", status=500)

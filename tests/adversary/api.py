"""How the API of a program fails."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from late_exporter.errors import ApiError, ApiUnavailable, BadRequest, Forbidden
from tests.support.client import ClientRequest
from tests.support.late_api import (
    FakeLateApi,
    Fault,
    Refusal,
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
    document = msgspec.json.decode(body)
    if "pagination" not in document:
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


def posts_fail(error: ApiError) -> Refusal:
    """Return a failure of the logs of single posts."""
    return lambda request, _: error if re.fullmatch(r"/v1/posts/[^/]+/logs", request.path) else None


def pending_fails(error: ApiError) -> Refusal:
    """Return a failure of the list of pending logs."""
    return lambda request, _: error if request.params.get("status") == "pending" else None


def nothing_fails(_request: ClientRequest, _body: bytes) -> ApiError | None:
    """Let all requests succeed."""
    return None


FAILURES: Mapping[str, Refusal] = {
    "post 500": posts_fail(ApiUnavailable("500: oops", status=500)),
    "post 403": posts_fail(Forbidden("403: not allowed", code="restricted")),
    "pending 500": pending_fails(ApiUnavailable("500: oops", status=500)),
    "pending 400": pending_fails(BadRequest("400: Invalid status", status=400)),
}
"""Requests that fail until they are mended: those that new logs do not need."""

"""Log lists of both generations, as views of the same rows.

All rows are stored with the names of generation ``late``, also those of types that only ``zernio`` has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from math import inf
from typing import Any

import msgspec

from late_exporter.simulator.log_list import DAY, JsonObject, LogList, LogRow, log_status, post_id
from late_exporter.simulator.request import Request, RequestRejected

STATUSES = ("success", "failed", "pending", "skipped")
LATE_DAYS, ZERNIO_DAYS = 7, 90
MAX_LIMIT = 100
MAX_REQUEST_CHARS, MAX_RESPONSE_CHARS = 5_000, 10_000

ZERNIO_ACTIONS = {
    "publish": "post.published post.failed post.publishing post.skipped",
    "retry": "post.retried post.retry_failed post.retrying post.skipped",
    "media_upload": "media.uploaded media.failed media.uploading media_upload",
    "token_refresh": "token.refreshed token.refresh_failed token.refreshing token_refresh",
    "rate_limit_pause": "post.rate_limited post.rate_limited post.rate_limited post.rate_limited",
    "cancelled": "post.cancelled post.cancelled post.cancelled post.cancelled",
}
"""Actions of ``zernio`` by that of ``late``, in the order of STATUSES."""

COMMON_FIELDS = ("userId", "accountId", "platform", "statusCode", "endpoint", "durationMs", "createdAt")
"""Fields of publishing and connection logs that ``zernio`` has in snake case."""

FILTERS = ("platform", "action", "eventType", "accountId", "profileId")
"""Fields of rows by which the parameters of the same names select."""


def list_publishing(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/posts/logs``."""
    return _list_logs(request, request.source.publishing, LATE_DAYS)


def list_connections(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/connections/logs``."""
    return _list_logs(request, request.source.connections, LATE_DAYS)


def list_post_logs(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/posts/{postId}/logs``."""
    rows = request.source.publishing.rows_of_post(request.argument)[: request.integer("limit", 50, 1, MAX_LIMIT)]
    if not rows:
        raise RequestRejected(HTTPStatus.NOT_FOUND)
    return {"logs": [{**row, "postId": post_id(row)} for row in rows], "count": len(rows), "postId": request.argument}


def list_logs(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/logs``."""
    name = request.choice("type", LOG_TYPES) or "publishing"
    log_lists = {"publishing": request.source.publishing, "connections": request.source.connections}
    log_list = {**log_lists, **request.source.activity}.get(name, LogList())
    return _list_logs(request, log_list, ZERNIO_DAYS, LOG_TYPES[name])


def _list_logs(
    request: Request, log_list: LogList, max_days: int, render: Callable[[LogRow], LogRow] = dict
) -> JsonObject:
    """Return a page of the logs that a request selects."""
    limit, skip = request.integer("limit", 50, 1, MAX_LIMIT), request.integer("skip", 0, 0)
    oldest = request.now - DAY * request.integer("days", max_days, 1, max_days)
    status, search = request.choice("status", STATUSES), request.text("search").casefold()
    wanted = {name: request.text(name) for name in FILTERS if request.text(name) not in {"", "all"}}

    def matches(row: LogRow) -> bool:
        is_wanted = (status is None or status == log_status(row)) and (not search or search in str(row).casefold())
        return is_wanted and (not wanted or wanted.items() <= {**row, **render(row)}.items())

    predicate = matches if status or wanted or search else None
    since, until = max(oldest, request.time("from", -inf)), request.time("to", inf)
    rows, total = log_list.page(skip, limit, predicate, since=since, until=until)
    pagination = {"total": total, "limit": limit, "skip": skip, "pages": -(-total // limit)}
    return {"logs": list(map(render, rows)), "pagination": {**pagination, "hasMore": skip + limit < total}}


def render_publishing(row: LogRow) -> LogRow:
    """Return a publishing log in the format of ``zernio``."""
    action, status, post, response = row.get("action"), row.get("status"), post_id(row), _object(row, "response")
    if action in ZERNIO_ACTIONS and status in STATUSES:
        action = ZERNIO_ACTIONS[action].split()[STATUSES.index(status)]
    metadata = {name: row.get(name) for name in ("profileId", "accountUsername", "attemptNumber")}
    metadata |= {"postId": post, "platformPostUrl": response.get("platformPostUrl")}
    return {
        **_common_fields("publishing", row),
        "action": action,
        "request_id": post and f"req_{post}",
        "error_message": response.get("errorMessage"),
        "error_code": response.get("errorCode"),
        "request_body": _to_text(row.get("request"), MAX_REQUEST_CHARS),
        "response_body": _to_text(row.get("response"), MAX_RESPONSE_CHARS),
        "metadata": _to_text(metadata),
    }


def render_connection(row: LogRow) -> LogRow:
    """Return a connection log in the format of ``zernio``."""
    event, error, success = str(row.get("eventType")), _object(row, "error"), _object(row, "success")
    action = event if event.endswith("_failed") else f"{event.removesuffix('_success')}ed"
    metadata = {name: success.get(name) for name in ("displayName", "tokenExpiresAt")}
    metadata |= {name: row.get(name) for name in ("profileId", "connectionMethod")}
    metadata |= {"accountUsername": success.get("username")}
    return {
        **_common_fields("connections", row),
        "action": f"account.{action}",
        "error_message": error.get("message"),
        "error_code": error.get("code"),
        "response_body": _to_text(error or success, MAX_RESPONSE_CHARS),
        "metadata": _to_text(metadata),
    }


def _render_activity(row: LogRow) -> LogRow:
    return {_snake_case(name): value for name, value in row.items() if name != "profileId"}


def _common_fields(log_type: str, row: LogRow) -> LogRow:
    fields = {_snake_case(name): row.get(name) for name in COMMON_FIELDS}
    return {"type": log_type, "status": log_status(row), **fields}


@cache
def _snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name)


def _object(row: LogRow, name: str) -> LogRow:
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def _to_text(value: Any, length: int | None = None) -> str | None:
    known = {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else value
    return msgspec.json.encode(known).decode()[:length] if known else None


LOG_TYPES: Mapping[str, Callable[[LogRow], LogRow]] = {
    "publishing": render_publishing,
    "connections": render_connection,
    **dict.fromkeys(("webhooks", "messaging", "workflow_event", "api_request"), _render_activity),
}
"""Functions that return a stored row in the format of ``zernio``, by type."""

"""Log lists of both generations, as views of the same rows.

All rows are stored with the names of generation ``late``, also those of types that only ``zernio``
has.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from http import HTTPStatus
from math import inf
from typing import Any

import msgspec

from late_exporter.simulator.log_list import DAY, JsonObject, LogList, LogRow, post_id
from late_exporter.simulator.request import Request, RequestRejected

STATUSES = ("success", "failed", "pending", "skipped")
LATE_DAYS = 7
ZERNIO_DAYS = 90
MAX_LIMIT = 100
MAX_REQUEST_CHARS = 5_000
MAX_RESPONSE_CHARS = 10_000

ZERNIO_ACTIONS = {
    "publish": "post.published post.failed post.publishing post.skipped",
    "retry": "post.retried post.retry_failed post.retrying post.skipped",
    "media_upload": "media.uploaded media.failed media.uploading media_upload",
    "token_refresh": "token.refreshed token.refresh_failed token.refreshing token_refresh",
    "rate_limit_pause": "post.rate_limited post.rate_limited post.rate_limited post.rate_limited",
    "cancelled": "post.cancelled post.cancelled post.cancelled post.cancelled",
}
"""Actions of ``zernio`` by that of ``late``, in the order of STATUSES."""

COMMON_FIELDS = (
    "userId",
    "accountId",
    "platform",
    "statusCode",
    "endpoint",
    "durationMs",
    "createdAt",
)
"""Fields of publishing and connection logs that ``zernio`` has in snake case."""

METADATA = ("profileId", "attemptNumber", "connectionMethod", "tokenExpiresAt")
"""Fields of a log or of its result that ``zernio`` has in ``metadata``."""

RESULTS = ("response", "error", "success")
"""Fields of a log of which one has its result."""

FILTERS = ("platform", "action", "eventType", "accountId", "profileId")
"""Fields of rows by which the parameters of the same names select."""


def list_late_logs(log_type: str, request: Request) -> JsonObject:
    """Return the document of the list of a type in generation ``late``."""
    return _list_logs(request, request.source.lists[log_type], LATE_DAYS, dict)


def list_post_logs(request: Request, wanted_id: str) -> JsonObject:
    """Return the document of ``GET /v1/posts/{postId}/logs``."""
    rows = request.source.publishing.rows_of_post(wanted_id)[
        : request.integer("limit", 50, 1, MAX_LIMIT)
    ]
    if not rows:
        raise RequestRejected(HTTPStatus.NOT_FOUND)
    return {
        "logs": [{**row, "postId": post_id(row)} for row in rows],
        "count": len(rows),
        "postId": wanted_id,
    }


def list_zernio_logs(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/logs``."""
    log_type = request.text("type") or "publishing"
    log_list = request.source.lists.get(log_type, LogList())
    return _list_logs(request, log_list, ZERNIO_DAYS, partial(render_log, log_type))


def _list_logs(
    request: Request, log_list: LogList, max_days: int, render: Callable[[LogRow], LogRow]
) -> JsonObject:
    """Return a page of the logs that a request selects."""
    limit = request.integer("limit", 50, 1, MAX_LIMIT)
    skip = request.integer("skip", 0, 0)
    oldest = request.now - DAY * request.integer("days", max_days, 1, max_days)
    status = request.text("status")
    wanted = {name: request.text(name) for name in FILTERS if request.text(name)}

    def matches(row: LogRow) -> bool:
        is_wanted = status in {"", _status(row)} and request.text("search") in repr(row)
        return is_wanted and (not wanted or wanted.items() <= {**row, **render(row)}.items())

    predicate = matches if status or wanted or request.text("search") else None
    rows = log_list.select(
        max(oldest, request.time("from", -inf)), request.time("to", inf), predicate
    )
    total = len(rows)
    pagination = {"total": total, "limit": limit, "skip": skip, "pages": -(-total // limit)}
    logs = list(map(render, rows[skip : skip + limit]))
    return {"logs": logs, "pagination": {**pagination, "hasMore": skip + limit < total}}


def render_log(log_type: str, row: LogRow) -> LogRow:
    """Return a stored row in the format of ``zernio``."""
    if log_type not in {"publishing", "connections"}:
        return {_snake_case(name): value for name, value in row.items() if name != "profileId"}
    result: JsonObject = next(
        (row[name] for name in RESULTS if isinstance(row.get(name), dict)), {}
    )
    metadata = {name: row.get(name, result.get(name)) for name in METADATA}
    published = {"id": result.get("platformPostId"), "url": result.get("platformPostUrl")}
    post = post_id(row)
    username = row.get("accountUsername", result.get("username"))
    return {
        "type": log_type,
        "action": _action(row),
        "status": _status(row),
        **{_snake_case(name): row.get(name) for name in COMMON_FIELDS},
        "request_id": post and f"req_{post}",
        "error_message": result.get("errorMessage", result.get("message")),
        "error_code": result.get("errorCode", result.get("code")),
        "request_body": _to_text(row.get("request"), MAX_REQUEST_CHARS),
        "response_body": _to_text(
            published if "platformPostId" in result else result, MAX_RESPONSE_CHARS
        ),
        "metadata": _to_text({**metadata, "postId": post, "accountUsername": username}),
    }


def _action(row: LogRow) -> Any:
    event = row.get("eventType")
    action = str(row.get("action"))
    status = row.get("status")
    if isinstance(event, str):
        if event.endswith("_failed"):
            return f"account.{event}"
        return f"account.{event.removesuffix('_success')}ed"
    is_known = action in ZERNIO_ACTIONS and status in STATUSES
    return ZERNIO_ACTIONS[action].split()[STATUSES.index(status)] if is_known else row.get("action")


def _status(row: LogRow) -> Any:
    """Return the status of a row. That of a connection log follows from its event."""
    event = row.get("eventType")
    return (
        row.get("status")
        if event is None
        else "failed"
        if str(event).endswith("_failed")
        else "success"
    )


@cache
def _snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name)


def _to_text(value: Any, length: int | None = None) -> str | None:
    known = (
        {name: each for name, each in value.items() if each is not None}
        if isinstance(value, dict)
        else value
    )
    return msgspec.json.encode(known).decode()[:length] if known else None

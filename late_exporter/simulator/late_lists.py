"""Log lists of generation ``late``: publishing logs, connection logs, and the logs of one post."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from late_exporter.simulator.admin import LogSource
from late_exporter.simulator.events import DAY
from late_exporter.simulator.log_list import JsonObject, LogList, LogRow, nested_object, page_document, post_id
from late_exporter.simulator.platforms import PLATFORMS
from late_exporter.simulator.query import QueryParameters, RequestRejected
from late_exporter.simulator.zernio_list import STATUSES

PUBLISHING_ACTIONS = ("publish", "retry", "media_upload", "rate_limit_pause", "token_refresh", "cancelled")
CONNECTION_EVENTS = ("connect_success", "connect_failed", "disconnect", "reconnect_success", "reconnect_failed")
CONNECTION_RESULTS = ("success", "failed")
MAX_DAYS = 7
MAX_LIMIT = 100


def list_publishing(source: LogSource, parameters: QueryParameters, now: float, max_skip: int | None) -> JsonObject:
    """Return the response document of ``GET /v1/posts/logs``, or raise RequestRejected."""
    status = parameters.choice("status", STATUSES)
    fields = parameters.filters(platform=PLATFORMS, action=PUBLISHING_ACTIONS)
    search = parameters.text("search").casefold()

    def matches(row: LogRow) -> bool:
        return fields.items() <= row.items() and (not search or search in _search_text(row))

    predicate = matches if fields or search else None
    return _list_page(source.publishing, parameters, now, predicate, max_skip=max_skip, status=status)


def list_connections(source: LogSource, parameters: QueryParameters, now: float, max_skip: int | None) -> JsonObject:
    """Return the response document of ``GET /v1/connections/logs``, or raise RequestRejected."""
    result = parameters.choice("status", CONNECTION_RESULTS)
    fields = parameters.filters(platform=PLATFORMS, eventType=CONNECTION_EVENTS)

    def matches(row: LogRow) -> bool:
        row_result = str(row.get("eventType")).rpartition("_")[2]
        return result in {None, row_result} and fields.items() <= row.items()

    predicate = matches if fields or result else None
    return _list_page(source.connections, parameters, now, predicate, max_skip=max_skip)


def list_post_logs(source: LogSource, requested_id: str, parameters: QueryParameters) -> JsonObject:
    """Return the response document of ``GET /v1/posts/{postId}/logs``, or raise RequestRejected."""
    limit = parameters.integer("limit", 50, 1, MAX_LIMIT)
    parameters.raise_errors()
    rows = source.publishing.rows_of_post(requested_id)[:limit]
    if not rows:
        raise RequestRejected(HTTPStatus.NOT_FOUND)
    return {"logs": [{**row, "postId": post_id(row)} for row in rows], "count": len(rows), "postId": requested_id}


def _list_page(
    log_list: LogList,
    parameters: QueryParameters,
    now: float,
    predicate: Callable[[LogRow], bool] | None,
    *,
    max_skip: int | None,
    status: str | None = None,
) -> JsonObject:
    limit = parameters.integer("limit", 50, 1, MAX_LIMIT)
    skip = parameters.integer("skip", 0, 0, max_skip)
    since = now - DAY * parameters.integer("days", MAX_DAYS, 1, MAX_DAYS)
    parameters.raise_errors()
    rows, total = log_list.page(skip, limit, predicate, since=since, status=status)
    return page_document(rows, total, limit=limit, skip=skip)


def _search_text(row: LogRow) -> str:
    """Return the text that ``search`` looks for matches in: post, account, and response of the platform."""
    post, request, response = (nested_object(row, name) for name in ("postId", "request", "response"))
    texts: Sequence[Any] = (
        post_id(row),
        post.get("content"),
        row.get("accountUsername"),
        request.get("contentPreview"),
        response.get("errorMessage"),
        response.get("errorCode"),
        response.get("platformPostId"),
    )
    return "\n".join(text for text in texts if isinstance(text, str)).casefold()

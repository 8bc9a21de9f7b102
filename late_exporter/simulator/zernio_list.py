"""``GET /v1/logs`` of generation ``zernio``: one list for logs of all types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import merge
from itertools import islice
from math import inf

import msgspec

from late_exporter.simulator.admin import LogSource
from late_exporter.simulator.events import DAY
from late_exporter.simulator.log_list import JsonObject, LogList, LogRow, creation_time, page_document
from late_exporter.simulator.platforms import PLATFORMS
from late_exporter.simulator.query import QueryParameters
from late_exporter.simulator.zernio_rows import (
    activity_row,
    connection_filter_fields,
    connection_row,
    publishing_filter_fields,
    publishing_row,
    search_text,
)

STATUSES = ("success", "failed", "pending", "skipped")
ACTIVITY_PLATFORMS = ("whatsapp", "discord", "slack", "sms")
MAX_DAYS = 90
MAX_LIMIT = 100


class LogType(msgspec.Struct, frozen=True):
    """Functions that read the stored rows of one log type.

    ``filter_fields`` returns the filterable fields of a stored row, and ``render`` the log in the format of ``zernio``.
    The status index can be used if stored rows have the status that the API shows.
    """

    filter_fields: Callable[[LogRow], LogRow]
    render: Callable[[LogRow], LogRow]
    has_status_index: bool = True


LOG_TYPES: Mapping[str, LogType] = {
    "publishing": LogType(publishing_filter_fields, publishing_row),
    "connections": LogType(connection_filter_fields, connection_row, has_status_index=False),
    **dict.fromkeys(("webhooks", "messaging", "workflow_event", "api_request"), LogType(dict, activity_row)),
}


class ZernioQuery(msgspec.Struct, frozen=True):
    """Filters of a request, for logs of any type. ``status`` is None for all."""

    status: str | None
    fields: LogRow
    search: str
    profile_id: str
    since: float
    until: float

    def page(self, log_type: LogType, log_list: LogList, skip: int, limit: int) -> tuple[list[LogRow], int]:
        """Return a page of the matching rows of a list, and the number of all matching rows."""
        status = self.status if log_type.has_status_index else None
        filters = self.fields
        if self.status is not None and not log_type.has_status_index:
            filters = {**filters, "status": self.status}

        def matches(row: LogRow) -> bool:
            if self.profile_id not in {"", row.get("profileId")}:
                return False
            if filters and not filters.items() <= log_type.filter_fields(row).items():
                return False
            return not self.search or self.search in search_text(log_type.render(row))

        predicate = matches if filters or self.search or self.profile_id else None
        return log_list.page(skip, limit, predicate, since=self.since, until=self.until, status=status)


def list_logs(source: LogSource, parameters: QueryParameters, now: float, max_skip: int | None = None) -> JsonObject:
    """Return the response document of a request, or raise RequestRejected."""
    type_name = parameters.choice("type", tuple(LOG_TYPES), "publishing")
    limit = parameters.integer("limit", 50, 1, MAX_LIMIT)
    skip = parameters.integer("skip", 0, 0, max_skip)
    query = _parse_query(parameters, now)
    parameters.raise_errors()
    log_lists = {"publishing": source.publishing, "connections": source.connections, **source.activity}
    if type_name is not None:
        kind = LOG_TYPES[type_name]
        rows, total = query.page(kind, log_lists.get(type_name, LogList()), skip, limit)
        return page_document([kind.render(row) for row in rows], total, limit=limit, skip=skip)
    pages: list[list[tuple[LogRow, LogType]]] = []
    total = 0
    for name, log_list in log_lists.items():
        rows, matching_count = query.page(LOG_TYPES[name], log_list, 0, skip + limit)
        pages.append([(row, LOG_TYPES[name]) for row in rows])
        total += matching_count
    newest_first = merge(*pages, key=lambda pair: creation_time(pair[0]), reverse=True)
    page = islice(newest_first, skip, skip + limit)
    return page_document([kind.render(row) for row, kind in page], total, limit=limit, skip=skip)


def _parse_query(parameters: QueryParameters, now: float) -> ZernioQuery:
    """Parse the filters. The API accepts its older parameter names, too."""
    code = parameters.integer("statusCode", 0, 0, 999) or parameters.integer("status_code", 0, 0, 999)
    fields = {
        "platform": parameters.choice("platform", (*PLATFORMS, *ACTIVITY_PLATFORMS)),
        "action": parameters.text("action"),
        "account_id": parameters.text("accountId") or parameters.text("account_id"),
        "event": parameters.text("event"),
        "request_id": parameters.text("requestId") or parameters.text("request_id"),
        "api_key_id": parameters.text("apiKeyId") or parameters.text("api_key_id"),
        "status_code": code,
    }
    oldest = now - DAY * parameters.integer("days", MAX_DAYS, 1, MAX_DAYS)
    return ZernioQuery(
        status=parameters.choice("status", STATUSES),
        fields={name: value for name, value in fields.items() if value},
        search=parameters.text("search").casefold(),
        profile_id=parameters.text("profileId"),
        since=max(oldest, parameters.time("from", oldest)),
        until=parameters.time("to", inf),
    )

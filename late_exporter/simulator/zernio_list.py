"""``GET /v1/logs``: the one list that generation ``zernio`` has for logs of every type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import merge
from itertools import islice
from math import inf

import msgspec

from late_exporter.simulator.admin import Source
from late_exporter.simulator.events import DAY
from late_exporter.simulator.log_list import Archive, Row, creation, listed
from late_exporter.simulator.platforms import PLATFORMS
from late_exporter.simulator.query import Parameters
from late_exporter.simulator.zernio_rows import (
    as_written,
    connection,
    connection_facets,
    publishing,
    publishing_facets,
    searchable,
)

__all__ = ["STATUSES", "unified"]

STATUSES = ("success", "failed", "pending", "skipped")
FURTHER_PLATFORMS = ("whatsapp", "discord", "slack", "sms")
MAX_DAYS = 90
MAX_LIMIT = 100


class Kind(msgspec.Struct, frozen=True):
    """How logs of one type are read.

    Args:
        facets: What an archived row is chosen by.
        render: The log that a row is shown as.
        indexed: The archive finds rows by their status.
    """

    facets: Callable[[Row], Row]
    render: Callable[[Row], Row]
    indexed: bool = True


KINDS: Mapping[str, Kind] = {
    "publishing": Kind(publishing_facets, publishing),
    "connections": Kind(connection_facets, connection, indexed=False),
    **dict.fromkeys(("webhooks", "messaging", "workflow_event", "api_request"), Kind(dict, as_written)),
}


class Query(msgspec.Struct, frozen=True):
    """Which logs are wanted, of any type; ``None`` takes every status."""

    status: str | None
    fields: Row
    search: str
    since: float
    until: float

    def page(self, kind: Kind, archive: Archive, skip: int, limit: int) -> tuple[list[Row], int]:
        """A page of an archive's rows, and how many match."""
        status = self.status if kind.indexed else None
        wanted = self.fields if kind.indexed or self.status is None else {**self.fields, "status": self.status}

        def keep(row: Row) -> bool:
            if not wanted.items() <= kind.facets(row).items():
                return False
            return not self.search or self.search in searchable(kind.render(row))

        matching = keep if wanted or self.search else None
        return archive.page(skip, limit, matching, since=self.since, until=self.until, status=status)


def unified(source: Source, parameters: Parameters, now: float) -> Row:
    """Answer a request, or raise Refusal."""
    chosen = parameters.choice("type", tuple(KINDS), "publishing")
    limit = parameters.number("limit", 50, 1, MAX_LIMIT)
    skip = parameters.number("skip", 0, 0)
    query = _query(parameters, now)
    parameters.check()
    archives = {"publishing": source.publishing, "connections": source.connections, **source.activity}
    if chosen is not None:
        kind = KINDS[chosen]
        rows, total = query.page(kind, archives.get(chosen, Archive()), skip, limit)
        return listed([kind.render(row) for row in rows], total, limit=limit, skip=skip)
    pages: list[list[tuple[Row, Kind]]] = []
    total = 0
    for name, archive in archives.items():
        rows, matching = query.page(KINDS[name], archive, 0, skip + limit)
        pages.append([(row, KINDS[name]) for row in rows])
        total += matching
    newest = merge(*pages, key=lambda pair: creation(pair[0]), reverse=True)
    shown = islice(newest, skip, skip + limit)
    return listed([kind.render(row) for row, kind in shown], total, limit=limit, skip=skip)


def _query(parameters: Parameters, now: float) -> Query:
    """The vendor takes its older names of parameters too."""
    code = parameters.number("statusCode", 0, 0, 999) or parameters.number("status_code", 0, 0, 999)
    wanted = {
        "platform": parameters.choice("platform", (*PLATFORMS, *FURTHER_PLATFORMS)),
        "action": parameters.text("action"),
        "account_id": parameters.text("accountId") or parameters.text("account_id"),
        "event": parameters.text("event"),
        "request_id": parameters.text("requestId") or parameters.text("request_id"),
        "status_code": code,
    }
    days = now - DAY * parameters.number("days", MAX_DAYS, 1, MAX_DAYS)
    return Query(
        status=parameters.choice("status", STATUSES),
        fields={name: value for name, value in wanted.items() if value},
        search=parameters.text("search").casefold(),
        since=max(days, parameters.moment("from", days)),
        until=parameters.moment("to", inf),
    )

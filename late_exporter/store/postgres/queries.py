"""Queries shared by the store and the snapshot."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import msgspec

from late_exporter.metrics.aggregation import decode_value
from late_exporter.model import Coverage, FeedAccounting, FeedState, PendingLog
from late_exporter.series import Labels, Series, SeriesValue
from late_exporter.store.batches import with_status
from late_exporter.store.copying import TABLES, Row
from late_exporter.store.postgres.database import DeadlineConnection
from late_exporter.store.postgres.days import lookup_days
from late_exporter.store.series_rows import SeriesCursor

ROWS_PER_FETCH = 5000

TABLE_NAMES = {
    "scope": "late_scope",
    "observation": "late_observation",
    "pending": "late_pending",
    "series": "late_series",
    "event": "late_event",
}

TEXT_COLUMNS = ("key", "status", "platform", "action", "post_id")
"""Columns whose text is stored as bytes."""

EXPRESSIONS = {"commits": "revision", "restored": "restored::integer"}
"""Expressions of columns that have another name or type."""

OF_WORKSPACES = "WHERE workspace = ANY(%s)"
# An array rather than a join, so that the index is used.
OF_SCOPES = "WHERE scope = ANY(ARRAY(SELECT id FROM late_scope WHERE workspace = ANY(%s)))"

WORKSPACE_NAMES = "SELECT workspace FROM late_scope UNION SELECT workspace FROM late_series ORDER BY 1"

STATUSES = "SELECT key, status, day FROM late_observation WHERE scope = %s AND day = ANY(%s) AND key = ANY(%b::bytea[])"

PENDING_LOGS = "SELECT key, created, platform, action, post_id FROM late_pending WHERE scope = %s ORDER BY created, key"

FEED_STATES = "SELECT id, coverage, logs, progress, restored FROM late_scope WHERE id = ANY(%s::integer[])"

PENDING_OF_FEEDS = (
    "SELECT scope, key, created, platform, action, post_id FROM late_pending WHERE scope = ANY(%s::integer[])"
    " ORDER BY created, key"
)

# In one statement: another replica may drop an expired day at any time.
ACCOUNTING = """
    SELECT observations, pruned, (SELECT count(*) FROM late_observation WHERE scope = %(scope)s)
    FROM late_scope WHERE id = %(scope)s
"""

NEWEST_TIME = (
    "SELECT max(created) FROM late_observation WHERE scope = %s AND created <= %s AND status <> 'rejected'::bytea"
)

SIZE = """
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint,
        (SELECT coalesce(sum(logs), 0)::bigint FROM late_scope) FROM (
        SELECT inhrelid AS oid FROM pg_inherits WHERE inhparent = 'late_observation'::regclass
        UNION ALL SELECT unnest(
            ARRAY['late_scope', 'late_pending', 'late_series', 'late_event']::regclass[]
        )
    ) AS tables
"""

SERIES = "SELECT workspace, id, family, labels, value, created FROM late_series WHERE "
ALL_SERIES = SERIES + "true ORDER BY workspace, id"
SERIES_PAGE = SERIES + "(workspace, id) > (%s, %s) AND workspace = ANY(%s::text[]) ORDER BY workspace, id LIMIT %s"
SERIES_OF_WORKSPACE = SERIES + "workspace = %s"


def encode(text: str) -> bytes:
    return text.encode("utf-8")


def stored_statuses(connection: DeadlineConnection, scope_id: int, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
    """Return the counted statuses of logs by key; keys that are not stored are missing."""
    return decode_statuses(connection.execute(STATUSES, statuses_parameters(scope_id, keys)))


def one(connection: DeadlineConnection, query: str, parameters: Any = ()) -> tuple[Any, ...]:
    """Return the only row of a query."""
    (row,) = connection.execute(query, parameters).fetchall()
    return row


_cursor_numbers = count()


def fetch(connection: DeadlineConnection, query: str, parameters: Any = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query within a transaction, of which a part is in memory at a time."""
    connection.renew_deadline()
    with connection.cursor(name=f"rows{next(_cursor_numbers)}") as cursor:
        cursor.execute(query, parameters)
        while rows := cursor.fetchmany(ROWS_PER_FETCH):
            yield from rows
            connection.renew_deadline()  # The caller may have read pages of the API meanwhile.


def workspace_names(connection: DeadlineConnection) -> list[str]:
    return [name for (name,) in connection.execute(WORKSPACE_NAMES)]


def state_rows(connection: DeadlineConnection, table: str, workspaces: Collection[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a table, or those of some workspaces, in its order."""
    columns, order = TABLES[table]
    expressions = ", ".join(EXPRESSIONS.get(column, column) for column in columns)
    query, parameters = f"SELECT {expressions} FROM {TABLE_NAMES[table]}", list[Any]()  # noqa: S608 - constants
    if workspaces is not None:
        query += f" {OF_WORKSPACES if table in ('scope', 'series') else OF_SCOPES}"
        parameters.append([*workspaces])
    are_texts = [column in TEXT_COLUMNS for column in columns]
    for row in fetch(connection, f"{query} ORDER BY {order}", parameters):
        yield tuple(
            value.decode() if is_text and value is not None else value
            for value, is_text in zip(row, are_texts, strict=True)
        )


def statuses_parameters(scope_id: int, keys: Iterable[str]) -> tuple[int, list[int], list[bytes]]:
    unique = set(keys)
    return scope_id, lookup_days(unique), [encode(key) for key in unique]


def decode_statuses(rows: Iterable[tuple[Any, ...]]) -> dict[str, frozenset[str]]:
    statuses: dict[str, frozenset[str]] = {}
    for encoded_key, status, _ in rows:
        key = encoded_key.decode()
        statuses[key] = with_status(statuses.get(key), status.decode())
    return statuses


def feed_states(connection: DeadlineConnection, scope_ids: Sequence[int]) -> dict[int, FeedState]:
    """Return the states of feeds by their ids, in one round trip."""
    with connection.pipeline():
        rows = connection.execute(FEED_STATES, (scope_ids,))
        pending_rows = connection.execute(PENDING_OF_FEEDS, (scope_ids,))
    pending: dict[int, list[tuple[Any, ...]]] = {}
    for scope_id, *row in pending_rows:
        pending.setdefault(scope_id, []).append(tuple(row))
    return {
        scope_id: FeedState(
            coverage=msgspec.json.decode(coverage, type=Coverage) if coverage else None,
            pending_logs=decode_pending(pending.get(scope_id, ())),
            log_count=log_count,
            progress=progress or b"",
            is_restored=is_restored,
        )
        for scope_id, coverage, log_count, progress, is_restored in rows
    }


def feed_state(connection: DeadlineConnection, scope_id: int) -> FeedState:
    return feed_states(connection, [scope_id])[scope_id]


def decode_pending(rows: Iterable[tuple[Any, ...]]) -> dict[str, PendingLog]:
    """Return pending logs by key, oldest first."""
    return {
        key.decode(): PendingLog(
            key.decode(), created, platform.decode(), action.decode(), None if post_id is None else post_id.decode()
        )
        for key, created, platform, action, post_id in rows
    }


def accounting(connection: DeadlineConnection, scope_id: int, workspace: str) -> FeedAccounting:
    total, pruned, stored = one(connection, ACCOUNTING, {"scope": scope_id})
    rows = connection.execute(SERIES_OF_WORKSPACE, (workspace,))
    return FeedAccounting(
        observation_count=total,
        stored_count=stored,
        pruned_count=pruned,
        series_values={series: value for _, series, value in map(_decode_series, rows)},
    )


def series_id(family: str, labels: str) -> bytes:
    """Return the id of a series; its labels can be too long for an index."""
    return hashlib.blake2b(f"{family}\0{labels}".encode(), digest_size=16).digest()


def encode_labels(labels: Labels) -> str:
    return msgspec.json.encode(labels).decode()


def load_series(connection: DeadlineConnection) -> Mapping[Series, SeriesValue]:
    return {series: value for _, series, value in map(_decode_series, connection.execute(ALL_SERIES))}


def load_series_page(
    connection: DeadlineConnection, after: SeriesCursor, limit: int, workspaces: Collection[str]
) -> tuple[Mapping[Series, SeriesValue], SeriesCursor]:
    """Return the values of the next series and the cursor after them, workspace and id in hexadecimal."""
    values: dict[Series, SeriesValue] = {}
    rows = connection.execute(SERIES_PAGE, (after[0], bytes.fromhex(after[1]), list(workspaces), limit))
    for cursor, series, value in map(_decode_series, rows):
        values[series] = value
        after = cursor
    return values, after


def _decode_series(row: tuple[Any, ...]) -> tuple[SeriesCursor, Series, SeriesValue]:
    workspace, identity, family, labels, value, created = row
    # Most label values are those of many series.
    series = (sys.intern(family), tuple(map(sys.intern, msgspec.json.decode(labels, type=Labels))))
    return (workspace, identity.hex()), series, SeriesValue(decode_value(value), created)

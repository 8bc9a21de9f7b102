"""Read and write the values of series."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from late_exporter.metrics.aggregation import decode_value, encode_value
from late_exporter.series import Labels, Series, SeriesValue
from late_exporter.store.database import Queries, Transaction, select_in

COLUMNS = "SELECT id, family, labels, value, created FROM late_series"
BY_ID = f"{COLUMNS} WHERE workspace = ? AND id IN {{values}}"
BY_FAMILY = f"{COLUMNS} WHERE workspace = ? AND family IN {{values}}"
OF_WORKSPACE = f"{COLUMNS} WHERE workspace = (SELECT id FROM late_workspace WHERE name = ?)"  # noqa: S608 - constants
PAGE = f"{OF_WORKSPACE} AND id > ? ORDER BY id LIMIT ?"
WRITE = (
    "INSERT INTO late_series (workspace, id, family, labels, value, created) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (workspace, id) DO UPDATE SET value = excluded.value"
)


def load(
    queries: Queries, workspace_id: int, series: Collection[Series]
) -> Mapping[Series, SeriesValue]:
    """Return the stored values of some series of a workspace."""
    return _decode(select_in(queries, BY_ID, [series_id(each) for each in series], workspace_id))


def load_page(
    queries: Queries, workspace: str, after: str, limit: int
) -> tuple[Mapping[Series, SeriesValue], str]:
    rows = queries.execute(PAGE, (workspace, after, limit)).fetchall()
    return _decode(rows), rows[-1][0] if rows else after


def load_families(
    queries: Queries, workspace_id: int, families: Collection[str]
) -> Mapping[Series, SeriesValue]:
    """Return the stored values of some families of a workspace."""
    return _decode(select_in(queries, BY_FAMILY, [*families], workspace_id))


def load_workspace(queries: Queries, workspace: str) -> Mapping[Series, SeriesValue]:
    return _decode(queries.execute(OF_WORKSPACE, (workspace,)))


def load_all(queries: Queries) -> Mapping[Series, SeriesValue]:
    return _decode(queries.execute(COLUMNS))


def write(
    transaction: Transaction, workspace_id: int, values: Mapping[Series, SeriesValue]
) -> None:
    rows = [
        (
            workspace_id,
            series_id(series),
            family,
            _encode(labels),
            encode_value(each.value).decode(),
            each.created,
        )
        for series, each in values.items()
        for family, labels in (series,)
    ]
    transaction.executemany(WRITE, rows)


def series_id(series: Series) -> str:
    """Return the digest of family and labels that identifies a series; labels may be too long for an index."""
    family, labels = series
    return blake2b(f"{family}\0{_encode(labels)}".encode(), digest_size=16).hexdigest()


def _encode(labels: Labels) -> str:
    return msgspec.json.encode(labels).decode()


def _decode(rows: Iterable[tuple[Any, ...]]) -> dict[Series, SeriesValue]:
    values: dict[Series, SeriesValue] = {}
    for _, family, labels, value, created in rows:
        # Most label values are those of many series.
        series = (
            sys.intern(family),
            tuple(map(sys.intern, msgspec.json.decode(labels, type=Labels))),
        )
        values[series] = SeriesValue(decode_value(value), created)
    return values

"""The series in the state, and their values."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from sqlite3 import Connection
from typing import TypeAlias

import msgspec

from late_exporter.metrics.aggregation import decode_value, encode_value
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.model import Batch
from late_exporter.series import Increment, Labels, Series, SeriesValue
from late_exporter.store.batches import apply_batch, group_by_series

SeriesCursor: TypeAlias = tuple[str, str]
"""Family and labels of the last series of a page, as they are stored."""

FIRST_SERIES: SeriesCursor = ("", "")

_SeriesRow: TypeAlias = tuple[str, str, bytes, float]
"""Family, labels, value and creation time, as they are stored."""

PAGE = (
    "SELECT family, labels, value, created FROM series WHERE (family, labels) > (?, ?) ORDER BY family, labels LIMIT ?"
)
OF_WORKSPACE = (
    "SELECT family, labels, value, created FROM series WHERE family = ? AND labels >= ? AND labels < ? ORDER BY labels"
)
LOOKUP_SERIES = (8, 50)  # as many as a poll at rest changes, and a bound of the memory that many need
LOOKUPS = {  # of fixed numbers, as the look-up of keys; CROSS JOIN reads no other row of the table
    size: f"WITH wanted (family, labels) AS (VALUES {', '.join(['(?, ?)'] * size)})"  # noqa: S608 - placeholders
    " SELECT family, labels, value, created FROM wanted CROSS JOIN series USING (family, labels)"
    for size in LOOKUP_SERIES
}
UPSERT = "INSERT INTO series VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


def load_all(connection: Connection) -> Mapping[Series, SeriesValue]:
    return _decode(connection.execute(PAGE, (*FIRST_SERIES, -1)))


def load_page(
    connection: Connection, after: SeriesCursor, limit: int, workspaces: Collection[str]
) -> tuple[Mapping[Series, SeriesValue], SeriesCursor]:
    """Return the values of the next series of some workspaces and the cursor after them; none at the end."""
    while rows := connection.execute(PAGE, (*after, limit)).fetchall():
        after = rows[-1][:2]
        if values := {series: value for series, value in _decode(rows).items() if series[1][0] in workspaces}:
            return values, after
    return {}, after


def load_workspace(connection: Connection, workspace: str) -> Mapping[Series, SeriesValue]:
    """Return the values of the series whose first label is the workspace."""
    # The stored labels begin with ["workspace" and then a comma or a closing bracket, which is before ^.
    start = msgspec.json.encode([workspace]).decode().removesuffix("]")
    values: dict[Series, SeriesValue] = {}
    for family in CATALOGUE:
        values |= _decode(connection.execute(OF_WORKSPACE, (family, start, f"{start}^")))
    return values


def _decode(rows: Iterable[_SeriesRow]) -> dict[Series, SeriesValue]:
    values: dict[Series, SeriesValue] = {}
    for row in rows:
        # A damaged page may have any type in any column.
        family, labels, value, created = msgspec.convert(row, _SeriesRow, builtin_types=(bytes,))
        # Most label values are those of many series.
        series = (sys.intern(family), tuple(map(sys.intern, msgspec.json.decode(labels, type=Labels))))
        values[series] = SeriesValue(decode_value(value), created)
    return values


def apply(
    connection: Connection, increments: Iterable[Sequence[Increment]], batch: Batch
) -> Mapping[Series, SeriesValue]:
    """Apply the increments of a batch that count, in groups of one series; return the new values of the series."""
    by_series = group_by_series(increments)
    series_values: dict[Series, SeriesValue] = {}
    for part in _parts(list(by_series)):  # All series at once would need more memory.
        keys = {series: _encode_key(series) for series in part}
        stored = _look_up(connection, keys)
        values = apply_batch({series: by_series.pop(series) for series in part}, batch, stored.get)
        connection.executemany(
            UPSERT,
            [(*keys[series], encode_value(current.value), current.created) for series, current in values.items()],
        )
        series_values |= values
    return series_values


def _parts(series: Sequence[Series]) -> Iterator[Sequence[Series]]:
    size = LOOKUP_SERIES[-1]
    return (series[start : start + size] for start in range(0, len(series), size))


def _look_up(connection: Connection, keys: Mapping[Series, SeriesCursor]) -> dict[Series, SeriesValue]:
    """Return the stored values of some series, given their keys; at most the last of LOOKUP_SERIES."""
    size = next(size for size in LOOKUP_SERIES if size >= len(keys))
    padding = [(None, None)] * (size - len(keys))
    rows = connection.execute(LOOKUPS[size], [*chain.from_iterable((*keys.values(), *padding))])
    stored = {(family, labels): (value, created) for family, labels, value, created in rows}
    return {
        series: SeriesValue(decode_value(stored[key][0]), stored[key][1])
        for series, key in keys.items()
        if key in stored
    }


def _encode_key(series: Series) -> tuple[str, str]:
    family, labels = series
    return family, msgspec.json.encode(labels).decode()

"""The series in the state: their values, and the marks that their initial zeros were served."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from sqlite3 import Connection
from typing import TypeAlias

import msgspec

from late_exporter.metrics.aggregation import apply_increments, decode_value, encode_value
from late_exporter.model import Batch
from late_exporter.series import Increment, Labels, Series, SeriesValue

SeriesCursor: TypeAlias = tuple[str, str]
"""Family and labels of the last series of a page, as they are stored."""

FIRST_SERIES: SeriesCursor = ("", "")

PAGE = (
    "SELECT family, labels, value, created, served FROM series WHERE (family, labels) > (?, ?)"
    " ORDER BY family, labels LIMIT ?"
)
LOOKUP_SERIES = 50
LOOKUP = (  # of a fixed number, as the look-up of keys; CROSS JOIN reads no other row of the table
    f"WITH wanted (family, labels) AS (VALUES {', '.join(['(?, ?)'] * LOOKUP_SERIES)})"  # noqa: S608 - placeholders
    " SELECT family, labels, value, created, served FROM wanted CROSS JOIN series USING (family, labels)"
)
UPSERT = "INSERT INTO series VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
MARK = "UPDATE series SET served = 1 WHERE family = ? AND labels = ?"


def load_all(connection: Connection) -> Mapping[Series, SeriesValue]:
    values, _ = load_page(connection, FIRST_SERIES, -1)
    return values


def load_page(
    connection: Connection, after: SeriesCursor, limit: int
) -> tuple[Mapping[Series, SeriesValue], SeriesCursor]:
    """Return the values of the next series and the cursor after them; none at the end."""
    values: dict[Series, SeriesValue] = {}
    for family, labels, value, created, served in connection.execute(PAGE, (*after, limit)):
        # Most label values are those of many series.
        series = (sys.intern(family), tuple(map(sys.intern, msgspec.json.decode(labels, type=Labels))))
        values[series] = SeriesValue(decode_value(value), created, bool(served))
        after = family, labels
    return values, after


def apply(
    connection: Connection, increments: Iterable[Sequence[Increment]], batch: Batch
) -> Mapping[Series, SeriesValue]:
    """Apply the increments of a batch that count, in groups of one series; return the new values of the series."""
    by_series: dict[Series, list[Increment]] = {}
    for group in increments:
        by_series.setdefault((group[0].family, group[0].labels), []).extend(group)
    series_values: dict[Series, SeriesValue] = {}
    keys = {series: _encode_key(series) for series in by_series}
    stored = _look_up(connection, list(keys.values()))
    rows = []
    for series, changes in by_series.items():
        current = stored.get(keys[series])
        value = apply_increments(changes, current.value if current else None)
        created = current.created if current else batch.committed_at
        is_served = current.is_served if current else series not in batch.zero_series
        series_values[series] = SeriesValue(value, created, is_served)
        rows.append((*keys[series], encode_value(value), created, is_served))
    connection.executemany(UPSERT, rows)
    return series_values


def _look_up(connection: Connection, keys: Sequence[SeriesCursor]) -> dict[SeriesCursor, SeriesValue]:
    """Return the stored values of series by their keys."""
    values: dict[SeriesCursor, SeriesValue] = {}
    for start in range(0, len(keys), LOOKUP_SERIES):
        chunk = keys[start : start + LOOKUP_SERIES]
        padding = [(None, None)] * (LOOKUP_SERIES - len(chunk))
        rows = connection.execute(LOOKUP, [*chain.from_iterable((*chunk, *padding))])
        for family, labels, value, created, served in rows:
            values[family, labels] = SeriesValue(decode_value(value), created, bool(served))
    return values


def mark_served(connection: Connection, series: Iterable[Series]) -> Sequence[Series]:
    """Mark that the initial zeros of series were served; return those of the series that are stored."""
    return [each for each in series if connection.execute(MARK, _encode_key(each)).rowcount]


def _encode_key(series: Series) -> tuple[str, str]:
    family, labels = series
    return family, msgspec.json.encode(labels).decode()

"""The series in the state: their values, and the marks that their initial zeros were served."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
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
SELECT = "SELECT value, created, served FROM series WHERE family = ? AND labels = ?"
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
    connection: Connection,
    increments: Iterable[Sequence[Increment]],
    batch: Batch,
    *,
    recent_values: Mapping[Series, SeriesValue],
) -> Mapping[Series, SeriesValue]:
    """Apply the increments of a batch that count; return the new values of their series.

    Args:
        connection: Connection to the state.
        increments: Groups of increments of one series.
        batch: Batch of the increments.
        recent_values: Stored values of some series, which are not read again.
    """
    by_series: dict[Series, list[Increment]] = {}
    for group in increments:
        by_series.setdefault((group[0].family, group[0].labels), []).extend(group)
    series_values: dict[Series, SeriesValue] = {}
    rows = []
    for series, changes in by_series.items():
        key = _encode_key(series)
        stored = recent_values.get(series) or _load(connection, key)
        value = apply_increments(changes, stored.value if stored else None)
        created = stored.created if stored else batch.committed_at
        is_served = stored.is_served if stored else series not in batch.zero_series
        series_values[series] = SeriesValue(value, created, is_served)
        rows.append((*key, encode_value(value), created, is_served))
    connection.executemany(UPSERT, rows)
    return series_values


def _load(connection: Connection, key: tuple[str, str]) -> SeriesValue | None:
    row = connection.execute(SELECT, key).fetchone()
    return SeriesValue(decode_value(row[0]), row[1], bool(row[2])) if row else None


def mark_served(connection: Connection, series: Iterable[Series]) -> Sequence[Series]:
    """Mark that the initial zeros of series were served; return those of the series that are stored."""
    return [each for each in series if connection.execute(MARK, _encode_key(each)).rowcount]


def _encode_key(series: Series) -> tuple[str, str]:
    family, labels = series
    return family, msgspec.json.encode(labels).decode()

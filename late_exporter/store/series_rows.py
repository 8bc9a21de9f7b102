"""The series in the state: their values, and the marks that their initial zeros were served."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from sqlite3 import Connection
from typing import TypeAlias

import msgspec

from late_exporter.metrics.aggregation import decode_value, encode_value
from late_exporter.model import Batch
from late_exporter.series import Increment, Labels, Series, SeriesValue
from late_exporter.store.batches import apply_batch, group_by_series

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


def apply(connection: Connection, increments: Iterable[Increment], batch: Batch) -> Mapping[Series, SeriesValue]:
    """Apply the increments of a batch that count; return the new values of their series."""

    def stored_value(series: Series) -> SeriesValue | None:
        row = connection.execute(SELECT, _encode_key(series)).fetchone()
        return SeriesValue(decode_value(row[0]), row[1], bool(row[2])) if row else None

    series_values = apply_batch(group_by_series(increments), batch, stored_value)
    connection.executemany(
        UPSERT,
        [
            (*_encode_key(series), encode_value(current.value), current.created, current.is_served)
            for series, current in series_values.items()
        ],
    )
    return series_values


def mark_served(connection: Connection, series: Iterable[Series]) -> Sequence[Series]:
    """Mark that the initial zeros of series were served; return those of the series that are stored."""
    return [each for each in series if connection.execute(MARK, _encode_key(each)).rowcount]


def _encode_key(series: Series) -> tuple[str, str]:
    family, labels = series
    return family, msgspec.json.encode(labels).decode()

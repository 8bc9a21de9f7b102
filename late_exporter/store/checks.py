"""Checks of a state; the same for every backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import msgspec

from late_exporter.errors import StoreError
from late_exporter.metrics.aggregation import decode_value
from late_exporter.model import MINUTE_MS
from late_exporter.series import Labels


class FeedCounts(NamedTuple):
    """Counts of one feed that must agree.

    Args:
        name: Workspace and feed.
        log_count: Number of logs, as it is kept.
        stored: Number of logs that are stored.
        uncounted: Pending logs that are not stored.
        wrong_minutes: Minutes whose number of logs is not that of the logs stored.
    """

    name: str
    log_count: int
    stored: int
    uncounted: int
    wrong_minutes: int

    def inconsistencies(self) -> Iterator[str]:
        if self.stored != self.log_count:
            yield f"{self.name}: the log count is {self.log_count:,}, but {self.stored:,} logs are stored"
        if self.wrong_minutes:
            yield (
                f"{self.name}: the log counts of {self.wrong_minutes:,} minutes do not agree with the times of the logs"
            )
        if self.uncounted:
            yield f"{self.name}: {self.uncounted:,} pending logs are not stored as counted"


def count_wrong_minutes(counted: Counter[int], times: Iterable[tuple[int, int]]) -> int:
    """Return the number of minutes whose stored logs are not as many as counted.

    Args:
        counted: Number of logs by minute, as it is kept.
        times: First and last creation time of each log, of which each status has one.
    """
    stored = Counter[int]()
    ambiguous = 0
    for first, last in times:
        stored[first // MINUTE_MS] += 1
        ambiguous += first // MINUTE_MS != last // MINUTE_MS  # Either minute may count it.
    wrong = sum(counted[minute] != stored[minute] for minute in counted.keys() | stored.keys())
    return wrong if wrong > 2 * ambiguous else 0


def undecodable_series(rows: Iterable[tuple[str, str, bytes]]) -> Iterator[str]:
    """Yield a message per series that cannot be decoded, given family, labels and value of each."""
    for family, labels, value in rows:
        try:
            msgspec.json.decode(labels, type=Labels)
            decode_value(value)
        except msgspec.MsgspecError as exc:
            yield f"{family} {labels}: the value cannot be decoded: {exc}"


def require_workspace(name: str, existing: AbstractSet[str]) -> None:
    """Raise StoreError if the state does not have a workspace."""
    if name not in existing:
        raise StoreError(
            f"there is no workspace {name} in the state; there are {', '.join(sorted(existing)) or 'none'}"
        )

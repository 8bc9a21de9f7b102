"""Find the stored logs of a page; no other module knows how logs without ids are recognised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

from late_exporter.model import MINUTE_MS, LogEntry, TimeRange
from late_exporter.store.ordinals import changed_alike_keys, number_entries, unnumbered_keys
from late_exporter.store.uncommitted import UncommittedLogs, time_prefix

FIRST_MINUTE = -(2**40)
"""A minute before every creation time."""


class FeedRows(Protocol):
    """Read access to the observations of one feed."""

    def stored_statuses(self, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Return the counted statuses of logs by key; keys that are not stored are missing."""

    def rows_at(self, prefixes: AbstractSet[str]) -> Iterable[tuple[str, str]]:
        """Return key and status of the observations whose keys begin with the prefix of a time."""


class IdentifiedPage(NamedTuple):
    """Logs of a page with their final keys.

    Args:
        statuses: Counted statuses by key; a missing key is a new log.
        changed_times: Prefixes of the creation times of the alike logs with a new status.
    """

    entries: tuple[LogEntry, ...]
    statuses: Mapping[str, frozenset[str]]
    changed_times: AbstractSet[str] = frozenset()

    def undecided_times(self, partial_times: AbstractSet[int]) -> frozenset[int]:
        """Return the creation times, of those of which the page may lack logs, whose logs it cannot recognise."""
        if not self.changed_times:
            return frozenset()
        return frozenset(created for created in partial_times if f"{created:013d}-" in self.changed_times)


def identify(rows: FeedRows, entries: Sequence[LogEntry], uncommitted: UncommittedLogs) -> IdentifiedPage:
    """Find the stored logs of a page, and number the logs that are alike.

    Args:
        rows: Observations of the feed.
        entries: Logs of the page.
        uncommitted: Logs that were read but are not committed yet.
    """
    statuses = rows.stored_statuses([entry.key for entry in entries])
    unnumbered = unnumbered_keys(entries, statuses)
    if not unnumbered:
        # With the strings of the page, because the result may be kept until the next poll.
        known = {entry.key: statuses[entry.key] for entry in entries if entry.key in statuses}
        return IdentifiedPage(tuple(entries), known)
    alike = {key: set(names) for key, names in statuses.items()}
    prefixes = {prefix for key in unnumbered if (prefix := time_prefix(key))}
    for key, status in rows.rows_at(prefixes):
        alike.setdefault(key, set()).add(status)
    stored = {key: frozenset(names) for key, names in alike.items()}
    for key, names in uncommitted.logs_at(prefixes):
        alike.setdefault(key, set()).update(names)
    entries = number_entries(entries, alike)
    known = {entry.key: stored[entry.key] for entry in entries if entry.key in stored}
    return IdentifiedPage(entries, known, _changed_times(entries, alike))


def number_new(
    entries: Sequence[LogEntry], uncommitted: UncommittedLogs, partial_times: AbstractSet[int]
) -> tuple[LogEntry, ...] | None:
    """Return the entries of a page as ``identify`` numbers them if no log of their times is stored.

    None if those of a partial time can only be recognised together.
    """
    prefixes = {prefix for entry in entries if (prefix := time_prefix(entry.key))}
    alike = dict(uncommitted.logs_at(prefixes))
    entries = number_entries(entries, alike)
    page = IdentifiedPage(entries, {}, _changed_times(entries, alike) if alike else frozenset())
    return None if page.undecided_times(partial_times) else entries


def _changed_times(entries: Iterable[LogEntry], alike: Mapping[str, AbstractSet[str]]) -> AbstractSet[str]:
    return {prefix for key in changed_alike_keys(entries, alike) if (prefix := time_prefix(key))}


def new_since(page: IdentifiedPage) -> int | None:
    """Return the minute from which all logs of a page are new, down to its last one; None if that is known."""
    minute = None
    for entry in reversed(page.entries):
        if entry.key in page.statuses:
            break
        if entry.created is not None:
            minute = entry.created // MINUTE_MS
    return minute


def empty_range(minute: int, stored_minutes: Sequence[int]) -> TimeRange:
    """Return the range of times up to a minute, or up to the one before if logs of it are stored, without stored logs.

    Args:
        minute: A minute.
        stored_minutes: The last two minutes until then of which logs are stored, or as many as there are, latest first.
    """
    if minute in stored_minutes:
        minute, stored_minutes = minute - 1, stored_minutes[1:]
    first = stored_minutes[0] + 1 if stored_minutes else FIRST_MINUTE
    return TimeRange(first * MINUTE_MS, (minute + 1) * MINUTE_MS)

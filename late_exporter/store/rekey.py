"""Find the stored logs of a page, and re-key those with former keys; no other module knows about former keys.

A switch gives all logs of a feed interim keys that sort by time. When a page then contains a log without a stored key,
it is matched to a stored log of the same time, which gets the new key. Pages without new logs cost nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

from late_exporter.feeds.feed import Feed
from late_exporter.model import LATE, MINUTE_MS, PENDING, LogEntry, TimeRange
from late_exporter.store.matching import (
    StoredLogs,
    match_logs,
    matched_statuses,
    split_logs,
    time_prefix,
    undecided_times,
)
from late_exporter.store.ordinals import changed_alike_keys, number_entries, unnumbered_keys
from late_exporter.store.uncommitted import NO_UNCOMMITTED_LOGS, UncommittedLogs

FIRST_MINUTE = -(2**40)
"""A minute before every creation time."""


class FeedRows(Protocol):
    """Read access to the observations of one feed."""

    def stored_statuses(self, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Return the counted statuses of logs by key; keys that are not stored are missing."""

    def rows_at(self, prefixes: AbstractSet[str]) -> Iterable[tuple[str, str, str | None]]:
        """Return key, status and status fingerprint of the observations whose keys begin with the prefix of a time."""

    def fingerprints_agree(self) -> bool:
        """Return whether a log was matched by its status fingerprint: only such a log keeps the fingerprint."""


def match_columns(entry: LogEntry) -> tuple[str | None, str | None]:
    """Return the columns ``fingerprint`` and ``status_fingerprint``; both are empty if the key has the fingerprint."""
    return (entry.fingerprint, entry.status_fingerprint) if entry.fingerprint else (None, None)


class IdentifiedPage(NamedTuple):
    """Logs of a page with their final keys.

    Args:
        statuses: Counted statuses by key; a missing key is a new log.
        stored_logs: Stored logs on the page, and those with the creation times of its new and alike logs, as for
            ``match_logs``.
        changed_times: Prefixes of the creation times of the alike logs with a new status.
    """

    entries: tuple[LogEntry, ...]
    statuses: Mapping[str, frozenset[str]]
    stored_logs: StoredLogs
    changed_times: AbstractSet[str] = frozenset()


def identify(rows: FeedRows, entries: Sequence[LogEntry], uncommitted: UncommittedLogs) -> IdentifiedPage:
    """Find the stored logs of a page, and number the logs that are alike.

    Args:
        rows: Observations of the feed.
        entries: Logs of the page.
        uncommitted: Logs that were read but are not committed yet.
    """
    statuses = rows.stored_statuses([entry.key for entry in entries])
    unnumbered = unnumbered_keys(entries, statuses)
    new_keys = {entry.key for entry in entries if entry.status not in statuses.get(entry.key, ())}
    stored_logs: dict[str, dict[str, str | None]] = {key: dict.fromkeys(names) for key, names in statuses.items()}
    if not unnumbered and not new_keys:
        # With the strings of the page, because the result may be kept until the next poll.
        known = {entry.key: statuses[entry.key] for entry in entries}
        return IdentifiedPage(tuple(entries), known, stored_logs)
    prefixes = {prefix for key in new_keys | unnumbered if (prefix := time_prefix(key))}
    for key, status, status_fingerprint in rows.rows_at(prefixes) if prefixes else ():
        stored_logs.setdefault(key, {})[status] = status_fingerprint
    changed_times: AbstractSet[str] = frozenset()
    if unnumbered:
        alike = {key: set(names) for key, names in stored_logs.items()}
        for key, names in uncommitted.logs_at(prefixes):
            alike.setdefault(key, set()).update(names)
        entries = number_entries(entries, alike)
        changed_times = _changed_times(entries, alike)
    page_keys = {entry.key for entry in entries}
    known = {key: frozenset(names) for key, names in stored_logs.items() if key in page_keys}
    return IdentifiedPage(tuple(entries), known, stored_logs, changed_times)


def number_new(
    entries: Sequence[LogEntry], uncommitted: UncommittedLogs, partial_times: AbstractSet[int]
) -> tuple[LogEntry, ...] | None:
    """Return the entries of a page as ``identify`` numbers them if no log of their times is stored.

    None if those of a partial time can only be recognised together.
    """
    prefixes = {prefix for entry in entries if (prefix := time_prefix(entry.key))}
    alike = dict(uncommitted.logs_at(prefixes))
    entries = number_entries(entries, alike)
    return None if alike and _time_prefixes(partial_times) & _changed_times(entries, alike) else entries


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


def find_matches(
    rows: FeedRows,
    page: IdentifiedPage,
    *,
    has_pending: bool,
    partial_times: AbstractSet[int] = frozenset(),
) -> dict[str, LogEntry]:
    """Return the entries that are stored under a former key, by that key.

    Args:
        rows: Observations of the feed.
        page: Logs of the page.
        has_pending: Whether logs can change their status.
        partial_times: Creation times of which the page may lack logs.
    """
    has_former = any(entry.former and entry.former.key in page.stored_logs for entry in page.entries)
    if len(page.stored_logs) == len(page.statuses) and not has_former:
        return {}
    return match_logs(
        page.entries,
        page.stored_logs,
        has_pending=has_pending,
        fingerprints_agree=rows.fingerprints_agree(),
        partial_times=_time_prefixes(partial_times),
    )


def match_former_keys(
    rows: FeedRows,
    entries: Sequence[LogEntry],
    *,
    feed: Feed,
    uncommitted: UncommittedLogs,
    partial_times: AbstractSet[int],
) -> tuple[IdentifiedPage, Mapping[str, LogEntry], frozenset[int]]:
    """Return a page, its entries that are stored under a former key, by that key, and its undecided times.

    Args:
        rows: Observations of the feed.
        entries: Logs of the page.
        feed: Feed that the page was read from.
        uncommitted: Logs that were read but are not committed yet.
        partial_times: Creation times of which the page may lack logs.
    """
    has_pending = feed.has_pending
    page = identify(rows, entries, uncommitted)
    matches = (
        {}  # No switch leads back to it.
        if feed.generation == LATE
        else find_matches(rows, page, has_pending=has_pending, partial_times=partial_times)
    )
    undecided_times = find_undecided_times(
        page, matches, uncommitted, has_pending=has_pending, partial_times=partial_times
    )
    return page, matches, undecided_times


def find_undecided_times(
    page: IdentifiedPage,
    matches: Mapping[str, LogEntry],
    uncommitted: UncommittedLogs,
    *,
    has_pending: bool,
    partial_times: AbstractSet[int],
) -> frozenset[int]:
    """Return the partial times whose logs can only be recognised together."""
    if not partial_times:
        return frozenset()
    undecided = page.changed_times
    if len(page.stored_logs) > len(page.statuses):
        undecided = undecided | undecided_times(
            page.entries,
            page.stored_logs,
            matches,
            has_pending=has_pending,
            partial_times=_time_prefixes(partial_times),
            uncommitted=uncommitted,
        )
    return frozenset(created for created in partial_times if f"{created:013d}-" in undecided)


def _time_prefixes(times: AbstractSet[int]) -> frozenset[str]:
    return frozenset(f"{created:013d}-" for created in times)


class Rename(NamedTuple):
    """A stored observation that gets another key or status.

    It keeps its status fingerprint only if that is ``status_fingerprint``, or if this is None.
    """

    key: str
    status: str
    new_key: str
    new_status: str
    status_fingerprint: str | None


class RekeyPlan(NamedTuple):
    """The changes that give stored logs their new keys.

    Args:
        renames: Observations to rename, in this order.
        new_pending: Logs that become pending, before those that are pending are renamed.
        pending_renames: New key by key of logs that may be pending.
        log_counts: Changes of the number of logs, each with the creation time of the log.
    """

    renames: list[Rename]
    new_pending: list[LogEntry]
    pending_renames: dict[str, str]
    log_counts: list[tuple[int, int | None]]

    @property
    def log_count(self) -> int:
        """Change of the number of logs of the feed."""
        return sum(change for change, _ in self.log_counts)

    @property
    def minutes(self) -> Counter[int]:
        """Change of the number of logs by minute."""
        changes = Counter[int]()
        for change, created in self.log_counts:
            if created is not None:
                changes[created // MINUTE_MS] += change
        return changes


def plan_changes(page: IdentifiedPage, matches: Mapping[str, LogEntry], *, has_pending: bool) -> RekeyPlan:
    """Return the changes that give the stored logs that ``find_matches`` returned their new keys."""
    plan = RekeyPlan([], [], {}, [])
    statuses = {key: set(names) for key, names in page.stored_logs.items()}
    for (key, status), entry in split_logs(page.entries, page.stored_logs, matches).items():
        # A status of a stored log becomes a log of its own.
        plan.renames.append(Rename(key, status, entry.key, status, None))
        statuses[key].discard(status)
        statuses.setdefault(entry.key, set()).add(status)
        plan.log_counts.append((1, entry.created))
        if status == PENDING:
            plan.new_pending.append(entry)
    for key, entry in matches.items():
        target = statuses.setdefault(entry.key, set())
        has_new_key = bool(target)
        names = matched_statuses(entry, key, sorted(statuses[key]), has_pending=has_pending)
        for former_status, status in names.items():
            if status in target and (entry.key, status) != (key, former_status):
                continue  # If both keys are stored in the same status, the former row stays.
            plan.renames.append(Rename(key, former_status, entry.key, status, entry.status_fingerprint))
            statuses[key].discard(former_status)
            target.add(status)
        plan.pending_renames[key] = entry.key
        if has_new_key and not statuses[key]:
            # Logs that differ in their status only have become one.
            plan.log_counts.append((-1, entry.created))
    return plan


def preview(rows: FeedRows, entries: Sequence[LogEntry], *, has_pending: bool) -> tuple[IdentifiedPage, frozenset[str]]:
    """Return a page as if the logs were re-keyed, and the former keys, without changing the state."""
    page = identify(rows, entries, NO_UNCOMMITTED_LOGS)
    matches = find_matches(rows, page, has_pending=has_pending)
    former_statuses = rows.stored_statuses(list(matches))
    statuses = {key: set(names) for key, names in page.statuses.items()}
    for key, entry in matches.items():
        names = matched_statuses(entry, key, former_statuses[key], has_pending=has_pending)
        statuses.setdefault(entry.key, set()).update(names.values())
    for (_, status), entry in split_logs(page.entries, page.stored_logs, matches).items():
        statuses.setdefault(entry.key, set()).add(status)
    known = {key: frozenset(names) for key, names in statuses.items()}
    return page._replace(statuses=known), frozenset(matches)

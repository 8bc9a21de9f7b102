"""Compares a log list with what was counted of it, log by log, and the counters with the state's own books.

The auditor shares no rule with the reader, whose work it checks: it walks the whole list by itself and relies on no
coverage to be true, but to know what the exporter does not claim to have counted yet. Like the reader it knows neither
network nor database nor clock; it is a generator that yields a step, and is sent what came of it.

A list moves while it is read, and the exporter goes on counting meanwhile. So nothing is a difference at first sight:
it is a doubt. The exporter is given its chance, and what the API still shows then and is still not counted is a
difference.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import msgspec

from late_exporter.errors import BadPayload
from late_exporter.ingest.steps import FetchedPage, FetchPage
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.model import PAGE_SIZE, PENDING, Coverage, Feed, FeedAccounting, LogEntry, Scope, Series, SeriesValue

__all__ = [
    "Audit",
    "AuditSteps",
    "CounterMismatch",
    "Difference",
    "WaitForExporter",
    "audit_list",
    "check_counters",
    "count_extra",
    "count_missing",
    "grace_period",
    "leaves_scope",
    "scan_list",
]

PAGE_OVERLAP = 2
"""Rows that two pages share where the list stands still; where they share none, rows may have moved up unseen."""

MAX_REPEATS = 10
"""Pages in a row that may bring nothing new, as when as many logs are inserted as are read."""

GRACE_POLLS = 3
MIN_GRACE_SECONDS = 60.0

REJECTED = "late_exporter_entries_rejected_total"


class WaitForExporter(msgspec.Struct, frozen=True):
    """Step: give the exporter its chance to count what was seen, and renew ``Audit.coverage``. Sent back: None."""


class Difference(msgspec.Struct, frozen=True, gc=False):
    """A log that is not counted in the status that the API shows; ``recorded_statuses`` are those in which it is."""

    entry: LogEntry
    recorded_statuses: frozenset[str]


class CounterMismatch(msgspec.Struct, frozen=True, gc=False):
    """A number that is not what others make it; without a family it is that of the logs on record."""

    family: str
    expected: int
    actual: int


ScanSteps: TypeAlias = Generator[FetchPage, FetchedPage | None, None]
"""What a walk yields and is sent."""

AuditSteps: TypeAlias = Generator[FetchPage | WaitForExporter, FetchedPage | None, None]
"""What the auditor yields and is sent."""

PageVisitor: TypeAlias = Callable[[FetchedPage], bool]
"""Looks at a page; tells whether that was enough."""


class Audit(msgspec.Struct, kw_only=True):
    """An audit of one log list: what it is to compare, and what has come of it.

    Args:
        coverage: As last made durable.
        since: Logs created before this are left out; those before the coverage's horizon always are.
        grace_period: How long before the last complete poll a log was created for that poll to have had its chance.
        exporter_running: An exporter polls meanwhile; without one a log that has settled is no difference.
        cutoff: Logs created after this are too new to be judged; known once the audit has begun.
        listed_keys: Takes the keys of all logs in scope that the API shows; None where nobody asks for them.
        suspects: Logs in doubt after the first look, by key.
        too_recent: Logs that no poll has had its chance to count.
        in_gap: Logs in gaps, which the exporter itself knows to be missing.
        differences: Newest first.
    """

    coverage: Coverage
    since: int = 0
    grace_period: int = 0
    exporter_running: bool = True
    cutoff: int = 0
    listed_keys: set[str] | None = None
    suspects: dict[str, Difference] = msgspec.field(default_factory=dict)
    too_recent: set[str] = msgspec.field(default_factory=set)
    in_gap: set[str] = msgspec.field(default_factory=set)
    differences: list[Difference] = msgspec.field(default_factory=list)

    @property
    def lower(self) -> int:
        """Logs created before this are left out."""
        return max(self.coverage.retention_floor, self.since)


def grace_period(interval: float) -> int:
    """How long before a poll a log was created for that poll to have had its chance, in milliseconds.

    Args:
        interval: Between two polls, in seconds.
    """
    return int(max(GRACE_POLLS * interval, MIN_GRACE_SECONDS) * 1000)


def audit_list(state: Audit) -> AuditSteps:
    """Look at every log, and once more at those in doubt."""
    state.cutoff = state.coverage.caught_up_at - state.grace_period
    yield from scan_list(partial(_compare_page, state))
    if state.suspects:
        yield WaitForExporter()
        yield from scan_list(partial(_recheck_page, state, set(state.suspects)))
    state.differences.sort(key=lambda difference: (difference.entry.created or 0, difference.entry.key), reverse=True)


def _compare_page(state: Audit, page: FetchedPage) -> bool:
    """Compare a page; the logs that ought to be counted and are not are in doubt."""
    for entry in page.entries:
        if entry.created is not None and entry.created < state.lower:
            continue
        if state.listed_keys is not None:
            state.listed_keys.add(entry.key)
        recorded_statuses = page.known_logs.statuses.get(entry.key, frozenset())
        if entry.status in recorded_statuses:
            continue
        if _is_in_gap(state.coverage, entry):
            state.in_gap.add(entry.key)
        elif (entry.created is not None and entry.created > state.cutoff) or (
            not state.exporter_running and PENDING in recorded_statuses
        ):
            state.too_recent.add(entry.key)
        else:
            state.suspects[entry.key] = Difference(entry, recorded_statuses)
    is_done = leaves_scope(page, state.lower)
    if is_done:
        # Logs without a time stand below all others, where neither the exporter looks nor this.
        for key in [key for key, doubt in state.suspects.items() if doubt.entry.created is None]:
            del state.suspects[key]
    return is_done


def _recheck_page(state: Audit, unresolved: set[str], page: FetchedPage) -> bool:
    """Judge what was in doubt; what the API no longer shows as it was is in doubt no more."""
    for entry in page.entries:
        if entry.key not in unresolved:
            continue
        unresolved.remove(entry.key)
        recorded_statuses, suspect = page.known_logs.statuses.get(entry.key, frozenset()), state.suspects[entry.key]
        if _is_in_gap(state.coverage, entry):
            state.in_gap.add(entry.key)
        elif _persists(suspect, entry, recorded_statuses):
            state.differences.append(Difference(entry, recorded_statuses))
    return not unresolved


def _persists(suspect: Difference, entry: LogEntry, recorded_statuses: frozenset[str]) -> bool:
    """Whether it was the same both times: the log not known at all, or not in the one status that the API has shown."""
    if not recorded_statuses:
        return not suspect.recorded_statuses
    return entry.status == suspect.entry.status and entry.status not in recorded_statuses


def _is_in_gap(coverage: Coverage, entry: LogEntry) -> bool:
    if entry.created is None:
        return bool(coverage.gaps)
    return any(gap.lower <= entry.created <= gap.upper.created for gap in coverage.gaps)


def scan_list(visit: PageVisitor) -> ScanSteps:
    """Show every log of the list to a visitor that stands in it all the while.

    Rows that are inserted push others down, so that they are seen again. Rows that are deleted pull others up, past the
    place at which the next page begins; then that page shares no row with the one before, and the walk goes back until
    one does.
    """
    skip, step_back, repeat_count = 0, PAGE_SIZE // 2, 0
    previous: Sequence[LogEntry] = ()
    while True:
        page = yield FetchPage(skip)
        if page is None:
            raise BadPayload("the API does not know its own list of logs")
        if skip and not _overlaps(page.entries, previous):
            skip, step_back = max(0, skip - step_back), step_back * 2
            continue
        if visit(page) or _is_last_page(page):
            return
        repeat_count = (
            repeat_count + 1 if {entry.key for entry in page.entries} <= {entry.key for entry in previous} else 0
        )
        if repeat_count > MAX_REPEATS:
            raise BadPayload(f"the list of logs does not move on at skip={skip}")
        previous, step_back = page.entries, PAGE_SIZE // 2
        skip += max(1, len(page.entries) - PAGE_OVERLAP)


def _overlaps(entries: Sequence[LogEntry], previous: Sequence[LogEntry]) -> bool:
    """Whether no row can be between two pages.

    They share one, or the list goes by time and the second page begins above the end of the first.
    """
    if not {entry.key for entry in entries}.isdisjoint(entry.key for entry in previous):
        return True
    times, before = _timestamps(entries), _timestamps(previous)
    return bool(times and before) and before[0] > before[-1] and times[0] > before[-1]


def leaves_scope(page: FetchedPage, lower: int) -> bool:
    """Whether a list that goes from new to old has left the scope."""
    times = _timestamps(page.entries)
    return bool(times) and times[0] >= times[-1] and max(times) < lower


def _is_last_page(page: FetchedPage) -> bool:
    return not page.entries or (len(page.entries) < PAGE_SIZE and page.page.has_more is not True)


def _timestamps(entries: Iterable[LogEntry]) -> list[int]:
    return [entry.created for entry in entries if entry.created is not None]


def check_counters(scope: Scope, feed: Feed, accounting: FeedAccounting) -> list[CounterMismatch]:
    """Whether each sighting that was ever counted is in the counters once, and on record or forgotten.

    Every sighting adds 1 to the feed's counter, under whatever labels, or to the rejected ones. The state keeps a tally
    of its own of them, and the records; the three are equal only where nothing was counted twice or not at all.
    """
    counter = _sum(accounting.series_values, feed.counter, scope.workspace, **feed.counter_labels)
    rejected = _sum(accounting.series_values, REJECTED, scope.workspace, feed=scope.feed)
    mismatches = [
        CounterMismatch(feed.counter, accounting.observation_count - rejected, counter),
        CounterMismatch("", accounting.observation_count, accounting.stored_count + accounting.pruned_count),
    ]
    if counter == accounting.observation_count - rejected:
        # A counter that is wrong itself is no measure of those beside it.
        for family, (label, value) in feed.subset_counters.items():
            share = _sum(accounting.series_values, feed.counter, scope.workspace, **{label: value})
            mismatches.append(CounterMismatch(family, share, _sum(accounting.series_values, family, scope.workspace)))
    return [mismatch for mismatch in mismatches if mismatch.expected != mismatch.actual]


def count_missing(differences: Iterable[Difference], mismatches: Iterable[CounterMismatch]) -> int:
    """How many logs are not in the counters in the status they are in, though they should be."""
    return sum(1 for _ in differences) + sum(
        imbalance.expected - imbalance.actual
        for imbalance in mismatches
        if imbalance.family and imbalance.actual < imbalance.expected
    )


def count_extra(mismatches: Iterable[CounterMismatch]) -> int:
    """How many logs count twice or will, or are on record without having been counted."""
    return sum(
        abs(imbalance.actual - imbalance.expected)
        for imbalance in mismatches
        if not imbalance.family or imbalance.actual > imbalance.expected
    )


def _sum(totals: Mapping[Series, SeriesValue], family: str, workspace: str, **filters: str) -> int:
    names = CATALOGUE[family].labels
    required = {"workspace": workspace, **filters}.items()
    return sum(
        int(total.value)
        for (name, labels), total in totals.items()
        if name == family
        and isinstance(total.value, int | float)
        and required <= dict(zip(names, labels, strict=True)).items()
    )

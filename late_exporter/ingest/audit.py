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
from late_exporter.ingest.steps import Read, Seen
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.model import PENDING, Coverage, Feed, FeedAccounting, LogEntry, Scope, Series, SeriesValue

__all__ = [
    "Audit",
    "AuditSteps",
    "Difference",
    "Imbalance",
    "Rest",
    "audit",
    "extra",
    "grace",
    "missing",
    "passed",
    "walk",
    "weigh",
]

LIMIT = 100
"""Logs on a page; the most the API gives."""

OVERLAP = 2
"""Rows that two pages share where the list stands still; where they share none, rows may have moved up unseen."""

REPEATS = 10
"""Pages in a row that may bring nothing new, as when as many logs are inserted as are read."""

GRACE_POLLS = 3
LEAST_GRACE = 60.0

REJECTED = "late_exporter_entries_rejected_total"


class Rest(msgspec.Struct, frozen=True):
    """Step: give the exporter its chance to count what was seen, and renew ``Audit.coverage``. Sent back: None."""


class Difference(msgspec.Struct, frozen=True, gc=False):
    """A log that is not counted in the status that the API shows; ``counted`` are those in which it is."""

    entry: LogEntry
    counted: frozenset[str]


class Imbalance(msgspec.Struct, frozen=True, gc=False):
    """A number that is not what others make it; without a family it is that of the logs on record."""

    family: str
    expected: int
    found: int


Looks: TypeAlias = Generator[Read, Seen | None, None]
"""What a walk yields and is sent."""

AuditSteps: TypeAlias = Generator[Read | Rest, Seen | None, None]
"""What the auditor yields and is sent."""

Visit: TypeAlias = Callable[[Seen], bool]
"""Looks at a page; tells whether that was enough."""


class Audit(msgspec.Struct, kw_only=True):
    """An audit of one log list: what it is to compare, and what has come of it.

    Args:
        coverage: As last made durable.
        since: Logs created before this are left out; those before the coverage's horizon always are.
        grace: How long before the last complete poll a log was created for that poll to have had its chance.
        polled: An exporter polls meanwhile; without one a log that has settled is no difference.
        due: Logs created after this are too new to be judged; known once the audit has begun.
        seen: Takes the keys of all logs in scope that the API shows; None where nobody asks for them.
        doubts: Logs in doubt after the first look, by key.
        early: Logs that no poll has had its chance to count.
        unread: Logs in gaps, which the exporter itself knows to be missing.
        differences: Newest first.
    """

    coverage: Coverage
    since: int = 0
    grace: int = 0
    polled: bool = True
    due: int = 0
    seen: set[str] | None = None
    doubts: dict[str, Difference] = msgspec.field(default_factory=dict)
    early: set[str] = msgspec.field(default_factory=set)
    unread: set[str] = msgspec.field(default_factory=set)
    differences: list[Difference] = msgspec.field(default_factory=list)

    @property
    def lower(self) -> int:
        """Logs created before this are left out."""
        return max(self.coverage.retention_floor, self.since)


def grace(interval: float) -> int:
    """How long before a poll a log was created for that poll to have had its chance, in milliseconds.

    Args:
        interval: Between two polls, in seconds.
    """
    return int(max(GRACE_POLLS * interval, LEAST_GRACE) * 1000)


def audit(plan: Audit) -> AuditSteps:
    """Look at every log, and once more at those in doubt."""
    plan.due = plan.coverage.caught_up_at - plan.grace
    yield from walk(partial(_look, plan))
    if plan.doubts:
        yield Rest()
        yield from walk(partial(_look_again, plan, set(plan.doubts)))
    plan.differences.sort(key=lambda difference: (difference.entry.created or 0, difference.entry.key), reverse=True)


def _look(plan: Audit, seen: Seen) -> bool:
    """Compare a page; the logs that ought to be counted and are not are in doubt."""
    for entry in seen.entries:
        if entry.created is not None and entry.created < plan.lower:
            continue
        if plan.seen is not None:
            plan.seen.add(entry.key)
        counted = seen.known.statuses.get(entry.key, frozenset())
        if entry.status in counted:
            continue
        if _is_unread(plan.coverage, entry):
            plan.unread.add(entry.key)
        elif (entry.created is not None and entry.created > plan.due) or (not plan.polled and PENDING in counted):
            plan.early.add(entry.key)
        else:
            plan.doubts[entry.key] = Difference(entry, counted)
    through = passed(seen, plan.lower)
    if through:
        # Logs without a time stand below all others, where neither the exporter looks nor this.
        for key in [key for key, doubt in plan.doubts.items() if doubt.entry.created is None]:
            del plan.doubts[key]
    return through


def _look_again(plan: Audit, left: set[str], seen: Seen) -> bool:
    """Judge what was in doubt; what the API no longer shows as it was is in doubt no more."""
    for entry in seen.entries:
        if entry.key not in left:
            continue
        left.remove(entry.key)
        counted, doubt = seen.known.statuses.get(entry.key, frozenset()), plan.doubts[entry.key]
        if _is_unread(plan.coverage, entry):
            plan.unread.add(entry.key)
        elif _is_the_same(doubt, entry, counted):
            plan.differences.append(Difference(entry, counted))
    return not left


def _is_the_same(doubt: Difference, entry: LogEntry, counted: frozenset[str]) -> bool:
    """Whether it was the same both times: the log not known at all, or not in the one status that the API has shown."""
    if not counted:
        return not doubt.counted
    return entry.status == doubt.entry.status and entry.status not in counted


def _is_unread(coverage: Coverage, entry: LogEntry) -> bool:
    if entry.created is None:
        return bool(coverage.gaps)
    return any(gap.lower <= entry.created <= gap.upper.created for gap in coverage.gaps)


def walk(visit: Visit) -> Looks:
    """Show every log of the list to a visitor that stands in it all the while.

    Rows that are inserted push others down, so that they are seen again. Rows that are deleted pull others up, past the
    place at which the next page begins; then that page shares no row with the one before, and the walk goes back until
    one does.
    """
    skip, back, repeats = 0, LIMIT // 2, 0
    above: Sequence[LogEntry] = ()
    while True:
        seen = yield Read(skip)
        if seen is None:
            raise BadPayload("the API does not know its own list of logs")
        if skip and not _joins(seen.entries, above):
            skip, back = max(0, skip - back), back * 2
            continue
        if visit(seen) or _ended(seen):
            return
        repeats = repeats + 1 if {entry.key for entry in seen.entries} <= {entry.key for entry in above} else 0
        if repeats > REPEATS:
            raise BadPayload(f"the list of logs does not move on at skip={skip}")
        above, back = seen.entries, LIMIT // 2
        skip += max(1, len(seen.entries) - OVERLAP)


def _joins(entries: Sequence[LogEntry], above: Sequence[LogEntry]) -> bool:
    """Whether no row can be between two pages.

    They share one, or the list goes by time and the second page begins above the end of the first.
    """
    if not {entry.key for entry in entries}.isdisjoint(entry.key for entry in above):
        return True
    times, before = _times(entries), _times(above)
    return bool(times and before) and before[0] > before[-1] and times[0] > before[-1]


def passed(seen: Seen, lower: int) -> bool:
    """Whether a list that goes from new to old has left the scope."""
    times = _times(seen.entries)
    return bool(times) and times[0] >= times[-1] and max(times) < lower


def _ended(seen: Seen) -> bool:
    return not seen.entries or (len(seen.entries) < LIMIT and seen.page.has_more is not True)


def _times(entries: Iterable[LogEntry]) -> list[int]:
    return [entry.created for entry in entries if entry.created is not None]


def weigh(scope: Scope, feed: Feed, tally: FeedAccounting) -> list[Imbalance]:
    """Whether each sighting that was ever counted is in the counters once, and on record or forgotten.

    Every sighting adds 1 to the feed's counter, under whatever labels, or to the rejected ones. The state keeps a tally
    of its own of them, and the records; the three are equal only where nothing was counted twice or not at all.
    """
    counter = _sum(tally.series_values, feed.counter, scope.workspace, **feed.counter_labels)
    rejected = _sum(tally.series_values, REJECTED, scope.workspace, feed=scope.feed)
    found = [
        Imbalance(feed.counter, tally.observation_count - rejected, counter),
        Imbalance("", tally.observation_count, tally.stored_count + tally.pruned_count),
    ]
    if counter == tally.observation_count - rejected:
        # A counter that is wrong itself is no measure of those beside it.
        for family, (label, value) in feed.subset_counters.items():
            share = _sum(tally.series_values, feed.counter, scope.workspace, **{label: value})
            found.append(Imbalance(family, share, _sum(tally.series_values, family, scope.workspace)))
    return [imbalance for imbalance in found if imbalance.expected != imbalance.found]


def missing(differences: Iterable[Difference], imbalances: Iterable[Imbalance]) -> int:
    """How many logs are not in the counters in the status they are in, though they should be."""
    return sum(1 for _ in differences) + sum(
        imbalance.expected - imbalance.found
        for imbalance in imbalances
        if imbalance.family and imbalance.found < imbalance.expected
    )


def extra(imbalances: Iterable[Imbalance]) -> int:
    """How many logs count twice or will, or are on record without having been counted."""
    return sum(
        abs(imbalance.found - imbalance.expected)
        for imbalance in imbalances
        if not imbalance.family or imbalance.found > imbalance.expected
    )


def _sum(totals: Mapping[Series, SeriesValue], family: str, workspace: str, **only: str) -> int:
    names = CATALOGUE[family].labels
    wanted = {"workspace": workspace, **only}.items()
    return sum(
        int(total.value)
        for (name, labels), total in totals.items()
        if name == family
        and isinstance(total.value, int | float)
        and wanted <= dict(zip(names, labels, strict=True)).items()
    )

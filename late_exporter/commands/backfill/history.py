"""What the counters of a feed would have shown before anybody looked, told by the ledger and by the API together.

When a feed's counters are first shown, all that the API held by then is in them. So history has to end at a value that
is at most the first one shown: were it above, Prometheus would take the fall for a restart and count everything anew.
It has to end close below, or else logs of last week seem to come at the border. From what the ledger has counted of a
series by now is therefore taken away what came later:

- A log takes part only in the statuses that the ledger has counted it in. What the exporter is yet to count is in the
  live counters then, and nowhere else.
- A log stands at its creation. Where it was counted in several statuses, the ledger does not tell in which of them by
  the border: it is taken for one that came later, in all of them.
- What was counted and the API no longer shows has no labels any more. As far as it was created before the border it
  stays where it is, below the first value: it was there before, and nothing seems to come twice. Where such a log is
  younger, nobody can say which series to take it from, and it is taken from each. So is a former status that is no
  longer shown.
- A row is written when its attempt ends, so that a log may come to the list after the border and be created before it.
  That is why history ends LATE_WINDOW before.
- After a switch of the API's generation the ledger holds logs under keys that the exporter has yet to recognize. They
  are recognized here as it will do it.
- A series that was born after the border was first served at 0, and has no history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple, TypeAlias

import msgspec

from late_exporter.exposition.family import Family
from late_exporter.metrics.aggregation import apply_increment
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.model import (
    PENDING,
    Feed,
    Histogram,
    IncCounter,
    Increment,
    Labels,
    LogEntry,
    ObserveHistogram,
    Scope,
    Series,
    SeriesValue,
    SetLatest,
    Value,
)
from late_exporter.store import RecordedStatus
from late_exporter.store.matching import match_logs, time_prefix

__all__ = ["FeedHistory", "SampleValue", "SeriesHistory", "apply_delta", "frozen_limiter"]

LATEST_GAUGES = ("late_publishing_last_log_timestamp_seconds", "late_connection_last_event_timestamp_seconds")
"""The gauges of which the past is known: they follow from the logs alone."""

SampleValue: TypeAlias = int | float | Histogram


class Delta(NamedTuple):
    """What a series did: by how much a counter rose, what a histogram observed in millionths, what a gauge became."""

    at: int
    amount: float


class SeriesHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A series in the past.

    Args:
        family: Its family.
        labels: Label values.
        until: Where it ends.
        base: Its value before the first move; None: it has none.
        deltas: In order of time.
    """

    family: Family
    labels: Labels
    until: int
    base: SampleValue | None
    deltas: tuple[Delta, ...]


def frozen_limiter(families: Mapping[str, Family], totals: Iterable[Series]) -> LabelLimiter:
    """A governor that gives every label the value that it was counted under, and admits nothing new."""
    governor = LabelLimiter(families, max_values=0, max_accounts=1)
    governor.restore(totals)
    return governor


def apply_delta(family: Family, value: SampleValue | None, amount: float) -> SampleValue:
    """The value after a move."""
    if family.kind == "gauge":
        return amount
    moved = apply_increment(_increment(family, amount), value)
    if not isinstance(moved, int | float | Histogram):
        raise TypeError(f"{family.name}: {moved!r} cannot be shown")
    return moved


def _increment(family: Family, amount: float) -> Increment:
    if family.kind == "histogram":
        return ObserveHistogram(family.name, (), micros=int(amount), bounds=family.buckets)
    return IncCounter(family.name, (), amount=amount)


class FeedHistory:
    """The past of a feed of a workspace.

    Args:
        scope: Which feed of which workspace.
        feed: The feed.
        families: The families to tell of.
        governor: Bounds the labels; see ``closed``.
        counted: What the ledger holds of the feed.
        until: The last moment that is told of.
    """

    def __init__(
        self,
        scope: Scope,
        feed: Feed,
        *,
        families: Mapping[str, Family],
        governor: LabelLimiter,
        counted: Iterable[RecordedStatus],
        until: int,
    ) -> None:
        self._scope = scope
        self._feed = feed
        self._families = {
            name: family
            for name, family in families.items()
            if feed.name in family.feeds and (family.kind != "gauge" or name in LATEST_GAUGES)
        }
        self._governor = governor
        self._until = until
        self._statuses: dict[str, frozenset[str]] = {}
        self._times: dict[str, set[str]] = {}
        self._unmatched = 0
        self._deltas: dict[Series, list[Delta]] = {}
        self._sums: dict[Series, SampleValue] = {}
        self._matched: set[str] = set()
        for key, sightings in groupby(counted, key=attrgetter("key")):
            self._add_recorded(key, [*sightings])
        self.logs = 0

    def _add_recorded(self, key: str, sightings: Sequence[RecordedStatus]) -> None:
        statuses = frozenset(sighting.status for sighting in sightings)
        self._statuses[key] = statuses
        time = time_prefix(key)
        if time is not None:
            self._times.setdefault(time, set()).add(key)
        if self._is_later(sightings[0].created, statuses):
            self._unmatched += len(statuses)

    def _is_later(self, created: int | None, statuses: frozenset[str]) -> bool:
        return created is None or created > self._until or len(statuses) > 1

    def add_page(self, entries: Sequence[LogEntry]) -> None:
        """Take in what a page shows; a log that was there before is left out."""
        self._recognize(entries)
        for entry in entries:
            statuses = self._statuses.get(entry.key)
            if entry.key in self._matched or statuses is None:
                continue
            self._matched.add(entry.key)
            if entry.rejection_reason:
                # It is in none of these series, so none has to give it up.
                self._unmatched -= len(statuses) if self._is_later(entry.created, statuses) else 0
            elif entry.created is not None:
                self._match(entry, statuses, entry.created)

    def _recognize(self, entries: Sequence[LogEntry]) -> None:
        """Know the logs of a page that were counted under other keys by the keys they are shown under."""
        times = {time for entry in entries if entry.key not in self._statuses and (time := time_prefix(entry.key))}
        keys = {entry.key for entry in entries if entry.key in self._statuses}.union(
            *(self._times.get(time, ()) for time in times)
        )
        if not times or not keys:
            return
        held = {key: dict.fromkeys(self._statuses[key]) for key in keys}
        for key, entry in match_logs(entries, held, has_pending=self._feed.has_pending).items():
            statuses = self._statuses.pop(key)
            alike = self._statuses.get(entry.key, frozenset())
            self._statuses[entry.key] = alike | (statuses if self._feed.has_pending else {entry.status})
            self._times[time_prefix(key) or ""].discard(key)
            self._times[time_prefix(key) or ""].add(entry.key)

    def _match(self, entry: LogEntry, statuses: frozenset[str], created: int) -> None:
        later = self._is_later(created, statuses)
        self.logs += not later
        for number, sighting in enumerate(_sightings(entry, statuses)):
            self._unmatched -= later
            for increment in self._governor.apply(self._feed.project(self._scope.workspace, sighting)):
                if increment.family in self._families and not (number and increment.once_per_log):
                    self._add_delta(increment, None if later else created)

    def _add_delta(self, increment: Increment, at: int | None) -> None:
        """Note a move; None is after the border."""
        family, series = self._families[increment.family], (increment.family, increment.labels)
        amount = _amount(increment)
        if not amount and family.kind == "counter":
            return
        if family.kind != "gauge":
            self._sums[series] = apply_delta(family, self._sums.get(series), amount)
        if at is not None:
            self._deltas.setdefault(series, []).append(Delta(at, amount))

    def series(self, totals: Mapping[Series, SeriesValue], *, border: int) -> Iterator[SeriesHistory]:
        """The series that were there at the border, with their values before it.

        Args:
            totals: What the ledger holds.
            border: When the feed's counters were first shown.
        """
        for (name, labels), total in totals.items():
            family = self._families.get(name)
            if family is None or labels[0] != self._scope.workspace or total.created * 1000 > border:
                continue
            moves = tuple(sorted(self._deltas.get((name, labels), ()), key=itemgetter(0)))
            base = self._base(family, labels, total.value)
            if base is not None or (family.kind == "gauge" and moves):
                yield SeriesHistory(family=family, labels=labels, until=self._until, base=base, deltas=moves)

    def _base(self, family: Family, labels: Labels, total: Value) -> SampleValue | None:
        """What a counter or a histogram had before all that is told; None where that cannot be said."""
        told = self._sums.get((family.name, labels))
        if family.kind == "counter" and isinstance(total, int | float):
            rest = total - (told if isinstance(told, int | float) else 0)
            return max(0, rest - max(0, self._unmatched)) if rest >= 0 else None
        if isinstance(total, Histogram) and dict(zip(family.labels, labels, strict=True)).get("status") != PENDING:
            return self._histogram_base(family, told if isinstance(told, Histogram) else None, total)
        # How long a log had been pending when it was seen to be is not known once it no longer is.
        return None

    def _histogram_base(self, family: Family, told: Histogram | None, total: Histogram) -> Histogram | None:
        if total.bounds != family.buckets:
            return None
        nothing = Histogram(family.buckets, (0,) * (len(family.buckets) + 1))
        told = told or nothing
        counts = tuple(have - gone for have, gone in zip(total.counts, told.counts, strict=True))
        rest = Histogram(family.buckets, counts, total.micros - told.micros)
        if min(*counts, rest.micros) < 0:
            return None
        # Of a log that cannot be placed nobody knows its part of the sum.
        return nothing if self._unmatched > 0 else rest


def _amount(increment: Increment) -> float:
    match increment:
        case IncCounter(amount=amount):
            return amount
        case ObserveHistogram(micros=micros):
            return micros
        case SetLatest(value=float() | int() as value):
            return value
        case _:
            return 0


def _sightings(entry: LogEntry, statuses: frozenset[str]) -> Iterator[LogEntry]:
    """The sightings that were counted of a log and can be told."""
    if entry.status in statuses:
        yield entry
    if PENDING in statuses and entry.status != PENDING:
        # A log without a result; what it shows by now is that of its end.
        yield msgspec.structs.replace(entry, status=PENDING, duration=None, attempt=None)

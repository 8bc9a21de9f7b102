"""Keeps the books of one feed: entries become sightings, sightings become durable, and what is durable is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from late_exporter.errors import StoreError
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.labels import Governor
from late_exporter.metrics.registry import Board
from late_exporter.model import (
    Add,
    Batch,
    Committed,
    Coverage,
    Entry,
    Feed,
    FeedState,
    Increment,
    Known,
    Observe,
    Pending,
    Scope,
    Sighting,
    Tally,
)
from late_exporter.store import Store

__all__ = ["Bookkeeper", "Draft", "births"]

MARGIN = 86_400_000
"""Ids are kept this much longer than the API keeps the logs."""

SLACK = 300_000
"""How far the API's clock may be ahead of its own logs' times."""

REASONS = ("no_id", "not_an_object")

LAG = "late_exporter_log_lag_seconds"
DRIFTED = "late_exporter_api_schema_drift_total"


class Draft(msgspec.Struct):
    """What has been read and is not yet committed."""

    entries: list[tuple[Entry, bool]] = msgspec.field(default_factory=list)
    """With each entry, whether only a walk over known ground found it."""
    coverage: Coverage | None = None
    gone: list[str] = msgspec.field(default_factory=list)


class Bookkeeper:
    """The books of one feed of one workspace.

    Args:
        workspace: Its name.
        feed: The log list.
        state: What the store keeps of it.
        store: Shared by all feeds; used through ``offload`` only.
        offload: Runs a call in the store's thread.
        governor: Bounds the labels.
        board: Shows what is durable.
        backlog: What the workspace's feeds counted of the exporter itself and could not save yet.
        clock: Unix time in seconds.
        audited: When an audit last came to its end, a Unix time in seconds; 0 for never.

    Attributes:
        counted: How many sightings have been counted since the start.
    """

    def __init__(
        self,
        workspace: str,
        feed: Feed,
        state: FeedState,
        *,
        store: Store,
        offload: Callable[..., Awaitable[Any]],
        governor: Governor,
        board: Board,
        backlog: list[Increment],
        clock: Callable[[], float],
        audited: float = 0.0,
    ) -> None:
        self._scope = Scope(workspace, feed.name)
        self._feed = feed
        self._store = store
        self._offload = offload
        self._governor = governor
        self._board = board
        self._backlog = backlog
        self._clock = clock
        self._waiting: set[tuple[str, str]] = set()
        self.audited = audited
        self.coverage = state.coverage
        self.pendings: Mapping[str, Pending] = state.pendings
        self.logs = state.logs
        self.lag: float | None = None
        self.counted = 0
        self._show_feed()

    @property
    def synced(self) -> bool:
        """Whether the first sync is complete."""
        return self.coverage is not None and self.coverage.synced

    async def known(self, entries: Sequence[Entry], *, since: int) -> Known:
        """What the state knows of the logs of a page; ``since`` bounds those that the API may still show."""
        keys = [entry.key for entry in entries]
        known: Known = await self._offload(self._store.known, self._scope, keys, since=since)
        if self._feed.generation == "late" or all(
            entry.status in known.statuses.get(entry.key, ()) for entry in entries
        ):
            return known
        if await self._offload(self._store.recognize, self._scope, entries, settles=self._feed.settles):
            known = await self._offload(self._store.known, self._scope, keys, since=since)
            state: FeedState = await self._offload(self._store.feed, self._scope)
            self.pendings = state.pendings
        return known

    async def adopt(self, feed: Feed) -> None:
        """Go on with the feed of another generation of the API; raises StoreError where that cannot be made durable."""
        if self.coverage is not None and self.coverage.generation != feed.generation:
            coverage = msgspec.structs.replace(self.coverage, generation=feed.generation)
            state: FeedState = await self._offload(self._adopt, coverage)
            self.coverage, self.pendings = state.coverage, state.pendings
        self._feed = feed

    def _adopt(self, coverage: Coverage) -> FeedState:
        self._store.adopt(self._scope, coverage)
        return self._store.feed(self._scope)

    async def tally(self) -> Tally:
        """What the books of the state itself say."""
        tally: Tally = await self._offload(self._store.tally, self._scope)
        return tally

    async def commit(self, draft: Draft, now: int, increments: Sequence[Increment] = ()) -> None:
        """Make a draft durable and show it.

        Args:
            draft: What was read.
            now: API time in milliseconds.
            increments: What the exporter counted of itself.

        Raises:
            StoreError: Nothing of the draft was counted, nor any of the increments.
        """
        backlog, self._backlog[:] = list(self._backlog), []
        try:
            batch = self._batch(draft, now, [*backlog, *increments])
            committed, size = await self._offload(self._save, batch)
        except BaseException:
            self._backlog[:0] = backlog
            raise
        self._take_over(committed, batch.coverage)
        if size is not None:
            self._board.gauge("late_exporter_state_logs", (self._scope.workspace,), size[0])
            self._board.gauge("late_exporter_state_bytes", (self._scope.workspace,), size[1])

    def keep(self, increments: Sequence[Increment], shown: Sequence[Add] = ()) -> None:
        """Save what the exporter counted of itself with the next commit; ``shown`` is to be seen before that."""
        self._backlog += [*increments, *shown]
        self._board.provisional(shown)

    def _save(self, batch: Batch) -> tuple[Committed, tuple[int, int] | None]:
        committed = self._store.commit(self._scope, batch)
        try:
            return committed, self._store.size(self._scope.workspace)
        except StoreError:  # what is durable is not to be kept and saved again
            return committed, None

    def _batch(self, draft: Draft, now: int, increments: Sequence[Increment]) -> Batch:
        coverage, prune = draft.coverage, None
        if coverage is not None and coverage.head is not None:
            # The newest log bounds what a wrong clock may forget.
            newest = min(now, int(self._clock() * 1000), coverage.head.created)
            prune = newest - self._feed.retention - MARGIN
            coverage = msgspec.structs.replace(coverage, horizon=max(coverage.horizon, prune))
        # What has been forgotten, or is about to be, would count twice.
        horizon = max(known.horizon for known in (self.coverage, coverage) if known) if self.coverage or coverage else 0
        history = not self.synced and bool(draft.entries)
        self._governor.begin()
        return Batch(
            at=(draft.coverage.start / 1000 if history and draft.coverage else self._clock()),
            sightings=[
                self._sighting(entry, now, walked=walked)
                for entry, walked in draft.entries
                if entry.created is None or entry.created >= horizon
            ],
            increments=increments,
            coverage=coverage,
            gone=draft.gone,
            prune=prune,
        )

    def _sighting(self, entry: Entry, now: int, *, walked: bool) -> Sighting:
        return Sighting(entry, tuple(self._increments(entry, now, walked=walked)))

    def _increments(self, entry: Entry, now: int, *, walked: bool) -> Iterator[Increment]:
        feed = (self._scope.workspace, self._scope.feed)
        drift = (Add(DRIFTED, (*feed, deviation.path, deviation.kind)) for deviation in entry.deviations)
        yield from self._governor.govern(drift)
        if entry.rejected:
            yield Add("late_exporter_entries_rejected_total", (*feed, entry.rejected))
            return
        if entry.created is not None and entry.created > now + SLACK:
            # A time to come would be the newest one for as long as it has not come.
            entry = msgspec.structs.replace(entry, created=now)
        yield from self._governor.govern(self._feed.project(self._scope.workspace, entry))
        if entry.created is None or not self.synced:
            return
        lag = max(0, now - entry.created)
        yield Observe(LAG, feed, once=True, micros=lag * 1000, bounds=CATALOGUE[LAG].buckets)
        if walked:
            yield Add("late_exporter_reconciled_logs_total", feed, once=True)

    def _take_over(self, committed: Committed, coverage: Coverage | None) -> None:
        was_synced = self.synced
        self.coverage = coverage or self.coverage
        self.logs = committed.logs
        self.counted += len(committed.sightings)
        self._governor.restore(committed.totals)
        self._board.apply(committed.totals)
        if committed.pendings is not None:
            self.pendings = committed.pendings
        if was_synced:
            for sighting in committed.sightings:
                self._point_to(sighting)
        self._show_feed()

    def _point_to(self, sighting: Sighting) -> None:
        for increment in sighting.increments:
            if not isinstance(increment, Observe):
                continue
            if increment.exemplar is not None:
                self._board.exemplar(increment)
            if increment.family == LAG:
                self.lag = increment.micros / 1_000_000

    def _show_feed(self) -> None:
        if self.coverage is None or not self.coverage.synced:
            return
        workspace, feed = self._scope.workspace, self._scope.feed
        self._board.release(workspace, feed)
        self._board.gauge(
            "late_exporter_coverage_start_timestamp_seconds", (workspace, feed), self.whole_since(self.coverage) / 1000
        )
        if self._feed.counter == "late_publishing_logs_total":
            self._show_pendings(workspace)

    @staticmethod
    def whole_since(coverage: Coverage) -> int:
        """Since when the record is whole: below an open gap it is not."""
        return max([coverage.start, *(gap.upper.created for gap in coverage.gaps)])

    def _show_pendings(self, workspace: str) -> None:
        admit = self._governor.admit
        logs = [
            (admit(workspace, "platform", log.platform), admit(workspace, "action", log.action), log.created)
            for log in self.pendings.values()
        ]
        counts = Counter((platform, action) for platform, action, _ in logs)
        self._waiting |= counts.keys() | {(platform, "publish") for platform in self._governor.platforms(workspace)}
        for platform, action in self._waiting:
            self._board.gauge("late_publishing_pending_logs", (workspace, platform, action), counts[platform, action])
        oldest: dict[str, int] = {}
        for platform, _, created in logs:
            if created:
                oldest[platform] = min(created, oldest.get(platform, created))
        for platform in {platform for platform, _ in self._waiting}:
            labels = (workspace, platform)
            if platform in oldest:
                self._board.gauge("late_publishing_oldest_pending_timestamp_seconds", labels, oldest[platform] / 1000)
            else:
                self._board.clear("late_publishing_oldest_pending_timestamp_seconds", labels)


def births(workspace: str, feed: str, outcomes: Sequence[str]) -> list[Add]:
    """The exporter's own counters of a feed at 0, so that their first increment is seen."""
    names = (workspace, feed)
    return [
        *(Add("late_exporter_polls_total", (*names, outcome), amount=0) for outcome in outcomes),
        *(Add("late_exporter_entries_rejected_total", (*names, reason), amount=0) for reason in REASONS),
        Add("late_exporter_reconciled_logs_total", names, amount=0),
        Add("late_exporter_api_throttled_seconds_total", (workspace,), amount=0),
    ]

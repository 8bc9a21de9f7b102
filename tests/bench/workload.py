"""New publishing logs of many workspaces, as the batches that their feeds would commit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from late_exporter.feeds import GENERATIONS
from late_exporter.ingest.observations import ObservationBuilder
from late_exporter.ingest.uncommitted_logs import ReadLogs
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.model import Batch, CommitResult, Coverage, FeedCommit, ListPosition, LogEntry, Scope
from late_exporter.series import IncCounter
from late_exporter.simulator.zernio_rows import publishing_row
from tests.bench.late import make_row
from tests.bench.lean import ACCOUNTS

__all__ = ["FEED", "Workload"]

FEED = GENERATIONS["zernio"]["publishing"]


class Workload:
    """Logs that each workspace writes at a constant rate from a time on.

    Args:
        count: Number of workspaces, each with six accounts.
        logs_per_day: Logs of a workspace per day.
        start: Unix time of the first logs.
    """

    def __init__(self, count: int, *, logs_per_day: int, start: float) -> None:
        self.scopes = [Scope(f"w{number:06}", FEED.name) for number in range(count)]
        self._limiter = LabelLimiter(CATALOGUE)
        self._builders = [ObservationBuilder(scope, FEED, self._limiter) for scope in self.scopes]
        self._counts = [0] * count
        self._pause = 86_400 / logs_per_day
        self._start = start

    def accept(self, results: Iterable[CommitResult]) -> None:
        """Remember which series are stored."""
        for result in results:
            self._limiter.restore(result.series_values)

    def entries(self, number: int, logs: int) -> Sequence[LogEntry]:
        """Return the next logs of a workspace, oldest first."""
        first = self._counts[number]
        self._counts[number] += logs
        # Workspaces do not write at the same times.
        start = self._start + self._pause * number / len(self.scopes)
        rows = [
            publishing_row(make_row(each, start + each * self._pause, ACCOUNTS)) for each in range(first, first + logs)
        ]
        return FEED.parse(msgspec.json.encode({"logs": rows, "pagination": {"total": logs}})).entries

    def commits(self, numbers: Iterable[int], logs: int) -> list[FeedCommit]:
        """Return a batch of new logs for each of some workspaces."""
        return asyncio.run(self._build_commits(numbers, logs))

    async def _build_commits(self, numbers: Iterable[int], logs: int) -> list[FeedCommit]:
        return [await self._build_commit(number, logs) for number in numbers]

    async def _build_commit(self, number: int, logs: int) -> FeedCommit:
        scope, entries = self.scopes[number], self.entries(number, logs)
        now = max(entry.created or 0 for entry in entries)
        pages = [ReadLogs(tuple(entries), by_reconciliation=False)]
        built = await self._builders[number].build(pages, now=now, retention_floor=0, is_synced=True)
        newest = ListPosition(now, entries[-1].key)
        polls = IncCounter("late_exporter_polls_total", (scope.workspace, scope.feed, "success"))
        coverage = Coverage(0, 1, now, newest, is_synced=True, published_at=1, generation="zernio")
        batch = Batch(
            committed_at=now / 1000,
            now=now,
            observations=built.observations,
            increments=[polls, *built.zeros],
            coverage=coverage,
        )
        return FeedCommit(scope, batch)

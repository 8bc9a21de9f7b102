"""Observations of a batch: logs of one kind share their increments."""

from __future__ import annotations

import tracemalloc

import msgspec

from late_exporter.feeds import FEEDS
from late_exporter.ingest.observations import ObservationBuilder, Observations
from late_exporter.ingest.uncommitted import ReadLogs
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.model import LogEntry, Scope

NOW = 1_763_993_002_000


class Harness:
    """A builder of observations of the publishing feed."""

    def __init__(self, **limits: int) -> None:
        self.limiter = LabelLimiter(CATALOGUE, **limits)
        self.builder = ObservationBuilder(Scope("acme", "publishing"), FEEDS["publishing"], self.limiter)

    def build(self, *entries: LogEntry, by_reconciliation: bool = False, is_synced: bool = True) -> Observations:
        """Return the observations of some logs that were read together."""
        pages = [ReadLogs(entries, by_reconciliation)]
        return self.builder.build(pages, now=NOW, retention_floor=0, is_synced=is_synced)


def log(number: int, **fields: object) -> LogEntry:
    """Return a publishing log."""
    entry = LogEntry(key=f"{number:024}", status="success", created=NOW - number, platform="x", action="publish",
                     account_id="a", username="@acme", duration=number, attempt=1)  # fmt: skip
    return msgspec.structs.replace(entry, **fields)


def test_a_log_costs_a_batch_one_object() -> None:
    """A commit of thousands of logs must not hold a multiple of them in memory, which would fragment it."""
    harness = Harness()
    entries = [log(number) for number in range(2000)]
    harness.build(*entries)
    tracemalloc.start()
    try:
        built = harness.build(*entries)
        blocks = sum(statistic.count for statistic in tracemalloc.take_snapshot().statistics("filename"))
    finally:
        tracemalloc.stop()
    assert 2000 == len(built.observations)
    assert blocks < 1.5 * len(entries)

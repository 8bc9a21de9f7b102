"""Observations of a batch: logs of one kind share their increments."""

from __future__ import annotations

import tracemalloc
from itertools import chain

import msgspec

from late_exporter.feeds import FEEDS
from late_exporter.ingest.observations import ObservationBuilder, Observations
from late_exporter.ingest.uncommitted import ReadLogs
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.counting import effective_increments
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.model import MAX_CLOCK_SKEW_MS, Batch, LogEntry, Observation, Scope
from late_exporter.series import IncCounter, Increment, SetLatest

NOW = 1_763_993_002_000
LOGS = "late_publishing_logs_total"
LAST_LOG = "late_publishing_last_log_timestamp_seconds"
RECONCILED = "late_exporter_reconciled_logs_total"


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


def families(increments: tuple[Increment, ...]) -> set[str]:
    """Return the families of some increments."""
    return {increment.family for increment in increments}


def effective(*observations: Observation) -> list[Increment]:
    """Return the increments of some observations that are all new."""
    first = {each.entry.key: each for each in observations}
    return list(chain.from_iterable(effective_increments(Batch(committed_at=0, now=NOW), observations, first)))


def test_alike_logs_share_their_increments() -> None:
    """Pages do not separate logs of one kind; what differs in a label has increments of its own."""
    harness = Harness()
    first, second, third = (harness.build(log(1), log(250), log(3, platform="y"))).observations
    assert first.increments is second.increments
    assert families(first.increments) == families(third.increments)
    assert {increment.labels[1] for increment in third.increments if increment.family == LOGS} == {"y"}


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


def test_zeros_concern_the_batch() -> None:
    """The series of a new platform are created by each batch until they are in the state."""
    harness = Harness()
    built = harness.build(log(1), log(2, status="failed"))
    assert all(isinstance(zero, IncCounter) and not zero.amount for zero in built.zeros)
    assert {LOGS, "late_publishing_retries_total"} < families(tuple(built.zeros))
    increments = chain.from_iterable(observation.increments for observation in built.observations)
    assert not any(isinstance(each, IncCounter) and not each.amount for each in increments)
    assert built.zeros == (harness.build(log(1), log(2, status="failed"))).zeros
    harness.limiter.restore([(zero.family, zero.labels) for zero in built.zeros])
    assert [] == (harness.build(log(3))).zeros


def test_every_log_with_a_replaced_label_is_counted_as_such() -> None:
    """Logs that share an overflow count it once each."""
    harness = Harness(max_values=1)
    observations = (harness.build(*(log(number, platform=f"p{number % 3}") for number in range(6)))).observations
    overflows = [each for each in effective(*observations) if each.family == "late_exporter_label_overflow_total"]
    assert 4 == sum(each.amount for each in overflows if isinstance(each, IncCounter) and each.labels[1] == LOGS)


def test_lag_and_reconciliation_begin_with_the_first_sync() -> None:
    """History has no lag; the same logs have one later, and only those of a scan count as found by it."""
    harness = Harness()
    lag = "late_exporter_log_lag_seconds"
    (history,) = (harness.build(log(1), is_synced=False)).observations
    (live,) = (harness.build(log(2))).observations
    (found,) = (harness.build(log(3), by_reconciliation=True)).observations
    assert not {lag, RECONCILED} & families(history.increments)
    assert {lag} == {lag, RECONCILED} & families(live.increments)
    assert {lag, RECONCILED} <= families(found.increments)


def test_a_time_of_the_future_is_the_present() -> None:
    """A log ahead of the clock sets no gauge to its time, and leaves the logs of its kind alone."""
    harness = Harness()
    ahead = log(1, created=NOW + MAX_CLOCK_SKEW_MS + 1)
    observations = (harness.build(ahead, log(2))).observations
    assert [ahead.created, NOW - 2] == [each.entry.created for each in observations]
    times = [
        increment.value
        for each in observations
        for increment in effective(each)
        if isinstance(increment, SetLatest) and increment.family == LAST_LOG
    ]
    assert [NOW / 1000, (NOW - 2) / 1000] == times

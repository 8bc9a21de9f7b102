"""Delivery of events from the outbox, with an output that fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import pytest

from late_exporter.errors import DeliveryError, StoreError
from late_exporter.events import deliverer as module
from late_exporter.events.deliverer import IDLE_SECONDS, MAX_PENDING, RETRY_SECONDS, EventDeliverer
from late_exporter.events.output import MAX_BATCH_EVENTS
from late_exporter.events.report import DELIVERED, DROPPED, FAILURES, OLDEST, PENDING, DeliveryReport
from late_exporter.exposition.exposition import Exposition
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import LogEntry, Scope
from late_exporter.series import IncCounter
from late_exporter.store import open_store
from late_exporter.store.records import Batch, Observation, QueuedEvent
from tests.support.clock import VirtualClock
from tests.support.exposition import read_body
from tests.support.loggers import RecordingLogger
from tests.support.outputs import FakeOutput
from tests.support.samples import Samples
from tests.support.steps import drive, offload_in_steps
from tests.support.store import commit_batch

UNAVAILABLE = DeliveryError("fake: No space left on device")


class Harness:
    """A deliverer with a store in memory, a fake output and a fake clock."""

    def __init__(self, *, max_pending: int = MAX_PENDING) -> None:
        self.store = open_store("sqlite://")
        self.clock = VirtualClock()
        self.output = FakeOutput()
        self.logger = RecordingLogger()
        self.counts = Counter[tuple[str, ...]]()
        self.failing: set[str] = set()
        self.exposition = Exposition(CATALOGUE, created=False)
        registry = SeriesRegistry(CATALOGUE, self.exposition)
        for workspace in ("acme", "umbrella"):
            registry.add_workspace(workspace)
        self.deliverer = EventDeliverer(
            self.store.outbox,
            self.output,
            offload=self.offload,
            report=DeliveryReport(registry, lambda: ("acme", "umbrella"), self._count),
            logger=self.logger,
            max_pending=max_pending,
            monotonic=self.clock.monotonic,
        )

    async def offload(self, call: Callable[..., Any], *args: Any) -> Any:
        """Run a call of the store, or fail it."""
        if call.__name__ in self.failing:
            raise StoreError("disk I/O error")
        return await offload_in_steps(call, *args)

    def _count(self, workspace: str, increments: Sequence[IncCounter]) -> None:
        assert {workspace} == {each.labels[0] for each in increments}
        self.counts.update({(each.family, *each.labels): each.amount for each in increments})

    def queue(self, *bodies: bytes, workspace: str = "acme") -> None:
        """Queue events, whose bodies are all different."""
        observations = [Observation(LogEntry(key=f"{body!r}", status="failed"), (), body) for body in bodies]
        scope = Scope(workspace, "publishing")
        commit_batch(self.store, Batch(scope=scope, committed_at=self.clock.now, observations=observations))

    def deliver(self) -> float:
        """Deliver what is queued, and return the seconds until the next attempt, which pass."""
        delay = drive(self.deliverer.deliver())
        self.clock.advance(delay)
        return delay

    def gauge(self, family: str, workspace: str = "acme") -> float | None:
        """Return a gauge as it is scraped; None if there is none."""
        samples = Samples.parse(read_body(self.exposition))
        return samples.get((family, (("workspace", workspace),)))

    @property
    def left(self) -> list[bytes]:
        """Bodies of the events that are still queued."""
        return [event.body for event in self.store.outbox.read(10**6)]


@pytest.fixture
def harness() -> Iterator[Harness]:
    """Return a deliverer with an empty outbox."""
    created = Harness()
    with closing(created.store):
        yield created


def bodies(count: int) -> list[bytes]:
    """Return different events."""
    return [b"%05d" % number for number in range(count)]


def test_events_are_delivered_in_order_and_deleted(harness: Harness) -> None:
    """Everything that is queued is delivered, in batches, and counted by workspace."""
    harness.queue(*bodies(MAX_BATCH_EVENTS + 10))
    harness.queue(b"other", workspace="umbrella")
    assert IDLE_SECONDS == harness.deliver()
    assert [MAX_BATCH_EVENTS, 11] == list(map(len, harness.output.batches))
    assert [*bodies(MAX_BATCH_EVENTS + 10), b"other"] == harness.output.bodies
    assert [] == harness.left
    assert {(DELIVERED, "acme"): MAX_BATCH_EVENTS + 10, (DELIVERED, "umbrella"): 1} == harness.counts
    assert (0, None) == (harness.gauge(PENDING), harness.gauge(OLDEST))
    assert [] == harness.logger.above_debug


def test_failures_are_retried(harness: Harness) -> None:
    """A delivery that fails is repeated after some seconds until it succeeds; only the first failure is a warning."""
    harness.queue(b"a")
    harness.output.failures = [UNAVAILABLE] * 8
    assert [RETRY_SECONDS] * 8 == [harness.deliver() for _ in range(8)]
    assert IDLE_SECONDS == harness.deliver()
    assert [b"a"] == harness.output.bodies
    assert 8 == harness.counts[FAILURES, "acme"]
    assert [("warning", "events cannot be delivered"), ("info", "events are delivered again")] == (
        harness.logger.above_debug
    )


def test_a_backlog_is_shown(harness: Harness) -> None:
    """While the output fails, the number of events and the age of the oldest can be seen."""
    started_at = harness.clock.now
    harness.queue(b"a")
    harness.output.failures = [UNAVAILABLE] * 5
    harness.deliver()
    harness.queue(b"b")
    harness.deliver()
    assert 2 == harness.gauge(PENDING)
    assert pytest.approx(started_at, abs=0.001) == harness.gauge(OLDEST)
    assert (0, None) == (harness.gauge(PENDING, "umbrella"), harness.gauge(OLDEST, "umbrella"))


def test_an_unexpected_error_of_the_output_is_a_failed_delivery(harness: Harness) -> None:
    """No error of an output stops the exporter: it is logged and counted, and the delivery is retried."""
    harness.queue(b"a")
    harness.output.failures = [RecursionError("too deep")]
    assert RETRY_SECONDS == harness.deliver()
    fields = {"output": "fake", "error": "fake: RecursionError: too deep"}
    assert [("warning", "events cannot be delivered", fields)] == harness.logger.records
    assert IDLE_SECONDS == harness.deliver()
    assert [b"a"] == harness.output.bodies
    assert 1 == harness.counts[FAILURES, "acme"]


def test_the_oldest_of_too_many_events_are_dropped() -> None:
    """The outbox is bounded while the output fails; what is dropped is counted and logged."""
    harness = Harness(max_pending=3)
    harness.output.failures = [UNAVAILABLE] * 10
    for number in range(10):
        harness.queue(b"%d" % number, workspace="acme" if number < 5 else "umbrella")
        harness.deliver()
    harness.deliver()
    assert [b"7", b"8", b"9"] == harness.output.bodies
    assert (5, 2) == tuple(harness.counts[DROPPED, workspace] for workspace in ("acme", "umbrella"))
    assert ("warning", "events dropped") in harness.logger.above_debug
    harness.store.close()


def test_a_failed_acknowledgement_repeats_nothing(harness: Harness) -> None:
    """If the store fails after the delivery, the events are deleted later and not delivered again."""
    harness.queue(b"a", b"b")
    harness.failing = {"delete"}
    assert RETRY_SECONDS == harness.deliver()
    harness.queue(b"c")
    assert RETRY_SECONDS == harness.deliver()
    harness.failing = set()
    harness.deliver()
    assert [[b"a", b"b"], [b"c"]] == harness.output.batches
    assert [] == harness.left


@pytest.mark.parametrize("method", ["read", "delete_oldest", "backlogs"])
def test_a_store_that_fails_is_tried_again(harness: Harness, method: str) -> None:
    """An outbox that cannot be read delays the delivery only."""
    harness.queue(b"a")
    harness.failing = {method}
    assert RETRY_SECONDS == harness.deliver()
    harness.failing = set()
    harness.deliver()
    assert [b"a"] == harness.output.bodies


class SlowOutput(FakeOutput):
    """An output whose deliveries wait for a test."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.released = asyncio.Event(), asyncio.Event()

    async def deliver(self, events: Sequence[QueuedEvent]) -> None:
        self.started.set()
        await self.released.wait()
        await super().deliver(events)


async def _stop_while_delivering(harness: Harness, *, is_slow: bool) -> None:
    output = SlowOutput()
    harness.deliverer._output = harness.output = output  # noqa: SLF001 - made in an event loop

    async def offload(call: Callable[..., Any], *args: Any) -> Any:
        return call(*args)

    harness.deliverer._offload = offload  # noqa: SLF001 - an event loop runs
    task = asyncio.ensure_future(harness.deliverer.run())
    await output.started.wait()
    task.cancel()
    await asyncio.sleep(0)
    if not is_slow:
        output.released.set()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("is_slow", "left"), [(False, []), (True, [b"a"])])
def test_a_delivery_in_progress_is_completed_at_the_end(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, *, is_slow: bool, left: list[bytes]
) -> None:
    """A stopped process acknowledges what is being delivered, unless the output takes too long."""
    monkeypatch.setattr(module, "STOP_SECONDS", 0.05 if is_slow else 60.0)
    harness.queue(b"a")
    asyncio.run(_stop_while_delivering(harness, is_slow=is_slow))
    assert left == harness.left

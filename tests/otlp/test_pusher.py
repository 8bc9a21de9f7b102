from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from late_exporter.exposition.exposition import Exposition, SeriesCopy
from late_exporter.log import add_secret
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.otlp.pusher import EXPORTS, SCRAPE_TIMEOUT, WARNING_INTERVAL, OtlpPusher
from tests.support.clock import SleepingClock
from tests.support.loggers import RecordingLogger

LOGS = "late_publishing_logs_total"
LABELS = ("default", "tiktok", "publish", "success")
INTERVAL = 60.0


class FakeClient:
    """An endpoint that records what it gets, and answers as a test says."""

    def __init__(self) -> None:
        self.pushes: list[tuple[float, float]] = []
        self.threads: list[threading.Thread] = []
        self.answer: Callable[[], str | None] = lambda: None
        self.is_closed = False
        self.started = threading.Event()

    def export(self, series: SeriesCopy, now: float) -> str | None:
        values = [value for family in series.families for _, value, _ in family.rows() if family.family.name == LOGS]
        assert all(isinstance(value, int | float) for value in values)
        self.pushes.append((now, sum(value for value in values if isinstance(value, int | float))))
        self.threads.append(threading.current_thread())
        self.started.set()
        return self.answer()

    def close(self) -> None:
        self.is_closed = True


class Harness:
    """A pusher on an exposition, in virtual time."""

    def __init__(self) -> None:
        self.clock = SleepingClock()
        self.exposition = Exposition(CATALOGUE)
        self.client = FakeClient()
        self.logger = RecordingLogger()
        self.pusher = OtlpPusher(
            self.exposition,
            self.client,
            interval=INTERVAL,
            logger=self.logger,
            clock=self.clock.time,
            monotonic=self.clock.monotonic,
            sleep=self._sleep,
        )
        self.idle = asyncio.Event()

    async def _sleep(self, seconds: float) -> None:
        self.idle.set()
        await self.clock.sleep(seconds)

    async def start(self) -> asyncio.Task[None]:
        """Run the pusher; return its task when it waits for the first interval."""
        task = asyncio.ensure_future(self.pusher.run())
        await self.idle.wait()
        return task

    async def push_until(self, moment: float) -> None:
        """Move to a time and wait until the push that is due then is complete."""
        self.idle.clear()
        await self.clock.reach(moment)
        await self.idle.wait()

    def count(self, value: int, *, start_at_zero: bool = False) -> None:
        self.exposition.put(LOGS, LABELS, value, created=1.0, start_at_zero=start_at_zero)
        self.exposition.publish()

    @property
    def outcomes(self) -> dict[str, float]:
        (family,) = self.pusher.collect()
        assert EXPORTS == f"{family.name}_total"
        return {sample.labels["outcome"]: sample.value for sample in family.samples}


@pytest.fixture
def harness() -> Harness:
    return Harness()


async def test_series_are_pushed_at_each_interval(harness: Harness) -> None:
    """The first push follows after an interval; each has the current values, and is made in another thread."""
    start = harness.clock.now
    task = await harness.start()
    for number in (1, 2, 3):
        harness.count(number)
        await harness.push_until(number * INTERVAL)
    assert [(start + number * INTERVAL, number) for number in (1, 2, 3)] == harness.client.pushes
    assert threading.current_thread() not in harness.client.threads
    assert {"success": 3, "failure": 0} == harness.outcomes
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_slow_push_delays_the_next_one_only(harness: Harness) -> None:
    """While the endpoint does not answer, the loop runs on and no other push begins; the next one follows at once."""
    release, start = threading.Event(), harness.clock.now
    harness.client.answer = lambda: "" if release.wait(60) else "never released"
    task = await harness.start()
    await harness.clock.reach(INTERVAL)
    await asyncio.to_thread(harness.client.started.wait, 60)
    await harness.clock.reach(5.5 * INTERVAL)
    assert 1 == len(harness.client.pushes)
    harness.idle.clear()
    release.set()
    await harness.idle.wait()
    await harness.push_until(5.5 * INTERVAL)
    await harness.clock.reach(6 * INTERVAL)
    assert 2 == len(harness.client.pushes)
    await harness.push_until(6.5 * INTERVAL)
    assert [INTERVAL, 5.5 * INTERVAL, 6.5 * INTERVAL] == [now - start for now, _ in harness.client.pushes]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_failures_are_counted_and_logged_now_and_then(harness: Harness) -> None:
    """The first failure is logged, later ones every ten minutes, and the recovery; secrets are redacted."""
    add_secret("s3cret-token-of-otlp")
    harness.client.answer = lambda: "401 s3cret-token-of-otlp " + "x" * 1000
    for _ in range(3):
        await harness.pusher.push()
    assert [("warning", "otlp push failed")] == harness.logger.above_debug
    error = harness.logger.records[0][2]["error"]
    assert "s3cret" not in error
    assert len(error) <= 300
    harness.clock.advance(WARNING_INTERVAL)
    await harness.pusher.push()
    assert 2 == len(harness.logger.above_debug)
    harness.client.answer = lambda: None
    await harness.pusher.push()
    await harness.pusher.push()
    assert ("info", "otlp push recovered") == harness.logger.above_debug[-1]
    assert 3 == len(harness.logger.above_debug)
    assert {"success": 2, "failure": 4} == harness.outcomes


async def test_errors_of_the_sdk_are_failures(harness: Harness) -> None:
    """Whatever it raises, the push has failed, and the next one tries again."""

    def fail() -> str | None:
        raise RuntimeError("broken")

    harness.client.answer = fail
    await harness.pusher.push()
    assert "RuntimeError: broken" == harness.logger.records[0][2]["error"]
    assert {"success": 0, "failure": 1} == harness.outcomes


async def test_pushes_end_the_initial_zero_without_scrapes(harness: Harness) -> None:
    """A new series stays at 0 until a push has delivered that; one that failed has not."""
    harness.clock.advance(SCRAPE_TIMEOUT)
    harness.count(1, start_at_zero=True)
    harness.client.answer = lambda: "refused"
    await harness.pusher.push()
    assert [] == harness.exposition.served_zeros()
    harness.client.answer = lambda: None
    await harness.pusher.push()
    assert [(LOGS, LABELS)] == harness.exposition.served_zeros()
    assert [0, 0] == [value for _, value in harness.client.pushes]
    harness.exposition.end_zeros(harness.exposition.served_zeros())
    harness.exposition.publish()
    await harness.pusher.push()
    assert 1 == harness.client.pushes[-1][1]


async def test_a_scrape_has_to_see_the_initial_zero(harness: Harness) -> None:
    """Pushes do not end it for five minutes after a start or a scrape, but do so later."""
    harness.count(1, start_at_zero=True)
    await harness.pusher.push()
    assert [] == harness.exposition.served_zeros()
    harness.clock.advance(SCRAPE_TIMEOUT - 1)
    harness.exposition.mark_served(0)  # a body from before the series
    await harness.pusher.push()
    harness.clock.advance(SCRAPE_TIMEOUT - 1)
    await harness.pusher.push()
    assert [] == harness.exposition.served_zeros()
    harness.clock.advance(1)
    await harness.pusher.push()
    assert [(LOGS, LABELS)] == harness.exposition.served_zeros()
    harness.exposition.put(LOGS, ("default", "x", "publish", "success"), 1, created=1.0, start_at_zero=True)
    harness.exposition.publish()
    await harness.pusher.push()
    assert 2 == len(harness.exposition.served_zeros())


async def test_the_last_push_has_the_last_changes(harness: Harness) -> None:
    """At the end everything is pushed once more, also what was not published yet."""
    harness.exposition.put(LOGS, LABELS, 5, created=1.0)
    await harness.pusher.close()
    assert [(harness.clock.now, 5)] == harness.client.pushes
    assert harness.client.is_closed


async def test_the_last_push_is_bounded(harness: Harness) -> None:
    """If the endpoint does not answer, the exporter ends anyway."""
    release = threading.Event()
    harness.client.answer = lambda: "" if release.wait(60) else "never released"
    await harness.pusher.close(seconds=0.01)
    assert harness.client.is_closed
    assert [("warning", "the last otlp push was not complete in time")] == harness.logger.above_debug
    release.set()

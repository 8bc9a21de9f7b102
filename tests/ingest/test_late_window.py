"""Logs that appear late are counted within three polls, whatever else happens to the list."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from late_exporter.ingest.schedule import PollConfig
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi, ListQuirks
from tests.support.world import World

NEVER = 10 * 365 * DAY
MAX_POLLS = 3


@pytest.fixture
def world() -> World:
    """Return a key without logs."""
    return World(VirtualClock())


@pytest.fixture
def start(world: World) -> Iterator[Callable[..., ExporterHarness]]:
    """Return a function that starts an exporter without scheduled reconciliation scans."""
    started: list[ExporterHarness] = []

    def start(generation: str, *, quirks: ListQuirks | None = None, **config: Any) -> ExporterHarness:
        api = FakeLateApi(world, generation=generation, quirks=quirks)
        started.append(
            ExporterHarness(api, config=PollConfig(**{"reconcile_interval": NEVER, **config}), generation=generation)
        )
        return started[-1]

    yield start
    for exporter in started:
        exporter.close()


class BusyFeed:
    """A feed with 120 logs a second, of which 5 % appear up to 4 s late, and with continuous deletes.

    Attributes:
        waiting: Number of polls that have not counted a visible log, by its number.
    """

    RATE = 120
    LATE_SHARE = 0.05
    MAX_LATENESS = 4.0
    DELETES_PER_SECOND = 3

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = random.Random(1)  # noqa: S311 - a reproducible test
        self._delayed: list[tuple[float, float]] = []
        self._emitted_until = self._start = world.clock.now
        self._count = 0

    def advance(self, seconds: float) -> None:
        """Let time pass: logs appear, some of them late, and others are deleted."""
        self._world.clock.advance(seconds)
        now = self._world.clock.now
        while self._start + (self._count + 1) / self.RATE <= now:
            created = self._start + (self._count + 1) / self.RATE
            is_late = self._random.random() < self.LATE_SHARE
            self._delayed.append((created + is_late * self._random.uniform(0.5, self.MAX_LATENESS), created))
            self._count += 1
        for _, created in sorted(log for log in self._delayed if log[0] <= now):
            self._world.insert(created)
        self._delayed = [log for log in self._delayed if log[0] > now]
        ids = self._world.ids
        for _ in range(int(self.DELETES_PER_SECOND * seconds)):
            self._world.delete(self._random.choice(ids[: len(ids) // 2]))


def ids_of(exporter: ExporterHarness, world: World) -> set[str]:
    """Return the ids of the counted logs; in generation zernio a log is known by its time."""
    if exporter.generation == "late":
        return {key for key, _ in exporter.observations}
    by_time = {millis(row["createdAt"]): log_id for (log_id, _), row in world.history.items()}
    return {by_time[int(key[:13])] for key, _ in exporter.observations}


def millis(text: str) -> int:
    """Return an API time in milliseconds."""
    from datetime import datetime

    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(("interval", "polls"), [(1.0, 40), (10.0, 12), (30.0, 7)])
@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_no_log_of_a_busy_feed_waits_longer_than_three_polls(
    generation: str, interval: float, polls: int, world: World, start: Callable[..., ExporterHarness]
) -> None:
    """At 120 logs/s with late logs and continuous deletes, every log that stays visible counts within three polls."""
    world.publish(900, over=30 * MINUTE)
    exporter = start(generation, interval=interval)
    exporter.poll()
    feed = BusyFeed(world)
    waited: dict[str, int] = {}
    overdue: set[str] = set()
    for _ in range(polls):
        feed.advance(interval)
        assert "success" == exporter.poll().outcome
        missing = set(world.ids) - ids_of(exporter, world)
        waited = {log_id: waited.get(log_id, 0) + 1 for log_id in missing}
        overdue |= {log_id for log_id, count in waited.items() if count >= MAX_POLLS}
    assert set() == overdue
    counted = [observation for _, observation in exporter.commit_log]
    assert len(set(counted)) == len(counted)

"""Tests with many kills: no log is counted twice or missed, and no exposed counter falls."""

from __future__ import annotations

import http.client
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import pytest

from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal
from tests.support.samples import Samples
from tests.support.store import LogStatus
from tests.support.world import World

pytestmark = pytest.mark.e2e

KILLS = 21
FEWER_KILLS = 9
SEED = 20261124
LOGS = "late_publishing_logs_total"
DELETED_LOG = {"action": "cancelled", "status": "skipped"}
"""Labels of logs that will be deleted. They may be counted or not, depending on the time of the deletion."""

Counts: TypeAlias = Counter[tuple[str, ...]]


class Traffic:
    """Logs that are inserted, inserted late, changed and deleted, about 200 per second.

    Args:
        late: API that has the logs.
        seed: Seed of the logs, but not of their times.
    """

    def __init__(self, late: LateServer, seed: int) -> None:
        self._late = late
        self._world = late.world
        self._random = Random(seed)
        self._pending: dict[str, float] = {}
        self._deletable: list[str] = []

    def run(self, stop: threading.Event) -> None:
        """Change logs until an event is set, then finish all pending ones."""
        while not stop.wait(0.01):
            with self._late.lock:
                self._change_something()
        with self._late.lock:
            self._settle(until=time.time() + 60)

    def _change_something(self) -> None:
        draw, now = self._random.random(), time.time()
        if draw < 0.01:
            for _ in range(self._random.randrange(80, 260)):
                self._insert(now)
        elif draw < 0.1:
            self._insert(now - self._random.uniform(1, 90))
        elif draw < 0.3:
            log_id = self._insert(now, status="pending", statusCode=None, durationMs=None)
            if self._random.random() < 0.9:
                self._pending[log_id] = now + self._random.expovariate(0.5)
        elif draw < 0.4:
            self._deletable.append(self._insert(now, **DELETED_LOG))
        elif draw < 0.45 and self._deletable:
            self._world.delete(self._deletable.pop(self._random.randrange(len(self._deletable))))
        elif draw < 0.5:
            self._world.add_connection(self._random.choice(("connect_success", "connect_failed", "disconnect")))
        else:
            for _ in range(self._random.randrange(1, 4)):
                self._insert(now)
        self._settle(until=now)

    def _insert(self, created: float, **fields: Any) -> str:
        choose = self._random.choice
        defaults: dict[str, Any] = {
            "platform": choose(("instagram", "tiktok", "mastodon")),
            "action": choose(("publish", "retry", "media_upload")),
            "status": choose(("success", "success", "failed")),
            "durationMs": self._random.randrange(50, 700_000),
            "accountId": choose(("acc1", "acc2")),
        }
        return self._world.insert(created, precise=choose((True, False)), **{**defaults, **fields})

    def _settle(self, until: float) -> None:
        for log_id in [log_id for log_id, settles_at in self._pending.items() if settles_at <= until]:
            del self._pending[log_id]
            self._world.change(log_id, self._random.choice(("success", "failed")), durationMs=1500)


class CounterWatch:
    """Compares every scrape with the one before it."""

    def __init__(self) -> None:
        self.falls: list[tuple[object, float, float | None]] = []
        self.scrapes = 0
        self._last = Samples()

    def add_scrape(self, samples: Samples) -> None:
        """Compare a scrape with the one before it."""
        self.scrapes += 1
        counters = {series: value for series, value in samples.counters.items() if series[0].startswith("late_")}
        for series, before in self._last.items():
            after = counters.get(series)
            if after is None or after < before:
                self.falls.append((series, before, after))
        self._last = Samples(counters)

    def run(self, program: ExporterProcess, stop: threading.Event) -> None:
        """Scrape all the time, with any process that runs."""
        while not stop.wait(0.03):
            try:
                self.add_scrape(program.scrape())
            except (OSError, http.client.HTTPException, RuntimeError, AssertionError):
                continue


@contextmanager
def in_thread(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Run a function in a thread during the block."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("generations", "kills"), [(("late",), KILLS), (("zernio",), FEWER_KILLS), (("late", "zernio"), FEWER_KILLS)]
)
def test_killed_again_and_again(
    generations: Sequence[str], kills: int, late: LateServer, tmp_path: Path, exit_stack: ExitStack
) -> None:
    """After many kills at random times every log was counted exactly once, and no counter has fallen.

    The same holds for both generations of the API, and for a switch from one to the other.
    """
    late.api.generation = generations[0]
    late.delay = 0.005
    late.world.publish(3000, over=86_400)
    program, watch, random = ExporterProcess.for_api(tmp_path, late.url), CounterWatch(), Random(SEED)
    exit_stack.callback(program.kill)
    state = tmp_path / "state.db"
    inodes = set()
    with in_thread(lambda stop: watch.run(program, stop)):
        with in_thread(Traffic(late, SEED).run):
            for number in range(kills):
                if number == kills // 2:
                    late.api.generation = generations[-1]
                program.start()
                if number % 3:
                    assert program.url
                threading.Event().wait(random.uniform(0, 0.8))
                program.kill()
                inodes |= {state.stat().st_ino} if state.exists() else set()
        program.start().wait_ready()
        wait_equal(expected_counts(late.world), lambda: exposed_counts(program.scrape()), timeout=60)
        connections = float(len(late.world.archives.connections))
        wait_equal(connections, lambda: program.scrape().sum("late_connection_events_total"))
    final = program.scrape()
    assert 0 == program.stop()
    assert 1 == len(inodes)
    assert [] == watch.falls
    assert watch.scrapes > kills
    assert expected_counts(late.world) == exposed_counts(final)
    if generations == ("late",):
        assert_consistent(final, late.world, stored_statuses(state))


def expected_counts(world: World) -> Counts:
    """Return the number of final logs by platform, action and status that had to be counted."""
    return Counter(
        labels(row) for row in world.rows if row["status"] != "pending" and row["action"] != DELETED_LOG["action"]
    )


def exposed_counts(samples: Samples) -> Counts:
    """Return the counts that the exporter exposes."""
    values = samples.family(LOGS)
    return Counter({key: int(value) for key, value in values.items() if key[2] != "pending" and key[1] != "cancelled"})


def labels(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the label values of a log."""
    return row["platform"], row["action"], row["status"]


def stored_statuses(state: Path) -> set[LogStatus]:
    """Return the observations of the publishing feed in the state."""
    with closing(sqlite3.connect(state)) as connection:
        rows = connection.execute(
            "SELECT key, status FROM observation JOIN scope ON scope.id = scope WHERE feed = 'publishing'"
        )
        return set(rows.fetchall())


def assert_consistent(samples: Samples, world: World, stored: set[LogStatus]) -> None:
    """Assert that the metrics are the sum of the state, and that every visible log is in it."""
    rows = [world.history[status] for status in stored]
    timed = [row for row in rows if row["durationMs"] is not None]
    account_counts = [row for row in rows if row["action"] in ("publish", "retry")]
    assert set() == {status for status in world.visible if status not in stored}
    assert Counter(map(labels, rows)) == Counter(samples.family(LOGS))
    assert Counter(map(labels, timed)) == Counter(samples.family("late_publishing_duration_seconds_count"))
    assert pytest.approx(sum(row["durationMs"] for row in timed) / 1000) == samples.sum(
        "late_publishing_duration_seconds_sum"
    )
    assert len(account_counts) == samples.sum("late_account_logs_total")
    assert len([row for row in world.rows if row["status"] == "pending"]) == samples.sum("late_publishing_pending_logs")


def test_counter_watch_detects_a_fall() -> None:
    """A counter that falls or vanishes is detected; a gauge may fall."""
    watch = CounterWatch()
    watch.add_scrape(Samples.parse('late_a_total{x="1"} 2\nlate_b_total 1\nlate_up 1'))
    watch.add_scrape(Samples.parse('late_a_total{x="1"} 1\nlate_up 0'))
    assert [(("late_a_total", (("x", "1"),)), 2.0, 1.0), (("late_b_total", ()), 1.0, None)] == watch.falls

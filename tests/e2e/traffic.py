"""An API whose logs change all the time, and a watch over the counters that an exporter shows of it."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, TypeAlias

from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess
from tests.support.samples import Samples
from tests.support.world import World

LOGS = "late_publishing_logs_total"
DELETED_LOG = {"action": "cancelled", "status": "skipped"}
"""Labels of logs that will be deleted. They may be counted or not, depending on the time of the deletion."""

Counts: TypeAlias = Counter[tuple[str, ...]]
Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels."""


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
    """Compares every scrape with the highest values before it; counters may be missing, as after a start."""

    def __init__(self) -> None:
        self.falls: list[tuple[Series, float, float | None]] = []
        self.failures = 0
        self.scrapes = 0
        self._highest = Samples()

    def run(self, program: ExporterProcess, stop: threading.Event) -> None:
        """Scrape all the time, with any process that runs."""
        while not stop.wait(0.03):
            try:
                samples = program.scrape()
            except (OSError, http.client.HTTPException, RuntimeError, AssertionError):
                self.failures += 1
                continue
            self.scrapes += 1
            for series, value in samples.counters.items():
                if series[0].startswith("late_"):
                    before = self._highest.get(series, value)
                    if value < before:
                        self.falls.append((series, before, value))
                    self._highest[series] = max(before, value)


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

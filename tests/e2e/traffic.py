"""An API whose logs change all the time, and a watch over the counters that an exporter shows of it."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, TypeAlias

from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess
from tests.support.samples import Samples
from tests.support.world import World

LOGS = "late_publishing_logs_total"

Counts: TypeAlias = Counter[tuple[str, ...]]
Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels."""


def write_logs(apis: Sequence[LateServer], stop: threading.Event, *, seed: int, most: int) -> None:
    """Write logs to APIs until an event is set, about 40 times per second, sometimes the largest number at once.

    Some are late, and some pending for a while, but none at the end. The seed is that of the logs, not of their times.
    """
    draw = Random(seed)
    pending: list[tuple[LateServer, str]] = []
    while not stop.wait(0.02):
        api = draw.choice(apis)
        with api.lock:
            for _ in range(draw.choice((1, 1, 1, 1, 2, 2, 2, 3, 3, most))):
                fields: dict[str, Any] = {
                    "platform": draw.choice(("instagram", "tiktok", "mastodon")),
                    "action": draw.choice(("publish", "retry", "media_upload")),
                    "status": draw.choice(("success", "failed", "pending")),
                    "durationMs": draw.randrange(50, 9000),
                    "accountId": draw.choice(("acc1", "acc2")),
                }
                created = time.time() - draw.choice((0, 0, 0, 20, 90))
                log_id = api.world.insert(created, precise=draw.choice((True, False)), **fields)
                if fields["status"] == "pending":
                    pending.append((api, log_id))
            if draw.random() < 0.1:
                api.world.add_connection(draw.choice(("connect_success", "connect_failed", "disconnect")))
        while len(pending) > 100:
            _settle(*pending.pop(0))
    for each in pending:
        _settle(*each)


def _settle(api: LateServer, log_id: str) -> None:
    with api.lock:
        api.world.change(log_id, "success", durationMs=700)


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
    """Return the number of final logs by platform, action and status."""
    return Counter((row["platform"], row["action"], row["status"]) for row in world.rows if row["status"] != "pending")


def exposed_counts(samples: Samples) -> Counts:
    """Return the counts of final logs that the exporter exposes."""
    return Counter({key: int(value) for key, value in samples.family(LOGS).items() if key[2] != "pending"})

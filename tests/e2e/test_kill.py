"""Tests with many kills: no log is counted twice or missed, and no exposed counter falls."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal
from tests.e2e.traffic import (
    DELETED_LOG,
    CounterWatch,
    Traffic,
    expected_counts,
    exposed_counts,
    in_thread,
    labels,
)
from tests.support.samples import Samples
from tests.support.world import World

KILLS = 9
SEED = 20261124


def test_killed_again_and_again(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> None:
    """After many kills at random times every log was counted exactly once, and no counter has fallen."""
    late.delay = 0.005
    late.world.publish(3000, over=86_400)
    program, watch, random = ExporterProcess.for_api(tmp_path, late.url), CounterWatch(), Random(SEED)
    exit_stack.callback(program.kill)
    state = tmp_path / "state.db"
    inodes = set()
    with in_thread(lambda stop: watch.run(program, stop)):
        with in_thread(Traffic(late, SEED).run):
            for number in range(KILLS):
                program.start()
                if number % 3:
                    assert program.url
                threading.Event().wait(random.uniform(0, 0.8))
                program.kill()
                inodes |= {state.stat().st_ino} if state.exists() else set()
        program.start().wait_ready()
        wait_equal(expected_counts(late.world), lambda: exposed_counts(program.scrape()))
        connections = float(len(late.world.archives.connections.rows))
        wait_equal(connections, lambda: program.scrape().sum("late_connection_events_total"))
    final = program.scrape()
    assert program.stop() == 0
    assert len(inodes) == 1
    assert watch.falls == []
    assert watch.scrapes > KILLS
    assert exposed_counts(final) == expected_counts(late.world)
    assert_consistent(final, late.world)


def assert_consistent(samples: Samples, world: World) -> None:
    """Assert that durations and pending logs are those of the same logs; deleted ones may be counted or not."""
    rows = [row for row in world.rows if row["action"] != DELETED_LOG["action"]]
    timed = [row for row in rows if row["status"] != "pending" and row["durationMs"] is not None]
    seconds: dict[tuple[str, ...], float] = defaultdict(float)
    for row in timed:
        seconds[labels(row)] += row["durationMs"] / 1000
    for name, expected in (
        ("late_publishing_duration_seconds_count", Counter(map(labels, timed))),
        ("late_publishing_duration_seconds_sum", seconds),
    ):
        found = samples.family(name)
        assert expected == pytest.approx({key: found[key] for key in expected})
    assert len([row for row in world.rows if row["status"] == "pending"]) == samples.sum("late_publishing_pending_logs")

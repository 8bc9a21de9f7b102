"""Tests with many kills: no log is counted twice or missed, and no exposed counter falls."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random

from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal
from tests.e2e.traffic import CounterWatch, expected_counts, exposed_counts, in_thread, write_logs

KILLS = 6
SEED = 20261124


def test_killed_again_and_again(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> None:
    """After many kills at random times every log was counted exactly once, and no counter has fallen."""
    late.delay = 0.005
    late.world.publish(1000, over=86_400)
    program = ExporterProcess.for_api(tmp_path, late.url)
    watch = CounterWatch()
    random = Random(SEED)
    exit_stack.callback(program.kill)
    state = tmp_path / "state.db"
    inodes = set()
    with in_thread(partial(watch.run, program)):
        with in_thread(partial(write_logs, [late], seed=SEED, most=130)):
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

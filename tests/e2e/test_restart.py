"""Tests of stopping and restarting: the same totals, few requests, nothing lost, and in time."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.e2e.late import FaultHandler, LateServer, drip, hang
from tests.e2e.program import ExporterProcess, Run, wait_equal, wait_until
from tests.support.samples import Samples

LOGS = "late_publishing_logs_total"
GRACE = 5.0
"""Seconds within which the program has to exit after a signal."""


def event_counters(samples: Samples) -> Samples:
    """Return the samples about logs, without those about the exporter."""
    return Samples({series: value for series, value in samples.items() if series[0].startswith(("late_pub", "late_a"))})


def assert_stops(program: ExporterProcess, signal_number: signal.Signals) -> int:
    """Send a signal, and assert that the program exits with 0 in time."""
    program.send_signal(signal_number)
    return program.wait_exit(timeout=GRACE)


def test_clean_restart_changes_nothing(late: LateServer, start_exporter: Run) -> None:
    """After a restart without new logs every metric of the logs is unchanged."""
    late.world.publish(1100, over=86_400)
    late.world.publish(40, platform='my"space\\', status="failed", response={"errorCode": "TOKEN_EXPIRED"})
    late.world.publish(3, status="pending", durationMs=None, accountId="ünïcode")
    program = start_exporter().wait_ready()
    wait_equal(1143.0, lambda: program.scrape().sum(LOGS))
    wait_equal(4.0, lambda: program.scrape().sum("late_exporter_status_feed_up"))
    before = program.scrape()
    assert program.stop() == 0
    program.start().wait_ready()
    wait_equal(4.0, lambda: program.scrape().sum("late_exporter_status_feed_up"))
    after = program.scrape()
    assert event_counters(before) == event_counters(after)


@pytest.mark.parametrize(("fault", "number"), [(hang, signal.SIGTERM), (drip, signal.SIGINT)])
def test_signal_during_a_slow_answer(
    late: LateServer, start_exporter: Run, fault: Callable[[LateServer], FaultHandler], number: signal.Signals
) -> None:
    """A slow response cannot delay the exit."""
    late.fault = fault(late)
    program = start_exporter()
    wait_until(lambda: late.requests)
    assert assert_stops(program, number) == 0
    assert "Traceback" not in program.stderr


def test_nothing_is_lost_by_a_signal_during_a_catch_up(late: LateServer, start_exporter: Run) -> None:
    """A throttled catch-up stops in time; its counts stay, and the next start counts the rest."""
    program = start_exporter("--poll.feeds=publishing", "--status.feeds=none", interval="1h")
    program.wait_ready().stop()
    late.api.rate_limit = 600  # the tier of the key changes
    late.world.publish(20_000, over=86_400)
    before = len(late.requests)
    program.start()
    wait_until(lambda: len(late.requests) - before >= 60)
    assert assert_stops(program, signal.SIGTERM) == 0
    late.api.rate_limit = 1_000_000
    before = len(late.requests)
    program.start()
    wait_equal(20_000.0, lambda: program.scrape().sum(LOGS))
    assert len(late.requests) - before < 190, "what was read before is not read again"

"""Tests of stopping and restarting: the same totals, few requests, nothing lost, and in time."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.e2e.late import FaultHandler, LateServer, drip, hang
from tests.e2e.program import ExporterProcess, Run, wait_equal, wait_until

LOGS = "late_publishing_logs_total"
GRACE = 5.0
"""Seconds within which the program has to exit after a signal."""


def assert_stops(program: ExporterProcess, signal_number: signal.Signals) -> int:
    """Send a signal, and assert that the program exits with 0 in time."""
    program.send_signal(signal_number)
    return program.wait_exit(timeout=GRACE)


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

"""Tests with a full disk: the feed is down, counters stay, and nothing is counted twice or lost after it."""

from __future__ import annotations

import resource
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal, wait_until

LOGS = "late_publishing_logs_total"
POLLS = "late_exporter_polls_total"


def test_disk_full(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> None:
    """Polls fail with store_error while no file can grow, and every log is counted once there is space again."""
    late.world.publish(200, over=600)
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url))
    wait_equal(200.0, lambda: program.scrape().sum(LOGS))
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    late.world.publish(3000, over=30)
    wait_until(lambda: program.scrape().sum(POLLS, outcome="store_error") > 0, describe=lambda: program.stderr)
    wait_equal(0.0, lambda: program.scrape().sum("late_up", feed="publishing"))
    assert 200 <= program.scrape().sum(LOGS) < 3200
    assert program.get("/-/healthy").status == 200
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_equal(3200.0, lambda: program.scrape().sum(LOGS))
    wait_equal(2.0, lambda: program.scrape().sum("late_up"))
    assert program.stop() == 0
    assert "Traceback" not in program.stderr
    program.start().wait_ready()
    wait_equal(3200.0, lambda: program.scrape().sum(LOGS))

"""Tests of ``run --once``: a single poll without a server, for cron and the textfile collector of node_exporter."""

from __future__ import annotations

from tests.e2e.late import LateServer, hang, respond_with
from tests.e2e.program import Run, wait_until
from tests.support.samples import Samples

LOGS = "late_publishing_logs_total"


def test_a_poll_that_fails(late: LateServer, start_command: Run) -> None:
    """After a failed poll the exit code is 1, and both the log and the metrics show the failure."""
    late.world.publish(5)
    assert start_command("run", "--once").wait_exit() == 0
    late.fault = respond_with(503, "closed")
    failing = start_command("run", "--once")
    assert failing.wait_exit() == 1
    assert "late-exporter: error: a poll failed" in failing.stderr
    samples = Samples.parse(failing.stdout)
    up = {dict(labels)["feed"]: value for (name, labels), value in samples.items() if name == "late_up"}
    assert up == {"publishing": 0.0, "connections": 0.0}


def test_a_signal_is_a_failure(late: LateServer, start_command: Run) -> None:
    """A signal during a slow request ends the program with exit code 1, because nothing was written."""
    late.fault = hang(late)
    once = start_command("run", "--once")
    wait_until(lambda: late.requests)
    assert once.stop() == 1
    assert once.stdout == ""
    assert "Traceback" not in once.stderr

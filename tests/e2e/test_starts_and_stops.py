"""Starts, stops and single runs: exit codes and messages, and in time."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.e2e.late import FaultHandler, LateServer, drip, hang, respond_with
from tests.e2e.program import Run, wait_until
from tests.support.samples import Samples

LOGS = "late_publishing_logs_total"
GRACE_SECONDS = 5.0
"""Time within which the program has to exit after a signal."""


@pytest.mark.parametrize(("fault", "number"), [(hang, signal.SIGTERM), (drip, signal.SIGINT)])
def test_signal_during_a_slow_answer(
    late: LateServer, start_exporter: Run, fault: Callable[[LateServer], FaultHandler], number: signal.Signals
) -> None:
    """A slow response cannot delay the exit."""
    late.fault = fault(late)
    program = start_exporter()
    wait_until(lambda: late.requests)
    program.send_signal(number)
    assert program.wait_exit(timeout=GRACE_SECONDS) == 0
    assert "Traceback" not in program.stderr


def test_port_in_use(late: LateServer, start_exporter: Run) -> None:
    """An address in use is named, the exit code is 1, and no state is created."""
    program = start_exporter(f"--web.listen-address=127.0.0.1:{late.port}")
    assert program.wait_exit() == 1
    assert (
        f"late-exporter: error: cannot listen on 127.0.0.1:{late.port}: Address already in use;"
        " choose another --web.listen-address\n"
    ) == program.stderr
    assert not (program.folder / "state.db").exists()


# A single poll without a server, for cron and the textfile collector of node_exporter


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

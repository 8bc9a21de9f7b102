"""Tests of ``run --once``: a single poll without a server, for cron and the textfile collector of node_exporter."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.late import KEY, LateServer, hang, respond_with
from tests.e2e.program import ExporterProcess, wait_until
from tests.support.clock import DAY
from tests.support.samples import Samples

pytestmark = pytest.mark.e2e

LOGS = "late_publishing_logs_total"


def program(late: LateServer, folder: Path) -> ExporterProcess:
    """Return the program, which polls once with a state in the folder."""
    where = (f"--api.base-url={late.url}", f"--state.url=sqlite:///{folder}/state.db")
    return ExporterProcess(folder, "run", "--once", *where, env={"LATE_API_KEY": KEY})


def test_every_run_continues_the_counters(late: LateServer, tmp_path: Path) -> None:
    """A restart between runs loses nothing."""
    late.world.publish(120, over=DAY)
    once = program(late, tmp_path)
    for logs in (120, 127):
        assert 0 == once.start().wait_exit()
        assert logs == Samples.parse(once.stdout).sum(LOGS)
        late.world.publish(7)


def test_a_poll_that_fails(late: LateServer, tmp_path: Path) -> None:
    """After a failed poll the exit code is 1, and both the log and the metrics show the failure."""
    late.world.publish(5)
    assert 0 == program(late, tmp_path).start().wait_exit()
    late.fault = respond_with(503, "closed")
    failing = program(late, tmp_path).start()
    assert 1 == failing.wait_exit()
    assert "late-exporter: error: a poll failed" in failing.stderr
    assert {("publishing",): 0.0, ("connections",): 0.0} == {
        (dict(labels)["feed"],): value
        for (name, labels), value in Samples.parse(failing.stdout).items()
        if name == "late_up"
    }


def test_a_signal_is_a_failure(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> None:
    """A signal during a slow request ends the program with exit code 1, because nothing was written."""
    late.fault = hang(late)
    once = exit_stack.enter_context(program(late, tmp_path))
    wait_until(lambda: late.requests)
    assert 1 == once.stop()
    assert "" == once.stdout
    assert "Traceback" not in once.stderr

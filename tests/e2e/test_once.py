"""Tests of a single poll without a server, for cron and the textfile collector of node_exporter."""

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


def program(late: LateServer, folder: Path, *arguments: str) -> ExporterProcess:
    """Return the program with a state in the folder."""
    where = (f"--api.base-url={late.url}", f"--state.url=sqlite:///{folder}/state.db")
    return ExporterProcess(folder, *arguments, *where, env={"LATE_API_KEY": KEY})


def test_textfile(late: LateServer, tmp_path: Path) -> None:
    """Every run replaces the file, and a restart between runs loses nothing."""
    late.world.publish(120, over=DAY)
    file = tmp_path / "late.prom"
    writing = program(late, tmp_path, "textfile", str(file))
    for logs in (120, 127):
        assert 0 == writing.start().wait_exit()
        assert logs == Samples.parse(file.read_text()).sum(LOGS)
        late.world.publish(7)
    assert "" == writing.stdout


def test_a_poll_that_fails(late: LateServer, tmp_path: Path) -> None:
    """After a failed poll the exit code is 1, and both the log and the file show the failure."""
    file = tmp_path / "late.prom"
    late.world.publish(5)
    assert 0 == program(late, tmp_path, "textfile", str(file)).start().wait_exit()
    late.fault = respond_with(503, "closed")
    failing = program(late, tmp_path, "textfile", str(file)).start()
    assert 1 == failing.wait_exit()
    assert "late-exporter: error: a poll failed" in failing.stderr
    samples = Samples.parse(file.read_text())
    assert {("publishing",): 0.0, ("connections",): 0.0} == {
        (dict(labels)["feed"],): value for (name, labels), value in samples.items() if name == "late_up"
    }


@pytest.mark.parametrize("command", [("run", "--once"), ("textfile", "late.prom")], ids=["run", "textfile"])
def test_a_signal_is_a_failure(
    late: LateServer, tmp_path: Path, exit_stack: ExitStack, command: tuple[str, ...]
) -> None:
    """A signal during a slow request ends the program with exit code 1, because nothing was written."""
    late.fault = hang(late)
    once = exit_stack.enter_context(program(late, tmp_path, *command))
    wait_until(lambda: late.requests)
    assert 1 == once.stop()
    assert "" == once.stdout
    assert not (tmp_path / "late.prom").exists()
    assert "Traceback" not in once.stderr

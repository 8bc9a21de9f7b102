"""Tests of failing starts: exit codes, messages, and files that stay unchanged."""

from __future__ import annotations

from pathlib import Path

from late_exporter import __revision__, __version__
from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, Run, wait_equal

LOGS = "late_publishing_logs_total"


def test_two_processes_on_one_state(late: LateServer, start_exporter: Run) -> None:
    """A second process on a state reports that it is in use and exits with 1; the first keeps counting."""
    late.world.publish(10)
    first = start_exporter().wait_ready()
    second = start_exporter()
    assert second.wait_exit() == 1
    assert second.stderr.splitlines() == [
        "late-exporter: error: " + state(first) + " is in use by another late-exporter; every process needs a state"
        " of its own"
    ]
    late.world.publish(5)
    wait_equal(15.0, lambda: first.scrape().sum(LOGS))
    assert first.stop() == 0
    assert f"version={__version__} revision={__revision__} " in first.stderr.splitlines()[0]


def test_port_in_use(late: LateServer, start_exporter: Run) -> None:
    """An address in use is named, the exit code is 1, and no state is created."""
    program = start_exporter(f"--web.listen-address=127.0.0.1:{late.port}")
    assert program.wait_exit() == 1
    assert (
        f"late-exporter: error: cannot listen on 127.0.0.1:{late.port}: Address already in use;"
        " choose another --web.listen-address\n"
    ) == program.stderr
    assert not Path(state(program)).exists()


def state(program: ExporterProcess) -> str:
    """Return the path of the state of a program."""
    return str(program.folder / "state.db")

"""Tests of failing starts: exit codes, messages, and files that stay unchanged."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, Run

LOGS = "late_publishing_logs_total"


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

"""Tests of the audit beside a running exporter."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, wait_equal
from tests.support.clock import DAY

pytestmark = pytest.mark.e2e

LOGS = "late_publishing_logs_total"


@pytest.fixture
def run_audit(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> Callable[..., ExporterProcess]:
    """Return a function that runs an audit of the state below ``tmp_path`` to its end."""

    def audit(*arguments: str) -> ExporterProcess:
        options = (f"--api.base-url={late.url}", f"--state.url=sqlite:///{tmp_path / 'state.db'}")
        program = exit_stack.enter_context(
            ExporterProcess(tmp_path, "audit", *options, *arguments, env={"LATE_API_KEY": KEY})
        )
        program.wait_exit()
        return program

    return audit


def test_an_audit_beside_a_running_exporter(
    late: LateServer,
    start_exporter: Callable[..., ExporterProcess],
    run_audit: Callable[..., ExporterProcess],
    tmp_path: Path,
) -> None:
    """The exit code is 0 without differences, and 1 with a missing log, which the report names."""
    late.world.publish(250, over=DAY)
    program = start_exporter()
    wait_equal(250.0, lambda: program.scrape().sum(LOGS))
    good = run_audit()
    assert (0, "") == (good.exit_code, good.stderr)
    lines = good.stdout.splitlines()
    assert ["default publishing: no difference", "default connections: no difference"] == lines[::2]

    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        assert 1 == connection.execute("DELETE FROM late_log WHERE key = ?", (late.world.ids[200],)).rowcount
        connection.commit()  # unknown to the exporter
    bad = run_audit("--format=json")
    assert 1 == bad.exit_code
    report = json.loads(bad.stdout)
    assert not report["ok"]
    assert [late.world.ids[200]] == [difference["id"] for difference in report["feeds"][0]["differences"]]
    text = run_audit("--workspace=default")
    assert late.world.ids[200] in text.stdout
    assert KEY not in text.stdout + text.stderr
    assert 250 == program.scrape().sum(LOGS), "the audit changes no counter"

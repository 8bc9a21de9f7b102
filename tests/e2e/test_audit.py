"""Tests of the audit beside a running exporter."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import Run, wait_equal
from tests.support.clock import DAY

LOGS = "late_publishing_logs_total"


def test_an_audit_beside_a_running_exporter(
    late: LateServer,
    start_exporter: Run,
    start_command: Run,
    tmp_path: Path,
) -> None:
    """The exit code is 0 without differences, and 1 with a missing log, which the report names."""
    late.world.publish(250, over=DAY)
    program = start_exporter()
    wait_equal(250.0, lambda: program.scrape().sum(LOGS))
    good = start_command("audit")
    assert (good.wait_exit(), good.stderr) == (0, "")
    lines = good.stdout.splitlines()
    assert lines[::2] == ["default publishing: no difference", "default connections: no difference"]

    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        assert connection.execute("DELETE FROM late_log WHERE key = ?", (late.world.ids[200],)).rowcount == 1
        connection.commit()  # unknown to the exporter
    bad = start_command("audit", "--format=json")
    assert bad.wait_exit() == 1
    report = json.loads(bad.stdout)
    assert not report["ok"]
    assert [difference["id"] for difference in report["feeds"][0]["differences"]] == [late.world.ids[200]]
    text = start_command("audit", "--workspace=default")
    assert text.wait_exit() == 1
    assert late.world.ids[200] in text.stdout
    assert KEY not in text.stdout + text.stderr
    assert program.scrape().sum(LOGS) == 250, "the audit changes no counter"

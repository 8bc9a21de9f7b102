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
    assert (0, "") == (good.wait_exit(), good.stderr)
    lines = good.stdout.splitlines()
    assert ["default publishing: no difference", "default connections: no difference"] == lines[::2]

    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        assert 1 == connection.execute("DELETE FROM late_log WHERE key = ?", (late.world.ids[200],)).rowcount
        connection.commit()  # unknown to the exporter
    bad = start_command("audit", "--format=json")
    assert 1 == bad.wait_exit()
    report = json.loads(bad.stdout)
    assert not report["ok"]
    assert [late.world.ids[200]] == [difference["id"] for difference in report["feeds"][0]["differences"]]
    text = start_command("audit", "--workspace=default")
    assert 1 == text.wait_exit()
    assert late.world.ids[200] in text.stdout
    assert KEY not in text.stdout + text.stderr
    assert 250 == program.scrape().sum(LOGS), "the audit changes no counter"

"""Tests of the commands as processes."""

from __future__ import annotations

import os
import re
import shlex
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.program import ExporterProcess, run_command, wait_until

LOGS = "late_publishing_logs_total"


def test_demo(tmp_path: Path, exit_stack: ExitStack) -> None:
    """The demo serves a status page and realistic metrics, without a key and without files.

    The commands that it prints work with it.
    """
    program = exit_stack.enter_context(
        ExporterProcess(
            tmp_path,
            "demo",
            "--web.listen-address=127.0.0.1:0",
            "--simulate.listen-address=127.0.0.1:0",
            "--poll.interval=1s",
        )
    )
    wait_until(lambda: program.get("/-/ready").status == 200, describe=lambda: program.stderr)
    page = program.get("/")
    assert page.status == 200
    assert "Publishing by platform" in page.text
    samples = program.scrape()
    assert samples.sum(LOGS) > 10_000
    assert len(samples.family("late_account_info")) > 10
    assert samples.sum("late_up") == 2
    assert samples.sum("late_exporter_entries_rejected_total") == 0
    variables = dict(re.findall(r"export (\w+)=(\S+)", program.stdout))
    (command,) = re.findall("^  (.+ posts --failed --since 1h)$", program.stdout, re.MULTILINE)
    posts = run_command(*shlex.split(command), cwd=tmp_path, env=os.environ | variables)
    assert "The status page is at http://127.0.0.1:" in program.stdout
    assert "failed" in posts
    assert program.stop() == 0
    assert sorted(file.name.partition("-")[0] for file in tmp_path.iterdir()) == ["errors", "output"]
    assert "Traceback" not in program.stderr

"""The API key is read from its file again when that changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, wait_equal, wait_until

pytestmark = pytest.mark.e2e

LOGS = "late_publishing_logs_total"
POLLS = "late_exporter_polls_total"
REQUESTS = "late_exporter_api_requests_total"


def test_a_rejected_key_is_replaced_when_the_file_changes(
    late: LateServer, start_exporter: Callable[..., ExporterProcess], tmp_path: Path
) -> None:
    """A rejected key is shown as such, and a new key in the file is used without a restart."""
    late.world.publish(20)
    path = tmp_path / "key"
    path.write_text(KEY)
    program = start_exporter(env={"LATE_API_KEY_FILE": str(path)})
    wait_equal(20.0, lambda: program.scrape().sum(LOGS))
    fresh = "sk_" + "5eed" * 16
    late.keys.clear()
    late.keys.add(fresh)
    wait_until(lambda: program.scrape().sum(POLLS, outcome="unauthorized"), describe=lambda: program.stderr)
    wait_equal(0.0, lambda: program.scrape().sum("late_up"))
    wait_until(lambda: program.scrape().sum(REQUESTS, code="401") > 0)
    late.world.publish(5)
    path.with_name("new").write_text(fresh + "\n")
    path.with_name("new").replace(path)
    wait_equal(25.0, lambda: program.scrape().sum(LOGS))
    wait_equal(2.0, lambda: program.scrape().sum("late_up"))
    good = len(late.requests)
    wait_until(lambda: len(late.requests) > good + 2)
    assert {f"Bearer {fresh}"} == {request.headers["Authorization"] for request in late.requests[good:]}

"""Tests with a failing API: the exporter reports it, keeps its counts, and recovers by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.e2e.late import KEY, FaultHandler, HttpExchange, LateServer, respond_with
from tests.e2e.program import ExporterProcess, wait_equal, wait_until
from tests.support.samples import Samples

pytestmark = pytest.mark.e2e

Run: TypeAlias = Callable[..., ExporterProcess]

LOGS = "late_publishing_logs_total"
POLLS = "late_exporter_polls_total"
REQUESTS = "late_exporter_api_requests_total"
MIB = 1024 * 1024


def outcomes(samples: Samples, feed: str = "publishing") -> set[str]:
    """Return the number of polls by outcome."""
    return {outcome for (outcome,) in samples.family(POLLS, feed=feed)}


def is_down(program: ExporterProcess, outcome: str) -> None:
    """Wait until polls have an outcome and every feed is down."""
    wait_until(lambda: outcome in outcomes(program.scrape()), describe=lambda: program.stderr)
    wait_equal(0.0, lambda: program.scrape().sum("late_up"))


def reset_connection(exchange: HttpExchange) -> None:
    """Reset the connection before a response."""
    exchange.reset()


def send_truncated(exchange: HttpExchange) -> None:
    """Close the connection in the middle of the body."""
    exchange.send(200, b'{"logs": [{"_id": "x1", "status": "success"', length=5000)
    exchange.close()


@pytest.mark.parametrize(
    ("fault", "outcome", "code"),
    [
        (respond_with(500, {"error": "Internal"}), "unavailable", "500"),
        (reset_connection, "unavailable", "network"),
        (send_truncated, "unavailable", "network"),
        (respond_with(200, "<html>Please log in</html>"), "bad_payload", "200"),
    ],
)
def test_fault_and_recovery(
    lasting: tuple[LateServer, ExporterProcess], fault: FaultHandler, outcome: str, code: str
) -> None:
    """A fault is a failed poll with its own outcome; counts stay, memory is bounded, and the exporter recovers."""
    late, program = lasting
    wait_equal(1.0, lambda: program.scrape().sum("late_up"))
    before = program.scrape()
    late.fault = fault
    wait_until(lambda: increase(before, program.scrape(), POLLS, "outcome", outcome), describe=lambda: program.stderr)
    wait_until(lambda: increase(before, program.scrape(), REQUESTS, "code", code), describe=lambda: program.stderr)
    samples = program.scrape()
    assert 0 == samples.sum("late_up")
    assert before.sum(LOGS) == samples.sum(LOGS)
    assert [] == [
        other
        for other in {*outcomes(samples)} - {"success", outcome}
        if increase(before, samples, POLLS, "outcome", other)
    ]
    assert program.peak_memory_bytes < 200 * MIB
    late.world.publish(5)
    late.fault = None
    wait_equal(before.sum(LOGS) + 5, lambda: program.scrape().sum(LOGS))
    wait_equal(1.0, lambda: program.scrape().sum("late_up"))


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LateServer, ExporterProcess]]:
    """Return a program that runs through all faults, and its API."""
    folder = tmp_path_factory.mktemp("faults")
    with LateServer() as late, ExporterProcess.for_api(folder, late.url, "--poll.feeds=publishing") as program:
        late.world.publish(30, over=60)
        wait_equal(30.0, lambda: program.scrape().sum(LOGS))
        yield late, program


def increase(before: Samples, after: Samples, name: str, label: str, value: str) -> bool:
    """Return whether a counter has increased between two scrapes."""
    return after.sum(name, **{label: value}) > before.sum(name, **{label: value})


def test_a_rejected_key_is_replaced_when_the_file_changes(
    late: LateServer, start_exporter: Run, tmp_path: Path
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
    is_down(program, "unauthorized")
    wait_until(lambda: program.scrape().sum(REQUESTS, code="401") > 0)
    late.world.publish(5)
    path.with_name("new").write_text(fresh + "\n")
    path.with_name("new").replace(path)
    wait_equal(25.0, lambda: program.scrape().sum(LOGS))
    wait_equal(2.0, lambda: program.scrape().sum("late_up"))
    good = len(late.requests)
    wait_until(lambda: len(late.requests) > good + 2)
    assert {f"Bearer {fresh}"} == {request.headers["Authorization"] for request in late.requests[good:]}

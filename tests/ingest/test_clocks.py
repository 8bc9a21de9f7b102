"""Wrong clocks: no alert is blind once the clock is right again, and a wrong date loses and repeats no log."""

from __future__ import annotations

import pytest

from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi, unavailable
from tests.support.world import World

SUCCESS = "late_exporter_last_successful_poll_timestamp_seconds"
SCAN = "late_exporter_reconcile_last_completed_timestamp_seconds"
AUDIT = "late_exporter_audit_last_completed_timestamp_seconds"
COVERAGE = "late_exporter_coverage_start_timestamp_seconds"
TIMES = (SUCCESS, SCAN, AUDIT)


@pytest.fixture
def late(world: World) -> FakeLateApi:
    """Return an API with the logs of some days, which sends no date: the clock is all that the exporter has."""
    world.publish(250, over=5 * DAY)
    return FakeLateApi(world, sends_date=False)


@pytest.fixture
def exporter(late: FakeLateApi, open_exporter: OpenExporter) -> ExporterHarness:
    """Return an exporter with the first sync and the first scan behind it."""
    exporter = open_exporter(late)
    exporter.settle()
    return exporter


def run(exporter: ExporterHarness, polls: int) -> None:
    """Poll with everything that sets a time: scans and audits."""
    for _ in range(polls):
        exporter.clock.advance(30.0)
        exporter.poll()


def fail_polls(exporter: ExporterHarness) -> None:
    """Let every request fail from now on."""
    for number in range(100):
        exporter.api.fail_request(number, unavailable)


def ages(exporter: ExporterHarness) -> dict[str, float]:
    """Return the ages of the times that alerts look at, by the clock of Prometheus, which is right."""
    samples = exporter.scrape()
    return {family: exporter.clock.now - samples.sum(family) for family in TIMES}


def jump_and_return(exporter: ExporterHarness, jump: float = 30 * DAY) -> None:
    """Run for half an hour with a clock that is ahead, and set it right."""
    exporter.skew = jump
    run(exporter, 60)
    assert all(age < HOUR - jump for age in ages(exporter).values())
    exporter.skew = 0.0


def test_a_jump_blinds_no_alert_of_a_running_process(exporter: ExporterHarness) -> None:
    """The first poll after the clock is right sets every time to the present, also if it fails; then they age."""
    run(exporter, 60)
    jump_and_return(exporter)
    fail_polls(exporter)
    exporter.clock.advance(30.0)
    assert exporter.poll().outcome == "unavailable"
    assert ages(exporter) == dict.fromkeys(TIMES, 0.0)
    exporter.poll_repeatedly(4)
    assert ages(exporter) == dict.fromkeys(TIMES, 120.0)


def test_a_jump_blinds_no_alert_after_a_restart(exporter: ExporterHarness) -> None:
    """A restarted process shows no time of the future, not even once, and corrects the state for the next restart."""
    run(exporter, 60)
    jump_and_return(exporter)
    fail_polls(exporter)
    exporter.restart()
    assert ages(exporter) == dict.fromkeys(TIMES, 0.0)
    for number in range(1, 4):
        exporter.restart(downtime=HOUR)
        assert ages(exporter) == dict.fromkeys(TIMES, number * HOUR)
        exporter.poll()
        assert ages(exporter) == dict.fromkeys(TIMES, number * HOUR)


@pytest.mark.parametrize(
    ("jump", "restarts"),
    [(30 * DAY, False), (30 * DAY, True), (-30 * DAY, False)],
    ids=["ahead", "ahead and restarted", "behind"],
)
def test_checks_are_due_after_a_jump(exporter: ExporterHarness, jump: float, *, restarts: bool) -> None:
    """Scans and audits that a wrong clock has dated do not put off the next ones, and the next ones replace them."""
    run(exporter, 60)
    jump_and_return(exporter, jump)
    if restarts:
        exporter.restart()
    exporter.clock.advance(DAY)
    run(exporter, 60)
    assert {0 <= age < HOUR for age in ages(exporter).values()} == {True}


@pytest.mark.parametrize("skew", [HOUR, -HOUR])
def test_times_are_those_of_the_api(late: FakeLateApi, open_exporter: OpenExporter, skew: float) -> None:
    """If the clock of the host is wrong, the ages of checks and polls are right, and its error is a metric."""
    late.sends_date = True
    exporter = open_exporter(late, skew=skew)
    exporter.settle()
    assert ages(exporter) == dict.fromkeys(TIMES, pytest.approx(0.0, abs=MINUTE))
    assert exporter.scrape().family("late_exporter_clock_offset_seconds") == {(): skew}
    fail_polls(exporter)
    exporter.clock.advance(2 * HOUR)
    assert exporter.poll().outcome == "unavailable"
    assert ages(exporter) == dict.fromkeys(TIMES, pytest.approx(2 * HOUR, abs=MINUTE))


@pytest.mark.parametrize(("sends_date", "has_logs"), [(True, True), (True, False), (False, True), (False, False)])
def test_coverage_does_not_start_in_the_future(
    late: FakeLateApi, world: World, open_exporter: OpenExporter, *, sends_date: bool, has_logs: bool
) -> None:
    """A jump moves the start of the coverage only without dates and logs, and then not for longer than it lasts."""
    late.sends_date = sends_date
    is_known = sends_date or has_logs
    exporter = open_exporter(late)
    exporter.settle()
    if not has_logs:
        world.clock.advance(8 * DAY)
        exporter.settle()
    before = exporter.scrape().sum(COVERAGE)
    exporter.skew = 30 * DAY
    exporter.poll_repeatedly(3)
    moved = exporter.scrape().sum(COVERAGE)
    assert (before if is_known else exporter.clock.now + 23 * DAY) == pytest.approx(moved, abs=HOUR)
    exporter.skew = 0.0
    exporter.poll_repeatedly(1)
    assert (before if is_known else exporter.clock.now) == pytest.approx(exporter.scrape().sum(COVERAGE), abs=1)

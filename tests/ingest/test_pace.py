"""The exporter is polite: few requests at rest, none while it must wait, and fewer and fewer while nothing works."""

from __future__ import annotations

from itertools import pairwise

import pytest

from late_exporter.errors import ApiError, ApiUnavailable, BadPayload, RateLimited, Unauthorized
from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.exporter import NEVER, ExporterHarness
from tests.support.late_api import FakeLateApi, refusal
from tests.support.world import World

UP = "late_up"


@pytest.fixture
def exporter(world: World, open_exporter: OpenExporter) -> ExporterHarness:
    """Return an exporter that has read the logs of a day."""
    world.publish(30, over=DAY)
    exporter = open_exporter(FakeLateApi(world), reconcile_interval=NEVER)
    exporter.poll_repeatedly(3)
    return exporter


def fail(exporter: ExporterHarness, error: ApiError, requests: int = 200) -> None:
    """Fail the next requests."""
    for number in range(requests):
        exporter.api.fail_request(number, refusal(error))


def pauses(times: list[float]) -> list[float]:
    """Return the time between two polls, each of which may send some requests at once."""
    return [later - earlier for earlier, later in pairwise(sorted({round(at) for at in times}))]


def test_at_rest_a_request_is_sent_every_interval(exporter: ExporterHarness) -> None:
    """Besides them, two requests in an hour look whether the other generation of the API has newer logs."""
    times = exporter.run(HOUR)
    assert len({round(at) for at in times}) == 120
    assert len(times) <= 124


@pytest.mark.parametrize(
    "error", [ApiUnavailable("502: Bad Gateway"), BadPayload("odd"), Unauthorized("401: the key was rejected")]
)
def test_failures_make_polls_rarer(error: ApiError, exporter: ExporterHarness) -> None:
    """The pause doubles up to two minutes, ``late_up`` is 0 meanwhile, and a success restores the interval."""
    fail(exporter, error)
    times = exporter.run(20 * MINUTE)
    assert pauses(times)[:4] == [30, 60, 120, 120]
    assert set(pauses(times)[2:]) == {120}
    assert exporter.scrape().sum(UP) == 0
    exporter.api.clear_events()
    assert set(pauses(exporter.run(10 * MINUTE))) == {30}
    assert exporter.scrape().sum(UP) == 1


def test_a_long_interval_is_the_shortest_pause(world: World, open_exporter: OpenExporter) -> None:
    """An interval longer than the largest pause stays the pause after failures."""
    exporter = open_exporter(FakeLateApi(world), interval=300.0)
    fail(exporter, ApiUnavailable("down"))
    assert set(pauses(exporter.run(HOUR))) == {300}


@pytest.mark.parametrize(("seconds", "pause"), [(500.0, 500), (31.0, 31), (12.0, 30), (-5.0, 30)])
def test_nothing_is_sent_until_a_rate_limit_ends(seconds: float, pause: int, exporter: ExporterHarness) -> None:
    """Nor before the next poll is due; each limit is waited for, and no longer."""
    for number in range(3):
        until = exporter.clock.elapsed + number * max(seconds, 30.0) + seconds
        exporter.api.fail_request(number, refusal(RateLimited("429: slowly", until=until)))
    times = exporter.run(4 * pause)
    assert pauses(times)[:3] == [pause] * 3
    assert exporter.scrape().sum("late_exporter_polls_total", outcome="rate_limited") == 3


def test_a_new_key_is_tried_within_an_interval(exporter: ExporterHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rejected key is tried less and less often, until its file has another one."""
    moment = 340.0  # Without another key, polls would be at 330 and 450 s.
    changed_at = exporter.clock.elapsed + moment

    def is_new(*_: object) -> bool:
        return exporter.clock.elapsed >= changed_at

    rejection = Unauthorized("401: the key was rejected")
    exporter.api.refuse = lambda *_: None if is_new() else rejection
    monkeypatch.setattr(FakeLateApi, "key", property(lambda _: "new" if is_new() else "old"))
    times = exporter.run(moment + 31)
    assert pauses(times)[:4] == [30, 60, 120, 120]
    assert times[-1] >= moment
    assert exporter.scrape().sum(UP) == 1


def test_a_lasting_failure_is_logged_ever_more_rarely(exporter: ExporterHarness) -> None:
    """Its cause is among the last lines of the log, however long it lasts, and nothing else is."""
    fail(exporter, ApiUnavailable("no connection"), 100)
    exporter.poll_repeatedly(9)
    exporter.api.clear_events()
    exporter.poll_repeatedly(1)
    failures = [fields for level, _, fields in exporter.log.records if level == "warning"]
    assert [fields["failed_polls"] for fields in failures] == [1, 2, 4, 8]
    assert {fields["error"] for fields in failures} == {"no connection"}
    assert exporter.log.above_debug[-1] == ("info", "poll recovered")

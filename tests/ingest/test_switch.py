"""The list of a feed is chosen once; when the old one is gone, polls fail until another one is configured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import msgspec
import pytest

from late_exporter.api.generation import SWITCH_HINT
from late_exporter.feeds import GENERATIONS
from late_exporter.simulator.log_list import LogRow
from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import VANISHED, FakeLateApi, Fault, ListQuirks, unavailable
from tests.support.oracle import created_at
from tests.support.world import World

LOGS = "late_publishing_logs_total"
GENERATION = "late_exporter_api_generation_info"
UNREAD = "late_exporter_api_generation_unread"


@pytest.fixture
def start(start: OpenExporter) -> OpenExporter:
    """Return a function that starts an exporter that detects the generation."""
    return partial(start, generation="auto")


def expected_counts(rows: Sequence[LogRow]) -> Counter[tuple[str, ...]]:
    """Return the number of logs of the API by platform, action and status."""
    return Counter((row["platform"], row["action"], row["status"]) for row in rows)


def exposed_counts(exporter: InsideHarness) -> Counter[tuple[str, ...]]:
    """Return the exposed number of logs by platform, action and status."""
    return Counter({labels: int(value) for labels, value in exporter.scrape().family(LOGS).items()})


def restart(exporter: InsideHarness, generation: str) -> None:
    """Restart the exporter with another ``--api.generation``."""
    exporter.generation = generation
    exporter.restart()


def switch(exporter: InsideHarness) -> None:
    """Take the list of generation late away, and restart as the error of the next poll says."""
    exporter.api.generation = "zernio"
    (result,) = exporter.poll_repeatedly(1)
    assert result.error is not None
    assert result.error.endswith(SWITCH_HINT)
    restart(exporter, "zernio")
    exporter.poll_repeatedly(1)
    assert exporter.scrape().family(GENERATION) == {("zernio",): 1.0}


def since(world: World, moment: float) -> Counter[tuple[str, ...]]:
    """Return the number of logs that were created after a second, by platform, action and status."""
    return expected_counts([row for row in world.history.values() if row["createdAt"] and created_at(row) >= moment])


def test_only_newer_logs_count_after_a_switch(world: World, start: OpenExporter) -> None:
    """Those of the old list count no second time; its pending logs, and logs that it had not shown yet, are lost."""
    exporter = start(FakeLateApi(world))
    world.publish(150, over=5 * DAY)
    world.publish(4, over=0)
    kinds = ({"status": "pending"}, {"action": "retry", "attemptNumber": 2}, {"platform": "tiktok", "status": "failed"})
    ids = world.publish(9, over=HOUR, kinds=kinds)
    exporter.poll()
    before = exposed_counts(exporter)
    assert exporter.scrape().sum("late_publishing_pending_logs") == 3
    world.change(ids[0], "success")
    world.insert(world.clock.now - 30 * MINUTE)
    world.insert(world.clock.now + 0.5)  # The old list may show whole seconds.
    start_of_new = world.clock.now + 1
    world.clock.advance(10 * MINUTE)
    world.publish(130, over=9 * MINUTE, platform="twitter")
    switch(exporter)
    world.change(ids[3], "failed", statusCode=500)
    world.publish(1, platform="twitter", status="pending")
    exporter.poll_repeatedly(3)
    expected = before + since(world, start_of_new)
    assert exposed_counts(exporter) == expected
    assert exporter.scrape().sum("late_publishing_pending_logs") == 1
    exporter.settle()
    exporter.restart()
    exporter.settle()
    assert exposed_counts(exporter) == expected


def test_a_counted_log_in_the_future_does_not_end_the_counting(world: World, start: OpenExporter) -> None:
    """What counts after a switch is newer than the newest log that is not in the future."""
    exporter = start(FakeLateApi(world))
    world.publish(40, over=DAY)
    world.insert(world.clock.now + 300 * DAY, platform="tiktok")
    exporter.poll()
    switch(exporter)
    world.publish(3)
    exporter.poll_repeatedly(2)
    assert exposed_counts(exporter)["instagram", "publish", "success"] == 43


def test_a_switch_before_anything_was_counted_is_a_first_sync(world: World, start: OpenExporter) -> None:
    """What the new list has is history, which is counted before it is exposed."""
    exporter = start(FakeLateApi(world), generation="late")
    exporter.poll()
    assert exporter.scrape().family(GENERATION) == {("late",): 1.0}
    world.publish(30, over=DAY)
    exporter.api.generation = "zernio"
    restart(exporter, "zernio")
    exporter.poll_repeatedly(1)
    assert exporter.scrape().sum(LOGS) == 30
    world.publish(1)
    exporter.poll_repeatedly(1)
    assert exposed_counts(exporter).total() == 31


def test_there_is_no_way_back(world: World, start: OpenExporter) -> None:
    """A state that was counted without ids is not read with ids again."""
    exporter = start(FakeLateApi(world, generation="both"), generation="zernio")
    world.publish(30, over=DAY)
    exporter.poll()
    restart(exporter, "late")
    (result,) = exporter.poll_repeatedly(1)
    reason = "the state was counted from API generation zernio, whose logs have no ids: use --api.generation zernio"
    assert reason in str(result.error)
    restart(exporter, "auto")
    world.publish(2)
    exporter.poll_repeatedly(1)
    assert exposed_counts(exporter) == expected_counts(world.rows)


@pytest.mark.exhaustive
@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_crash_at_any_step_of_a_switch(*, is_interrupted: bool, start: OpenExporter) -> None:
    """No log counts twice and every newer one counts, wherever the process ends.

    That also holds amid a catch-up, with a clock that is behind.
    """
    step, going_on = 0, True
    while going_on:
        step += 7
        world = World(VirtualClock())
        exporter = start(FakeLateApi(world, quirks=ListQuirks(max_page_size=10)))
        world.publish(30, over=DAY, kinds=({}, {"status": "pending"}))
        exporter.poll()
        world.clock.advance(HOUR)
        if is_interrupted:
            world.publish(60)
            exporter.api.fail_request(2, unavailable)
            exporter.poll()
            exporter.skew = -30 * DAY
        before = exposed_counts(exporter)
        exporter.api.generation = "zernio"
        restart(exporter, "zernio")
        start_of_new = world.clock.now + 1
        world.clock.advance(HOUR)
        world.publish(25, over=MINUTE)
        going_on = exporter.kill(step)
        exporter.poll_repeatedly(3)
        exporter.settle()
        assert exposed_counts(exporter) == before + since(world, start_of_new)
        assert exporter.scrape().family(GENERATION) == {("zernio",): 1.0}
    assert step > 20


OLD_LIST = GENERATIONS["late"]["publishing"].path


@pytest.mark.parametrize("shape", VANISHED)
def test_a_fresh_state_is_counted_from_the_list_that_is_there(shape: str, world: World, start: OpenExporter) -> None:
    """In whichever way the old list is gone, the first poll reads the documented one, after two requests."""
    exporter = start(FakeLateApi(world, generation="both"))
    assert exporter.scrape().family("late_exporter_retention_seconds") == {}
    exporter.api.vanished[OLD_LIST] = VANISHED[shape]
    world.publish(120, over=DAY, kinds=({}, {"status": "failed"}))
    assert exporter.poll().error is None
    assert [request.path for request in exporter.api.requests[:2]] == ["/v1/logs", "/v1/posts/logs"]
    assert {request.path for request in exporter.api.requests[2:]} == {"/v1/logs"}
    assert exposed_counts(exporter) == expected_counts(world.rows)
    assert exporter.scrape().family("late_exporter_api_generation_info") == {("zernio",): 1.0}


@pytest.mark.parametrize("shape", VANISHED)
def test_a_list_that_vanishes_fails_the_polls(shape: str, world: World, start: OpenExporter) -> None:
    """In whichever way it goes, the error names the remedy, after which all logs count that were missed meanwhile."""
    exporter = start(FakeLateApi(world, generation="both", quirks=ListQuirks(never_expires=True)))
    world.publish(20, over=HOUR)
    exporter.poll()
    before = exposed_counts(exporter)
    world.clock.advance(MINUTE)
    exporter.api.vanished[OLD_LIST] = VANISHED[shape]
    world.publish(12, over=MINUTE / 2)
    for result in exporter.poll_repeatedly(6):
        assert result.error is not None
        assert result.error.endswith(SWITCH_HINT)
    assert [value for (name, _), value in exporter.scrape().items() if name == "late_up"] == [0.0]
    assert exposed_counts(exporter) == before
    restart(exporter, "auto")
    assert exporter.poll_repeatedly(1)[0].error is not None
    world.clock.advance(60 * DAY)
    world.publish(230, over=50 * DAY, kinds=({}, {"status": "failed"}))
    restart(exporter, "zernio")
    exporter.poll_repeatedly(2)
    exporter.settle()
    assert exposed_counts(exporter) == expected_counts(world.rows)
    assert exporter.scrape().family(GENERATION) == {("zernio",): 1.0}
    assert exporter.scrape().family("late_exporter_retention_seconds") == {("publishing",): 90 * DAY}


def stop_at(moment: float) -> Fault:
    """Return an answer without the logs that were created after a moment: nothing writes to the list any more."""

    def drop_newer(_api: FakeLateApi, body: bytes) -> bytes:
        document = msgspec.json.decode(body)
        return msgspec.json.encode({**document, "logs": [row for row in document["logs"] if created_at(row) <= moment]})

    return drop_newer


def test_a_list_that_is_not_written_to_any_more_is_reported(world: World, start: OpenExporter) -> None:
    """The daily read of the list notices; nothing is switched, and the report is kept until the operator switches."""
    exporter = start(FakeLateApi(world, generation="both"), reconcile_interval=HOUR)
    world.publish(20, over=HOUR)
    exporter.settle()
    assert exporter.scrape().family(UNREAD) == {}
    exporter.api.vanished[OLD_LIST] = stop_at(world.clock.now)
    world.clock.advance(HOUR)
    world.publish(5, over=MINUTE)
    exporter.settle()
    exporter.restart()
    (result,) = exporter.poll_repeatedly(1)
    assert result.error is None
    assert exporter.scrape().family(UNREAD) == {("publishing", "zernio"): 1.0}
    assert exporter.scrape().family(GENERATION) == {("late",): 1.0}
    assert exporter.poller.health.is_outdated
    restart(exporter, "zernio")
    exporter.poll_repeatedly(1)
    assert exporter.scrape().family(UNREAD) == {}
    assert exposed_counts(exporter) == expected_counts(world.rows)


def test_a_list_whose_logs_have_expired_is_empty(world: World, start: OpenExporter) -> None:
    """That is no failure, also a little before the last log is due to expire."""
    exporter = start(FakeLateApi(world))
    world.delete(*world.publish(2))
    world.publish(1)
    exporter.poll()
    world.delete(*world.ids)
    world.clock.advance(5 * DAY)
    assert exporter.poll().error is not None
    world.clock.advance(1.5 * DAY)
    assert exporter.poll().error is None


def test_a_list_that_cannot_be_read_is_not_switched_to(world: World, start: OpenExporter) -> None:
    """The old one can still be read after that."""
    exporter = start(FakeLateApi(world))
    world.publish(20, over=HOUR)
    exporter.poll()
    restart(exporter, "zernio")
    (result,) = exporter.poll_repeatedly(1)
    assert result.error == "404: the API has no /v1/logs"
    restart(exporter, "auto")
    world.publish(3, over=10.0)
    exporter.poll_repeatedly(1)
    assert exposed_counts(exporter) == expected_counts(world.rows)
    assert exporter.scrape().family(GENERATION) == {("late",): 1.0}

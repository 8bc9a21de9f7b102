"""Every log counts exactly once without ids, and when the API stops sending them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import Mock

import pytest

from late_exporter.api.generation import EXAMINATION_INTERVAL, MAX_REFUSALS
from late_exporter.errors import StoreError
from late_exporter.feeds import GENERATIONS
from late_exporter.simulator.log_list import LogRow
from late_exporter.store import Store
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.exporter import NEVER
from tests.support.inside import InsideHarness as ExporterHarness
from tests.support.late_api import VANISHED, Document, FakeLateApi, ListQuirks, unavailable
from tests.support.oracle import created_at
from tests.support.world import World

Start: TypeAlias = Callable[..., ExporterHarness]

LOGS = "late_publishing_logs_total"
GENERATION = "late_exporter_api_generation_info"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts an exporter that detects the generation, with a state of its own."""
    numbers = count()

    with ExitStack() as stack:

        def start(late: FakeLateApi, **options: Any) -> ExporterHarness:
            options = {"generation": "auto", "reconcile_interval": NEVER, **options}
            return stack.enter_context(closing(ExporterHarness(late, tmp_path / f"{next(numbers)}.db", **options)))

        yield start


def expected_counts(rows: Sequence[LogRow]) -> Counter[tuple[str, ...]]:
    """Return the number of logs of the API by platform, action and status."""
    return Counter((row["platform"], row["action"], row["status"]) for row in rows)


def exposed_counts(exporter: ExporterHarness) -> Counter[tuple[str, ...]]:
    """Return the exposed number of logs by platform, action and status."""
    return Counter({labels: int(value) for labels, value in exporter.scrape().family(LOGS).items()})


def gauge(exporter: ExporterHarness, family: str, label: str = "generation") -> dict[str, float]:
    """Return the values of a gauge by a label, with zeros."""
    return {dict(labels)[label]: value for (name, labels), value in exporter.scrape().items() if name == family}


def switch(exporter: ExporterHarness) -> None:
    """Switch the API to generation zernio, and poll until the exporter has followed."""
    exporter.api.generation = "zernio"
    for _ in range(4):
        exporter.poll_repeatedly(1)
    assert {("zernio",): 1.0} == exporter.scrape().family(GENERATION)


def test_a_pending_log_whose_action_changes_with_its_status_settles(world: World, start: Start) -> None:
    """It counts once in each status: the action is part of its key."""
    exporter = start(FakeLateApi(world, generation="zernio"))
    (waiting,) = world.publish(1, status="pending", durationMs=None, zernio={"action": "post.platform.publishing"})
    world.clock.advance(HOUR)
    world.publish(260)
    exporter.poll()
    world.change(waiting, "failed", statusCode=500, zernio={"action": "post.platform.failed"})
    exporter.poll_repeatedly(2)
    assert expected_counts(world.rows) | {("instagram", "publish", "pending"): 1} == exposed_counts(exporter)
    assert {} == exporter.scrape().family("late_publishing_pending_logs")


def since(world: World, moment: float) -> Counter[tuple[str, ...]]:
    """Return the number of logs that were created after a second, by platform, action and status."""
    return expected_counts([row for row in world.history.values() if row["createdAt"] and created_at(row) >= moment])


def test_only_newer_logs_count_after_a_switch(world: World, start: Start) -> None:
    """Those of the old list count no second time; its pending logs, and logs that it had not shown yet, are lost."""
    exporter = start(FakeLateApi(world))
    world.publish(150, over=5 * DAY)
    world.publish(4, over=0)
    kinds = ({"status": "pending"}, {"action": "retry", "attemptNumber": 2}, {"platform": "tiktok", "status": "failed"})
    ids = world.publish(9, over=HOUR, kinds=kinds)
    exporter.poll()
    before = exposed_counts(exporter)
    assert 3 == exporter.scrape().sum("late_publishing_pending_logs")
    world.change(ids[0], "success")
    world.insert(world.clock.now - 30 * MINUTE)
    start_of_new = world.clock.now + 1
    world.clock.advance(10 * MINUTE)
    world.publish(130, over=9 * MINUTE, platform="twitter")
    switch(exporter)
    world.change(ids[3], "failed", statusCode=500)
    world.publish(1, platform="twitter", status="pending")
    exporter.poll_repeatedly(3)
    expected = before + since(world, start_of_new)
    assert expected == exposed_counts(exporter)
    assert 1 == exporter.scrape().sum("late_publishing_pending_logs")
    exporter.settle()
    exporter.restart()
    exporter.settle()
    assert expected == exposed_counts(exporter)


def test_no_log_is_pending_right_after_a_switch(world: World, start: Start) -> None:
    """The poll that switches drops the pending logs of the old list, also if nothing is new."""
    exporter = start(FakeLateApi(world, quirks=ListQuirks(time_filter="ignored")), generation="late")
    world.publish(2, status="pending")
    world.clock.advance(HOUR)
    world.publish(150)
    exporter.poll()
    assert 2 == exporter.scrape().sum("late_publishing_pending_logs")
    exporter.generation = exporter.api.generation = "zernio"
    exporter.restart()
    exporter.poll_repeatedly(1)
    assert {} == exporter.scrape().family("late_publishing_pending_logs")
    assert {("zernio",): 1.0} == exporter.scrape().family(GENERATION)
    assert {} == exporter.scrape().family("late_publishing_oldest_pending_timestamp_seconds")


def whole_seconds(document: Document) -> Document:
    """Cut the creation times of a list of generation zernio."""
    for row in document["logs"]:
        if "created_at" in row:
            row["created_at"] = f"{row['created_at'][:19]}Z"
    return document


@pytest.mark.parametrize("transform", [None, whole_seconds])
def test_a_list_may_show_whole_seconds(
    transform: Callable[[Document], Document] | None, world: World, start: Start
) -> None:
    """Logs count from the second after the newest counted one on, whatever the precision of the list."""
    exporter = start(FakeLateApi(world))
    world.clock.now = float(int(world.clock.now))
    for millis in (100, 500, 900):
        world.insert(world.clock.now + millis / 1000)
    world.clock.advance(0.95)
    exporter.poll()
    exporter.api.quirks = ListQuirks(transform=transform)
    world.insert(world.clock.now + 0.04, platform="tiktok")
    world.insert(world.clock.now + 0.05, platform="twitter")
    switch(exporter)
    exporter.settle()
    assert {"instagram": 3, "twitter": 1} == {labels[0]: count for labels, count in exposed_counts(exporter).items()}


def test_a_counted_log_in_the_future_does_not_end_the_counting(world: World, start: Start) -> None:
    """What counts after a switch is newer than the newest log that is not in the future."""
    exporter = start(FakeLateApi(world))
    world.publish(40, over=DAY)
    world.insert(world.clock.now + 300 * DAY, platform="tiktok")
    exporter.poll()
    switch(exporter)
    world.publish(3)
    exporter.poll_repeatedly(2)
    assert 43 == exposed_counts(exporter)["instagram", "publish", "success"]


def test_a_switch_amid_a_catch_up_with_a_clock_that_is_behind(world: World, start: Start) -> None:
    """The newest counted logs are not taken for logs of the future."""
    exporter = start(FakeLateApi(world))
    world.publish(40, over=DAY)
    exporter.poll_repeatedly(2)
    world.clock.advance(5 * HOUR)
    world.publish(130, over=4 * HOUR)
    exporter.api.fail_request(1, unavailable)
    exporter.poll()
    before = exposed_counts(exporter)
    exporter.skew = -30 * DAY
    exporter.api.generation = "zernio"
    exporter.restart()
    start_of_new = world.clock.now + 1
    world.clock.advance(MINUTE)
    world.publish(3, over=MINUTE / 2)
    exporter.poll_repeatedly(3)
    assert before + since(world, start_of_new) == exposed_counts(exporter)


def test_a_switch_before_anything_was_counted_is_a_first_sync(world: World, start: Start) -> None:
    """What the new list has is history, which is counted before it is exposed."""
    exporter = start(FakeLateApi(world), generation="late")
    exporter.poll()
    assert {("late",): 1.0} == exporter.scrape().family(GENERATION)
    world.publish(30, over=DAY)
    exporter.generation = exporter.api.generation = "zernio"
    exporter.restart()
    exporter.poll_repeatedly(1)
    assert 30 == exporter.scrape().sum(LOGS)
    world.publish(1)
    exporter.poll_repeatedly(1)
    assert 31 == exposed_counts(exporter).total()


def test_there_is_no_way_back(world: World, start: Start) -> None:
    """A state that was counted without ids is not read with ids again."""
    exporter = start(FakeLateApi(world, generation="both"), generation="zernio")
    world.publish(30, over=DAY)
    exporter.poll()
    exporter.generation = "late"
    exporter.restart()
    (result,) = exporter.poll_repeatedly(1)
    assert "the state has logs of API generation zernio, which have no ids: use --api.generation zernio or auto" in str(
        result.error
    )
    exporter.generation = "auto"
    exporter.restart()
    world.publish(2)
    exporter.poll_repeatedly(1)
    assert expected_counts(world.rows) == exposed_counts(exporter)


@pytest.mark.exhaustive
@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_crash_at_any_step_of_a_switch(*, is_interrupted: bool, start: Start) -> None:
    """No log counts twice and every newer one counts, wherever the process ends, also in the middle of a catch-up."""
    step, going_on = 0, True
    while going_on:
        step += 3
        world = World(VirtualClock())
        exporter = start(FakeLateApi(world, quirks=ListQuirks(max_page_size=10)))
        world.publish(30, over=DAY, kinds=({}, {"status": "pending"}))
        exporter.poll()
        world.clock.advance(HOUR)
        if is_interrupted:
            world.publish(60)
            exporter.api.fail_request(2, unavailable)
            exporter.poll()
        before = exposed_counts(exporter)
        exporter.restart()
        exporter.api.generation = "zernio"
        start_of_new = world.clock.now + 1
        world.clock.advance(HOUR)
        world.publish(25, over=MINUTE)
        going_on = exporter.kill(step)
        exporter.poll_repeatedly(3)
        exporter.settle()
        assert before + since(world, start_of_new) == exposed_counts(exporter)
        assert {("zernio",): 1.0} == exporter.scrape().family(GENERATION)
    assert step > 20


OLD_LISTS = {feed: GENERATIONS["late"][feed].path for feed in ("publishing", "connections")}


@pytest.mark.parametrize("shape", VANISHED)
def test_a_fresh_state_is_counted_from_the_list_that_is_there(shape: str, world: World, start: Start) -> None:
    """In whichever way the old list is gone, the first poll reads the documented one, after two requests."""
    exporter = start(FakeLateApi(world, generation="both"))
    assert {} == exporter.scrape().family("late_exporter_retention_seconds")
    exporter.api.vanished[OLD_LISTS["publishing"]] = VANISHED[shape]
    world.publish(120, over=DAY, kinds=({}, {"status": "failed"}))
    assert exporter.poll().error is None
    assert ["/v1/logs", "/v1/posts/logs"] == [request.path for request in exporter.api.requests[:2]]
    assert {"/v1/logs"} == {request.path for request in exporter.api.requests[2:]}
    assert expected_counts(world.rows) == exposed_counts(exporter)
    assert {("zernio",): 1.0} == exporter.scrape().family("late_exporter_api_generation_info")


@pytest.mark.parametrize("shape", VANISHED)
def test_a_list_that_vanishes_is_left(shape: str, world: World, start: Start) -> None:
    """In whichever way the list goes, logs of the time until the switch count once it is followed."""
    exporter = start(FakeLateApi(world, generation="both"))
    world.publish(20, over=HOUR)
    exporter.poll()
    world.clock.advance(MINUTE)
    exporter.api.vanished[OLD_LISTS["publishing"]] = VANISHED[shape]
    world.publish(12, over=MINUTE / 2)
    results = exporter.poll_repeatedly(1 if shape == "empty" else MAX_REFUSALS)
    assert shape == "empty" or all(result.error is not None for result in results)
    exporter.poll_repeatedly(2)
    assert {("zernio",): 1.0} == exporter.scrape().family(GENERATION)
    assert expected_counts(world.rows) == exposed_counts(exporter)


@pytest.mark.parametrize("shape", ["404", "empty"])
@pytest.mark.parametrize("gone", OLD_LISTS)
def test_each_list_may_go_alone(shape: str, gone: str, world: World, start: Start) -> None:
    """The feed whose list is gone is read in the other generation, the other feed goes on with ids."""
    exporter = start(FakeLateApi(world, generation="both"), feeds=tuple(OLD_LISTS))
    for _ in range(12):
        world.clock.advance(MINUTE)
        world.publish(5)
        world.add_connection()
    exporter.poll_all()
    exporter.api.vanished[OLD_LISTS[gone]] = VANISHED[shape]
    world.clock.advance(10)
    world.publish(5)
    world.add_connection("disconnect")
    for _ in range(5):
        world.clock.advance(30)
        exporter.poll_all()
    samples = exporter.scrape()
    assert expected_counts(world.rows) == exposed_counts(exporter)
    assert 13 == samples.sum("late_connection_events_total")
    retentions = {(feed,): 90 * DAY if feed == gone else 7 * DAY for feed in OLD_LISTS}
    assert retentions == samples.family("late_exporter_retention_seconds")
    exporter.restart()
    assert retentions == exporter.scrape().family("late_exporter_retention_seconds")


UNREAD = "late_exporter_api_generation_unread"


@pytest.mark.parametrize("generation", ["auto", "late"])
def test_a_list_that_is_not_written_to_is_noticed(generation: str, world: World, start: Start) -> None:
    """Within the hour the other list is read, or reported as unread if the generation is configured."""
    late = FakeLateApi(world, generation="both")
    exporter = start(late, generation=generation)
    world.publish(130, over=DAY)
    exporter.examine()
    listed_ids = set(world.ids)
    late.quirks = ListQuirks(
        transform=lambda page: {**page, "logs": [row for row in page["logs"] if row.get("_id") in {None, *listed_ids}]}
    )
    world.clock.advance(MINUTE)
    assert {"late": 0.0, "zernio": 0.0} == gauge(exporter, UNREAD)
    for _ in range(3):
        world.clock.advance(EXAMINATION_INTERVAL / 2)
        world.publish(4)
        exporter.examine()
    if generation == "late":
        assert {"late": 0.0, "zernio": 1.0} == gauge(exporter, UNREAD)
        assert 130 == exposed_counts(exporter).total()
    else:
        exporter.examine()
        assert {"late": 0.0, "zernio": 0.0} == gauge(exporter, UNREAD)
        assert expected_counts(world.rows) == exposed_counts(exporter)


def test_a_state_that_fails_when_keys_have_changed(world: World, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the poll has read under the new keys is dropped, not counted beside the logs of the old ones."""
    api = FakeLateApi(world, generation="zernio", quirks=ListQuirks(max_page_size=10))
    exporter = start(api, generation="zernio")
    world.publish(60, over=DAY)
    exporter.poll_repeatedly(2)
    world.clock.advance(HOUR)
    world.publish(41, over=HOUR - MINUTE)
    api.fail_request(5, unavailable)
    exporter.poll()
    for row in list(world.rows):
        world.change(row["_id"], row["status"], zernio={"user_id": "u1", "request_id": None})
    world.clock.advance(MINUTE)
    world.publish(25, over=50.0, zernio={"user_id": "u1", "request_id": None})
    with monkeypatch.context() as failing:
        failing.setattr(Store, "newest_time", Mock(side_effect=StoreError("a timeout")))
        assert "store_error" == exporter.poll().outcome
    exporter.poll_repeatedly(3)
    exporter.settle()
    assert len(exporter.counted) <= 60 + 41 + 25

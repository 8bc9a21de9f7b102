"""Every log counts exactly once, whatever the list, the network, the disk and the process do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest

from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.exporter import NEVER, ExporterHarness
from tests.support.late_api import (
    FakeLateApi,
    Fault,
    ListQuirks,
    bad_gateway,
    cut_off,
    empty,
    no_logs,
    rate_limited,
    unauthorized,
    unavailable,
)
from tests.support.oracle import Oracle, created_at
from tests.support.profiles import spread
from tests.support.samples import Samples
from tests.support.world import LogStatus, World

FAULTS = (unavailable, unauthorized, rate_limited, cut_off, empty, no_logs, bad_gateway)


@pytest.fixture
def late(world: World) -> FakeLateApi:
    """Return the API of that key."""
    return FakeLateApi(world)


@pytest.fixture
def exporter(open_exporter: OpenExporter, late: FakeLateApi) -> ExporterHarness:
    """Return an exporter before its first poll, without scheduled reconciliation scans."""
    return open_exporter(late, reconcile_interval=NEVER)


def check(exporter: ExporterHarness, world: World, expected: Iterable[LogStatus] | None = None) -> Samples:
    """Assert that nothing was counted twice or unexpectedly, and that every family is right."""
    counted = [(each.key, each.status) for each in exporter.counted]
    assert [sighted for sighted, times in Counter(counted).items() if times > 1] == []
    if expected is not None:
        assert set(expected) == set(counted)
    scrape = exporter.scrape()
    Oracle(world.history[sighted] for sighted in counted).check(scrape)
    return scrape


def test_everything_the_api_holds_is_history_and_counted_at_first_exposure(
    world: World, exporter: ExporterHarness
) -> None:
    """A first sync of several pages counts every log before it exposes any, and exposes no series at 0 first."""
    world.publish(450, over=6 * DAY)
    exporter.api.fail_request(3, unavailable)
    assert exporter.poll().outcome == "unavailable"
    assert exporter.scrape().family("late_publishing_logs_total") == {}
    exporter.poll()
    assert exporter.scrape().sum("late_publishing_logs_total") == 450
    check(exporter, world, world.history)


@pytest.mark.exhaustive
@pytest.mark.parametrize("together", [1, 25])
def test_a_kill_at_every_step_of_a_catch_up_leaves_no_gap(together: int, open_exporter: OpenExporter) -> None:
    """A catch-up that is killed at any step, and again while it is resumed, is complete after one more poll."""
    step = 0
    going_on = True
    while going_on:
        step += 1
        world = World(VirtualClock())
        late = FakeLateApi(world, quirks=ListQuirks(max_page_size=10))
        world.publish(15, over=HOUR)
        exporter = open_exporter(late, reconcile_interval=NEVER, commit_size=together)
        exporter.poll()
        world.clock.advance(2 * HOUR)
        world.publish(45)
        going_on = exporter.kill(step, downtime=2 * HOUR)
        world.publish(3)
        exporter.kill(7, downtime=2 * HOUR)
        world.publish(3)
        exporter.poll()
        check(exporter, world, world.history)
    assert step > 20


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", spread(range(6)))
def test_a_fault_at_every_request_costs_nothing(
    number: int, fault: Fault, world: World, exporter: ExporterHarness
) -> None:
    """If any request of a catch-up fails in any way, the next poll completes it."""
    exporter.api.quirks = ListQuirks(max_page_size=10)
    world.publish(12, over=HOUR)
    exporter.poll()
    world.clock.advance(HOUR)
    world.publish(41)
    exporter.api.fail_request(number, fault)
    exporter.poll()
    exporter.api.clear_events()
    exporter.poll_repeatedly(1)
    check(exporter, world, world.history)


@pytest.mark.parametrize("deleted", spread([1, 2, 50, 98, 99, 120, 300]))
@pytest.mark.parametrize("number", [1, 2, 3])
def test_deletes_between_page_reads_pull_no_log_past_the_reader(
    number: int, deleted: int, world: World, exporter: ExporterHarness
) -> None:
    """Logs deleted from the top between two pages move the others up, and none is skipped."""
    world.publish(520, over=DAY)
    exporter.api.before_request(number, partial(world.delete_top, deleted))
    assert exporter.poll().outcome == "success"
    read = 100 + 98 * (number - 1)
    unread = set(list(reversed(world.history))[read:deleted])
    check(exporter, world, set(world.history) - unread)


def test_a_log_from_the_future_does_not_move_the_high_water_mark(world: World, exporter: ExporterHarness) -> None:
    """A log with a createdAt a year ahead stays on top of the list and hides none below it."""
    world.publish(120, over=HOUR)
    world.insert(world.clock.now + 365 * DAY)
    exporter.poll()
    world.clock.advance(60)
    world.publish(230)
    exporter.poll()
    assert set(world.history) == exporter.observations
    exporter.restart(downtime=9 * DAY)
    world.publish(130, over=HOUR)
    exporter.poll_repeatedly(2)
    assert set(world.history) == exporter.observations
    assert len(world.history) == len(exporter.counted)


def test_a_scan_goes_back_to_what_could_not_be_saved(world: World, open_exporter: OpenExporter) -> None:
    """A log on pages that a scan has read while the disk was full is counted by the same scan, not by the next one."""
    exporter = open_exporter(FakeLateApi(world, quirks=ListQuirks(max_page_size=10)), reconcile_interval=HOUR)
    world.publish(400, over=3 * HOUR)
    exporter.poll_repeatedly(4)
    world.insert(world.clock.now - 1.7 * HOUR)
    world.clock.advance(HOUR)
    exporter.poll()
    assert len(exporter.counted) == 400, "the scan has not come so far"
    exporter.fill_disk()
    assert exporter.poll_repeatedly(1)[0].outcome == "store_error"
    exporter.free_disk()
    exporter.poll_repeatedly(3)
    assert len(exporter.counted) == 401


def test_logs_that_expire_during_downtime_shorten_the_coverage(world: World, exporter: ExporterHarness) -> None:
    """After a downtime longer than the retention, the coverage starts where the API's list starts."""
    world.publish(250, over=DAY)
    exporter.poll()
    before = exporter.scrape().sum("late_exporter_coverage_start_timestamp_seconds")
    read = set(world.history)
    world.clock.advance(DAY)
    world.publish(150)
    exporter.restart(downtime=6.5 * DAY)
    world.publish(300, over=6.4 * DAY)
    exporter.poll()
    scrape = check(exporter, world, read | set(world.visible))
    after = scrape.sum("late_exporter_coverage_start_timestamp_seconds")
    assert before == pytest.approx(world.clock.now - 14.5 * DAY, abs=2)
    assert after == pytest.approx(world.clock.now - 7 * DAY, abs=2)


def test_a_short_lookback_leaves_older_logs_out_for_ever(
    world: World, late: FakeLateApi, open_exporter: OpenExporter
) -> None:
    """With a lookback of an hour, older logs never count, in no poll, scan or restart."""
    exporter = open_exporter(late, lookback=HOUR)
    world.publish(700, over=7 * DAY)
    world.publish(130, over=50 * MINUTE)
    scope = {sighted for sighted, row in world.history.items() if created_at(row) >= world.clock.now - HOUR}
    exporter.poll()
    check(exporter, world, scope)
    exporter.settle()
    check(exporter, world, scope)


def test_a_pending_log_deep_in_the_list_settles_within_two_polls(world: World, exporter: ExporterHarness) -> None:
    """A pending log that becomes final 3,000 logs deep counts in its new status, at the cost of a few requests."""
    (deep,) = world.publish(1, status="pending", durationMs=None)
    world.clock.advance(HOUR)
    world.publish(3000)
    exporter.poll()
    exporter.poll_repeatedly(2)
    world.change(deep, "success", durationMs=4200)
    request_count = len(exporter.api.requests)
    exporter.poll_repeatedly(2)
    assert len(exporter.api.requests) - request_count <= 6
    scrape = check(exporter, world, world.history)
    assert scrape.family("late_publishing_pending_logs") == {}


@pytest.mark.parametrize(("generation", "count"), [("late", 121), ("zernio", 21)])
def test_logs_without_a_time_are_rejected_once(
    generation: str, count: int, world: World, open_exporter: OpenExporter
) -> None:
    """They never expire, so each scan finds them, long after the logs of their time have expired and are pruned."""
    exporter = open_exporter(FakeLateApi(world, generation=generation))
    for _ in range(count - 1):
        world.insert(None)
    world.publish(250, over=DAY)
    exporter.poll()
    world.insert(None, status="pending")
    for _ in range(3):
        exporter.settle()
        exporter.restart(95 * DAY)  # The first commit of a process prunes.
        world.publish(20, over=DAY)
        exporter.poll()
    scrape = exporter.scrape()
    assert scrape.sum("late_publishing_logs_total") == 310
    assert scrape.sum("late_exporter_entries_rejected_total", reason="no_time") == count
    assert scrape.sum("late_publishing_pending_logs") == 0


def test_one_odd_row_costs_none_of_its_neighbours(world: World, exporter: ExporterHarness) -> None:
    """A row without an id, or that is no object, is rejected and counted once; the others count."""
    odd: tuple[Any, ...] = ({"platform": "x"}, "<html>", None, {"_id": 7, "createdAt": "2026-11-24T12:00:00Z"})
    exporter.api.quirks = ListQuirks(transform=lambda document: document | {"logs": [*document["logs"][:50], *odd]})
    world.publish(50, over=HOUR)
    exporter.poll()
    exporter.poll_repeatedly(3)
    scrape = exporter.scrape()
    assert scrape.sum("late_publishing_logs_total") == 50
    assert scrape.family("late_exporter_entries_rejected_total") == {
        ("publishing", "no_id"): 2,
        ("publishing", "not_an_object"): 2,
    }


def test_late_logs_are_counted_at_any_depth(world: World, exporter: ExporterHarness) -> None:
    """Logs that arrive up to 15 minutes late and hundreds of logs deep are found within three polls."""
    world.publish(3000, over=2 * HOUR)
    exporter.poll()
    exporter.poll_repeatedly(8)
    for minutes in (5, 10, 14):
        world.insert(world.clock.now - MINUTE * minutes)
        exporter.poll_repeatedly(3)
        check(exporter, world, world.history)
        exporter.poll_repeatedly(8)
    assert exporter.scrape().sum("late_exporter_reconciled_logs_total") == 0


@pytest.mark.parametrize("restarted", [True, False])
def test_logs_that_came_late_during_an_outage_are_found(
    world: World, exporter: ExporterHarness, *, restarted: bool
) -> None:
    """They are searched for until a poll succeeds, without a scan and a hint of the total, and are not reconciled."""
    world.publish(600, over=2 * HOUR)
    exporter.poll()
    exporter.poll_repeatedly(8)
    lull = world.clock.now
    world.clock.advance(10 * MINUTE)
    world.insert(lull - 40 * MINUTE)
    world.delete(world.ids[-1])
    if restarted:
        exporter.restart(downtime=4 * MINUTE)
    else:
        for _ in range(6):
            exporter.api.fail_request(0, unavailable)
            world.clock.advance(30 * MINUTE)
            exporter.poll()
    exporter.api.fail_request(0, unavailable)
    assert exporter.poll().outcome == "unavailable"
    world.publish(60, over=MINUTE)
    exporter.poll_repeatedly(1)
    scrape = check(exporter, world, world.history)
    assert scrape.sum("late_exporter_reconciled_logs_total") == 0


def test_the_reconciliation_scan_finds_logs_that_are_days_late(
    world: World, late: FakeLateApi, open_exporter: OpenExporter
) -> None:
    """A log that appears days late while others disappear is found by the scan and counted as reconciled."""
    exporter = open_exporter(late)
    world.publish(900, over=5 * DAY)
    exporter.poll()
    exporter.poll_repeatedly(8)
    world.insert(world.clock.now - 3 * DAY)
    world.delete_top(2)
    exporter.settle()
    scrape = check(exporter, world, world.history)
    assert scrape.sum("late_exporter_reconciled_logs_total") == 1


def test_at_rest_a_poll_is_one_request(world: World, exporter: ExporterHarness) -> None:
    """A poll without news is one request, or two if a pending log is below the first page."""
    world.publish(250, over=DAY)
    world.publish(3, status="pending", over=MINUTE)
    exporter.poll()
    exporter.poll_repeatedly(3)
    for expected in (1, 2):
        request_count = len(exporter.api.requests)
        exporter.poll_repeatedly(5)
        assert len(exporter.api.requests) - request_count == 5 * expected
        world.publish(120)
        exporter.poll_repeatedly(2)
    check(exporter, world, world.history)


@pytest.mark.exhaustive
def test_thousands_of_platforms_end_in_other_and_every_sum_is_exact(world: World, exporter: ExporterHarness) -> None:
    """Beyond the known platforms fifty get a label value, the others are counted as ``other``."""
    for number in range(5000):
        world.insert(world.clock.now - DAY + number, platform=f"platform{number}")
    for platform in ("tiktok", "youtube", "snapchat"):
        world.publish(2, platform=platform)
    exporter.poll()
    exporter.restart()
    exporter.poll_repeatedly(1)
    scrape = exporter.scrape()
    platforms = {labels[0] for labels in scrape.family("late_publishing_logs_total")}
    assert len(platforms) == 54
    assert {"other", "tiktok", "youtube", "snapchat"} <= platforms
    assert scrape.sum("late_publishing_logs_total") == 5006
    assert scrape.sum("late_publishing_logs_total", platform="other") == 4950
    assert scrape.sum("late_exporter_label_overflow_total", family="late_publishing_logs_total") == 4950


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(3))
def test_a_state_that_cannot_be_written_counts_nothing_twice(
    number: int, when: str, world: World, exporter: ExporterHarness
) -> None:
    """A failed commit, durable or not, is an outcome of its own, and the next poll makes up for it."""
    exporter.commit_size = 100
    world.publish(120, over=HOUR)
    exporter.poll()
    world.clock.advance(HOUR)
    world.publish(240)
    exporter.fail_commit(number, when)
    results = [exporter.poll()]
    if when == "after":
        exporter.restart()
    results += exporter.poll_repeatedly(2)
    assert sum(result.outcome == "store_error" for result in results) == 1
    scrape = check(exporter, world, world.history)
    if when == "before":
        assert scrape.sum("late_exporter_polls_total", outcome="store_error") == 1


def test_increments_outlast_a_commit_that_fails(world: World, exporter: ExporterHarness) -> None:
    """A request that failed beside a poll is counted with the next commit."""
    world.publish(1, status="pending")
    world.clock.advance(HOUR)
    world.publish(150)
    exporter.poll()
    exporter.api.fail_request(1, unavailable)
    exporter.fail_commit(0)
    assert [result.outcome for result in exporter.poll_repeatedly(2)] == ["store_error", "success"]
    assert exporter.scrape().sum("late_exporter_failed_requests_total") == 1


@pytest.mark.exhaustive
def test_an_api_that_keeps_logs_longer_than_it_says_makes_none_count_twice(
    world: World, open_exporter: OpenExporter
) -> None:
    """Logs that the API still has after their keys were pruned are not counted again."""
    api = FakeLateApi(world, generation="zernio", quirks=ListQuirks(never_expires=True))
    exporter = open_exporter(api, lookback=90 * DAY)
    world.publish(130, over=80 * DAY)
    exporter.poll()
    for _ in range(10):
        exporter.restart(10 * DAY)  # The first commit of a process prunes.
        world.publish(20)
        exporter.poll()
        exporter.settle()
    assert 130 + 10 * 20 == len(exporter.counted) == exporter.scrape().sum("late_publishing_logs_total")
    assert exporter.scrape().sum("late_exporter_state_logs") < 300, "the oldest keys are pruned"


def test_nothing_that_was_shown_falls_when_the_process_dies_on_a_full_disk(
    world: World, exporter: ExporterHarness
) -> None:
    """After a kill with a full disk nothing falls, except for the count of polls that failed because of it."""
    world.publish(20, over=HOUR)
    exporter.poll()
    succeeded_at = exporter.scrape().sum("late_exporter_last_successful_poll_timestamp_seconds")
    exporter.fill_disk()
    world.publish(20, platform="tiktok")
    exporter.poll_repeatedly(3)
    shown = exporter.scrape().counters
    assert shown.sum("late_exporter_polls_total", outcome="store_error") == 3
    assert exporter.scrape().sum("late_exporter_last_successful_poll_timestamp_seconds") == succeeded_at
    exporter.free_disk()
    exporter.restart()
    exporter.poll()
    found = exporter.scrape()
    assert {
        series: value for series, value in _without_unsaved_polls(shown).items() if found.get(series, -1) < value
    } == {}


def _without_unsaved_polls(shown: Samples) -> Samples:
    """Return the samples without polls that failed to commit, which are exposed although not saved."""
    return Samples({at: value for at, value in shown.items() if ("outcome", "store_error") not in at[1]})

"""Every log of a long list without ids counts exactly once, however the API limits skip and filters by time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import pytest

from late_exporter.ingest import sync
from late_exporter.ingest.schedule import PollConfig
from tests.ingest.conftest import OpenExporter
from tests.ingest.test_switch import ALIKE, expected_counts, exposed_counts
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import TIME_FILTERS, FakeLateApi, ListQuirks, unavailable
from tests.support.loggers import RecordingLogger
from tests.support.world import World

pytestmark = pytest.mark.exhaustive

Start: TypeAlias = Callable[..., ExporterHarness]

NEVER = 10 * 365 * DAY
SOME_FILTERS = ("inclusive", "exclusive seconds", "ignored")
USABLE_FILTERS = tuple(name for name in TIME_FILTERS if name not in ("ignored", "rejected"))
NOON = 1_795_521_600_000


@pytest.fixture
def start(open_exporter: OpenExporter) -> Start:
    """Return a function that starts an exporter of generation zernio over a world."""

    def start(world: World, *, reconcile: float = NEVER, **quirks: Any) -> ExporterHarness:
        config = PollConfig(reconcile_interval=reconcile, audit_interval=DAY)
        api = FakeLateApi(world, quirks=ListQuirks(**quirks), generation="zernio")
        return open_exporter(api, config=config, generation="zernio")

    return start


def highest_skip(exporter: ExporterHarness) -> int:
    """Return the largest number of rows that a request has skipped."""
    return max(request.skip for request in exporter.api.requests)


def times_filtered(exporter: ExporterHarness) -> int:
    """Return the number of requests that were bounded by time."""
    return sum("to" in request.params for request in exporter.api.requests)


def audited_count(exporter: ExporterHarness, *, limit: int = 100) -> int:
    """Return the number of logs that an audit compares without a difference in a limited number of requests."""
    last_request = len(exporter.api.requests) + limit

    def check_limit() -> None:
        assert len(exporter.api.requests) < last_request

    audit, mismatches = exporter.run_audit(between=check_limit)
    assert ([], []) == (audit.differences, mismatches)
    return len(audit.listed_keys or ())


def limit_requests(exporter: ExporterHarness, limit: int) -> None:
    """Fail the test at the next request beyond a limit, until ``clear_events``."""
    exporter.api.before_request(limit, lambda: pytest.fail(f"more than {limit} requests"))


def check(exporter: ExporterHarness, world: World) -> None:
    """Assert that every log of the world counts exactly once."""
    assert expected_counts(world.rows) == exposed_counts(exporter)
    assert len(exporter.commit_log) == len(set(exporter.commit_log)) == len(world.rows)


def test_a_first_sync_of_more_rows_than_the_api_skips(world: World, start: Start) -> None:
    """15,000 logs are counted although no request may skip more than 10,000, with a request per 98 of them."""
    exporter = start(world)
    exporter.api.quirks = ListQuirks(max_skip=10_000)
    world.publish(15_000, over=6 * DAY)
    assert "success" == exporter.poll().outcome
    check(exporter, world)
    assert len(exporter.api.requests) <= 15_000 / 98 + 5
    assert highest_skip(exporter) <= 10_000


@pytest.mark.parametrize("time_filter", USABLE_FILTERS)
@pytest.mark.parametrize("limit", [1, 60, 400])
def test_any_limit_of_skip(limit: int, time_filter: str, world: World, start: Start) -> None:
    """First sync, catch-up, reconciliation and audit read 800 logs with any limit, however bounds are read."""
    exporter = start(world, reconcile=10 * MINUTE, max_page_size=50, time_filter=time_filter)
    exporter.api.quirks = ListQuirks(max_page_size=50, max_skip=limit, time_filter=time_filter)
    world.publish(500, over=3 * DAY)
    assert "success" == exporter.poll().outcome
    check(exporter, world)
    exporter.restart(downtime=6 * HOUR)
    world.publish(300)
    assert "success" == exporter.poll().outcome
    check(exporter, world)
    world.insert(world.clock.now - 2 * DAY)
    world.delete_top(2)
    exporter.settle()
    audit, mismatches = exporter.run_audit()
    assert ([], [], 799) == (audit.differences, mismatches, len(audit.listed_keys or ()))
    assert 801 == len(exporter.commit_log)


def test_a_coarse_filter_hides_no_log(world: World, start: Start) -> None:
    """If bounds are truncated to hours, they are raised until no log is hidden."""
    exporter = start(world, max_page_size=20, time_filter="hours")
    world.publish(300, over=5 * HOUR)
    exporter.poll()
    check(exporter, world)
    audit, _ = exporter.run_audit()
    assert ([], 300) == (audit.differences, len(audit.listed_keys or ()))


def test_a_filter_that_shows_only_its_first_page_is_noticed(world: World, start: Start) -> None:
    """If skip is ignored within a bound, every log is still counted, by polls and by an audit."""
    exporter = start(world, time_filter="first page")
    world.publish(900, over=3 * DAY)
    exporter.poll()
    check(exporter, world)
    assert 900 == audited_count(exporter)


@pytest.mark.parametrize("beyond_max_skip", ["empty", "largest"])
def test_a_limit_of_skip_that_is_not_an_error(beyond_max_skip: str, world: World, start: Start) -> None:
    """If the API does not show the end of the whole list, a first sync, a scan and an audit end there."""
    exporter = start(world, reconcile=10 * MINUTE)
    exporter.api.quirks = ListQuirks(max_skip=500, beyond_max_skip=beyond_max_skip)
    world.publish(900, over=3 * DAY)
    limit_requests(exporter, 80)
    exporter.poll()
    check(exporter, world)
    world.insert(world.clock.now - 2 * DAY)
    exporter.settle()
    check(exporter, world)
    assert 901 == audited_count(exporter)


@pytest.mark.parametrize("time_filter", ["ignored", "rejected"])
def test_logs_out_of_reach_are_an_error_that_says_what_to_do(time_filter: str, world: World, start: Start) -> None:
    """If neither skip nor time leads to a log, the first sync fails with a message, and works once time does."""
    exporter = start(world)
    exporter.api.quirks = ListQuirks(max_skip=500, time_filter=time_filter)
    world.publish(900, over=3 * DAY)
    for _ in range(3):
        result = exporter.poll()
        assert "unavailable" == result.outcome
        assert "400: skip must be <= 500; logs below the newest" in str(result.error)
        assert "a shorter --poll.lookback" in str(result.error)
        world.clock.advance(30)
    assert {} == exporter.scrape().family("late_publishing_logs_total")
    exporter.api.quirks = ListQuirks(max_skip=500)
    exporter.poll()
    check(exporter, world)


def test_a_scan_that_is_rejected_blocks_no_poll(world: World, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls succeed and count new logs while reconciliation and audit fail, and the log says so."""
    exporter = start(world, reconcile=10 * MINUTE)
    world.publish(900, over=3 * DAY)
    exporter.poll()
    synced_at = world.clock.now
    logger = RecordingLogger()
    monkeypatch.setattr(exporter.poller._sync._fetcher.failure_reporter, "_logger", logger)  # noqa: SLF001
    exporter.api.quirks = ListQuirks(max_skip=500, time_filter="ignored")
    for _ in range(40):
        world.clock.advance(MINUTE)
        world.publish(1)
        assert "success" == exporter.audit().outcome
    check(exporter, world)
    errors = [fields["error"] for _, _, fields in logger.records if fields["request"] == "scan"]
    assert errors[0].startswith("400: skip must be <= 500; logs below the newest")
    failures = exporter.scrape().family("late_exporter_failed_requests_total", feed="publishing")
    assert 4 <= failures["scan",] <= 12
    assert synced_at == exporter.scrape().sum("late_exporter_reconcile_last_completed_timestamp_seconds")


@pytest.mark.parametrize("time_filter", TIME_FILTERS)
@pytest.mark.parametrize("alike", [{}, ALIKE], ids=["distinct", "alike"])
@pytest.mark.parametrize("count", [3, 9, 90])
def test_logs_of_one_moment_across_a_bound(
    count: int, alike: dict[str, Any], time_filter: str, world: World, start: Start
) -> None:
    """Logs that share a millisecond count once each, wherever the pages end; up to half a page of them may be alike."""
    exporter = start(world, max_page_size=20 if not alike or count < 10 else 100, time_filter=time_filter)
    count = min(count, 45) if alike else count
    for _ in range(6):
        world.publish(11, over=HOUR)
        world.publish(count, over=0, **alike)
        world.clock.advance(HOUR + 0.25)
    exporter.poll()
    check(exporter, world)
    exporter.restart(downtime=60)
    exporter.poll()
    check(exporter, world)


def test_logs_too_dense_for_a_bound_use_skip(world: World, start: Start) -> None:
    """Hundreds of logs per second are read by skip within the bound."""
    exporter = start(world, max_page_size=20)
    exporter.api.quirks = ListQuirks(max_page_size=20, max_skip=700, time_filter="exclusive seconds")
    world.publish(1000, over=5)
    exporter.poll()
    check(exporter, world)


@pytest.mark.parametrize("time_filter", TIME_FILTERS)
def test_more_logs_of_one_moment_than_may_be_skipped(time_filter: str, world: World, start: Start) -> None:
    """If a bound leads to a page above the one that was read last, an audit goes on from there."""
    exporter = start(world, max_page_size=10, time_filter=time_filter)
    for _ in range(2):
        world.publish(30, over=HOUR)
        world.publish(100, over=0)
        world.clock.advance(HOUR)
    exporter.poll()
    check(exporter, world)
    assert 260 == audited_count(exporter)


MOVES: dict[str, Callable[[World], object]] = {
    "insert": lambda world: world.publish(33),
    "delete newest": lambda world: world.delete_top(33),
    "delete around a page edge": lambda world: world.delete(*world.ids[70:130]),
    "delete everything read": lambda world: world.delete_top(150),
    "late": lambda world: [world.insert(world.clock.now - age * HOUR) for age in range(1, 47)],
    "tail expires": lambda world: world.delete(*world.ids[-120:]),
    "all but the newest expire": lambda world: world.delete(*world.ids[40:]),
}


@pytest.mark.parametrize("time_filter", SOME_FILTERS)
@pytest.mark.parametrize("number", [1, 3, 8])
@pytest.mark.parametrize("move", MOVES)
def test_a_list_that_moves_between_bounded_pages(
    move: str, number: int, time_filter: str, world: World, start: Start
) -> None:
    """A log that is in the list during the whole read is counted by it, whatever moves meanwhile."""
    exporter = start(world, max_page_size=20, time_filter=time_filter)
    world.publish(400, over=2 * DAY)
    before = Counter(row["_id"] for row in world.rows)
    exporter.api.before_request(number, partial(MOVES[move], world))
    assert "success" == exporter.poll().outcome
    steady = [row for row in world.rows if row["_id"] in before]
    assert expected_counts(steady) - exposed_counts(exporter) == Counter()
    exporter.api.clear_events()
    exporter.poll_repeatedly(1)
    if move != "late":
        assert expected_counts(world.rows) - exposed_counts(exporter) == Counter()
        assert len(exporter.commit_log) == len(set(exporter.commit_log)) <= len(world.insertion_order)


def test_a_list_whose_tail_expires_during_the_first_sync(world: World, start: Start) -> None:
    """Logs that expire before they are read end the sync, and no log that stays is missed."""
    exporter = start(world, max_page_size=20)
    world.publish(600, over=6.9 * DAY)
    for number in range(2, 40, 2):
        exporter.api.before_request(number, partial(world.clock.advance, 4 * HOUR))
    while (result := exporter.poll()).is_partial:
        assert result.error is None
    assert exporter.recorders[next(iter(exporter.recorders))].is_synced
    assert expected_counts(list(world.visible.values())) - exposed_counts(exporter) == Counter()


@pytest.mark.parametrize("time_filter", SOME_FILTERS)
def test_a_kill_at_every_step_of_a_bounded_catch_up(
    time_filter: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catch-up of many bounded pages that is killed at any step is complete after one more poll."""
    monkeypatch.setattr(sync, "COMMIT_SIZE", 15)
    step, going_on = 0, True
    while going_on:
        step += 4
        world = World(VirtualClock())
        exporter = start(world, max_page_size=10, time_filter=time_filter)
        world.publish(60, over=HOUR)
        exporter.poll()
        world.clock.advance(2 * HOUR)
        world.publish(70)
        world.publish(4, over=0, **ALIKE)
        going_on = exporter.kill(step, downtime=120)
        world.publish(3)
        exporter.poll()
        check(exporter, world)
    assert step > 40


@pytest.mark.parametrize(("latency", "page_count"), [(0.0, 10), (0.5, 4), (2.0, 1)])
def test_a_slow_catch_up_commits_after_two_seconds(latency: float, page_count: int, world: World, start: Start) -> None:
    """A crash loses only the pages of the last two seconds, however slow the API is."""
    exporter = start(world)
    world.publish(1000, over=DAY)
    exporter.api.latency = latency
    recorder, uncommitted_pages = exporter.poller.recorder, list[int]()

    def note_uncommitted(pages_read: int) -> None:
        # Two logs of each page are on the next one, too.
        uncommitted_pages.append(pages_read - max(0, recorder.log_count - 2) // 98)

    for number in range(11):
        exporter.api.before_request(number, partial(note_uncommitted, number))
    exporter.poll()
    assert page_count == max(uncommitted_pages)
    check(exporter, world)


def test_a_gap_is_resumed_by_time(world: World, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart, a deep gap continues with one request, at the time at which it was left."""
    monkeypatch.setattr(sync, "COMMIT_SIZE", 100)
    exporter = start(world)
    world.publish(2000, over=3 * DAY)
    exporter.api.fail_request(15, unavailable)
    assert "unavailable" == exporter.poll().outcome
    exporter.restart(downtime=HOUR)
    world.publish(250)
    count = len(exporter.api.requests)
    exporter.poll()
    check(exporter, world)
    assert 18 >= len(exporter.api.requests) - count
    resumed = next(request for request in exporter.api.requests[count:] if "to" in request.params)
    assert 0 == resumed.skip


def _start_slowly(start: Start, world: World) -> ExporterHarness:
    """Return an exporter that has read a few logs, and that reads eight pages of ten logs per poll from now on."""
    exporter = start(world, max_page_size=10)
    world.publish(30, over=DAY)
    exporter.poll()
    world.clock.advance(HOUR)
    exporter.api.latency = 4.0
    return exporter


@pytest.mark.parametrize("over", [0, 0.2, 0.9, 5.0])
def test_each_poll_of_a_slow_catch_up_gets_further(over: float, world: World, start: Start) -> None:
    """A gap within a second is read to its end, although a poll is interrupted before it has read the second again."""
    exporter = _start_slowly(start, world)
    world.publish(300, over=over)
    uppers = []
    while exporter.poll().is_partial:
        assert exporter.poller.recorder.coverage is not None
        uppers.append(exporter.poller.recorder.coverage.gaps[-1].upper.created)
        assert uppers == sorted(set(uppers), reverse=True)
    assert uppers
    check(exporter, world)


def test_more_pending_logs_than_the_api_skips(world: World, start: Start) -> None:
    """Polls succeed although the list of pending logs cannot be read to its end; the scan settles the others."""
    exporter = start(world, reconcile=10 * MINUTE, max_page_size=20)
    exporter.api.quirks = ListQuirks(max_page_size=20, max_skip=60)
    (deep, *_) = world.publish(150, over=DAY, status="pending")
    world.publish(30, over=0)
    for result in [exporter.poll(), *exporter.poll_repeatedly(12)]:
        assert "success" == result.outcome
    world.change(deep, "failed", statusCode=500)
    exporter.settle()
    assert expected_counts(list(world.history.values())) == exposed_counts(exporter)


def test_a_background_audit_reads_beyond_the_limit(world: World, start: Start) -> None:
    """The daily audit of a list longer than the limit is complete and finds nothing."""
    exporter = start(world, reconcile=10 * MINUTE)
    exporter.api.quirks = ListQuirks(max_skip=500)
    world.publish(900, over=3 * DAY)
    exporter.poll()
    exporter.settle()
    for _ in range(30):
        world.clock.advance(30)
        assert "success" == exporter.audit().outcome
    scrape = exporter.scrape()
    assert scrape.sum("late_exporter_audit_last_completed_timestamp_seconds") > 0
    assert 0 == scrape.sum("late_exporter_audit_missing_logs")


def page_times(newest: int, *ages: int) -> Sequence[int]:
    """Return creation times."""
    return [newest - age for age in ages]


def test_settings_of_a_running_list_may_change(world: World, start: Start) -> None:
    """A filter that is ignored after it had worked costs no log."""
    exporter = start(world, max_page_size=20)
    world.publish(300, over=2 * DAY)
    exporter.api.before_request(
        8, lambda: setattr(exporter.api, "quirks", replace(exporter.api.quirks, time_filter="ignored"))
    )
    exporter.poll()
    check(exporter, world)

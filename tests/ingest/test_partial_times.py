"""Logs of one time are matched across API generations only on a page that has all of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from late_exporter.feeds.decoder import parse_millis
from late_exporter.format import iso_time
from late_exporter.ingest.paging import time_above, time_below
from late_exporter.ingest.partial_times import find_partial_times, ignores_time_filter
from late_exporter.ingest.schedule import PollConfig
from late_exporter.ingest.steps import FetchPage, FetchPost
from late_exporter.model import PAGE_SIZE, LogEntry, LogPage
from tests.ingest.conftest import OpenExporter
from tests.ingest.test_exactness import NEVER
from tests.ingest.test_switch import expected_counts, exposed_counts
from tests.support.client import ClientRequest
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import Document, FakeLateApi, ListQuirks, unavailable
from tests.support.profiles import example_count, is_thorough
from tests.support.world import World

pytestmark = pytest.mark.exhaustive

Start: TypeAlias = Callable[..., ExporterHarness]

CAP = 10
"""Rows of a page."""

TIES = [("success",), ("failed",), ("success", "failed"), ("pending",), ("pending", "success")]
"""Statuses of the logs that appear in the new list, of the time of a pending log that was counted."""


@pytest.fixture
def start(open_exporter: OpenExporter) -> Start:
    """Return a function that starts an exporter that detects the generation, with pages of ten logs."""

    def start(world: World, **quirks: Any) -> ExporterHarness:
        api = FakeLateApi(world, quirks=ListQuirks(max_page_size=CAP, **quirks))
        return open_exporter(api, config=PollConfig(reconcile_interval=NEVER), generation="auto")

    return start


def check(world: World, exporter: ExporterHarness) -> None:
    """Assert that every log counts exactly once in each of its statuses."""
    assert expected_counts(list(world.history.values())) == exposed_counts(exporter)
    pending_count = sum(row["status"] == "pending" for row in world.rows)
    assert pending_count == sum(exporter.scrape().family("late_publishing_pending_logs").values())


def insert_ties(world: World, statuses: tuple[str, ...], at: float) -> None:
    """Insert logs above those of the same time."""
    for status in statuses:
        fields = {"durationMs": 3, "statusCode": None} if status == "pending" else {"durationMs": 7}
        world.insert(at, status=status, **fields)


@pytest.mark.parametrize("statuses", TIES)
@pytest.mark.parametrize("above", range(CAP - 4, CAP + 1))
def test_a_first_page_that_ends_between_logs_of_one_time(
    above: int, statuses: tuple[str, ...], world: World, start: Start
) -> None:
    """A new log at the end of the first page does not take the stored one of a log on the second page."""
    exporter = start(world)
    world.publish(30, over=DAY)
    world.clock.advance(HOUR)
    at = world.clock.now
    world.publish(1, over=0, status="pending", durationMs=None, statusCode=None)
    world.clock.advance(HOUR)
    world.publish(above)
    exporter.poll()
    insert_ties(world, statuses, at)
    exporter.api.generation = "zernio"
    exporter.poll_repeatedly(6)
    assert "zernio" == exporter.poller.generation
    exporter.settle()
    check(world, exporter)


@pytest.mark.parametrize("statuses", TIES)
@pytest.mark.parametrize("depth", range(28, 34))
def test_a_gap_page_that_is_cut_between_logs_of_one_time(
    depth: int, statuses: tuple[str, ...], world: World, start: Start
) -> None:
    """The same holds for both ends of the pages of a gap, and for a log that has settled."""
    exporter = start(world)
    world.publish(40, over=DAY)
    at = world.clock.now
    (waiting,) = world.publish(1, over=0, status="pending", durationMs=None, statusCode=None)
    world.insert(at, status="pending", durationMs=1, statusCode=None)
    exporter.poll()
    world.clock.advance(HOUR)
    exporter.api.generation = "zernio"
    world.publish(depth)
    insert_ties(world, statuses, at)
    world.change(waiting, "failed", statusCode=500, durationMs=9)
    exporter.poll_repeatedly(6)
    assert "zernio" == exporter.poller.generation
    exporter.settle()
    check(world, exporter)


def test_a_page_of_pending_logs_takes_no_stored_log_of_another_status(world: World, start: Start) -> None:
    """A new pending log on a page that shows pending logs only is not the stored one that has settled."""
    exporter = start(world)
    at = world.clock.now
    (waiting,) = world.publish(1, over=0, status="pending", durationMs=4, statusCode=None)
    world.clock.advance(HOUR)
    world.publish(40)
    exporter.poll()
    world.change(waiting, "success", statusCode=200, durationMs=9)
    world.insert(at, status="pending", durationMs=None, statusCode=None)
    exporter.api.generation = "zernio"
    exporter.poll_repeatedly(6)
    exporter.settle()
    check(world, exporter)


def prepare(world: World, exporter: ExporterHarness) -> None:
    """Count a pending log, and switch to a list in which a new log of its time ends the first page."""
    world.publish(12, over=DAY)
    world.clock.advance(HOUR)
    at = world.clock.now
    world.publish(1, over=0, status="pending", durationMs=None, statusCode=None)
    world.clock.advance(HOUR)
    world.publish(CAP - 1)
    exporter.poll()
    insert_ties(world, ("success",), at)
    exporter.api.generation = "zernio"


def reads_tie(world: World, request: ClientRequest) -> bool:
    """Return whether a request is for the time of the logs at the end of the first page."""
    created = parse_millis(world.rows[CAP]["createdAt"])
    assert created is not None
    bounds = (iso_time(time_below(created), precise=True), iso_time(time_above(created), precise=True))
    return bounds == (request.params.get("from"), request.params.get("to"))


def test_a_crash_at_any_step(start: Start) -> None:
    """A process that is killed between reading a time and counting its logs counts each once."""
    step, was_killed = 0, True
    while was_killed:
        step += 3
        world = World(VirtualClock())
        exporter = start(world)
        prepare(world, exporter)
        for _ in range(3):
            exporter.poll_repeatedly(1)
        was_killed = exporter.kill(step)
        exporter.poll_repeatedly(3)
        exporter.settle()
        check(world, exporter)
    assert step > 5


def test_a_time_is_read_once(world: World, start: Start) -> None:
    """A time whose logs cannot be distinguished costs a request, and later polls cost none."""
    exporter = start(world)
    prepare(world, exporter)
    exporter.poll_repeatedly(4)
    # The pending log is looked up as well, because its key has changed.
    request_count = sum(reads_tie(world, request) for request in exporter.api.requests)
    assert 2 == request_count
    exporter.poll_repeatedly(5)
    assert request_count == sum(reads_tie(world, request) for request in exporter.api.requests)
    check(world, exporter)


@pytest.mark.parametrize("time_filter", ["ignored", "rejected", "hours"])
def test_a_time_that_cannot_be_read_delays_nothing(time_filter: str, world: World, start: Start) -> None:
    """If the API does not filter by time, the page is matched as it is, and every log still counts."""
    exporter = start(world, time_filter=time_filter)
    prepare(world, exporter)
    results = exporter.poll_repeatedly(6)
    exporter.settle()
    assert [None] == [result.error for result in results[-1:]]
    missing = expected_counts(list(world.history.values())) - exposed_counts(exporter)
    assert not missing
    assert exposed_counts(exporter).total() <= len(world.history) + 1


def test_a_time_that_fails_is_a_failed_request(world: World, start: Start) -> None:
    """The poll goes on, as if the page had all logs of the time."""
    exporter = start(world)
    prepare(world, exporter)

    def fail(api: FakeLateApi, body: bytes) -> bytes:
        return unavailable(api, body) if reads_tie(world, api.requests[-1]) else body

    for number in range(40):
        exporter.api.fail_request(number, fail)
    results = exporter.poll_repeatedly(4)
    assert (None, "zernio") == (results[-1].error, exporter.poller.generation)
    exporter.api.clear_events()
    exporter.settle()
    assert {"window"} == {
        dict(labels)["request"]
        for (name, labels), value in exporter.scrape().items()
        if name == "late_exporter_failed_requests_total" and value
    }
    assert not expected_counts(list(world.history.values())) - exposed_counts(exporter)


def test_logs_whose_details_differ_between_the_lists(world: World, start: Start) -> None:
    """No log at the edge of a page counts again because its duration is another one in the new list."""
    exporter = start(world)
    world.publish(60, over=DAY, kinds=({}, {"status": "failed"}, {"status": "pending"}))
    exporter.poll()
    expected = exposed_counts(exporter)

    def add_delay(document: Document) -> Document:
        return {**document, "logs": [{**row, "duration_ms": row["duration_ms"] + 5} for row in document["logs"]]}

    exporter.api.generation = "zernio"
    exporter.api.quirks = ListQuirks(max_page_size=CAP, transform=add_delay)
    exporter.restart()
    exporter.poll_repeatedly(12)
    assert "zernio" == exporter.poller.generation
    assert expected == exposed_counts(exporter)
    check(world, exporter)


class Moment(NamedTuple):
    """Logs of one time: the statuses of those that were counted, and of those that only the new list has."""

    counted: tuple[str, ...]
    added: tuple[str, ...]
    settles: bool


STATUSES = st.sampled_from(("success", "failed", "pending"))
MOMENTS = st.lists(
    st.builds(
        Moment,
        counted=st.lists(STATUSES, min_size=1, max_size=4).map(tuple),
        added=st.lists(STATUSES, max_size=3).map(tuple),
        settles=st.booleans(),
    ),
    min_size=4,
    max_size=14,
)


@settings(
    phases=[Phase.generate],
    max_examples=example_count(15, thorough=200),
    deadline=None,
    derandomize=not is_thorough(),
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(moments=MOMENTS, is_catch_up=st.booleans())
def test_any_logs_of_one_time_at_any_edge(*, moments: list[Moment], is_catch_up: bool) -> None:
    """Logs that the list gets with the switch, and pending logs that settle, count once in each status."""
    world, durations = World(VirtualClock()), count(1)
    with TemporaryDirectory() as folder:
        api = FakeLateApi(world, quirks=ListQuirks(max_page_size=CAP))
        config = PollConfig()
        exporter = ExporterHarness(api, Path(folder, "state.db"), config=config, generation="auto")
        try:
            times = []
            for moment in moments:
                world.clock.advance(HOUR)
                times.append(world.clock.now)
                for status in moment.counted:
                    world.insert(times[-1], status=status, durationMs=next(durations))
            exporter.poll()
            for at, moment in zip(times, moments, strict=True):
                waiting = [row["_id"] for row in world.rows if row["createdAt"] == iso_time(at * 1000, precise=True)]
                for status in moment.added:
                    world.insert(at, status=status, durationMs=next(durations))
                for log_id in waiting[: int(moment.settles)]:
                    if (log_id, "pending") in world.history:
                        world.change(log_id, "failed", durationMs=next(durations))
            if is_catch_up:
                world.clock.advance(HOUR)
                world.publish(25, over=30 * MINUTE)
            api.generation = "zernio"
            exporter.poll_repeatedly(6)
            assert "zernio" == exporter.poller.generation
            exporter.settle()
            check(world, exporter)
        finally:
            exporter.close()


def page(*times: int | None, has_more: bool = True) -> LogPage:
    """Return a page of logs created at some times."""
    entries = tuple(LogEntry(key=f"{number}", status="success", created=at) for number, at in enumerate(times))
    return LogPage(entries, has_more=has_more)


@pytest.mark.parametrize(
    ("step", "times", "has_more", "expected"),
    [
        (FetchPage(), (9, 8, 7), True, {7}),
        (FetchPage(), (9, 8, 7), False, set()),
        (FetchPage(skip=3), (9, 8, 7), True, {9, 7}),
        (FetchPage(skip=3), (9, 8, 7), False, {9}),
        (FetchPage(skip=3), (9, 9), True, {9}),
        (FetchPage(skip=3), (9, 8, None), True, {9}),
        (FetchPage(created_before=10), (9, 8), True, {8}),
        (FetchPage(status="pending"), (9, 8, None), False, {9, 8}),
        (FetchPost("p"), (9, 8), False, {9, 8}),
        (FetchPage(), tuple(range(PAGE_SIZE, 0, -1)), False, {1}),
        (FetchPage(skip=3), (), False, set()),
    ],
)
def test_partial_times(
    step: FetchPage | FetchPost, times: tuple[int | None, ...], *, has_more: bool, expected: set[int]
) -> None:
    """Only the times at which a page is cut are partial, and all times of a filtered page."""
    assert expected == find_partial_times(step, page(*times, has_more=has_more))


def test_a_time_filter_that_is_ignored() -> None:
    """Logs within a second of the bounds are no sign that the filter is ignored."""
    step = FetchPage(created_after=10_000, created_before=20_000)
    assert not ignores_time_filter(step, page(21_000, None, 9_000))
    assert ignores_time_filter(step, page(21_001))
    assert ignores_time_filter(step, page(8_999))

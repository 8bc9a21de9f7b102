from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec
import pytest

from late_exporter.errors import BadRequest, GenerationMismatch
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.decoder import parse_millis
from late_exporter.format import iso_time
from late_exporter.ingest.recognition import Recognition, recognise_logs, require_recognition
from late_exporter.model import PAGE_SIZE, Gap, ListPosition, StoredLog
from late_exporter.simulator.log_list import LogRow
from tests.support.clock import DAY, HOUR, VirtualClock
from tests.support.late_api import Document, FakeLateApi, ListQuirks, refusal
from tests.support.steps import drive
from tests.support.world import World

LATE, ZERNIO = (GENERATIONS[name]["publishing"] for name in ("late", "zernio"))


@pytest.mark.parametrize(
    ("recognised", "stored", "listed", "expected"),
    [
        (0, 0, 0, True),
        (0, 500, 0, True),
        (0, 0, 50, True),
        (0, 500, 2, True),
        (0, 2, 50, False),
        (0, 3, 3, False),
        (1, 9, 9, True),
        (9, 10, 10, True),
        (8, 10, 10, False),
        (450, 500, 900, True),
        (449, 500, 900, False),
        (90, 500, 100, True),
        (89, 500, 100, False),
    ],
)
def test_nine_in_ten_logs_must_be_recognised(recognised: int, stored: int, listed: int, *, expected: bool) -> None:
    """Few logs are only a mismatch if none is recognised; deleted ones and a few late rows do not matter."""
    recognition = Recognition(recognised, stored, listed, request_count=1)
    assert expected == recognition.is_sufficient
    if expected:
        require_recognition(recognition, ZERNIO)
    else:
        with pytest.raises(GenerationMismatch, match=f"only {recognised} of {min(stored, listed)} counted publishing"):
            require_recognition(recognition, ZERNIO)


@pytest.fixture
def world() -> World:
    """Return a world with logs of five days."""
    world = World(VirtualClock())
    world.publish(700, over=5 * DAY, kinds=({}, {"status": "failed"}, {"status": "pending"}))
    world.publish(3, over=0)
    return world


def stored(rows: Sequence[LogRow]) -> list[StoredLog]:
    """Return logs as a state has them."""
    starts = range(0, len(rows), PAGE_SIZE)
    pages = [LATE.parse(msgspec.json.encode({"logs": rows[start : start + PAGE_SIZE]})) for start in starts]
    return [
        StoredLog(entry.key, entry.created, entry.fingerprint, {entry.status: entry.status_fingerprint})
        for page in pages
        for entry in page.entries
        if entry.created is not None
    ]


def recognise(
    world: World, logs: Sequence[StoredLog], *, gaps: Sequence[Gap] = (), quirks: ListQuirks | None = None
) -> Recognition:
    """Return the recognition of stored logs in the world of today."""

    async def load(*, until: int, limit: int) -> Sequence[StoredLog]:
        return [log for log in logs if log.created <= until][:limit]

    api = FakeLateApi(world, generation="zernio", quirks=quirks)
    recognition = drive(recognise_logs(api, ZERNIO, load, gaps=gaps))
    assert len(api.requests) == recognition.request_count
    return recognition


@pytest.mark.parametrize(
    ("quirks", "count"),
    [
        (ListQuirks(), 500),
        (ListQuirks(max_page_size=30), 500),
        (ListQuirks(time_filter="ignored"), 500),
        (ListQuirks(max_page_size=7), 50 * 7),
    ],
)
def test_all_logs_of_both_lists_are_recognised(world: World, quirks: ListQuirks, count: int) -> None:
    """The newest 500 counted logs are compared, also across page edges, or as many as 50 pages have."""
    recognition = recognise(world, stored(world.rows), quirks=quirks)
    assert (count, count, count) == recognition[:3]


def test_an_api_that_rejects_the_time_filter_is_read_from_its_top(world: World) -> None:
    """A list that answers 400 to the filter is compared as one that ignores it; a later 400 is an error."""
    api = FakeLateApi(world, generation="zernio")
    logs = stored(world.rows)

    async def load(*, until: int, limit: int) -> Sequence[StoredLog]:
        return [log for log in logs if log.created <= until][:limit]

    refuse = refusal(BadRequest("400: Invalid filter value", status=400))
    api.fail_request(1, refuse)
    assert (500, 500, 500) == drive(recognise_logs(api, ZERNIO, load, gaps=()))[:3]
    api.fail_request(1, refuse)
    api.fail_request(2, refuse)
    with pytest.raises(BadRequest):
        drive(recognise_logs(api, ZERNIO, load, gaps=()))


def test_a_few_logs_are_compared_exactly(world: World) -> None:
    """Each counted log that is missing in the list, and each of the list that was not counted, is noticed."""
    world.delete(*world.ids[9:])
    logs = stored(world.rows)
    world.delete(world.ids[4])
    world.insert(world.clock.now - 60)
    recognition = recognise(world, logs)
    assert (8, 9, 9) == recognition[:3]


def test_only_the_time_that_both_lists_cover_is_compared(world: World) -> None:
    """Logs that expired, were written since, or are in a gap that is not read yet do not count."""
    logs = stored(world.rows)
    world.delete(*world.ids[200:])
    world.clock.advance(HOUR)
    world.publish(150)
    assert (200, 200, 200) == recognise(world, logs)[:3]
    rest = [*logs[:50], *logs[100:]]
    gap = Gap(ListPosition(logs[49].created, ""), logs[100].created, 0, 0)
    assert (150, 150, 200) == recognise(world, rest)[:3]
    assert (150, 150, 150) == recognise(world, rest, gaps=[gap])[:3]


@pytest.mark.parametrize(
    "change",
    [
        lambda world: world.delete(*world.ids),
        lambda world: (world.delete(*world.ids), world.clock.advance(1), world.publish(30, over=0.5)),
    ],
    ids=["empty", "later"],
)
def test_lists_without_a_common_time_are_not_compared(world: World, change: Callable[[World], object]) -> None:
    """A list that is empty or begins after the last counted log has nothing that could count twice."""
    logs = stored(world.rows)
    change(world)
    recognition = recognise(world, logs)
    assert (0, 0, 0) == recognition[:3]
    assert recognition.is_sufficient


@pytest.mark.parametrize("hours", [-7, -1, 1, 5])
def test_a_list_in_another_time_zone_has_none_of_the_logs(world: World, hours: int) -> None:
    """Although the newest counted logs are outside of the list, older ones are not."""
    logs = [
        StoredLog(log.key, log.created + hours * HOUR_MS + 1, log.fingerprint, log.statuses)
        for log in stored(world.rows)
    ]
    recognition = recognise(world, logs)
    assert 0 == recognition.recognised
    assert recognition.comparable > 100
    assert not recognition.is_sufficient


HOUR_MS = 3_600_000

Retime: TypeAlias = Callable[[int], int]


def retimed(change: Retime, **options: Any) -> ListQuirks:
    """Return a list whose creation times are changed, in milliseconds."""

    def transform(document: Document) -> Document:
        rows = [
            {**row, "created_at": iso_time(change(parse_millis(row["created_at"]) or 0), precise=True)}
            for row in document["logs"]
        ]
        return {**document, "logs": rows}

    # A list in another time zone reads a filter in it, too; that is the same as a list that ignores it.
    return ListQuirks(transform=transform, time_filter="ignored", **options)


def world_of(count: int, *, over: float) -> World:
    """Return a world with logs of the last seconds, whose times are not whole seconds."""
    world = World(VirtualClock(), distinct_times=True)
    world.clock.advance(0.123)
    world.publish(count, over=over, kinds=({}, {"status": "failed"}))
    return world


@pytest.mark.parametrize("hours", [-14, -7, -0.25, 0.5, 2, 5.75, 14])
@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("unit", [1, 1000])
def test_logs_that_span_less_than_the_shift_are_found_at_their_other_times(hours: float, count: int, unit: int) -> None:
    """A list without a log at the times of the counted ones passes only if it has them nowhere else."""
    world = world_of(count, over=600)
    logs = stored(world.rows)
    world.clock.advance(60)
    quirks = retimed(lambda millis: (millis + int(hours * HOUR_MS)) // unit * unit)
    recognition = recognise(world, logs, quirks=quirks)
    assert (0, count, count, hours * HOUR_MS) == (*recognition[:3], recognition.shift)
    with pytest.raises(GenerationMismatch, match=f"only 0 of {count} .* {'later' if hours > 0 else 'earlier'}"):
        require_recognition(recognition, ZERNIO)


@pytest.mark.parametrize("downtime", [0, 20 * HOUR, 3 * DAY])
def test_a_shift_is_found_among_new_logs(downtime: float) -> None:
    """New logs do not hide that the counted ones are at other times, however long the exporter did not run."""
    world = world_of(40, over=1800)
    logs = stored(world.rows)
    world.clock.advance(downtime + 60)
    world.publish(90, over=50)
    recognition = recognise(world, logs, quirks=retimed(lambda millis: millis + 2 * HOUR_MS))
    assert 2 * HOUR_MS == recognition.shift
    assert not recognition.is_sufficient


@pytest.mark.parametrize("count", [1, 2, 35])
@pytest.mark.parametrize(
    "change",
    [lambda millis: millis // 1000 * 1000, lambda millis: (millis + 500) // 1000 * 1000],
    ids=["cut", "rounded"],
)
@pytest.mark.parametrize("has_whole_second", [True, False])
def test_logs_within_one_second_are_not_found_in_whole_seconds(
    change: Retime, count: int, *, has_whole_second: bool
) -> None:
    """Even if one log has the same time in both lists, the others are within the second of its time."""
    world = World(VirtualClock(), distinct_times=True)
    if has_whole_second:
        world.publish(1, over=0)
    world.clock.advance(0.45)
    world.publish(count + 2 * has_whole_second, over=0)
    recognition = recognise(world, stored(world.rows), quirks=retimed(change))
    assert has_whole_second == recognition.recognised
    assert 0 == recognition.shift
    with pytest.raises(GenerationMismatch, match="another precision"):
        require_recognition(recognition, ZERNIO)


def test_logs_of_one_kind_may_not_be_shifted(world: World) -> None:
    """A list is a mismatch if it has a part of the logs at other times, although all others are recognised."""
    world = world_of(60, over=1800)
    logs = stored(world.rows)
    recognition = recognise(
        world, logs, quirks=retimed(lambda millis: millis + (2 * HOUR_MS if millis // 30_000 % 4 else 0))
    )
    assert 10 <= recognition.recognised <= 20
    assert 2 * HOUR_MS == recognition.shift
    assert not recognition.is_sufficient


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("remaining", ["none", "new", "some", "one kind"])
@pytest.mark.parametrize("time_filter", ["inclusive", "ignored"])
def test_deleted_logs_do_not_block_a_switch(count: int, remaining: str, time_filter: str) -> None:
    """A list passes if it has nothing, only what is newer, only a part of the logs, or only those of one feed."""
    world = world_of(count, over=5 * HOUR)
    logs = stored(world.rows)
    kept = {"none": 0, "new": 0, "some": count // 2}.get(remaining)
    ids = world.ids[kept:] if kept is not None else [row["_id"] for row in world.rows if row["status"] != "failed"]
    world.delete(*ids)
    world.clock.advance(HOUR + 7.3)
    world.publish(0 if remaining == "none" else 25, over=1700)
    recognition = recognise(world, logs, quirks=ListQuirks(time_filter=time_filter))
    assert recognition.shift is None
    assert recognition.is_sufficient


def test_a_list_that_ends_before_the_newest_counted_logs_passes_by_the_older_ones(world: World) -> None:
    """A list that lags behind has the older logs at their times."""
    logs = stored(world.rows)
    world.delete(*world.ids[:60])
    recognition = recognise(world, logs)
    assert (500, 500, 500, None) == (*recognition[:3], recognition.shift)

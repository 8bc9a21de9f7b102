from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from late_exporter.errors import BadRequest, GenerationMismatch
from late_exporter.feeds import GENERATIONS
from late_exporter.ingest.recognition import Recognition, recognise_logs, require_recognition
from late_exporter.model import Gap, ListPosition, StoredLog
from late_exporter.simulator.log_list import LogRow
from tests.support.clock import DAY, HOUR, VirtualClock
from tests.support.late_api import FakeLateApi, ListQuirks, refusal
from tests.support.steps import drive
from tests.support.world import World

LATE, ZERNIO = (GENERATIONS[name]["publishing"] for name in ("late", "zernio"))


@pytest.mark.parametrize(
    ("recognised", "stored", "listed", "expected"),
    [
        (0, 0, 0, True),
        (0, 500, 0, True),
        (0, 2, 50, True),
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
    """Few logs are only a mismatch if none is recognised; deleted ones and those never counted do not matter."""
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
    entries = LATE.parse(msgspec.json.encode({"logs": rows})).entries
    return [
        StoredLog(entry.key, entry.created, entry.fingerprint, {entry.status: entry.status_fingerprint})
        for entry in entries
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
        StoredLog(log.key, log.created + hours * 3_600_000 + 1, log.fingerprint, log.statuses)
        for log in stored(world.rows)
    ]
    recognition = recognise(world, logs)
    assert 0 == recognition.recognised
    assert recognition.comparable > 100
    assert not recognition.is_sufficient

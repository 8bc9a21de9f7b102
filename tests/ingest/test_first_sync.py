"""What the API holds when a workspace is first read is history, and never an increase."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR
from tests.support.exporter import ExporterHarness
from tests.support.late_api import Document, FakeLateApi, Fault, ListQuirks, empty_list
from tests.support.world import World

pytestmark = pytest.mark.exhaustive

LOGS = "late_publishing_logs_total"


def empty_page_with_total(_api: FakeLateApi, body: bytes) -> bytes:
    """Respond without logs, but with the right total."""
    document = msgspec.json.decode(body)
    return msgspec.json.encode({"logs": [], "pagination": document["pagination"] | {"hasMore": False}})


def short_page(_api: FakeLateApi, body: bytes) -> bytes:
    """Respond with a third of the page as the end of a shorter list, as an outdated replica does."""
    document = msgspec.json.decode(body)
    logs = document["logs"][: len(document["logs"]) // 3]
    total = document["pagination"].get("skip", 0) + len(logs)
    return msgspec.json.encode({"logs": logs, "pagination": {"total": total, "hasMore": False}})


SHAPES = (empty_list, empty_page_with_total, short_page)


def first_exposure(exporter: ExporterHarness) -> float:
    """Poll until the logs are exposed; return the sum of their counters then."""
    for _ in range(4):
        exporter.poll_repeatedly(1)
        if total := exporter.scrape().sum(LOGS):
            return total
    return 0.0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", [0, 1, 4, 5, 6])
@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_one_short_answer_hides_no_history(
    generation: str, number: int, shape: Fault, world: World, start_generation: OpenExporter
) -> None:
    """Whichever page of a first sync is empty or short, all logs are counted when they are first exposed."""
    world.publish(450, over=6 * DAY)
    exporter = start_generation(generation)
    exporter.api.fail_request(number, shape)
    assert first_exposure(exporter) == 450
    exporter.settle()
    assert 450 == exporter.scrape().sum(LOGS) == len(exporter.counted)


def _with_total(document: Document, change: Callable[[int], int | None]) -> Document:
    pagination = document["pagination"]
    return document | {"pagination": pagination | {"total": change(pagination["total"])}}


@pytest.mark.parametrize("change", [lambda _: None, lambda _: 0, lambda total: total + 7, lambda _: 10**9])
@pytest.mark.parametrize("count", [0, 40, 450])
@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_a_wrong_total_does_not_prevent_a_first_sync(
    generation: str, count: int, change: Callable[[int], int | None], world: World, start_generation: OpenExporter
) -> None:
    """If the total is missing or wrong, the first sync is complete once the list has ended twice at the same log."""
    world.publish(count, over=6 * DAY)
    exporter = start_generation(generation, quirks=ListQuirks(transform=lambda document: _with_total(document, change)))
    exporter.poll()
    assert exporter.is_synced
    assert count == len(exporter.counted)
    assert len(exporter.api.requests) <= 14


def _without_hint(document: Document) -> Document:
    """Return a list with the page size of the API, and no other hint that more follows."""
    return document | {"pagination": {"limit": 50, "skip": document["pagination"].get("skip", 0), "pages": 9}}


def _deny_more(document: Document) -> Document:
    """Return a list with the right number of logs that denies that more follow."""
    return document | {"pagination": document["pagination"] | {"hasMore": False}}


@pytest.mark.parametrize("transform", [_without_hint, _deny_more])
@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_pages_shorter_than_requested_do_not_end_the_list(
    generation: str, transform: Callable[[Document], Document], world: World, start_generation: OpenExporter
) -> None:
    """If the API returns shorter pages and announces no more, the history and a later burst are read to their end."""
    world.publish(400, over=6 * DAY)
    exporter = start_generation(generation, quirks=ListQuirks(max_page_size=50, transform=transform))
    assert first_exposure(exporter) == 400
    world.clock.advance(HOUR)
    world.publish(120, over=HOUR / 2)
    exporter.poll()
    assert len(exporter.counted) == 520


@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_a_clock_ahead_by_more_than_the_lookback_hides_no_new_log(
    generation: str, world: World, start_generation: OpenExporter
) -> None:
    """Without a clock of the API, logs newer than those listed at the first sync count, also late ones."""
    world.publish(50, over=DAY)
    exporter = start_generation(generation, skew=2 * HOUR, lookback=HOUR)
    exporter.poll()
    history = len(exporter.counted)
    late_log = world.clock.now - 60
    for _ in range(20):
        world.clock.advance(30)
        world.publish(1)
        exporter.poll()
    world.insert(late_log)
    exporter.settle()
    assert history + 21 == len(exporter.counted)

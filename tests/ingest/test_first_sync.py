"""What the API holds when a workspace is first read is history, and never an increase."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.exporter import ExporterHarness
from tests.support.late_api import Document, FakeLateApi, Fault, ListQuirks, empty_list
from tests.support.world import World

pytestmark = pytest.mark.exhaustive

LOGS = "late_publishing_logs_total"


def short_page(_api: FakeLateApi, body: bytes) -> bytes:
    """Respond with a third of the page as the end of a shorter list, as an outdated replica does."""
    document = msgspec.json.decode(body)
    logs = document["logs"][: len(document["logs"]) // 3]
    total = document["pagination"].get("skip", 0) + len(logs)
    return msgspec.json.encode({"logs": logs, "pagination": {"total": total, "hasMore": False}})


def first_exposure(exporter: ExporterHarness) -> float:
    """Poll until the logs are exposed; return the sum of their counters then."""
    for _ in range(4):
        exporter.poll_repeatedly(1)
        if total := exporter.scrape().sum(LOGS):
            return total
    return 0.0


@pytest.mark.parametrize("shape", [empty_list, short_page])
@pytest.mark.parametrize("number", [0, 1, 4, 5, 6])
@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_one_short_answer_hides_no_history(
    generation: str, number: int, shape: Fault, world: World, open_exporter: OpenExporter
) -> None:
    """Whichever page of a first sync is empty or short, all logs are counted when they are first exposed."""
    world.publish(450, over=6 * DAY)
    exporter = open_exporter(FakeLateApi(world, generation=generation))
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
    generation: str, count: int, change: Callable[[int], int | None], world: World, open_exporter: OpenExporter
) -> None:
    """If the total is missing or wrong, the first sync is complete once the list has ended twice at the same log."""
    world.publish(count, over=6 * DAY)
    quirks = ListQuirks(transform=lambda document: _with_total(document, change))
    exporter = open_exporter(FakeLateApi(world, generation=generation, quirks=quirks))
    exporter.poll()
    assert exporter.is_synced
    assert count == len(exporter.counted)
    assert len(exporter.api.requests) <= 14


def _without_hint(document: Document) -> Document:
    """Return a list with the page size of the API, and no other hint that more follows."""
    return document | {"pagination": {"limit": 50}}


@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_pages_shorter_than_requested_do_not_end_the_list(
    generation: str, world: World, open_exporter: OpenExporter
) -> None:
    """The history and a later burst are read to their end."""
    world.publish(400, over=6 * DAY)
    quirks = ListQuirks(max_page_size=50, transform=_without_hint)
    exporter = open_exporter(FakeLateApi(world, generation=generation, quirks=quirks))
    assert first_exposure(exporter) == 400
    world.publish(120)
    exporter.poll()
    assert len(exporter.counted) == 520


@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_a_clock_ahead_by_more_than_the_lookback_hides_no_new_log(
    generation: str, world: World, open_exporter: OpenExporter
) -> None:
    """Without a clock of the API, logs newer than those listed at the first sync count."""
    world.publish(50, over=DAY)
    api = FakeLateApi(world, generation=generation, sends_date=False)
    exporter = open_exporter(api, skew=2 * HOUR, lookback=HOUR)
    exporter.poll()
    history = len(exporter.counted)
    world.clock.advance(10 * MINUTE)
    world.publish(20)
    exporter.poll()
    assert len(exporter.counted) == history + 20

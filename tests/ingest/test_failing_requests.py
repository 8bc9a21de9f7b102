"""Requests other than those for the newest logs and the gaps may keep failing without failing the poll."""

from __future__ import annotations

from collections import Counter

import pytest

from late_exporter.errors import (
    ApiError,
    ApiUnavailable,
    BadPayload,
    BadRequest,
    Forbidden,
    ResponseTooLarge,
)
from tests.ingest.conftest import OpenExporter
from tests.support.client import ClientRequest
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

pytestmark = pytest.mark.exhaustive

GENERATIONS = ("late", "zernio")
FAILURES = (
    ApiUnavailable("500: cannot render", status=500),
    BadPayload("the response is not JSON"),
    BadRequest("400: Invalid query", status=400),
    Forbidden("403: the key may not use this path"),
)
TOO_LARGE = ResponseTooLarge("the response is larger than 2 MiB")


def fail_rows(api: FakeLateApi, *log_ids: str, error: ApiError = FAILURES[0]) -> None:
    """Fail every request whose response has one of some logs."""
    api.refuse = lambda _, body: error if any(log_id.encode() in body for log_id in log_ids) else None


def outcomes(exporter: ExporterHarness, polls: int) -> Counter[str]:
    """Poll some times, and return the number of polls by outcome."""
    return Counter(result.outcome for result in exporter.poll_repeatedly(polls))


def failed_requests(exporter: ExporterHarness) -> dict[str, float]:
    """Return the number of failed requests by kind."""
    family = exporter.scrape().family("late_exporter_failed_requests_total")
    return {request: value for (_, request), value in family.items()}


def statuses(exporter: ExporterHarness) -> Counter[str]:
    """Return the number of counted observations by status."""
    family = exporter.scrape().family("late_publishing_logs_total")
    return sum((Counter({labels[2]: int(value)}) for labels, value in family.items()), Counter())


def pending(exporter: ExporterHarness) -> float:
    """Return the number of pending logs."""
    return exporter.scrape().sum("late_publishing_pending_logs")


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_post_that_cannot_be_read_fails_alone(
    error: ApiError, generation: str, world: World, start: OpenExporter
) -> None:
    """Every poll succeeds, other logs settle, and the post, or its moment, is asked for at growing intervals."""
    api = FakeLateApi(world, generation=generation)
    exporter = start(api)
    ids = [world.insert(world.clock.now - HOUR - 60 * n, status="pending", postId=f"p{n}") for n in range(4)]
    world.publish(200, over=MINUTE)
    exporter.poll()

    def refuse(request: ClientRequest, body: bytes) -> ApiError | None:
        is_moment = "from" in request.params and ids[0].encode() in body
        return error if is_moment or request.path == "/v1/posts/p0/logs" else None

    api.refuse = refuse
    for log_id in ids:
        world.change(log_id, "failed", statusCode=500)
    assert outcomes(exporter, 60) == {"success": 60}
    assert pending(exporter) == 1
    assert statuses(exporter) == {"pending": 4, "failed": 3, "success": 200}
    assert sum(failed_requests(exporter).values()) <= 8
    api.refuse = lambda *_: None
    outcomes(exporter, 17)
    assert pending(exporter) == 0


def test_look_ups_of_many_posts_that_fail_end_after_three(world: World, start: OpenExporter) -> None:
    """Each may take until its timeout, while new logs wait."""
    api = FakeLateApi(world)
    exporter = start(api)
    ids = [world.insert(world.clock.now - HOUR - n, status="pending", postId=f"p{n}") for n in range(10)]
    world.publish(200, over=MINUTE)
    exporter.poll()
    for log_id in ids:
        world.change(log_id, "success")
    api.refuse = lambda request, _: FAILURES[0] if request.path.startswith("/v1/posts/p") else None
    assert outcomes(exporter, 1) == {"success": 1}
    assert failed_requests(exporter) == {"post": 3}


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_list_of_pending_logs_that_is_refused_costs_only_settlement_checks(
    error: ApiError, generation: str, world: World, start: OpenExporter
) -> None:
    """If ``status=pending`` is refused, polls succeed and pending logs settle, each in its turn."""
    api = FakeLateApi(world, generation=generation)
    exporter = start(api)
    ids = [world.insert(world.clock.now - HOUR - n, status="pending", postId=f"p{n}") for n in range(25)]
    world.publish(200, over=MINUTE)
    exporter.poll()
    api.refuse = lambda request, _: error if "status" in request.params else None
    for log_id in ids[:20]:
        world.change(log_id, "success")
    assert outcomes(exporter, 20) == {"success": 20}
    assert pending(exporter) == 5
    assert statuses(exporter) == {"pending": 25, "success": 220}
    assert failed_requests(exporter)["pending"] == 20


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize(
    ("place", "error"), [(130, FAILURES[0]), (395, FAILURES[1]), (198, FAILURES[2]), (198, FAILURES[3])]
)
def test_a_row_that_no_scan_can_read_is_skipped(
    place: int, error: ApiError, generation: str, world: World, start: OpenExporter
) -> None:
    """Polls succeed, and late logs below the row are counted; only the row itself is not."""
    api = FakeLateApi(world, generation=generation)
    exporter = start(api, reconcile_interval=10 * MINUTE)
    world.publish(400, over=DAY)
    exporter.poll()
    broken = world.ids[place]
    late = [world.insert(world.clock.now - age) for age in (2 * HOUR, 8 * HOUR, 20 * HOUR, DAY - 60)]
    late_broken = world.insert(world.clock.now - 12 * HOUR, status="failed", statusCode=500)
    fail_rows(api, broken, late_broken, error=error)
    assert outcomes(exporter, 60) == {"success": 60}
    assert statuses(exporter) == {"success": 400 + len(late)}
    assert exporter.scrape().sum("late_exporter_reconcile_last_completed_timestamp_seconds") > 0
    assert exporter.scrape().sum("late_exporter_unreadable_rows_total") == 2
    assert failed_requests(exporter)["scan"] >= 2
    api.refuse = lambda *_: None
    exporter.settle()
    assert statuses(exporter) == {"success": 400 + len(late), "failed": 1}


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarting"])
def test_a_row_that_cannot_be_read_does_not_block_a_catch_up(
    generation: str,
    restart: bool,  # noqa: FBT001 - a parameter of the test
    world: World,
    start: OpenExporter,
) -> None:
    """The gap decides the outcome until the third failure, also across restarts; then all other logs are counted."""
    api = FakeLateApi(world, generation=generation)
    exporter = start(api)
    world.publish(150, over=DAY)
    exporter.poll()
    world.clock.advance(HOUR)
    broken = world.publish(450, over=50 * MINUTE)[100]
    fail_rows(api, broken)
    results = []
    for _ in range(5):
        results.append(exporter.poll_repeatedly(1)[0].outcome)
        world.publish(1)
        if restart:
            exporter.restart()
    assert results == ["unavailable"] * 2 + ["success"] * 3
    exporter.poll_repeatedly(3)  # The late window has the row as well.
    assert statuses(exporter) == {"success": 150 + 449 + 5}
    assert exporter.scrape().sum("late_exporter_unreadable_rows_total") == 1 + restart, "once per process"


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_row_at_the_head_that_cannot_be_read_is_skipped(generation: str, world: World, start: OpenExporter) -> None:
    """After three failed polls, polls succeed although the row is among the newest; it is reported once."""
    api = FakeLateApi(world, generation=generation)
    exporter = start(api)
    world.publish(150, over=DAY)
    exporter.poll()
    world.clock.advance(MINUTE)
    (broken,) = world.publish(1)
    fail_rows(api, broken)
    results = []
    for _ in range(8):
        world.clock.advance(30)
        world.publish(1)
        results.append(exporter.poll().outcome)
    assert results == ["unavailable"] * 2 + ["success"] * 6
    assert statuses(exporter) == {"success": 158}
    assert exporter.scrape().sum("late_exporter_unreadable_rows_total") == 1


@pytest.mark.parametrize("generation", GENERATIONS)
def test_pages_that_are_too_large_are_read_in_parts(generation: str, world: World, start: OpenExporter) -> None:
    """No poll fails: history, new logs, late logs and settled logs count once, and an audit reads all pages."""
    api = FakeLateApi(world, generation=generation)
    api.refuse = lambda _, body: TOO_LARGE if body.count(b'"created') > 30 else None
    exporter = start(api, reconcile_interval=10 * MINUTE, audit_interval=HOUR)
    world.publish(350, over=DAY)
    pending_ids = [world.insert(world.clock.now - HOUR - n, status="pending", postId=f"p{n}") for n in range(40)]
    assert outcomes(exporter, 1) == {"success": 1}
    world.publish(250, over=MINUTE)
    world.insert(world.clock.now - 5 * HOUR)
    for log_id in pending_ids:
        world.change(log_id, "failed", statusCode=500)
    assert outcomes(exporter, 40) == {"success": 40}
    assert statuses(exporter) == {"success": 601, "pending": 40, "failed": 40}
    assert pending(exporter) == 0
    assert exporter.scrape().sum("late_exporter_unreadable_rows_total") == 0
    world.clock.advance(HOUR)
    assert {exporter.poll().outcome for _ in range(40)} == {"success"}
    audited_at = exporter.scrape().sum("late_exporter_audit_last_completed_timestamp_seconds")
    assert audited_at > world.clock.now - HOUR
    assert exporter.scrape().sum("late_exporter_audit_missing_logs") == 0


def test_a_row_that_is_too_large_alone_is_skipped(world: World, start: OpenExporter) -> None:
    """A single row beyond the limit of a response costs itself only."""
    api = FakeLateApi(world)
    exporter = start(api)
    ids = world.publish(150, over=DAY)
    fail_rows(api, ids[120], error=TOO_LARGE)
    assert outcomes(exporter, 3) == {"success": 3}
    assert statuses(exporter) == {"success": 149}
    assert exporter.scrape().sum("late_exporter_unreadable_rows_total") == 1

"""The last failed attempts of platforms and accounts, which the status page lists."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from late_exporter.health import Failure
from late_exporter.ingest.recent_attempts import MAX_ACCOUNT_FAILURES, MAX_ERROR_LENGTH, MAX_FAILURES
from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, MINUTE
from tests.support.late_api import FakeLateApi
from tests.support.world import World

FAILED: dict[str, Any] = {
    "status": "failed", "statusCode": 401, "accountId": "a1", "accountUsername": "@acme", "postId": "p1",
    "response": {"errorCode": "TOKEN_EXPIRED", "errorMessage": "The token has expired"},
    "zernio": {"error_message": "The token has expired"},
}  # fmt: skip


def fail(world: World, age: float = 0.0, **fields: Any) -> str:
    """Add a failed attempt of an age in seconds; return its id."""
    return world.insert(world.clock.now - age, **(FAILED | fields))


@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_failures_outlive_the_process(generation: str, world: World, open_exporter: OpenExporter) -> None:
    """Failures of before and after the first sync are there after a restart, before the first poll, and once each."""
    exporter = open_exporter(FakeLateApi(world, generation=generation))
    started_at = world.clock.now
    fail(world, 3 * DAY, platform="instagram")
    world.publish(250, over=DAY)
    exporter.poll()
    fail(world, 10, platform="instagram", accountId="a2")
    fail(world, action="media_upload")
    pending = fail(world, status="pending", platform="x")
    exporter.poll_repeatedly(3)
    world.change(pending, "failed")
    exporter.poll_repeatedly(3)
    exporter.restart()
    assert [(each.platform, each.account_id) for each in exporter.failures] == [
        ("x", "a1"),
        ("instagram", "a2"),
        ("instagram", "a1"),
    ]
    oldest = exporter.failures[-1]
    assert oldest == Failure(
        key=oldest.key,
        time=started_at - 3 * DAY,
        platform="instagram",
        account_id="a1",
        username="@acme",
        post_id="p1",
        error="TOKEN_EXPIRED, HTTP 401: The token has expired",
    )


def test_failures_are_bounded(world: World, open_exporter: OpenExporter) -> None:
    """An account has its last failures, and so has the workspace, with the beginnings of their errors."""
    for number in range(2 * MAX_FAILURES):
        fail(world, MINUTE * (100 + number), accountId=f"b{number}", response={"errorMessage": "E" * 900})
    for number in range(30):
        fail(world, MINUTE * number, accountId=f"a{number % 2 + 1}")
    exporter = open_exporter(FakeLateApi(world))
    exporter.poll()
    failures = exporter.failures
    assert len(failures) == MAX_FAILURES
    assert len(failures[-1].error) == MAX_ERROR_LENGTH
    fail(world)
    for _ in range(10):
        fail(world, MINUTE / 2)
    exporter.poll()
    counts = Counter(each.account_id for each in exporter.failures)
    assert {each: counts[each] for each in ("a1", "a2")} == {"a1": MAX_ACCOUNT_FAILURES, "a2": 15}
    assert exporter.failures[0].time == world.clock.now


def test_failures_expire_with_their_logs(world: World, open_exporter: OpenExporter) -> None:
    """What the API has dropped is not listed for ever."""
    fail(world)
    exporter = open_exporter(FakeLateApi(world))
    exporter.poll()
    assert len(exporter.failures) == 1
    exporter.clock.advance(9 * DAY)
    world.publish(1)
    exporter.poll()
    assert not exporter.failures

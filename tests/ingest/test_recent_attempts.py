"""What the status page shows of attempts: the last failed ones, and numbers of the last hour."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from late_exporter.health import Failure, PlatformHealth, RecentCounts
from late_exporter.ingest.recent_attempts import (
    MAX_ACCOUNT_FAILURES,
    MAX_COUNTS,
    MAX_ERROR_LENGTH,
    MAX_FAILURES,
    SLOT_SECONDS,
    RecentAttempts,
)
from late_exporter.model import LogEntry
from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR, MINUTE
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


# Attempts of the last hour

NOW = 1_800_000_000.0 + 42.0
CAUGHT_UP_AT = int((NOW - 60) * 1000)


def log(age: float = 0.0, status: str = "success", action: str = "publish", platform: str = "x") -> LogEntry:
    """Return a log of an age in seconds."""
    return LogEntry(
        key=f"{age}{status}", status=status, created=int((NOW - age) * 1000), platform=platform, action=action
    )


def counted(*entries: LogEntry) -> RecentAttempts:
    """Return the attempts after some logs were counted."""
    attempts = RecentAttempts(0)
    attempts.add(entries, NOW)
    return attempts


def test_only_final_attempts_of_the_last_hour_count() -> None:
    """Pending logs, other actions and older logs are left out, whenever they are recorded."""
    attempts = counted(
        log(10), log(10, "failed"), log(3500, "skipped"), log(20, action="retry"), log(7300, "failed"),
        log(10, "pending"), log(10, "failed", "media_upload"), log(-100, "failed"),
    )  # fmt: skip
    assert attempts.counts("x", NOW) == RecentCounts(failed=2, final=5)
    assert attempts.counts("y", NOW) == RecentCounts()


def test_counts_leave_the_window() -> None:
    """An attempt is gone when it is more than an hour old, give or take one slot, without any further log."""
    attempts = counted(log(0, "failed"), log(1800))
    assert attempts.counts("x", NOW + HOUR - 1800 - 1) == RecentCounts(1, 2)
    assert attempts.counts("x", NOW + HOUR - 1800 + SLOT_SECONDS) == RecentCounts(1, 1)
    assert attempts.counts("x", NOW + HOUR + SLOT_SECONDS) == RecentCounts()


@pytest.mark.parametrize(
    ("is_failing", "failed", "succeeded", "age"),
    [(True, 11, 9, 0), (False, 10, 10, 0), (False, 10, 9, 0), (True, 11, 9, 1500), (True, 11, 9, 2400)],
)
def test_a_platform_fails(failed: int, succeeded: int, age: float, *, is_failing: bool) -> None:
    """A platform fails if more than half of at least 20 attempts of half an hour failed, or else of an hour."""
    attempts = counted(*[log(age, "failed")] * failed, *[log(age)] * succeeded)
    assert is_failing == attempts.counts("x", NOW).is_failing


def test_a_platform_that_works_again() -> None:
    """Failures of the hour do not count once the last half hour has enough attempts to judge by."""
    attempts = counted(*[log(2400, "failed")] * 90, *[log()] * 19)
    assert attempts.counts("x", NOW).is_failing
    attempts.add([log()], NOW)
    assert not attempts.counts("x", NOW).is_failing


def test_platforms_are_bounded() -> None:
    """However many platforms the API names, only some of them are kept."""
    names = [f"p{number}" for number in range(2 * MAX_COUNTS)]
    attempts = counted(*(log(platform=name) for name in names))
    assert sum(attempts.counts(name, NOW).final for name in names[::100]) == MAX_COUNTS / 100
    attempts.add([log(-2 * HOUR, platform="late")], NOW + 2 * HOUR)
    assert attempts.counts("late", NOW + 2 * HOUR).final == 1


def test_known_since() -> None:
    """A first sync knows the whole hour; later on a process knows what came after the last poll of the one before."""
    assert RecentAttempts(0).known_since(NOW) == NOW - HOUR
    assert pytest.approx(RecentAttempts(CAUGHT_UP_AT).known_since(NOW)) == NOW - 60
    assert RecentAttempts(CAUGHT_UP_AT).known_since(NOW + 2 * HOUR) == NOW + HOUR


def test_attempts_of_a_day() -> None:
    """They are counted once a whole day is known, and leave the count after a day."""
    attempts = counted(log(10), log(20 * HOUR, "failed"), log(30 * HOUR))
    assert attempts.per_day((), NOW) == 2
    assert attempts.per_day((), NOW + 5 * HOUR) == 1


def test_attempts_of_a_day_after_a_restart() -> None:
    """Until then, the counters tell how many an average day has."""
    attempts = RecentAttempts(CAUGHT_UP_AT)
    platforms = (
        PlatformHealth(name="x", counted_since=NOW - 10 * DAY, final=300),
        PlatformHealth(name="y", counted_since=NOW - 2 * DAY, final=100),
    )
    assert attempts.per_day(platforms, NOW) == 40


@pytest.mark.parametrize(("failed", "age", "is_failing"), [(19, 0, False), (20, 0, True), (20, 1800, False)])
def test_a_budget_that_is_soon_used_up(failed: int, age: float, *, is_failing: bool) -> None:
    """At least twenty failures burn it, as long as they go on."""
    attempts = counted(*[log(age, "failed")] * failed, *[log()] * 20)
    assert attempts.other_counts(NOW) == RecentCounts(failed, failed + 20, is_failing)

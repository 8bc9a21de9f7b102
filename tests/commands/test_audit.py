from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from late_exporter.commands.audit import AuditReport, Difference, audit_feed, render_text
from late_exporter.errors import ConfigError
from late_exporter.format import iso_time
from late_exporter.model import Scope
from late_exporter.store.snapshot import open_snapshot
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi, unauthorized, unavailable
from tests.support.oracle import created_at
from tests.support.steps import drive
from tests.support.store import execute
from tests.support.world import World

SCOPE = Scope("default", "publishing")


@pytest.fixture
def world() -> World:
    """Return a world with the logs of some days."""
    world = World(VirtualClock())
    world.publish(250, over=5 * DAY)
    return world


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the state."""
    return tmp_path / "state.db"


@pytest.fixture
def exporter(world: World, path: Path) -> Iterator[InsideHarness]:
    """Return an exporter that has counted them."""
    with closing(InsideHarness(FakeLateApi(world), path)) as exporter:
        exporter.settle()
        yield exporter


def audit(exporter: InsideHarness, path: Path, *, since: float | None = None, scope: Scope = SCOPE) -> AuditReport:
    """Return the report of the command beside an exporter."""
    exporter.api.configured_generation = "auto"
    report = audit_feed(
        scope,
        exporter.api,
        partial(open_snapshot, f"sqlite:///{path}"),
        since=since,
        clock=exporter.clock.time,
    )
    return drive(report)


def lose(path: Path, key: str) -> None:
    """Delete a log from the state."""
    assert execute(f"sqlite:///{path}", f"DELETE FROM late_log WHERE key = '{key}' RETURNING key") == [(key,)]  # noqa: S608


def test_a_healthy_state_has_no_difference(exporter: InsideHarness, world: World, path: Path) -> None:
    """Deleted logs are no difference, nor are those that were younger than 20 minutes at the last poll."""
    world.delete(*world.ids[10:13])
    exporter.poll()
    polled_at = world.clock.now
    world.insert(polled_at - 15 * MINUTE)
    world.publish(2, over=5)
    world.clock.advance(3 * HOUR)
    report = audit(exporter, path)
    assert report.ok
    assert report.logs == sum(created_at(row) <= polled_at - 20 * MINUTE for row in world.rows)
    assert report.until == iso_time((polled_at - 20 * MINUTE) * 1000)


def test_uncounted_logs_are_differences(exporter: InsideHarness, world: World, path: Path) -> None:
    lost = world.ids[100]
    lose(path, lost)
    exporter.poll()
    report = audit(exporter, path)
    assert [difference.id for difference in report.differences] == [lost]
    assert not report.ok


def test_since_limits_the_audit(exporter: InsideHarness, world: World, path: Path) -> None:
    """Older logs are neither compared nor requested; it is at most what the API keeps."""
    exporter.poll()
    lose(path, world.ids[200])
    expected = sum(created_at(row) >= world.clock.now - 4 * DAY for row in world.rows)
    count = len(exporter.api.requests)
    report = audit(exporter, path, since=4 * DAY)
    assert (expected, 2) == (report.logs, len(exporter.api.requests) - count)
    assert 0 < expected < len(world.rows) / 2
    assert tuple(report.differences) == ()
    with pytest.raises(ConfigError, match="--since: must be at most 7d, because generation late of the API"):
        audit(exporter, path, since=7 * DAY + 1)
    assert iso_time((world.clock.now - 4 * DAY) * 1000)[:18] == report.since[:18]


def test_a_feed_without_a_complete_sync_cannot_be_audited(exporter: InsideHarness, path: Path, world: World) -> None:
    """A feed that was never read, or only in part, is reported as an error."""
    report = audit(exporter, path, scope=Scope("default", "connections"))
    assert (report.error, report.ok) == ("nothing has been counted yet", False)
    beside = path.with_name("other.db")
    with closing(InsideHarness(FakeLateApi(world), beside)) as other:
        other.api.fail_request(1, unavailable)
        other.poll()
        report = audit(other, beside)
    assert (report.error, report.ok) == ("the first sync is not complete, so there is nothing to compare yet", False)


@pytest.mark.parametrize("number", [0, 1])
def test_a_failed_request_ends_the_audit(exporter: InsideHarness, path: Path, number: int) -> None:
    """An audit that cannot be completed is not ok."""
    exporter.api.fail_request(number, unauthorized)
    report = audit(exporter, path)
    assert (report.error[:29], report.ok) == ("401: the API key was rejected", False)


def test_only_newer_logs_are_compared_after_a_switch(world: World, path: Path) -> None:
    """Logs that were counted from the other list are not missing, and equal logs are numbered as when counted."""
    with closing(InsideHarness(FakeLateApi(world), path, generation="auto")) as exporter:
        exporter.poll()
        exporter.generation = exporter.api.generation = "zernio"
        assert audit(exporter, path).error == "404: the API has no /v1/posts/logs"
        exporter.restart()
        world.clock.advance(HOUR)
        for _ in range(3):
            world.insert(world.clock.now - MINUTE, zernio={"request_id": "r1"})
        exporter.poll_repeatedly(3)
        world.clock.advance(HOUR)
        exporter.poll()
        report = audit(exporter, path)
    assert report.ok
    assert report.logs == 3


# What is printed.

REPORT = AuditReport(
    workspace="brand",
    feed="publishing",
    since="2026-11-18T10:06:40Z",
    until="2026-11-25T08:46:40Z",
    logs=35_012,
    differences=[
        Difference("65f1", "2026-11-24T06:00:00Z", "tiktok", "publish", "failed", []),
        Difference("!ab", "2026-11-24T06:00:00Z", "instagram", "retry", "success", ["failed", "pending"]),
    ],
)
TEXT = """\
brand publishing: 2 differences
  35,012 logs from 2026-11-18T10:06:40Z to 2026-11-25T08:46:40Z compared
  2026-11-24T06:00:00Z  tiktok  publish  failed, not counted: 65f1
  2026-11-24T06:00:00Z  instagram  retry  success, counted as failed, pending: !ab
  The next scan of a running exporter should count them; audit again after it.
"""


def test_text() -> None:
    """Each difference has a line with id, time and both statuses."""
    assert list(render_text([REPORT])) == TEXT.splitlines()

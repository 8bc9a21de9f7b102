from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from late_exporter.api.generation import ApiGeneration
from late_exporter.commands.audit.comparison import Difference
from late_exporter.commands.audit.report import AuditReport, render_json, render_text
from late_exporter.commands.audit.run import AuditRunner, Timing
from late_exporter.commands.feed_choice import recorded_feed
from late_exporter.errors import StoreError, Unauthorized
from late_exporter.ingest.accounting import CounterMismatch
from late_exporter.ingest.schedule import PollConfig
from late_exporter.model import LogEntry, Scope
from late_exporter.protocols import ApiResponse
from late_exporter.store.records import FeedAccounting
from late_exporter.store.snapshot import Snapshot
from tests.support.clock import DAY, HOUR, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi, unavailable
from tests.support.loggers import NullLogger
from tests.support.oracle import created_at
from tests.support.steps import drive
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


class AuditHarness:
    """The command beside an exporter, with a callback that runs whenever the command waits."""

    def __init__(
        self,
        exporter: InsideHarness,
        path: Path,
        on_wait: Callable[[], object] = list,
        on_page: Callable[[int, int, int], object] = lambda *_: None,
    ) -> None:
        self.clock = exporter.clock
        self.api = exporter.api
        self.path = path
        self.on_wait = on_wait
        self.on_page = on_page
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Advance the clock, and let the exporter work."""
        self.pauses.append(seconds)
        self.clock.advance(seconds)
        self.on_wait()

    def run(self, *, since: float | None = None, wait: float = 120.0, scope: Scope = SCOPE) -> AuditReport:
        """Return the report of the command."""
        generation = ApiGeneration("auto", logger=NullLogger())
        runner = AuditRunner(
            scope,
            lambda coverage: recorded_feed(scope.feed, generation, self.api, coverage),
            client=self.api,
            open_snapshot=partial(Snapshot, f"sqlite:///{self.path}"),
            interval=30.0,
            wait=wait,
            logger=NullLogger(),
            timing=Timing(self.clock.time, self.clock.monotonic, self.sleep),
        )
        runner.on_page = self.on_page
        return drive(runner.run(since))


def lose(path: Path, key: str) -> None:
    """Delete a log from the state."""
    with closing(sqlite3.connect(path)) as connection:
        assert 1 == connection.execute("DELETE FROM late_log WHERE key = ?", (key,)).rowcount
        connection.commit()


def test_a_healthy_state_has_no_difference(exporter: InsideHarness, world: World, path: Path) -> None:
    """Deleted and recent logs are reported beside a running exporter."""
    world.delete(*world.ids[10:13])
    world.clock.advance(30)
    exporter.poll()
    world.publish(2, over=5)
    report = AuditHarness(exporter, path).run()
    assert report.ok
    assert (True, 247, 2, 3, 3) == (report.polled, report.logs, report.too_recent, report.deleted, report.requests)
    assert (250, 250, 0) == (
        report.accounting.observation_count,
        report.accounting.stored_count,
        report.accounting.pruned_count,
    )
    assert report.until == pytest.approx((world.clock.now - 90) * 1000, abs=5000)


def test_logs_counted_during_the_wait_are_not_differences(exporter: InsideHarness, world: World, path: Path) -> None:
    """The audit waits for suspects, and no longer than necessary."""
    exporter.poll()
    world.insert(world.clock.now - 2 * DAY)
    harness = AuditHarness(exporter, path, exporter.poll)
    report = harness.run()
    assert (True, False, [5.0]) == (report.ok, report.reconciled, harness.pauses)


def test_logs_that_stay_uncounted_are_differences(exporter: InsideHarness, world: World, path: Path) -> None:
    """They are reported after the wait, or at once if there is none."""
    lost = world.ids[100]
    lose(path, lost)
    exporter.poll()
    for wait, slept in ((12.0, [5.0, 5.0, 2.0]), (0.0, [])):
        harness = AuditHarness(exporter, path)
        report = harness.run(wait=wait)
        assert slept == harness.pauses
        assert [lost] == [difference.entry.key for difference in report.differences]
        assert [CounterMismatch("", 250, 249)] == report.mismatches
        assert not report.ok
        assert not report.reconciled


def test_a_complete_reconciliation_ends_the_wait(
    exporter: InsideHarness, world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting longer would not help if a reconciliation did not count a log."""
    lost = world.ids[100]
    lose(path, lost)
    exporter.poll()
    lookup = exporter.store.lookup

    def lookup_all(scope: Scope, keys: Sequence[str]) -> Any:
        return {**lookup(scope, keys), lost: frozenset({"success"})}

    monkeypatch.setattr(exporter.store, "lookup", lookup_all)
    harness = AuditHarness(exporter, path, exporter.settle)
    report = harness.run(wait=3600.0)
    assert ([5.0], True) == (harness.pauses, report.reconciled)
    assert [lost] == [difference.entry.key for difference in report.differences]


def test_without_an_exporter_only_older_logs_are_compared(exporter: InsideHarness, world: World, path: Path) -> None:
    """Logs that arrived after its last poll are left out, and nothing is waited for."""
    (pending_id,) = world.publish(1, status="pending")
    exporter.poll()
    world.clock.advance(3 * HOUR)
    world.publish(120, over=2 * HOUR)
    world.insert(world.clock.now - 3.5 * HOUR)
    world.change(pending_id, "success")
    harness = AuditHarness(exporter, path)
    report = harness.run()
    assert report.ok
    assert (False, [], 122) == (report.polled, harness.pauses, report.too_recent)
    lose(path, world.ids[200])
    assert not harness.run().ok
    assert [] == harness.pauses


def test_since_limits_the_audit(exporter: InsideHarness, world: World, path: Path) -> None:
    """Older logs are neither compared nor requested."""
    exporter.poll()
    lose(path, world.ids[200])
    expected = sum(created_at(row) >= world.clock.now - 4 * DAY for row in world.rows)
    report = AuditHarness(exporter, path).run(since=4 * DAY)
    assert (expected, 2) == (report.logs, report.requests)
    assert 0 < expected < len(world.rows) / 2
    assert [] == report.differences
    assert report.since == pytest.approx((world.clock.now - 4 * DAY) * 1000, abs=2000)


def test_a_feed_without_a_complete_sync_cannot_be_audited(exporter: InsideHarness, path: Path, world: World) -> None:
    """A feed that was never read, or only in part, is reported as an error."""
    report = AuditHarness(exporter, path).run(scope=Scope("default", "connections"))
    assert ("nothing has been counted yet", False) == (report.error, report.ok)
    beside = path.with_name("other.db")
    with closing(InsideHarness(FakeLateApi(world), beside, config=PollConfig())) as other:
        other.api.fail_request(1, unavailable)
        other.poll()
        report = AuditHarness(other, beside).run()
    assert ("the first sync is not complete, so there is nothing to compare yet", False) == (report.error, report.ok)
    with pytest.raises(StoreError, match="there is no state"):
        AuditHarness(exporter, path.with_name("none.db")).run()


def _refuse(*_: Any) -> bytes:
    raise Unauthorized("401: the key was refused")


@pytest.mark.parametrize("number", [1, 3])
def test_a_failed_request_ends_the_audit(exporter: InsideHarness, path: Path, number: int) -> None:
    """An audit that cannot be completed is not ok."""
    exporter.api.fail_request(number, _refuse)
    report = AuditHarness(exporter, path).run()
    assert ("401: the key was refused", False) == (report.error, report.ok)


def test_a_missing_endpoint_is_an_error(exporter: InsideHarness, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 404 is not an empty list."""

    async def get(path: str, params: Mapping[str, str | int], *, path_template: str) -> ApiResponse | None:
        assert path == path_template
        return ApiResponse(b'{"logs": []}', None) if path == "/v1/posts/logs" and params["limit"] == 1 else None

    monkeypatch.setattr(exporter.api, "get", get)
    assert "404: the API has no /v1/posts/logs" == AuditHarness(exporter, path).run().error


def test_logs_without_ids_are_compared(world: World, path: Path) -> None:
    """Equal logs are numbered as the exporter numbers them."""
    world.publish(3, status="pending")
    for _ in range(3):
        world.insert(world.clock.now - DAY, postId="p1")
    late = FakeLateApi(world)
    late.set_generation("zernio")
    with closing(InsideHarness(late, path, generation="auto")) as exporter:
        exporter.settle()
        exporter.poll()
        report = AuditHarness(exporter, path).run()
        assert report.ok
        assert (256, 0, 0) == (report.logs + report.too_recent, report.deleted, report.in_gap)
        lost = next(key for key, _ in exporter.observations if int(key[:13]) < (world.clock.now - DAY) * 1000)
        lose(path, lost)
        report = AuditHarness(exporter, path).run(wait=0.0)
        assert [lost] == [difference.entry.key for difference in report.differences]


def test_only_newer_logs_are_compared_after_a_switch(world: World, path: Path) -> None:
    """Logs that were counted from the other list are neither missing nor deleted."""
    with closing(InsideHarness(FakeLateApi(world), path, generation="auto")) as exporter:
        exporter.poll()
        exporter.restart()
        exporter.api.generation = "zernio"
        world.clock.advance(HOUR)
        world.publish(5, over=HOUR / 2)
        exporter.poll_repeatedly(3)
        world.clock.advance(HOUR)
        exporter.poll()
        report = AuditHarness(exporter, path).run()
    assert report.ok
    assert (5, 0) == (report.logs, report.deleted)


def test_a_log_that_settled_before_it_was_recorded_is_no_difference(
    exporter: InsideHarness, world: World, path: Path
) -> None:
    """The list had it as pending when it was compared."""
    exporter.poll()
    pending_id = world.insert(world.clock.now - DAY, status="pending")

    def settle() -> None:
        world.change(pending_id, "failed")
        exporter.settle()

    assert AuditHarness(exporter, path, settle).run().ok


# What is printed.

REPORT = AuditReport(
    workspace="brand",
    feed="publishing",
    since=1_795_000_000_000,
    until=1_795_600_000_000,
    polled=True,
    logs=35_012,
    requests=358,
    seconds=41.23,
    accounting=FeedAccounting(observation_count=36_120, stored_count=35_420, pruned_count=700, series_values={}),
)
ENTRY = LogEntry(key="65f1", status="failed", created=1_795_500_000_000, platform="tiktok", action="publish")


def report_with(**changes: Any) -> AuditReport:
    """Return the report with other fields."""
    return AuditReport(**{name: changes.get(name, getattr(REPORT, name)) for name in REPORT.__struct_fields__})


def test_text_lists_differences() -> None:
    """Each difference has a line with id, time and both statuses."""
    settled = LogEntry(key="!ab", status="success", platform="instagram", action="retry")
    report = report_with(
        differences=[Difference(ENTRY, frozenset()), Difference(settled, frozenset({"pending", "failed"}))],
        mismatches=[
            CounterMismatch("late_publishing_logs_total", 36_120, 36_122),
            CounterMismatch("late_publishing_retries_total", 12, 11),
            CounterMismatch("", 36_120, 36_119),
            CounterMismatch("", 36_120, 36_125),
        ],
        too_recent=1,
        in_gap=2,
        deleted=1200,
    )
    lines = list(render_text([report]))
    assert "brand publishing: 6 differences" == lines[0]
    assert [
        "  2 logs in a gap that the exporter will read",
        "  1 log too recent to compare",
        "  1,200 stored logs deleted by the API",
        "  missing  2026-11-24T06:00:00Z  tiktok     publish  failed   not counted                 65f1",
        "  status   -                     instagram  retry    success  counted as failed, pending  !ab",
        "  The next reconciliation should count them; audit again after it, or with a longer --wait.",
        "  late_publishing_logs_total is 36,122, 2 more than counted. Logs were counted twice.",
        "  late_publishing_retries_total is 11, 1 fewer than counted. Logs are missing in this metric.",
        "  36,119 logs stored or pruned, 1 fewer than counted. Missing records would be counted again.",
        "  36,125 logs stored or pruned, 5 more than counted. These logs were never counted.",
    ] == lines[3:]


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"reconciled": True}, "this is a bug, please report it"),
        ({"polled": False}, "once it runs"),
        ({}, "audit again"),
    ],
)
def test_text_has_a_hint(changes: dict[str, Any], hint: str) -> None:
    """The hint depends on whether a reconciliation completed, and whether an exporter is polling."""
    lines = list(render_text([report_with(differences=[Difference(ENTRY, frozenset())], **changes)]))
    assert "brand publishing: 1 difference" == lines[0]
    assert hint in lines[-1]
    assert ("no exporter is polling" in "".join(lines)) == (changes.get("polled") is False)


def test_text_lists_at_most_fifty_differences() -> None:
    """The number of further differences is given."""
    lines = list(render_text([report_with(differences=[Difference(ENTRY, frozenset())] * 1300)]))
    assert 50 == sum("missing" in line for line in lines)
    assert "  and 1,250 more; use --format json to list them all" in lines


def test_json_lists_all_differences() -> None:
    """One object has all reports."""
    report = report_with(
        differences=[Difference(ENTRY, frozenset({"pending"}))],
        mismatches=[CounterMismatch("", 5, 4), CounterMismatch("x", 5, 7)],
    )
    read = json.loads(render_json([REPORT, report]))
    assert (False, 1, 3, 2) == (read["ok"], read["missing"], read["extra"], len(read["feeds"]))
    good, bad = read["feeds"]
    assert (True, [], []) == (good["ok"], good["differences"], good["imbalances"])
    assert [
        {
            "kind": "status",
            "id": "65f1",
            "created": "2026-11-24T06:00:00Z",
            "platform": "tiktok",
            "action": "publish",
            "status": "failed",
            "counted": ["pending"],
        }
    ] == bad["differences"]
    mismatches = [{"metric": "records", "expected": 5, "found": 4}, {"metric": "x", "expected": 5, "found": 7}]
    assert mismatches == bad["imbalances"]
    assert {"workspace", "feed", "error", "since", "until", "polled", "reconciled", "logs", "requests", "seconds"} <= {
        *bad
    }


def test_progress(exporter: InsideHarness, world: World, path: Path) -> None:
    """After each request the command knows how much of the list it has read, also if it pages by time."""
    world.publish(250, over=DAY)
    exporter.poll()
    pages: list[tuple[int, int, int]] = []
    AuditHarness(exporter, path, on_page=lambda *page: pages.append(page)).run()
    assert [(100, 500, 1), (200, 500, 2)] == pages[:2]
    assert pages[-1][0] >= 500

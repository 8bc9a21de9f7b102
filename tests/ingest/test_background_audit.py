from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from late_exporter.errors import ApiUnavailable, BadPayload
from late_exporter.feeds import FEEDS
from late_exporter.ingest.background_audit import BackgroundAuditor
from late_exporter.ingest.poller import PollConfig
from late_exporter.ingest.steps import FetchedPage, FetchPage, ReconcileScan
from late_exporter.model import (
    Batch,
    CommitResult,
    Coverage,
    FeedAccounting,
    KnownLogs,
    LogEntry,
    LogPage,
    Scope,
    SetLatest,
)
from tests.support.worlds import DAY, MINUTE, ExporterHarness, FakeLateApi, ListQuirks, VirtualClock, World, unavailable

SCOPE = Scope("default", "publishing")
MISSING, EXTRA = "late_exporter_audit_missing_logs", "late_exporter_audit_extra_logs"
LAST = "late_exporter_audit_last_completed_timestamp_seconds"
AUDITED = PollConfig(audit_interval=DAY)


@pytest.fixture
def world() -> World:
    """A key with the logs of some days."""
    world = World(VirtualClock())
    world.publish(850, over=5 * DAY)
    return world


@pytest.fixture
def late(world: World) -> FakeLateApi:
    """The API of that key."""
    return FakeLateApi(world)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the state is."""
    return tmp_path / "state.db"


@pytest.fixture
def exporter(late: FakeLateApi, path: Path) -> Iterator[ExporterHarness]:
    """An exporter that audits once a day, and has come through its first reconcile walk."""
    with closing(ExporterHarness(late, path, config=AUDITED)) as exporter:
        exporter.settle()
        yield exporter


def audits(exporter: ExporterHarness, polls: int = 60, every: float = 30.0) -> None:
    """Some polls, each with a stretch of an audit, and the poll that saves what came of them."""
    for _ in range(polls):
        exporter.clock.advance(every)
        exporter.audit()
    exporter.clock.advance(every)
    exporter.poll()


def found(exporter: ExporterHarness) -> dict[str, float]:
    """What the last audit has found, as it is scraped."""
    scrape = exporter.scrape()
    return {
        name: value for (name, _), value in scrape.items() if name.startswith("late_exporter_audit_") and name != LAST
    }


def test_a_healthy_exporter(exporter: ExporterHarness, world: World) -> None:
    """An audit is some pages after each poll; it finds nothing, says when it ended, and rests for a day."""
    assert {} == found(exporter)
    audits(exporter, polls=1)
    assert {} == found(exporter)
    audits(exporter, polls=3)
    assert {MISSING: 0, EXTRA: 0} == found(exporter)
    ended = exporter.scrape().sum(LAST)
    assert world.clock.now - 5 * MINUTE < ended <= world.clock.now
    audits(exporter, polls=10)
    assert ended == exporter.scrape().sum(LAST)
    world.clock.advance(DAY)
    audits(exporter, polls=5)
    assert world.clock.now - 5 * MINUTE < exporter.scrape().sum(LAST)


def test_it_takes_few_pages_at_a_time(exporter: ExporterHarness, late: FakeLateApi) -> None:
    """However long the list, an audit takes no more than two hundredths of the limit, and a page at least."""
    for limit, pages in ((600, 6), (60, 1)):
        late.rate_limit = limit
        asked = len(late.requests)
        turn = exporter.poll()
        polled = len(late.requests) - asked
        exporter.clock.advance(30)
        turn = exporter.audit()
        assert turn.error is None
        assert pages == len(late.requests) - asked - polled - 1


def test_the_first_one_begins_after_the_first_whole_walk(late: FakeLateApi, path: Path) -> None:
    """A start is busy enough, and what only the walk finds is no difference."""
    with closing(ExporterHarness(late, path, config=AUDITED)) as exporter:
        exporter.poll()
        for _ in range(3):
            asked = len(late.requests)
            exporter.clock.advance(30)
            exporter.audit()
            assert 1 == len(late.requests) - asked
        audits(exporter, polls=60)
        assert {MISSING: 0, EXTRA: 0} == found(exporter)


def test_an_interval_of_zero_is_no_audit(late: FakeLateApi, path: Path) -> None:
    """Who wants none has none."""
    with closing(ExporterHarness(late, path)) as exporter:
        exporter.settle()
        audits(exporter, polls=80)
        assert {} == found(exporter)


def test_a_log_that_is_never_counted(exporter: ExporterHarness, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that polls and walks read and the state swallows is missing, and no more once it is counted."""
    honest = exporter.store.commit
    lost = world.insert(world.clock.now - 2 * DAY)

    def commit(scope: Scope, batch: Batch) -> CommitResult:
        kept = [sighting for sighting in batch.observations if sighting.entry.key != lost]
        return honest(scope, msgspec.structs.replace(batch, observations=kept))

    monkeypatch.setattr(exporter.store, "commit", commit)
    audits(exporter, polls=60)
    assert {MISSING: 1, EXTRA: 0} == found(exporter)
    monkeypatch.setattr(exporter.store, "commit", honest)
    exporter.settle()
    world.clock.advance(DAY)
    audits(exporter, polls=60)
    assert {MISSING: 0, EXTRA: 0} == found(exporter)


def test_a_count_too_many(exporter: ExporterHarness, path: Path) -> None:
    """A total that says more than was counted is extra."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE series SET value = CAST(CAST(CAST(value AS TEXT) + 3 AS TEXT) AS BLOB)"
            " WHERE family = 'late_publishing_logs_total' AND labels LIKE '%success%' AND value > x'31'"
        )
        connection.commit()
    audits(exporter, polls=5)
    assert {MISSING: 0, EXTRA: 3} == found(exporter)


def test_what_comes_late_is_no_difference(exporter: ExporterHarness, world: World) -> None:
    """A log that is written days late while the audit is under way is counted by a walk before it is judged."""
    exporter.clock.advance(30)
    exporter.audit()
    late_one = world.insert(world.clock.now - 4.9 * DAY)
    world.delete_top(1)
    audits(exporter, polls=2)
    assert {} == found(exporter)
    audits(exporter, polls=60)
    assert {MISSING: 0, EXTRA: 0} == found(exporter)
    assert late_one in {log_id for log_id, _ in exporter.observations}


def test_faults_only_delay_it(exporter: ExporterHarness, late: FakeLateApi) -> None:
    """A request of an audit that fails is made again after the next poll."""
    for _ in range(4):
        exporter.clock.advance(30)
        late.fail_request(1, unavailable)
        late.fail_request(3, unavailable)
        exporter.audit()
        late.clear_events()
    audits(exporter, polls=4)
    assert {MISSING: 0, EXTRA: 0} == found(exporter)


def test_a_restart_begins_it_anew_but_not_sooner(exporter: ExporterHarness, world: World, late: FakeLateApi) -> None:
    """What an audit had looked at is forgotten; when one last ended, and what it found, is not."""
    exporter.clock.advance(30)
    exporter.audit()
    exporter.restart()
    exporter.settle()
    audits(exporter, polls=5)
    ended = exporter.scrape().sum(LAST)
    exporter.restart()
    assert (ended, {MISSING: 0, EXTRA: 0}) == (exporter.scrape().sum(LAST), found(exporter))
    exporter.settle()
    asked = len(late.requests)
    exporter.audit()
    assert 2 >= len(late.requests) - asked
    world.clock.advance(DAY)
    audits(exporter, polls=5)
    assert ended < exporter.scrape().sum(LAST)


@pytest.mark.parametrize("reason", ["error", "throttled"])
def test_it_makes_way(
    exporter: ExporterHarness, late: FakeLateApi, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """After a poll that failed, or that had to wait for the quota, there is no audit."""
    exporter.clock.advance(30)
    if reason == "error":
        late.fail_request(0, unavailable)
    else:
        monkeypatch.setattr(late, "pop_request_log", lambda: ((), 2.5))
    asked = len(late.requests)
    exporter.audit()
    assert 1 == len(late.requests) - asked


def test_a_list_that_cannot_be_read_to_its_end(exporter: ExporterHarness, late: FakeLateApi, world: World) -> None:
    """An audit that finds no end is given up, and tried again after the interval."""
    exporter.clock.advance(30)
    exporter.audit()
    late.quirks = ListQuirks(ignores_skip=True)
    audits(exporter, polls=20)
    assert {} == found(exporter)
    late.quirks = ListQuirks()
    audits(exporter, polls=5)
    assert {} == found(exporter)
    world.clock.advance(DAY)
    exporter.settle()
    audits(exporter, polls=5)
    assert {MISSING: 0, EXTRA: 0} == found(exporter)


class Diary:
    """What was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        """Take note."""
        self.lines.append((event, fields))

    debug = warning = info


COVERAGE = Coverage(retention_floor=0, complete_since=0, caught_up_at=10_000_000, is_synced=True)
ENTRY = LogEntry(key="a", status="success", created=1)


class Desk:
    """An inspector, and what it is given."""

    def __init__(self, *pages: FetchedPage | Exception) -> None:
        self.pages = list(pages)
        self.asked: list[FetchPage] = []
        self.log = Diary()
        self.inspector = BackgroundAuditor(
            SCOPE, FEEDS["publishing"], fetch_page=self.look, read_accounting=self.tally, logger=self.log
        )

    async def look(self, step: FetchPage) -> FetchedPage:
        """The next page."""
        self.asked.append(step)
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page

    async def tally(self) -> FeedAccounting:
        """Books that are one short."""
        return FeedAccounting(observation_count=1, stored_count=0, pruned_count=0, series_values={})

    async def go_on(self, walk: ReconcileScan | None = None) -> dict[str, object]:
        """A stretch of two pages; what is to be shown."""
        shown = await self.inspector.advance(COVERAGE, walk, page_budget=2, grace_period=0, now=7.0)
        return {take.family: take.value for take in shown if isinstance(take, SetLatest)}


def page(*entries: LogEntry, **counted: str) -> FetchedPage:
    """The last page of a list, and what is known of its logs."""
    return FetchedPage(LogPage(entries), KnownLogs({key: frozenset({status}) for key, status in counted.items()}))


async def test_doubts_wait_for_a_walk_that_begins_after_them() -> None:
    """A walk that was under way when they were raised had passed some of them already."""
    desk, under_way = Desk(page(ENTRY), page(ENTRY)), ReconcileScan(started_at=1)
    assert {} == await desk.go_on(under_way)
    assert not desk.inspector.is_due(1e9, 1.0)
    desk.inspector.report_scan(under_way)
    assert not desk.inspector.is_due(1e9, 1.0)
    desk.inspector.report_scan(ReconcileScan(started_at=2))
    assert desk.inspector.is_due(1e9, 1.0)
    assert {MISSING: 2, EXTRA: 1, LAST: 7.0} == await desk.go_on()
    assert [
        ("audit found differences", {"missing": 2, "extra": 1}),
        ("log not counted", {"id": "a", "status": "success", "counted": "none"}),
        ("count is wrong", {"of": "late_publishing_logs_total", "expected": 1, "found": 0}),
        ("count is wrong", {"of": "logs on record", "expected": 1, "found": 0}),
    ] == desk.log.lines


async def test_a_page_that_fails_is_asked_for_again() -> None:
    """Whatever fails on the way, nothing is left out."""
    desk = Desk(ApiUnavailable("no"), BadPayload("odd"), page(ENTRY, a="success"))
    for failure in (ApiUnavailable, BadPayload):
        with pytest.raises(failure):
            await desk.go_on()
    assert {MISSING: 1, EXTRA: 1, LAST: 7.0} == await desk.go_on()
    assert [FetchPage(0)] * 3 == desk.asked

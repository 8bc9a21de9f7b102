from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from late_exporter.errors import ApiUnavailable, BadPayload, StoreError
from late_exporter.feeds import FEEDS
from late_exporter.ingest.audit import CounterMismatch, check_counters
from late_exporter.ingest.background_audit import BackgroundAuditor
from late_exporter.ingest.reader_state import ReconcileScan
from late_exporter.ingest.schedule import PollConfig
from late_exporter.ingest.steps import FetchedPage, FetchPage
from late_exporter.model import CommitResult, Coverage, FeedAccounting, FeedCommit, KnownLogs, LogEntry, LogPage, Scope
from late_exporter.series import SetCurrent
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi, unavailable
from tests.support.loggers import RecordingLogger
from tests.support.steps import offload_in_steps
from tests.support.world import World

SCOPE = Scope("default", "publishing")
MISSING, EXTRA = "late_exporter_audit_missing_logs", "late_exporter_audit_extra_logs"
LAST = "late_exporter_audit_last_completed_timestamp_seconds"
AUDITED = PollConfig(audit_interval=DAY)


@pytest.fixture
def world() -> World:
    """Return a key with the logs of some days."""
    world = World(VirtualClock())
    world.publish(850, over=5 * DAY)
    return world


@pytest.fixture
def late(world: World) -> FakeLateApi:
    """Return the API of that key."""
    return FakeLateApi(world)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the database."""
    return tmp_path / "state.db"


@pytest.fixture
def exporter(late: FakeLateApi, path: Path) -> Iterator[InsideHarness]:
    """Return an exporter that audits once a day and has completed its first scan."""
    with closing(InsideHarness(late, path, config=AUDITED)) as exporter:
        exporter.settle()
        yield exporter


def run_polls(exporter: InsideHarness, polls: int = 60, every: float = 30.0) -> None:
    """Poll several times, each followed by some pages of an audit."""
    for _ in range(polls):
        exporter.clock.advance(every)
        exporter.audit()
    exporter.clock.advance(every)
    exporter.poll()


def audit_results(exporter: InsideHarness) -> dict[str, float]:
    """Return the exposed results of the last audit."""
    scrape = exporter.scrape()
    return {
        name: value for (name, _), value in scrape.items() if name.startswith("late_exporter_audit_") and name != LAST
    }


def test_a_healthy_exporter(exporter: InsideHarness, world: World) -> None:
    """An audit of some pages per poll finds nothing, reports its end, and is repeated a day later."""
    assert {} == audit_results(exporter)
    run_polls(exporter, polls=1)
    assert {} == audit_results(exporter)
    run_polls(exporter, polls=3)
    assert {MISSING: 0, EXTRA: 0} == audit_results(exporter)
    ended = exporter.scrape().sum(LAST)
    assert world.clock.now - 5 * MINUTE < ended <= world.clock.now
    run_polls(exporter, polls=10)
    assert ended == exporter.scrape().sum(LAST)
    world.clock.advance(DAY)
    run_polls(exporter, polls=5)
    assert world.clock.now - 5 * MINUTE < exporter.scrape().sum(LAST)


def test_counters_are_compared_in_the_thread_of_the_store(
    late: FakeLateApi, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop does not wait for it: a workspace may have hundreds of thousands of series."""
    thread_name, places = "event loop", list[str]()

    async def offload(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        def run() -> Any:
            nonlocal thread_name
            thread_name = "store"
            try:
                return call(*args, **keywords)
            finally:
                thread_name = "event loop"

        return await offload_in_steps(run)

    def check(*args: Any) -> list[CounterMismatch]:
        places.append(thread_name)
        return check_counters(*args)

    monkeypatch.setattr("tests.support.exporter.offload_in_steps", offload)
    monkeypatch.setattr("late_exporter.ingest.background_audit.check_counters", check)
    with closing(InsideHarness(late, path, config=AUDITED)) as exporter:
        exporter.settle()
        run_polls(exporter, polls=4)
    assert ["store"] == places


def test_page_budget(exporter: InsideHarness, late: FakeLateApi) -> None:
    """An audit uses at most two percent of the rate limit, but at least a page per poll."""
    for limit, pages in ((600, 6), (60, 1)):
        late.rate_limit = limit
        request_count = len(late.requests)
        result = exporter.poll()
        polled = len(late.requests) - request_count
        exporter.clock.advance(30)
        result = exporter.audit()
        assert result.error is None
        assert pages == len(late.requests) - request_count - polled - 1


def test_the_first_audit_starts_after_the_first_scan(late: FakeLateApi, path: Path) -> None:
    """Logs that only the first scan finds are no difference."""
    with closing(InsideHarness(late, path, config=AUDITED)) as exporter:
        exporter.poll()
        for _ in range(3):
            request_count = len(late.requests)
            exporter.clock.advance(30)
            exporter.audit()
            assert 1 == len(late.requests) - request_count
        run_polls(exporter, polls=60)
        assert {MISSING: 0, EXTRA: 0} == audit_results(exporter)


def test_an_interval_of_zero_disables_audits(late: FakeLateApi, path: Path) -> None:
    """No audit is started with an interval of 0."""
    with closing(InsideHarness(late, path)) as exporter:
        exporter.settle()
        run_polls(exporter, polls=80)
        assert {} == audit_results(exporter)


@pytest.mark.exhaustive
def test_a_log_that_is_never_counted(exporter: InsideHarness, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that the store swallows is missing until it is counted."""
    honest = exporter.store.commit_all
    lost = world.insert(world.clock.now - 2 * DAY)

    def commit_all(commits: Sequence[FeedCommit]) -> Sequence[CommitResult | StoreError]:
        kept = [[each for each in batch.observations if each.entry.key != lost] for _, batch in commits]
        return honest(
            [
                FeedCommit(scope, msgspec.structs.replace(batch, observations=observations))
                for (scope, batch), observations in zip(commits, kept, strict=True)
            ]
        )

    monkeypatch.setattr(exporter.store, "commit_all", commit_all)
    run_polls(exporter, polls=60)
    assert {MISSING: 1, EXTRA: 0} == audit_results(exporter)
    monkeypatch.setattr(exporter.store, "commit_all", honest)
    exporter.settle()
    world.clock.advance(DAY)
    run_polls(exporter, polls=60)
    assert {MISSING: 0, EXTRA: 0} == audit_results(exporter)


def test_extra_count(exporter: InsideHarness, path: Path) -> None:
    """A counter that is too high is extra."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE series SET value = CAST(CAST(CAST(value AS TEXT) + 3 AS TEXT) AS BLOB)"
            " WHERE family = 'late_publishing_logs_total' AND labels LIKE '%success%' AND value > x'31'"
        )
        connection.commit()
    run_polls(exporter, polls=5)
    assert {MISSING: 0, EXTRA: 3} == audit_results(exporter)


def test_late_logs_are_no_difference(exporter: InsideHarness, world: World) -> None:
    """A log written hours late during the audit is not compared: the next scan counts it."""
    world.publish(3, over=MINUTE)
    exporter.clock.advance(30)
    exporter.audit()
    late_one = world.insert(world.clock.now - 3.9 * HOUR)
    world.delete(world.ids[-1])
    run_polls(exporter, polls=100)
    assert {MISSING: 0, EXTRA: 0} == audit_results(exporter)
    assert late_one in {log_id for log_id, _ in exporter.observations}


def test_faults_only_delay_an_audit(exporter: InsideHarness, late: FakeLateApi) -> None:
    """A failed request of an audit is repeated after the next poll."""
    for _ in range(4):
        exporter.clock.advance(30)
        late.fail_request(1, unavailable)
        late.fail_request(3, unavailable)
        exporter.audit()
        late.clear_events()
    run_polls(exporter, polls=4)
    assert {MISSING: 0, EXTRA: 0} == audit_results(exporter)


def test_a_restart_restarts_the_audit(exporter: InsideHarness, world: World, late: FakeLateApi) -> None:
    """After a restart an audit starts from the top, no sooner than due, and the last results stay exposed."""
    exporter.clock.advance(30)
    exporter.audit()
    exporter.restart()
    exporter.settle()
    run_polls(exporter, polls=5)
    ended = exporter.scrape().sum(LAST)
    exporter.restart()
    assert (ended, {MISSING: 0, EXTRA: 0}) == (exporter.scrape().sum(LAST), audit_results(exporter))
    exporter.settle()
    request_count = len(late.requests)
    exporter.audit()
    assert 2 >= len(late.requests) - request_count
    world.clock.advance(DAY)
    run_polls(exporter, polls=5)
    assert ended < exporter.scrape().sum(LAST)


@pytest.mark.parametrize("reason", ["error", "throttled"])
def test_audits_yield_to_polls(
    exporter: InsideHarness, late: FakeLateApi, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """There is no audit after a poll that failed or waited for the rate limiter."""
    exporter.clock.advance(30)
    if reason == "error":
        late.fail_request(0, unavailable)
    else:
        monkeypatch.setattr(late, "pop_request_log", lambda: ((), 2.5))
    request_count = len(late.requests)
    exporter.audit()
    assert 1 == len(late.requests) - request_count


COVERAGE = Coverage(retention_floor=0, complete_since=0, caught_up_at=20_000_000, is_synced=True)
ENTRY = LogEntry(key="a", status="success", created=1)
SCANNED_AT = 5 * 3_600_000
NEW_ENTRY = LogEntry(key="b", status="success", created=SCANNED_AT - 3_600_000)


class AuditorHarness:
    """A background auditor over some pages, with an accounting that is one log short."""

    def __init__(self, *pages: FetchedPage | Exception) -> None:
        self.pages = list(pages)
        self.steps: list[FetchPage] = []
        self.failures: list[tuple[str, str]] = []
        self.logger = RecordingLogger()
        self.auditor = BackgroundAuditor(
            SCOPE,
            FEEDS["publishing"],
            fetch_page=self._fetch_page,
            evaluate_accounting=self._evaluate_accounting,
            report_failure=lambda request, error: self.failures.append((request, str(error))),
            logger=self.logger,
        )

    async def _fetch_page(self, step: FetchPage) -> FetchedPage:
        self.steps.append(step)
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page

    async def _evaluate_accounting(
        self, evaluate: Callable[[FeedAccounting], list[CounterMismatch]]
    ) -> list[CounterMismatch]:
        return evaluate(FeedAccounting(observation_count=1, stored_count=0, pruned_count=0, series_values={}))

    async def advance(self) -> dict[str, object]:
        """Audit up to two pages; return the results by family."""
        results = await self.auditor.advance(COVERAGE, page_budget=2, max_skip=None, now=7.0)
        return {result.family: result.value for result in results if isinstance(result, SetCurrent)}


def last_page(*entries: LogEntry, **statuses: str) -> FetchedPage:
    """Return the last page of a list, with the recorded status of its logs by key."""
    return FetchedPage(LogPage(entries), KnownLogs({key: frozenset({status}) for key, status in statuses.items()}))


async def test_an_audit_follows_a_scan_of_the_whole_list() -> None:
    """What is older than the scan by some hours and not recorded is missing; the next audit needs another scan."""
    harness = AuditorHarness(last_page(NEW_ENTRY, ENTRY))
    harness.auditor.report_scan(ReconcileScan(started_at=SCANNED_AT, depth=1000))
    assert harness.auditor.awaits_scan(1e9, 1.0)
    assert not harness.auditor.is_due(1e9, 1.0)
    harness.auditor.report_scan(ReconcileScan(started_at=SCANNED_AT))
    assert harness.auditor.is_due(1e9, 1.0)
    assert {MISSING: 2, EXTRA: 1, LAST: 7.0} == await harness.advance()
    assert harness.auditor.awaits_scan(1e9, 1.0)
    assert [
        ("audit found differences", {"missing": 2, "extra": 1}),
        ("log not counted", {"id": "a", "status": "success", "counted": "none"}),
        ("count is wrong", {"metric": "late_publishing_logs_total", "expected": 1, "found": 0}),
        ("count is wrong", {"metric": "stored logs", "expected": 1, "found": 0}),
    ] == [(event, fields) for _, event, fields in harness.logger.records]


async def test_a_failed_page_is_fetched_again() -> None:
    """A failure interrupts the audit, which continues with the same page."""
    harness = AuditorHarness(ApiUnavailable("no"), BadPayload("odd"), StoreError("full"), last_page(ENTRY, a="success"))
    for _ in range(3):
        assert {} == await harness.advance()
    assert [("audit", "no"), ("audit", "odd")] == harness.failures
    assert [("debug", "audit interrupted", {"error": "full"})] == harness.logger.records
    assert {MISSING: 1, EXTRA: 1, LAST: 7.0} == await harness.advance()
    assert [FetchPage(0)] * 2 + [FetchPage(0, in_parts=True)] * 2 == harness.steps

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from late_exporter.errors import BadPayload
from late_exporter.feeds import FEEDS
from late_exporter.ingest import sync
from late_exporter.ingest.audit import (
    Audit,
    CounterMismatch,
    ScanSteps,
    audit_list,
    check_counters,
    count_extra,
    count_missing,
    grace_period,
)
from late_exporter.ingest.schedule import PollConfig
from late_exporter.ingest.steps import FetchedPage, FetchPage
from late_exporter.metrics.counting import project_log
from late_exporter.model import (
    Coverage,
    FeedAccounting,
    KnownLogs,
    LogEntry,
    LogPage,
    Scope,
)
from late_exporter.series import IncCounter, Series, SeriesValue
from late_exporter.simulator.log_list import LogRow
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi, ListQuirks, announce_more, unavailable
from tests.support.profiles import example_count, is_thorough
from tests.support.world import World

PUBLISHING, CONNECTIONS = FEEDS["publishing"], FEEDS["connections"]
SCOPE = Scope("default", "publishing")
LOGS = "late_publishing_logs_total"
NOW = 1_795_600_000_000
DAY_MS = 86_400_000
SUCCESS = '["default","instagram","publish","success"]'
ADD = "UPDATE series SET value = CAST(CAST(CAST(value AS TEXT) + ? AS TEXT) AS BLOB) WHERE family = ? AND labels = ?"
COVERAGE = Coverage(retention_floor=0, complete_since=0, caught_up_at=NOW, is_synced=True)


@pytest.fixture
def clock() -> VirtualClock:
    """Return a virtual clock."""
    return VirtualClock()


@pytest.fixture
def world(clock: VirtualClock) -> World:
    """Return a key without logs."""
    return World(clock)


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
    """Return an exporter that has counted the logs of some days, some of which were pending."""
    late.world.publish(230, over=5 * DAY)
    late.world.publish(3, status="failed", statusCode=500)
    waiting = late.world.publish(2, status="pending", action="retry")
    with closing(InsideHarness(late, path)) as exporter:
        exporter.poll()
        late.world.change(waiting[0], "success")
        exporter.settle()
        late.world.clock.advance(10 * MINUTE)
        exporter.poll()
        yield exporter


def execute(path: Path, statement: str, *values: object) -> None:
    """Execute SQL on the database behind the exporter's back."""
    with closing(sqlite3.connect(path)) as connection:
        assert 1 == connection.execute(statement, values).rowcount
        connection.commit()


def differences_of(audit: Audit) -> list[tuple[str, str, list[str]]]:
    """Return id, current status and recorded statuses of each difference."""
    return [(found.entry.key, found.entry.status, sorted(found.recorded_statuses)) for found in audit.differences]


# Audits of a world.


@pytest.mark.parametrize("rows", [1, 2, 100, 250])
def test_a_list_that_always_announces_more(rows: int, world: World, late: FakeLateApi, path: Path) -> None:
    """If every page says that more rows follow, an audit ends below the last one."""
    late.quirks = ListQuirks(transform=announce_more)
    world.publish(rows, over=DAY)
    with closing(InsideHarness(late, path)) as exporter:
        exporter.poll()
        late.before_request(10, lambda: pytest.fail("the audit does not end"))
        audit, mismatches = exporter.run_audit(exporter_running=False)
    assert ([], [], rows) == (audit.differences, mismatches, len(audit.listed_keys or ()))


def test_a_healthy_state(exporter: InsideHarness, world: World) -> None:
    """A healthy state has no differences, and every log was compared with few requests."""
    request_count = len(exporter.api.requests)
    audit, mismatches = exporter.run_audit()
    assert ([], []) == (audit.differences, mismatches)
    assert set(world.ids) == audit.listed_keys
    assert (set(), set()) == (audit.too_recent, audit.in_gap)
    assert 3 == len(exporter.api.requests) - request_count


@pytest.mark.parametrize("place", [5, 99, 100, 234])
def test_a_log_that_was_never_counted(exporter: InsideHarness, path: Path, world: World, place: int) -> None:
    """A log without record and count is missing, wherever it is."""
    log_id = world.ids[place]
    execute(path, "DELETE FROM observation WHERE key = ?", log_id)
    execute(path, "UPDATE scope SET observations = observations - 1 WHERE feed = ?", "publishing")
    execute(path, ADD, -1, LOGS, SUCCESS)
    audit, mismatches = exporter.run_audit(exporter_running=False)
    assert ([(log_id, "success", [])], []) == (differences_of(audit), mismatches)
    assert (1, 0) == (count_missing(audit.differences, mismatches), count_extra(mismatches))


def test_lost_record(exporter: InsideHarness, path: Path, world: World) -> None:
    """A log whose record was lost is missing, and is extra once it is counted again."""
    log_id = world.ids[150]
    execute(path, "DELETE FROM observation WHERE key = ?", log_id)
    audit, mismatches = exporter.run_audit(exporter_running=False)
    assert [(log_id, "success", [])] == differences_of(audit)
    assert [CounterMismatch("", 236, 235)] == mismatches
    assert (1, 1) == (count_missing(audit.differences, mismatches), count_extra(mismatches))

    exporter.settle()
    audit, mismatches = exporter.run_audit()
    assert ([], [CounterMismatch("", 237, 236)]) == (differences_of(audit), mismatches)
    assert (0, 1) == (count_missing(audit.differences, mismatches), count_extra(mismatches))


@pytest.mark.parametrize(
    ("family", "labels", "expected"),
    [
        (LOGS, SUCCESS, 236),
        (LOGS, '["default","instagram","publish","failed"]', 236),
        ("late_publishing_failures_total", '["default","instagram","publish","platform_error","500"]', 3),
        ("late_publishing_retries_total", '["default","instagram","pending"]', 3),
    ],
)
@pytest.mark.parametrize("change", [1, -1])
def test_wrong_counter(
    exporter: InsideHarness, path: Path, family: str, labels: str, expected: int, change: int
) -> None:
    """A count too many is extra, one too few is missing; no log differs and no other family is blamed."""
    execute(path, ADD, change, family, labels)
    audit, mismatches = exporter.run_audit()
    assert ([], [CounterMismatch(family, expected, expected + change)]) == (differences_of(audit), mismatches)
    assert (max(0, -change), max(0, change)) == (count_missing(audit.differences, mismatches), count_extra(mismatches))


def test_a_log_counted_in_another_status(exporter: InsideHarness, path: Path, world: World) -> None:
    """A log recorded in another status is a difference with both."""
    log_id = world.ids[120]
    execute(path, "UPDATE observation SET status = 'failed' WHERE key = ?", log_id)
    audit, mismatches = exporter.run_audit(exporter_running=False)
    assert ([(log_id, "success", ["failed"])], []) == (differences_of(audit), mismatches)
    assert (1, 0) == (count_missing(audit.differences, mismatches), count_extra(mismatches))


def test_uncounted_record(exporter: InsideHarness, path: Path) -> None:
    """A record that was never counted makes the records one too many."""
    created = int((exporter.clock.now - DAY) * 1000)
    execute(path, "INSERT INTO observation VALUES (1, 'stray', 'success', ?)", created)
    audit, mismatches = exporter.run_audit()
    assert ([], [CounterMismatch("", 236, 237)]) == (differences_of(audit), mismatches)
    assert (0, 1) == (count_missing(audit.differences, mismatches), count_extra(mismatches))


def test_a_log_that_is_wrongly_known(
    exporter: InsideHarness, world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that the exporter wrongly takes for known is still missing after polls and scans."""
    log_id = world.ids[200]
    execute(path, "DELETE FROM observation WHERE key = ?", log_id)
    honest = exporter.store.lookup

    def lookup(scope: Scope, entries: Sequence[LogEntry], *, since: int, **_: object) -> KnownLogs:
        known_logs = honest(scope, entries, since=since)
        statuses = {**known_logs.statuses, log_id: frozenset({"success"})}
        return KnownLogs(statuses, known_logs.stored_count, known_logs.expiring_count)

    monkeypatch.setattr(exporter.store, "lookup", lookup)
    audit, _ = exporter.run_audit()
    assert [(log_id, "success", [])] == differences_of(audit)


def test_deleted_logs_are_no_difference(exporter: InsideHarness, world: World) -> None:
    """A counted log that the API has deleted is no difference."""
    world.delete(*world.ids[3:150:2])
    audit, mismatches = exporter.run_audit()
    assert ([], []) == (differences_of(audit), mismatches)
    assert set(world.ids) == audit.listed_keys


def test_pruned_logs_are_no_difference(exporter: InsideHarness, world: World) -> None:
    """After pruning, the accounting is still exact."""
    for _ in range(12):
        world.clock.advance(DAY)
        world.publish(20)
        exporter.poll()
    assert exporter.store.accounting(SCOPE).pruned_count > 200
    audit, mismatches = exporter.run_audit()
    assert ([], []) == (differences_of(audit), mismatches)


def test_logs_before_the_lookback_are_out_of_scope(late: FakeLateApi, path: Path) -> None:
    """Logs older than the first sync, and logs without a time below them, are not requested."""
    late.world.publish(700, over=7 * DAY)
    late.world.publish(130, over=50 * MINUTE)
    for _ in range(3):
        late.world.insert(None)
    with closing(InsideHarness(late, path, config=PollConfig(lookback=HOUR))) as exporter:
        exporter.poll()
        late.world.clock.advance(10 * MINUTE)
        exporter.poll()
        request_count = len(late.requests)
        audit, mismatches = exporter.run_audit()
        assert ([], []) == (differences_of(audit), mismatches)
        assert 140 > len(audit.listed_keys or ()) >= 130
        assert 4 >= len(late.requests) - request_count


def test_only_since(exporter: InsideHarness, path: Path, world: World) -> None:
    """With ``since`` older logs are not compared."""
    new, old = world.ids[50], world.ids[150]
    for log_id in (new, old):
        execute(path, "DELETE FROM observation WHERE key = ?", log_id)
    since = int((world.clock.now - 2.5 * DAY) * 1000)
    assert [(new, "success", [])] == differences_of(exporter.run_audit(exporter_running=False, since=since)[0])
    assert [new, old] == [log_id for log_id, _, _ in differences_of(exporter.run_audit(exporter_running=False)[0])]


def test_logs_newer_than_the_last_poll(exporter: InsideHarness, world: World) -> None:
    """Logs written since the last poll are too recent, not missing."""
    world.clock.advance(HOUR)
    new = world.publish(150, over=HOUR)
    audit, _ = exporter.run_audit(exporter_running=False)
    assert ([], set(new)) == (differences_of(audit), audit.too_recent)


def test_logs_that_settle_while_no_exporter_runs(exporter: InsideHarness, world: World) -> None:
    """A log known as pending is no difference while nothing polls."""
    (waiting,) = [row["_id"] for row in world.rows if row["status"] == "pending"]
    world.clock.advance(HOUR)
    world.change(waiting, "failed", statusCode=400)
    audit, _ = exporter.run_audit(exporter_running=False)
    assert ([], {waiting}) == (differences_of(audit), audit.too_recent)
    assert [] == differences_of(exporter.run_audit()[0])


def test_an_open_gap(exporter: InsideHarness, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs in a gap are reported as such and are no difference."""
    monkeypatch.setattr(sync, "COMMIT_SIZE", 1)
    counted = set(world.ids)
    world.clock.advance(DAY)
    world.publish(450)
    exporter.api.fail_request(2, unavailable)
    assert "unavailable" == exporter.poll().outcome
    unread = set(world.ids) - counted - {log_id for _, (log_id, _) in exporter.commit_log}
    audit, mismatches = exporter.run_audit(exporter_running=False)
    assert ([], [], unread) == (differences_of(audit), mismatches, audit.in_gap)
    assert len(unread) > 200
    exporter.poll()
    audit, mismatches = exporter.run_audit()
    assert ([], [], set()) == (differences_of(audit), mismatches, audit.in_gap)


def test_logs_that_come_late_during_an_audit(exporter: InsideHarness, world: World) -> None:
    """Logs that are written days late are suspects, and no difference once the exporter had time to catch up."""
    late_ones = {world.insert(world.clock.now - days * DAY) for days in (1, 3, 4)}
    audit, mismatches = exporter.run_audit()
    assert ([], []) == (differences_of(audit), mismatches)
    assert late_ones <= {log_id for log_id, _ in exporter.observations}


def test_workspaces_do_not_mix(clock: VirtualClock, path: Path) -> None:
    """Each workspace is checked by its own counters, even if ids are equal."""
    worlds = {name: World(clock) for name in ("acme", "umbrella")}
    worlds["acme"].publish(130, over=DAY)
    worlds["umbrella"].publish(260, over=DAY)
    with closing(InsideHarness({name: FakeLateApi(world) for name, world in worlds.items()}, path)) as exporter:
        for name in worlds:
            exporter.poll(name)
        for name, world in worlds.items():
            audit, mismatches = exporter.run_audit(name)
            assert ([], [], set(world.ids)) == (differences_of(audit), mismatches, audit.listed_keys)
        execute(path, ADD, 1, LOGS, '["umbrella","instagram","publish","success"]')
        assert [] == exporter.run_audit("acme")[1]
        assert [CounterMismatch(LOGS, 260, 261)] == exporter.run_audit("umbrella")[1]


def test_connections_are_audited_too(late: FakeLateApi, path: Path) -> None:
    """Connections have a counter of their own and are compared in the same way."""
    ids = []
    for number in range(120):
        late.world.clock.advance(60)
        ids.append(late.world.add_connection(("connect_success", "connect_failed", "sso_failed")[number % 3]))
    with closing(InsideHarness(late, path, feeds=("publishing", "connections"))) as exporter:
        exporter.poll()
        exporter.poll(feed="connections")
        late.world.clock.advance(600)
        exporter.poll(feed="connections")
        audit, mismatches = exporter.run_audit(feed="connections")
        assert ([], [], set(ids)) == (differences_of(audit), mismatches, audit.listed_keys)
        execute(path, "DELETE FROM observation WHERE key = ?", ids[65])
        audit, mismatches = exporter.run_audit(feed="connections", exporter_running=False)
        assert ([(ids[65], "sso_failed", [])], [CounterMismatch("", 120, 119)]) == (differences_of(audit), mismatches)


def test_rejected_rows_and_limited_labels_are_counted(late: FakeLateApi, path: Path) -> None:
    """Rows without an id and platforms beyond the limit are compared like all others."""
    odd = ({"platform": "x"}, None, {"_id": 7, "createdAt": "2026-11-24T12:00:00Z"})
    late.quirks = ListQuirks(transform=lambda document: {**document, "logs": [*document["logs"], *odd]})
    for number in range(40):
        late.world.insert(late.world.clock.now - DAY + number, platform=f"platform{number}", action=f"action{number}")
    with closing(InsideHarness(late, path, max_label_values=5)) as exporter:
        exporter.poll()
        late.world.clock.advance(600)
        exporter.poll()
        audit, mismatches = exporter.run_audit()
        assert ([], [], 43) == (differences_of(audit), mismatches, exporter.store.accounting(SCOPE).observation_count)
        (refused,) = (log_id for _, (log_id, status) in exporter.commit_log[-1:] if status == "rejected")
        execute(path, "DELETE FROM observation WHERE key = ?", refused)
        assert [(refused, "rejected", [])] == differences_of(exporter.run_audit(exporter_running=False)[0])


KINDS: tuple[LogRow, ...] = (
    {},
    {"status": "pending"},
    {"status": "failed", "statusCode": 500},
    {"action": "retry", "status": "pending"},
)
MOVES = st.tuples(
    st.sampled_from(("publish", "publish", "late", "delete", "settle", "undated", "poll", "pass")),
    st.integers(0, 150),
    st.integers(0, 60),
)


@settings(
    max_examples=example_count(15, thorough=150),
    deadline=None,
    derandomize=not is_thorough(),
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(history=st.integers(0, 250), cap=st.sampled_from((10, 100)), moves=st.lists(MOVES, max_size=30), data=st.data())
def test_no_false_alarm_while_the_list_moves(
    history: int, cap: int, moves: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    """An exact exporter has no differences whatever is inserted, changed and deleted during the audit."""
    world = World(VirtualClock())
    world.publish(history, over=6 * DAY, kinds=KINDS)
    late = FakeLateApi(world, quirks=ListQuirks(max_page_size=cap))
    together = data.draw(st.integers(1, 5))
    with closing(InsideHarness(late)) as exporter:
        exporter.settle()
        left = iter(moves)

        def between() -> None:
            for name, first, second in islice(left, together):
                _move(world, exporter, name, first, second)

        for _ in range(2):
            audit, mismatches = exporter.run_audit(between=between)
            # One may have been deleted before it was recorded.
            assert not {log_id for log_id, _, _ in differences_of(audit)}.intersection(world.ids)
            assert [] == mismatches
        for name, first, second in left:
            _move(world, exporter, name, first, second)
        exporter.settle()
        audit, mismatches = exporter.run_audit()
        assert ([], [], set(), set()) == (differences_of(audit), mismatches, audit.too_recent, audit.in_gap)


def _move(world: World, exporter: InsideHarness, name: str, first: int, second: int) -> None:
    now, kind = world.clock.now, KINDS[second % len(KINDS)]
    match name:
        case "publish":
            world.clock.advance(second)
            world.publish(first, kinds=KINDS[second % len(KINDS) :])
        case "late":
            world.insert(now - first * 20 * MINUTE, **kind)
        case "undated":
            world.insert(None, **kind)
        case "delete":
            world.delete(*world.ids[first : first + second])
        case "settle":
            pending = [row["_id"] for row in world.rows if row["status"] == "pending"]
            for log_id in pending[first : first + second]:
                world.change(log_id, ("success", "failed")[second % 2], statusCode=(200, 500)[second % 2])
        case "poll":
            world.clock.advance(30)
            exporter.poll()
        case _:
            world.clock.advance(first * MINUTE)


# The scan by itself.


def make_entry(number: int, status: str = "success") -> LogEntry:
    """Return a log; a larger number is a newer one."""
    return LogEntry(key=f"{number:06}", status=status, created=NOW - DAY_MS + number * 1000)


def scanned_keys(
    rows: list[LogEntry], between: Callable[[int], None], *, cap: int = 100, requests: int = 300
) -> set[str]:
    """Return the keys that an audit compares, in a list that may change before each request."""
    audit = Audit(coverage=COVERAGE, cutoff=NOW, listed_keys=set())
    steps = audit_list(audit, None)
    answer: FetchedPage | None = None
    for number in range(requests):
        try:
            step = steps.send(answer)
        except StopIteration:
            return audit.listed_keys or set()
        assert isinstance(step, FetchPage)
        between(number)
        page = rows[step.skip : step.skip + cap]
        known = KnownLogs({entry.key: frozenset({"success"}) for entry in rows})
        answer = FetchedPage(LogPage(tuple(page), len(rows), step.skip + cap < len(rows)), known)
    raise AssertionError(f"more than {requests} requests")


@pytest.mark.exhaustive
@settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    size=st.integers(0, 450),
    cap=st.sampled_from((10, 100)),
    moves=st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(("insert", "delete")), st.integers(0, 440), st.integers(0, 130)),
        max_size=12,
    ),
    upside_down=st.booleans(),
)
def test_every_log_that_stays_is_compared(
    size: int, cap: int, moves: Sequence[tuple[int, str, int, int]], *, upside_down: bool
) -> None:
    """Every log that stays is compared whatever is inserted and deleted, in a list in any order."""
    rows = [make_entry(number) for number in range(size, 0, -1)]
    staying = {entry.key for entry in rows}
    fresh = iter(range(1000, 10_000))
    if upside_down:
        rows.reverse()

    def between(number: int) -> None:
        for when, what, place, count in moves:
            if when != number:
                continue
            if what == "delete":
                staying.difference_update(entry.key for entry in rows[place : place + count])
                del rows[place : place + count]
            else:
                new = [make_entry(next(fresh)) for _ in range(count)]
                rows[:] = [*rows, *new] if upside_down else [*reversed(new), *rows]

    assert staying <= scanned_keys(rows, between, cap=cap)


def test_a_list_that_shrinks_by_many_pages_is_read_on() -> None:
    """A scan that has to go back far reads many known pages again until it is where it was."""
    rows = [make_entry(number) for number in range(1000, 0, -1)]
    staying = {entry.key for entry in rows[360:]}

    def between(number: int) -> None:
        if number == 100:
            del rows[:360]

    assert staying <= scanned_keys(rows, between, cap=10)


@pytest.mark.parametrize("rows", [0, 1, 2, 99, 100, 101, 196, 198, 199, 300])
def test_lists_of_any_length(rows: int) -> None:
    """A list is read to its end, whatever its page size, at one request per 98 logs."""
    listed = [make_entry(number) for number in range(rows, 0, -1)]
    assert rows == len(scanned_keys(listed, lambda _: None, requests=3 + rows // 98))


def test_a_list_sorted_from_old_to_new_is_read_on() -> None:
    """Only a list sorted from new to old ends at a page that is out of scope."""
    listed = [make_entry(number) for number in range(1, 296)]
    audit = Audit(coverage=COVERAGE, cutoff=NOW, since=listed[250].created or 0)
    steps = audit_list(audit, None)
    assert FetchPage(0) == next(steps)
    for start in (0, 98):
        page = LogPage(tuple(listed[start : start + 100]), has_more=True)
        assert FetchPage(start + 98) == steps.send(FetchedPage(page, KnownLogs({})))
    finish(steps, *listed[196:], known=KnownLogs({}))
    assert {entry.key for entry in listed[250:]} == audit.unrecorded.keys()


def test_logs_without_a_time_are_not_compared() -> None:
    """They may be recorded at any time, or be out of scope."""
    listed = [make_entry(number) for number in range(120, 0, -1)]
    undated = LogEntry(key="undated", status="success")
    audit = Audit(coverage=COVERAGE, cutoff=NOW, since=listed[59].created or 0)
    steps = audit_list(audit, None)
    next(steps)
    known = KnownLogs({entry.key: frozenset({"success"}) for entry in listed})
    assert FetchPage(98) == steps.send(FetchedPage(LogPage((*listed[:99], undated)), known))
    finish(steps, undated, *listed[98:], known=known)
    assert [] == audit.differences


def test_a_list_that_repeats_itself() -> None:
    """If every page is the first one, the audit fails."""
    page = FetchedPage(
        LogPage(tuple(make_entry(number) for number in range(300, 200, -1)), 300, has_more=True), KnownLogs({})
    )
    steps = audit_list(Audit(coverage=COVERAGE, cutoff=NOW), None)
    next(steps)
    for _ in range(11):
        steps.send(page)
    with pytest.raises(BadPayload, match="repeats the same page"):
        steps.send(page)


def test_missing_list() -> None:
    """A 404 for the list is a failure, not an empty list."""
    steps = audit_list(Audit(coverage=COVERAGE, cutoff=NOW), None)
    next(steps)
    with pytest.raises(BadPayload, match="has no log list"):
        steps.send(None)


def finish(steps: ScanSteps, *entries: LogEntry, known: KnownLogs) -> None:
    """Send the last page to a generator."""
    with pytest.raises(StopIteration):
        steps.send(FetchedPage(LogPage(entries), known))


def test_a_log_that_is_recorded_between_two_pages() -> None:
    """A log that is on two pages, and is recorded by the time of the second one, is no difference."""
    rows = [make_entry(number) for number in range(102, 0, -1)]
    audit = Audit(coverage=COVERAGE, cutoff=NOW)
    steps = audit_list(audit, None)
    next(steps)
    assert FetchPage(98) == steps.send(FetchedPage(LogPage(tuple(rows[:100]), has_more=True), KnownLogs({})))
    finish(steps, *rows[98:], known=KnownLogs({row.key: frozenset({"success"}) for row in rows}))
    assert [row.key for row in rows[:98]] == [key for key, _, _ in differences_of(audit)]


def test_grace_period() -> None:
    """The grace period is three polls, and at least a minute."""
    assert [60_000, 90_000, 900_000] == [grace_period(interval) for interval in (0.1, 30.0, 300.0)]


def test_check_counters() -> None:
    """Counters and records are each checked against the accounting."""

    def accounting(observation_count: int, stored_count: int, **counts: int) -> FeedAccounting:
        totals: dict[Series, SeriesValue] = {
            (LOGS, ("default", "tiktok", "publish", status)): SeriesValue(n, 0.0) for status, n in counts.items()
        }
        totals["late_exporter_entries_rejected_total", ("default", "publishing", "no_id")] = SeriesValue(2, 0.0)
        totals[LOGS, ("other", "tiktok", "publish", "success")] = SeriesValue(99, 0.0)
        return FeedAccounting(
            observation_count=observation_count, stored_count=stored_count, pruned_count=4, series_values=totals
        )

    failures = "late_publishing_failures_total"
    assert [] == check_counters(SCOPE, PUBLISHING, accounting(10, 6, success=8))
    assert [CounterMismatch(LOGS, 8, 9)] == check_counters(SCOPE, PUBLISHING, accounting(10, 6, success=9))
    assert [CounterMismatch(LOGS, 8, 9), CounterMismatch("", 10, 9)] == check_counters(
        SCOPE, PUBLISHING, accounting(10, 5, success=9)
    )
    assert [CounterMismatch(failures, 3, 0)] == check_counters(
        SCOPE, PUBLISHING, accounting(10, 6, success=5, failed=3)
    )
    events = "late_connection_events_total"
    assert [CounterMismatch(events, 10, 0)] == check_counters(
        Scope("default", "connections"), CONNECTIONS, accounting(10, 6)
    )


def test_every_observation_increments_its_counter() -> None:
    """Every observation of a feed adds 1 to the counter of the feed."""
    for feed in FEEDS.values():
        for entry in (
            LogEntry(key="a", status="pending"),
            LogEntry(key="a", status="x", action="odd", created=1, duration=5),
        ):
            counts = [found for found in project_log(feed, "acme", entry) if found.family == feed.counter]
            assert [(1, False)] == [
                (found.amount, found.once_per_log) for found in counts if isinstance(found, IncCounter)
            ]

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
from late_exporter.ingest import poller
from late_exporter.ingest.audit import (
    Audit,
    AuditSteps,
    CounterMismatch,
    WaitForExporter,
    audit_list,
    check_counters,
    count_extra,
    count_missing,
    grace_period,
)
from late_exporter.ingest.poller import PollConfig
from late_exporter.ingest.steps import FetchedPage, FetchPage
from late_exporter.model import (
    Coverage,
    Feed,
    FeedAccounting,
    Gap,
    IncCounter,
    KnownLogs,
    ListPosition,
    LogEntry,
    LogPage,
    Scope,
    Series,
    SeriesValue,
)
from late_exporter.simulator.log_list import LogRow
from tests.support.profiles import example_count, is_thorough
from tests.support.worlds import (
    DAY,
    HOUR,
    MINUTE,
    ExporterHarness,
    FakeLateApi,
    ListQuirks,
    VirtualClock,
    World,
    unavailable,
)

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
    """Time that moves when told."""
    return VirtualClock()


@pytest.fixture
def world(clock: VirtualClock) -> World:
    """A key without logs."""
    return World(clock)


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
    """An exporter that has counted the logs of some days, some of which have settled since."""
    late.world.publish(230, over=5 * DAY)
    late.world.publish(3, status="failed", statusCode=500)
    waiting = late.world.publish(2, status="pending", action="retry")
    with closing(ExporterHarness(late, path)) as exporter:
        exporter.poll()
        late.world.change(waiting[0], "success")
        exporter.settle()
        late.world.clock.advance(10 * MINUTE)
        exporter.poll()
        yield exporter


def execute(path: Path, statement: str, *values: object) -> None:
    """Do something to the state behind the exporter's back."""
    with closing(sqlite3.connect(path)) as connection:
        assert 1 == connection.execute(statement, values).rowcount
        connection.commit()


def told(plan: Audit) -> list[tuple[str, str, list[str]]]:
    """The differences: id, status at the API, statuses in which the log was counted."""
    return [(found.entry.key, found.entry.status, sorted(found.recorded_statuses)) for found in plan.differences]


# What is compared with a world.


def test_a_healthy_state(exporter: ExporterHarness, world: World) -> None:
    """Where all is right nothing is said, and every log of the list was looked at, for few requests."""
    asked = len(exporter.api.requests)
    plan, imbalances = exporter.run_audit()
    assert ([], []) == (plan.differences, imbalances)
    assert set(world.ids) == plan.listed_keys
    assert (set(), set()) == (plan.too_recent, plan.in_gap)
    assert 3 == len(exporter.api.requests) - asked


@pytest.mark.parametrize("place", [5, 99, 100, 234])
def test_a_log_that_was_never_counted(exporter: ExporterHarness, path: Path, world: World, place: int) -> None:
    """A log of which nothing is known, neither record nor count, is missing, wherever it stands."""
    log_id = world.ids[place]
    execute(path, "DELETE FROM observation WHERE key = ?", log_id)
    execute(path, "UPDATE scope SET observations = observations - 1 WHERE feed = ?", "publishing")
    execute(path, ADD, -1, LOGS, SUCCESS)
    plan, imbalances = exporter.run_audit(exporter_running=False)
    assert ([(log_id, "success", [])], []) == (told(plan), imbalances)
    assert (1, 0) == (count_missing(plan.differences, imbalances), count_extra(imbalances))


def test_a_record_that_was_lost(exporter: ExporterHarness, path: Path, world: World) -> None:
    """A log whose record is gone is missing, and the records are one short; once it is counted again it is extra."""
    log_id = world.ids[150]
    execute(path, "DELETE FROM observation WHERE key = ?", log_id)
    plan, imbalances = exporter.run_audit(exporter_running=False)
    assert [(log_id, "success", [])] == told(plan)
    assert [CounterMismatch("", 236, 235)] == imbalances
    assert (1, 1) == (count_missing(plan.differences, imbalances), count_extra(imbalances))

    exporter.settle()
    plan, imbalances = exporter.run_audit()
    assert ([], [CounterMismatch("", 237, 236)]) == (told(plan), imbalances)
    assert (0, 1) == (count_missing(plan.differences, imbalances), count_extra(imbalances))


@pytest.mark.parametrize(
    ("family", "labels", "expected"),
    [
        (LOGS, SUCCESS, 236),
        (LOGS, '["default","instagram","publish","failed"]', 236),
        ("late_publishing_failures_total", '["default","instagram","publish","system","500"]', 3),
        ("late_publishing_retries_total", '["default","instagram","pending"]', 3),
    ],
)
@pytest.mark.parametrize("change", [1, -1])
def test_a_total_that_is_wrong(
    exporter: ExporterHarness, path: Path, family: str, labels: str, expected: int, change: int
) -> None:
    """A count too many was counted twice, one too few was lost; no log differs, and no other family is blamed."""
    execute(path, ADD, change, family, labels)
    plan, imbalances = exporter.run_audit()
    assert ([], [CounterMismatch(family, expected, expected + change)]) == (told(plan), imbalances)
    assert (max(0, -change), max(0, change)) == (count_missing(plan.differences, imbalances), count_extra(imbalances))


def test_a_log_counted_in_another_status(exporter: ExporterHarness, path: Path, world: World) -> None:
    """A log that is on record in a status that the API does not show is told with both."""
    log_id = world.ids[120]
    execute(path, "UPDATE observation SET status = 'failed' WHERE key = ?", log_id)
    plan, imbalances = exporter.run_audit(exporter_running=False)
    assert ([(log_id, "success", ["failed"])], []) == (told(plan), imbalances)
    assert (1, 0) == (count_missing(plan.differences, imbalances), count_extra(imbalances))


def test_a_record_of_a_log_that_never_was(exporter: ExporterHarness, path: Path) -> None:
    """A record that was never counted makes the records one too many; the log itself might just be deleted."""
    created = int((exporter.clock.now - DAY) * 1000)
    execute(path, "INSERT INTO observation VALUES (1, 'stray', 'success', ?, NULL, NULL)", created)
    plan, imbalances = exporter.run_audit()
    assert ([], [CounterMismatch("", 236, 237)]) == (told(plan), imbalances)
    assert (0, 1) == (count_missing(plan.differences, imbalances), count_extra(imbalances))


def test_a_log_that_neither_polls_nor_walks_count(
    exporter: ExporterHarness, world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that the exporter takes for counted, though it is not, is still missing after polls and walks."""
    log_id = world.ids[200]
    execute(path, "DELETE FROM observation WHERE key = ?", log_id)
    honest = exporter.store.lookup

    def known(scope: Scope, entries: Sequence[LogEntry], *, feed: Feed, since: int) -> KnownLogs:
        found = honest(scope, entries, feed=feed, since=since)
        return KnownLogs({**found.statuses, log_id: frozenset({"success"})}, found.stored_count, found.expiring_count)

    monkeypatch.setattr(exporter.store, "lookup", known)
    plan, _ = exporter.run_audit()
    assert [(log_id, "success", [])] == told(plan)


def test_deleted_logs_are_no_difference(exporter: ExporterHarness, world: World) -> None:
    """What Late has deleted since it was counted stays counted, and nothing is wrong with that."""
    world.delete(*world.ids[3:150:2])
    plan, imbalances = exporter.run_audit()
    assert ([], []) == (told(plan), imbalances)
    assert set(world.ids) == plan.listed_keys


def test_forgotten_logs_are_no_difference(exporter: ExporterHarness, world: World) -> None:
    """When the records of old logs have been let go of, the books still close to the last log."""
    for _ in range(12):
        world.clock.advance(DAY)
        world.publish(20)
        exporter.poll()
    assert exporter.store.accounting(SCOPE).pruned_count > 200
    plan, imbalances = exporter.run_audit()
    assert ([], []) == (told(plan), imbalances)


def test_logs_before_the_lookback_are_out_of_scope(late: FakeLateApi, path: Path) -> None:
    """Logs that are older than the first sync went, and logs without a time below them, are not asked for."""
    late.world.publish(700, over=7 * DAY)
    late.world.publish(130, over=50 * MINUTE)
    for _ in range(3):
        late.world.insert(None)
    with closing(ExporterHarness(late, path, config=PollConfig(lookback=HOUR))) as exporter:
        exporter.poll()
        late.world.clock.advance(10 * MINUTE)
        exporter.poll()
        asked = len(late.requests)
        plan, imbalances = exporter.run_audit()
        assert ([], []) == (told(plan), imbalances)
        assert 140 > len(plan.listed_keys or ()) >= 130
        assert 4 >= len(late.requests) - asked


def test_only_since(exporter: ExporterHarness, path: Path, world: World) -> None:
    """Where only newer logs are asked for, older ones are not compared."""
    new, old = world.ids[50], world.ids[150]
    for log_id in (new, old):
        execute(path, "DELETE FROM observation WHERE key = ?", log_id)
    since = int((world.clock.now - 2.5 * DAY) * 1000)
    assert [(new, "success", [])] == told(exporter.run_audit(exporter_running=False, since=since)[0])
    assert [new, old] == [log_id for log_id, _, _ in told(exporter.run_audit(exporter_running=False)[0])]


def test_what_no_poll_can_have_counted_yet(exporter: ExporterHarness, world: World) -> None:
    """Logs written since the last poll are no difference."""
    world.clock.advance(HOUR)
    new = world.publish(150, over=HOUR)
    plan, _ = exporter.run_audit(exporter_running=False)
    assert ([], set(new)) == (told(plan), plan.too_recent)


def test_what_settled_while_no_exporter_runs(exporter: ExporterHarness, world: World) -> None:
    """A log that is known as pending is no difference while nobody polls, and is counted once somebody does."""
    (waiting,) = [row["_id"] for row in world.rows if row["status"] == "pending"]
    world.clock.advance(HOUR)
    world.change(waiting, "failed", statusCode=400)
    plan, _ = exporter.run_audit(exporter_running=False)
    assert ([], {waiting}) == (told(plan), plan.too_recent)
    assert [] == told(exporter.run_audit()[0])


def test_an_open_gap(exporter: ExporterHarness, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the exporter itself knows to be unread is told as that, and is no difference."""
    monkeypatch.setattr(poller, "COMMIT_SIZE", 1)
    counted = set(world.ids)
    world.clock.advance(DAY)
    world.publish(450)
    exporter.api.fail_request(2, unavailable)
    assert "unavailable" == exporter.poll().outcome
    unread = set(world.ids) - counted - {log_id for _, (log_id, _) in exporter.counted}
    plan, imbalances = exporter.run_audit(exporter_running=False)
    assert ([], [], unread) == (told(plan), imbalances, plan.in_gap)
    assert len(unread) > 200
    exporter.poll()
    plan, imbalances = exporter.run_audit()
    assert ([], [], set()) == (told(plan), imbalances, plan.in_gap)


def test_logs_that_come_late_during_an_audit(exporter: ExporterHarness, world: World) -> None:
    """Logs that are written days late are in doubt at first, and no difference once the exporter had its chance."""
    late_ones = {world.insert(world.clock.now - days * DAY) for days in (1, 3, 4)}
    plan, imbalances = exporter.run_audit()
    assert ([], []) == (told(plan), imbalances)
    assert late_ones <= {log_id for log_id, _ in exporter.observations}


def test_workspaces_do_not_mix(clock: VirtualClock, path: Path) -> None:
    """Each workspace is weighed by its own counters, though they share a state and the ids of their logs."""
    worlds = {name: World(clock) for name in ("acme", "umbrella")}
    worlds["acme"].publish(130, over=DAY)
    worlds["umbrella"].publish(260, over=DAY)
    with closing(ExporterHarness({name: FakeLateApi(world) for name, world in worlds.items()}, path)) as exporter:
        for name in worlds:
            exporter.poll(name)
        for name, world in worlds.items():
            plan, imbalances = exporter.run_audit(name)
            assert ([], [], set(world.ids)) == (told(plan), imbalances, plan.listed_keys)
        execute(path, ADD, 1, LOGS, '["umbrella","instagram","publish","success"]')
        assert [] == exporter.run_audit("acme")[1]
        assert [CounterMismatch(LOGS, 260, 261)] == exporter.run_audit("umbrella")[1]


def test_connections_are_audited_too(late: FakeLateApi, path: Path) -> None:
    """The other list has a counter of its own and is compared like the first one."""
    ids = []
    for number in range(120):
        late.world.clock.advance(60)
        ids.append(late.world.add_connection(("connect_success", "connect_failed", "sso_failed")[number % 3]))
    with closing(ExporterHarness(late, path, feeds=("publishing", "connections"))) as exporter:
        exporter.poll()
        exporter.poll(feed="connections")
        late.world.clock.advance(600)
        exporter.poll(feed="connections")
        plan, imbalances = exporter.run_audit(feed="connections")
        assert ([], [], set(ids)) == (told(plan), imbalances, plan.listed_keys)
        execute(path, "DELETE FROM observation WHERE key = ?", ids[65])
        plan, imbalances = exporter.run_audit(feed="connections", exporter_running=False)
        assert ([(ids[65], "sso_failed", [])], [CounterMismatch("", 120, 119)]) == (told(plan), imbalances)


def test_refused_rows_and_folded_labels_are_in_the_books(late: FakeLateApi, path: Path) -> None:
    """Rows without an id, and platforms beyond the limit of labels, are weighed and compared like all others."""
    odd = ({"platform": "x"}, None, {"_id": 7, "createdAt": "2026-11-24T12:00:00Z"})
    late.quirks = ListQuirks(transform=lambda document: {**document, "logs": [*document["logs"], *odd]})
    for number in range(40):
        late.world.insert(late.world.clock.now - DAY + number, platform=f"platform{number}", action=f"action{number}")
    with closing(ExporterHarness(late, path, max_values=5)) as exporter:
        exporter.poll()
        late.world.clock.advance(600)
        exporter.poll()
        plan, imbalances = exporter.run_audit()
        assert ([], [], 43) == (told(plan), imbalances, exporter.store.accounting(SCOPE).observation_count)
        (refused,) = (log_id for _, (log_id, status) in exporter.counted[-1:] if status == "rejected")
        execute(path, "DELETE FROM observation WHERE key = ?", refused)
        assert [(refused, "rejected", [])] == told(exporter.run_audit(exporter_running=False)[0])


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
    """With logs that come, come late, settle and go between any two requests, a healthy exporter is found healthy."""
    world = World(VirtualClock())
    world.publish(history, over=6 * DAY, kinds=KINDS)
    late = FakeLateApi(world, quirks=ListQuirks(max_page_size=cap))
    together = data.draw(st.integers(1, 5))
    with closing(ExporterHarness(late)) as exporter:
        exporter.settle()
        left = iter(moves)

        def between() -> None:
            for name, first, second in islice(left, together):
                _move(world, exporter, name, first, second)

        for _ in range(2):
            plan, imbalances = exporter.run_audit(between=between)
            assert ([], []) == (told(plan), imbalances)
        for name, first, second in left:
            _move(world, exporter, name, first, second)
        exporter.settle()
        plan, imbalances = exporter.run_audit()
        assert ([], [], set(), set()) == (told(plan), imbalances, plan.too_recent, plan.in_gap)


def _move(world: World, exporter: ExporterHarness, name: str, first: int, second: int) -> None:
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


# The walk by itself.


def row(number: int, status: str = "success") -> LogEntry:
    """A log; a larger number is a newer one."""
    return LogEntry(key=f"{number:06}", status=status, created=NOW - DAY_MS + number * 1000)


def walked(rows: list[LogEntry], between: Callable[[int], None], *, cap: int = 100, requests: int = 300) -> set[str]:
    """The keys that an audit looks at, in a list that may change before each request."""
    plan = Audit(coverage=COVERAGE, listed_keys=set())
    steps = audit_list(plan)
    answer: FetchedPage | None = None
    for number in range(requests):
        try:
            step = steps.send(answer)
        except StopIteration:
            return plan.listed_keys or set()
        assert isinstance(step, FetchPage)
        between(number)
        page = rows[step.skip : step.skip + cap]
        known = KnownLogs({entry.key: frozenset({"success"}) for entry in rows})
        answer = FetchedPage(LogPage(tuple(page), len(rows), step.skip + cap < len(rows)), known)
    raise AssertionError(f"more than {requests} requests")


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
def test_every_log_that_stays_is_looked_at(
    size: int, cap: int, moves: Sequence[tuple[int, str, int, int]], *, upside_down: bool
) -> None:
    """Whatever is inserted and deleted wherever while the list is read, and in whatever order it is listed."""
    rows = [row(number) for number in range(size, 0, -1)]
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
                new = [row(next(fresh)) for _ in range(count)]
                rows[:] = [*rows, *new] if upside_down else [*reversed(new), *rows]

    assert staying <= walked(rows, between, cap=cap)


@pytest.mark.parametrize("rows", [0, 1, 2, 99, 100, 101, 196, 198, 199, 300])
def test_lists_of_any_length(rows: int) -> None:
    """A list is read to its end, however it is cut into pages, by a request for 98 logs."""
    listed = [row(number) for number in range(rows, 0, -1)]
    assert rows == len(walked(listed, lambda _: None, requests=3 + rows // 98))


def test_a_list_that_begins_with_old_logs_is_read_on() -> None:
    """Only a list that goes from new to old has nothing more in scope where a page is out of it."""
    listed = [row(number) for number in range(1, 296)]
    plan = Audit(coverage=COVERAGE, since=listed[250].created or 0)
    steps = audit_list(plan)
    assert FetchPage(0) == next(steps)
    for start in (0, 98):
        page = LogPage(tuple(listed[start : start + 100]), has_more=True)
        assert FetchPage(start + 98) == steps.send(FetchedPage(page, KnownLogs({})))
    assert WaitForExporter() == steps.send(FetchedPage(LogPage(tuple(listed[196:])), KnownLogs({})))
    assert {entry.key for entry in listed[250:]} == plan.suspects.keys()


def test_logs_without_a_time_at_the_end_of_the_scope() -> None:
    """Where a list is not read to its end, nobody claims to have counted what has no time there."""
    listed = [row(number) for number in range(120, 0, -1)]
    undated = LogEntry(key="undated", status="success")
    plan = Audit(coverage=COVERAGE, since=listed[59].created or 0)
    steps = audit_list(plan)
    next(steps)
    known = KnownLogs({entry.key: frozenset({"success"}) for entry in listed})
    assert FetchPage(98) == steps.send(FetchedPage(LogPage((*listed[:99], undated)), known))
    end(steps, undated, *listed[98:], known=known)
    assert ({}, []) == (plan.suspects, plan.differences)


def test_a_list_that_does_not_move_on() -> None:
    """Where every page is the first one nothing can be told, and that is said."""
    seen = FetchedPage(LogPage(tuple(row(number) for number in range(300, 200, -1)), 300, has_more=True), KnownLogs({}))
    steps = audit_list(Audit(coverage=COVERAGE))
    next(steps)
    for _ in range(11):
        steps.send(seen)
    with pytest.raises(BadPayload, match="does not move on"):
        steps.send(seen)


def test_a_list_that_is_gone() -> None:
    """An endpoint that is not there is no empty list."""
    steps = audit_list(Audit(coverage=COVERAGE))
    next(steps)
    with pytest.raises(BadPayload, match="its own list"):
        steps.send(None)


def end(steps: AuditSteps, *entries: LogEntry, known: KnownLogs) -> None:
    """Give a generator its last page."""
    with pytest.raises(StopIteration):
        steps.send(FetchedPage(LogPage(entries), known))


def test_a_doubt_that_is_gone_or_changed_at_the_second_look() -> None:
    """What was deleted, counted, or has another status by then, is no difference; what is not known at all still is."""
    rows = [row(number) for number in range(5, 0, -1)]
    plan = Audit(coverage=COVERAGE)
    steps = audit_list(plan)
    next(steps)
    known = KnownLogs({rows[0].key: frozenset({"pending"}), rows[1].key: frozenset({"pending"})})
    assert WaitForExporter() == steps.send(FetchedPage(LogPage(tuple(rows)), known))
    assert FetchPage(0) == next(steps)
    known = KnownLogs({**known.statuses, rows[4].key: frozenset({"success"})})
    end(steps, row(5, "failed"), rows[1], row(3, "failed"), rows[4], known=known)
    assert [(rows[1].key, "success", ["pending"]), (rows[2].key, "failed", [])] == told(plan)


def test_a_doubt_in_a_gap_by_the_second_look() -> None:
    """What the exporter itself knows to be unread by then is told as that."""
    dated, undated = row(7), LogEntry(key="undated", status="success")
    plan = Audit(coverage=COVERAGE)
    steps = audit_list(plan)
    next(steps)
    assert WaitForExporter() == steps.send(FetchedPage(LogPage((dated, undated)), KnownLogs({})))
    plan.coverage = Coverage(
        retention_floor=0,
        complete_since=0,
        caught_up_at=NOW,
        gaps=(Gap(ListPosition(NOW, "x"), 0, 0, 0),),
        is_synced=True,
    )
    next(steps)
    end(steps, dated, undated, known=KnownLogs({}))
    assert ([], {dated.key, undated.key}) == (told(plan), plan.in_gap)


def test_grace() -> None:
    """Three polls, and a minute at least."""
    assert [60_000, 90_000, 900_000] == [grace_period(interval) for interval in (0.1, 30.0, 300.0)]


def test_the_equation_of_the_books() -> None:
    """Counters and records are weighed against the tally, each by itself."""

    def tally(counted: int, held: int, **counts: int) -> FeedAccounting:
        totals: dict[Series, SeriesValue] = {
            (LOGS, ("default", "tiktok", "publish", status)): SeriesValue(n, 0.0) for status, n in counts.items()
        }
        totals["late_exporter_entries_rejected_total", ("default", "publishing", "no_id")] = SeriesValue(2, 0.0)
        totals[LOGS, ("other", "tiktok", "publish", "success")] = SeriesValue(99, 0.0)
        return FeedAccounting(observation_count=counted, stored_count=held, pruned_count=4, series_values=totals)

    failures = "late_publishing_failures_total"
    assert [] == check_counters(SCOPE, PUBLISHING, tally(10, 6, success=8))
    assert [CounterMismatch(LOGS, 8, 9)] == check_counters(SCOPE, PUBLISHING, tally(10, 6, success=9))
    assert [CounterMismatch(LOGS, 8, 9), CounterMismatch("", 10, 9)] == check_counters(
        SCOPE, PUBLISHING, tally(10, 5, success=9)
    )
    assert [CounterMismatch(failures, 3, 0)] == check_counters(SCOPE, PUBLISHING, tally(10, 6, success=5, failed=3))
    events = "late_connection_events_total"
    assert [CounterMismatch(events, 10, 0)] == check_counters(
        Scope("default", "connections"), CONNECTIONS, tally(10, 6)
    )


def test_every_feed_says_what_counts_it() -> None:
    """Each sighting of a feed adds 1 to its counter, whatever is odd about it."""
    for feed in FEEDS.values():
        for entry in (
            LogEntry(key="a", status="pending"),
            LogEntry(key="a", status="x", action="odd", created=1, duration=5),
        ):
            counts = [found for found in feed.project("acme", entry) if found.family == feed.counter]
            assert [(1, False)] == [
                (found.amount, found.once_per_log) for found in counts if isinstance(found, IncCounter)
            ]

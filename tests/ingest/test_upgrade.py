"""States of an earlier version, which classified actions of generation zernio by a table only, count nothing twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.schedule import PollConfig
from late_exporter.model import LogEntry, Scope
from late_exporter.store import open_store
from late_exporter.store.snapshot import SqliteSnapshot
from tests.ingest.test_exactness import NEVER
from tests.support.clock import HOUR, MINUTE, VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.steps import Killed, drive
from tests.support.world import World

STATES = Path(__file__).parents[1] / "states"
STATE = STATES / "development/actions-by-table.sql"
"""Dump of the state that an earlier version had after it had counted ``create_world``, polling twice."""

KEYS_WITH_BODIES = STATES / "development/keys-with-bodies.sql"
"""The same of a later version and ``create_settling_world``; its keys included the request body."""

LOGS = "late_publishing_logs_total"
EVENTS = "late_connection_events_total"
FEEDS = ("publishing", "connections")
ZERNIO = GENERATIONS["zernio"]
ALIKE: dict[str, Any] = {"requestId": None, "postId": "p1"}

Start: TypeAlias = Callable[[FakeLateApi], ExporterHarness]


def create_world() -> World:
    """Return a key with logs of generation zernio, most of whose actions are in no table."""
    world = World(VirtualClock())
    start = world.clock.now

    def publish(age: float, action: str, status: str = "success", **fields: Any) -> str:
        row = {key: fields.pop(key) for key in ("status",) if key in fields}
        return world.insert(
            start - age, status=status, zernio={"action": action, **row, **fields.pop("zernio", {})}, **fields
        )

    publish(9 * HOUR, "post.published")
    publish(8 * HOUR, "post.platform.published")
    publish(7 * HOUR, "postPlatformFailed", "failed", statusCode=403)
    publish(6 * HOUR, "post.platform.failed", "failed", zernio={"status": None})
    publish(5 * HOUR, "story.exploded.failed", "failed", zernio={"status": None})
    publish(4 * HOUR, "post.platform.rate_limited", "skipped", zernio={"status": None})
    publish(3 * HOUR, "post.platform.deleted", "success")
    for action in ("post.published", "post.platform.published", "post-published"):
        # Identical logs by now; the earlier version did not know that two of them are publish logs.
        publish(2 * HOUR, action, **ALIKE)
    publish(HOUR, "post.platform.publishing", "pending", durationMs=None)
    publish(30 * MINUTE, "post.platform.publish", "pending", durationMs=None)
    for action, status in (
        ("account.connected", "success"),
        ("account.token_expired", "success"),
        ("account.reauthorized", "success"),
        ("account.oauth", "failed"),
    ):
        world.clock.advance(1.0)
        world.add_connection(zernio={"action": action, "status": status})
    return world


def create_settling_world() -> World:
    """Return a key with alike logs, and with pending logs that have no request body yet."""
    world = World(VirtualClock())
    start = world.clock.now
    for status in ("pending", "pending", "success", "failed"):
        world.insert(start - 3 * HOUR, status=status, **ALIKE)
    for number in range(3):
        without_body = {"action": "post.publishing", "request_body": None}
        world.insert(start - 2 * HOUR + 60 * number, status="pending", durationMs=None, zernio=without_body)
    world.insert(start - HOUR, status="pending", action="rate_limit_pause", zernio={"request_body": None})
    for account in ("acc1", "acc2", "acc3"):
        world.insert(start - 30 * MINUTE, accountId=account, requestId="r", zernio={"request_body": "{}"})
    for event in ("connect_success", "disconnect"):
        world.clock.advance(1.0)
        world.add_connection(event)
    return world


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a copy of the state."""
    with closing(sqlite3.connect(tmp_path / "late.db")) as connection:
        connection.executescript(STATE.read_text())
    return tmp_path / "late.db"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Return a function that starts an exporter on the state."""
    started: list[ExporterHarness] = []

    def start(late: FakeLateApi) -> ExporterHarness:
        late.world.clock.advance(60.0)
        config = PollConfig(reconcile_interval=NEVER)
        started.append(ExporterHarness(late, path, generation="zernio", feeds=FEEDS, config=config))
        return started[-1]

    yield start
    for exporter in started:
        exporter.close()


def stored_statuses(path: Path) -> set[tuple[str, str]]:
    """Return key and status of all stored observations."""
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute("SELECT key, status FROM observation"))


def list_entries(late: FakeLateApi, feed: Feed) -> Sequence[LogEntry]:
    """Return the logs in a list of the API."""
    response = drive(late.get(feed.path, {**feed.query, "limit": 100, "skip": 0}, path_template=feed.path))
    assert response is not None
    return feed.parse(response.body).entries


def listed_statuses(late: FakeLateApi) -> set[tuple[str, str]]:
    """Return key and status of all logs in the lists of the API."""
    result = set()
    for name in FEEDS:
        result |= {(entry.key, entry.status) for entry in list_entries(late, ZERNIO[name])}
    return result


def poll_all(exporter: ExporterHarness) -> None:
    """Poll both feeds."""
    for feed in FEEDS:
        assert "success" == exporter.poll(feed=feed).outcome
    exporter.clock.advance(30.0)


def test_an_upgrade_counts_nothing_twice(path: Path, start: Start) -> None:
    """All stored logs are recognized and get the keys and statuses of this version."""
    late = FakeLateApi(create_world(), generation="zernio")
    assert len(stored_statuses(path) & listed_statuses(late)) < len(stored_statuses(path)) - 8
    exporter = start(late)
    before = exporter.scrape()
    for _ in range(3):
        poll_all(exporter)
    assert [] == exporter.commit_log
    assert (12, 4) == (before.sum(LOGS), before.sum(EVENTS))
    after = exporter.scrape()
    assert {series: value for series, value in before.counters.items() if "late_exporter" not in series[0]} == {
        series: after[series] for series in before.counters if "late_exporter" not in series[0]
    }
    assert listed_statuses(late) == stored_statuses(path)
    assert [12, 4] == [exporter.store.feed_state(Scope("default", name)).log_count for name in FEEDS]
    for feed in FEEDS:
        audit, mismatches = exporter.run_audit(feed=feed)
        assert ([], []) == (audit.differences, mismatches)


def test_an_audit_recognizes_logs_of_an_earlier_version(path: Path) -> None:
    """Before the first poll, the audit finds all logs recorded, and changes nothing."""
    late = FakeLateApi(create_world(), generation="zernio")
    open_store(f"sqlite:///{path}").close()  # brings the schema up to date
    before = stored_statuses(path)
    with SqliteSnapshot(path) as snapshot:
        for name in FEEDS:
            entries = list_entries(late, ZERNIO[name])
            result = snapshot.lookup(Scope("default", name), entries, has_pending=ZERNIO[name].has_pending)
            assert [] == [entry for entry in entries if entry.status not in result.statuses.get(entry.key, ())]
    assert before == stored_statuses(path)


def test_a_kill_in_the_first_poll_after_an_upgrade(path: Path, start: Start) -> None:
    """A poll that is killed at any step counts nothing twice."""
    late = FakeLateApi(create_world(), generation="zernio")
    exporter, step = start(late), 0
    saved = path.read_bytes()
    while True:
        step += 1
        exporter.close()
        path.write_bytes(saved)
        exporter.restart()
        try:
            drive(exporter.pollers[Scope("default", "publishing")].poll(), step)
        except Killed:
            exporter.restart()
            poll_all(exporter)
            assert [] == exporter.commit_log
            assert 12 == exporter.scrape().sum(LOGS)
        else:
            break
    assert step > 3


def test_a_pending_log_of_an_earlier_version_settles(start: Start) -> None:
    """A log that was stored pending under its former key is counted in its final status, and is no longer pending."""
    world = create_world()
    exporter = start(FakeLateApi(world, generation="zernio"))
    waiting = next(row for row in world.rows if row.get("zernio", {}).get("action") == "post.platform.publish")
    settled = {"action": "post.platform.publish", "status": "success"}
    world.change(waiting["_id"], "success", durationMs=5, zernio=settled)
    for _ in range(3):
        poll_all(exporter)
    assert ["success"] == [status for _, (_, status) in exporter.commit_log]
    scrape = exporter.scrape()
    assert 13 == scrape.sum(LOGS)
    assert 0 == scrape.sum("late_publishing_pending_logs", action="post.platform.publish")


def test_a_log_after_an_upgrade_counts_as_an_attempt(start: Start) -> None:
    """A log whose action no table has is counted as what its words say."""
    world = create_world()
    exporter = start(FakeLateApi(world, generation="zernio"))
    poll_all(exporter)
    world.insert(world.clock.now, status="failed", statusCode=403, zernio={"action": "post.platform.failed"})
    poll_all(exporter)
    labels = {"platform": "instagram", "action": "publish", "status": "failed"}
    assert 1 == exporter.scrape().sum(LOGS, **labels)
    assert 1 == exporter.scrape().sum("late_account_consecutive_failures", account_id="acc1")


def test_failures_of_former_categories_keep_their_series(tmp_path: Path) -> None:
    """After an upgrade of a released state, old categories stay as they are and failures count in the new ones."""
    path = tmp_path / "released.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((STATES / "0.1.0.sql").read_text())
    world = World(VirtualClock())
    exporter = ExporterHarness(FakeLateApi(world), path, config=PollConfig(reconcile_interval=NEVER))
    before = exporter.scrape().family("late_publishing_failures_total", status_code="500")
    assert {("instagram", "publish", "system"): 2} == before
    world.clock.advance(HOUR)
    world.publish(3, over=MINUTE, status="failed", statusCode=500)
    assert ["success"] * 2 == [result.outcome for result in exporter.poll_repeatedly(2)]
    after = exporter.scrape().family("late_publishing_failures_total", status_code="500")
    assert {**before, ("instagram", "publish", "platform_error"): 3} == after
    exporter.close()


@pytest.fixture
def settling(tmp_path: Path) -> Iterator[ExporterHarness]:
    """Return an exporter on the state of a version whose keys included the request body."""
    with closing(sqlite3.connect(tmp_path / "late.db")) as connection:
        connection.executescript(KEYS_WITH_BODIES.read_text())
    late = FakeLateApi(create_settling_world(), generation="zernio")
    late.world.clock.advance(90.0)
    config = PollConfig(reconcile_interval=NEVER)
    exporter = ExporterHarness(late, tmp_path / "late.db", generation="zernio", feeds=FEEDS, config=config)
    yield exporter
    exporter.close()


def test_keys_that_included_the_request_body(settling: ExporterHarness, tmp_path: Path) -> None:
    """All stored logs get new keys, also alike ones that were stored as one log, and nothing counts again."""
    before = settling.scrape()
    with SqliteSnapshot(tmp_path / "late.db") as snapshot:
        entries = list_entries(settling.api, ZERNIO["publishing"])
        result = snapshot.lookup(Scope("default", "publishing"), entries, has_pending=True)
        assert [] == [entry for entry in result.entries if entry.status not in result.statuses.get(entry.key, ())]
    for _ in range(3):
        poll_all(settling)
    assert [] == settling.commit_log
    after = settling.scrape()
    for family in ("late_publishing_logs_total", "late_exporter_log_lag_seconds_count"):
        assert before.family(family) == after.family(family)
    assert [11, 2] == [settling.store.feed_state(Scope("default", name)).log_count for name in FEEDS]
    assert all("+" in key for key, _ in stored_statuses(tmp_path / "late.db"))
    assert 6 == after.sum("late_publishing_pending_logs")
    audit, mismatches = settling.run_audit(feed="publishing")
    assert ([], []) == (audit.differences, mismatches)


def test_request_bodies_that_appear_during_an_upgrade(settling: ExporterHarness) -> None:
    """Logs that settled meanwhile, with a body and as a retry, count once in each status."""
    world = settling.api.world
    for row in [row for row in world.rows if row["status"] == "pending"]:
        is_pause = row["action"] == "rate_limit_pause"
        fields = {} if is_pause else {"action": "post.published"}
        world.change(
            row["_id"],
            "skipped" if is_pause else "success",
            attemptNumber=2,
            zernio={**fields, "request_body": "{}"},
        )
    for _ in range(3):
        poll_all(settling)
    assert ["skipped"] + ["success"] * 5 == sorted(status for _, (_, status) in settling.commit_log)
    scrape = settling.scrape()
    assert 0 == scrape.sum("late_publishing_pending_logs")
    assert 1 == scrape.sum("late_publishing_rate_limit_pauses_total")
    assert [11, 2] == [settling.store.feed_state(Scope("default", name)).log_count for name in FEEDS]

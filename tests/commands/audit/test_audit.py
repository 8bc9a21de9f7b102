from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from late_exporter.api.generation import ApiGeneration
from late_exporter.commands.audit.report import AuditReport, render_json, render_text
from late_exporter.commands.audit.run import AuditRunner
from late_exporter.commands.feed_choice import recorded_feed
from late_exporter.errors import ConfigError, StoreError, Unauthorized
from late_exporter.ingest.audit import CounterMismatch, Difference
from late_exporter.ingest.poller import PollConfig
from late_exporter.model import FeedAccounting, LogEntry, Scope
from late_exporter.store import open_snapshot
from tests.support.worlds import (
    DAY,
    HOUR,
    ExporterHarness,
    FakeLateApi,
    NullLogger,
    Reply,
    VirtualClock,
    World,
    drive,
    unavailable,
)

SCOPE = Scope("default", "publishing")


@pytest.fixture
def world() -> World:
    """A key with the logs of some days."""
    world = World(VirtualClock())
    world.publish(250, over=5 * DAY)
    return world


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the state is."""
    return tmp_path / "state.db"


@pytest.fixture
def exporter(world: World, path: Path) -> Iterator[ExporterHarness]:
    """An exporter that has counted them."""
    with closing(ExporterHarness(FakeLateApi(world), path)) as exporter:
        exporter.settle()
        yield exporter


class AuditHarness:
    """The command beside an exporter, which does something whenever the command waits."""

    def __init__(self, exporter: ExporterHarness, path: Path, meanwhile: Callable[[], object] = list) -> None:
        self.clock = exporter.clock
        self.late = exporter.api
        self.path = path
        self.meanwhile = meanwhile
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Let time pass, and the exporter work."""
        self.slept.append(seconds)
        self.clock.advance(seconds)
        self.meanwhile()

    def run(self, *, since: float | None = None, wait: float = 120.0, scope: Scope = SCOPE) -> AuditReport:
        """What the command finds."""
        dialect = ApiGeneration("auto", logger=NullLogger())
        examiner = AuditRunner(
            scope,
            lambda coverage: recorded_feed(scope.feed, coverage, dialect, self.late),
            client=self.late,
            records=partial(open_snapshot, f"sqlite:///{self.path}"),
            interval=30.0,
            wait=wait,
            log=NullLogger(),
            clock=self.clock.time,
            monotonic=self.clock.monotonic,
            sleep=self.sleep,
        )
        return drive(examiner.run(since))


def lose(path: Path, key: str) -> None:
    """Take a log from the record."""
    with closing(sqlite3.connect(path)) as connection:
        assert 1 == connection.execute("DELETE FROM sighting WHERE key = ?", (key,)).rowcount
        connection.commit()


def test_a_healthy_state(exporter: ExporterHarness, world: World, path: Path) -> None:
    """Beside a running exporter nothing differs; what was deleted and what is new is told."""
    world.delete(*world.ids[10:13])
    world.clock.advance(30)
    exporter.poll()
    world.publish(2, over=5)
    report = AuditHarness(exporter, path).run()
    assert report.ok
    assert (True, 247, 2, 3, 3) == (report.polled, report.logs, report.too_recent, report.deleted, report.requests)
    assert (250, 250, 0) == (report.tally.observation_count, report.tally.stored_count, report.tally.pruned_count)
    assert report.until == pytest.approx((world.clock.now - 90) * 1000, abs=5000)


def test_what_the_exporter_counts_in_time_is_no_difference(exporter: ExporterHarness, world: World, path: Path) -> None:
    """What is in doubt is waited for, and no longer than needed."""
    exporter.poll()
    world.insert(world.clock.now - 2 * DAY)
    bench = AuditHarness(exporter, path, exporter.poll)
    report = bench.run()
    assert (True, False, [5.0]) == (report.ok, report.reconciled, bench.slept)


def test_what_stays_unknown_is_a_difference(exporter: ExporterHarness, world: World, path: Path) -> None:
    """After the wait a log that nobody has counted is one; without a wait at once."""
    lost = world.ids[100]
    lose(path, lost)
    exporter.poll()
    for wait, slept in ((12.0, [5.0, 5.0, 2.0]), (0.0, [])):
        bench = AuditHarness(exporter, path)
        report = bench.run(wait=wait)
        assert slept == bench.slept
        assert [lost] == [difference.entry.key for difference in report.differences]
        assert [CounterMismatch("", 250, 249)] == report.imbalances
        assert not report.ok
        assert not report.reconciled


def test_a_walk_that_has_passed_ends_the_wait(
    exporter: ExporterHarness, world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a whole walk has passed by without counting it will not be counted by waiting longer."""
    lost = world.ids[100]
    lose(path, lost)
    exporter.poll()
    honest = exporter.store.lookup

    def known(scope: Scope, keys: Any, *, since: int) -> Any:
        found = honest(scope, keys, since=since)
        return type(found)({**found.statuses, lost: frozenset({"success"})}, found.stored_count, found.expiring_count)

    monkeypatch.setattr(exporter.store, "lookup", known)
    bench = AuditHarness(exporter, path, exporter.settle)
    report = bench.run(wait=3600.0)
    assert ([5.0], True) == (bench.slept, report.reconciled)
    assert [lost] == [difference.entry.key for difference in report.differences]


def test_without_a_running_exporter(exporter: ExporterHarness, world: World, path: Path) -> None:
    """Only what was due before it stopped is compared, and nobody is waited for."""
    (waiting,) = world.publish(1, status="pending")
    exporter.poll()
    world.clock.advance(3 * HOUR)
    world.publish(120, over=2 * HOUR)
    world.insert(world.clock.now - 3.5 * HOUR)
    world.change(waiting, "success")
    bench = AuditHarness(exporter, path)
    report = bench.run()
    assert report.ok
    assert (False, [], 122) == (report.polled, bench.slept, report.too_recent)
    lose(path, world.ids[200])
    assert not bench.run().ok
    assert [] == bench.slept


def test_only_since(exporter: ExporterHarness, world: World, path: Path) -> None:
    """What is older than asked for is not compared, and read no further than needed to know."""
    exporter.poll()
    lose(path, world.ids[200])
    report = AuditHarness(exporter, path).run(since=DAY)
    assert (50, 2) == (report.logs, report.requests)
    assert [] == report.differences
    assert report.since == pytest.approx((world.clock.now - DAY) * 1000, abs=2000)


def test_nothing_to_compare(exporter: ExporterHarness, path: Path, world: World) -> None:
    """A feed that was never read, and one whose first sync is not complete, are told as that."""
    report = AuditHarness(exporter, path).run(scope=Scope("default", "connections"))
    assert ("nothing has been counted yet", False) == (report.error, report.ok)
    beside = path.with_name("other.db")
    with closing(ExporterHarness(FakeLateApi(world), beside, config=PollConfig())) as other:
        other.api.fail_request(1, unavailable)
        other.poll()
        report = AuditHarness(other, beside).run()
    assert ("the first sync is not complete: nothing can be compared yet", False) == (report.error, report.ok)
    with pytest.raises(StoreError, match="there is no state"):
        AuditHarness(exporter, path.with_name("none.db")).run()


def _refuse(*_: Any) -> bytes:
    raise Unauthorized("401: the key was refused")


@pytest.mark.parametrize("number", [0, 2])
def test_an_api_that_fails(exporter: ExporterHarness, path: Path, number: int) -> None:
    """An audit that cannot be carried through is no good one."""
    exporter.api.fail_request(number, _refuse)
    report = AuditHarness(exporter, path).run()
    assert ("401: the key was refused", False) == (report.error, report.ok)


def test_an_endpoint_that_is_not_there(exporter: ExporterHarness, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """404 is no empty list."""

    async def get(path: str, params: Mapping[str, str | int], *, path_template: str) -> Reply | None:
        assert path == path_template == "/v1/posts/logs"
        return None if "skip" in params else Reply(b"", None)

    monkeypatch.setattr(exporter.api, "get", get)
    assert "404: the API has no /v1/posts/logs" == AuditHarness(exporter, path).run().error


def adopt(exporter: ExporterHarness, scope: Scope = SCOPE) -> None:
    """Have the API speak zernio, and the exporter know it and nothing else of it."""
    exporter.api.set_generation("zernio")
    coverage = exporter.store.feed_state(scope).coverage
    assert coverage is not None
    exporter.store.begin_rekey(scope, msgspec.structs.replace(coverage, generation="zernio"))


def test_a_state_of_zernio(world: World, path: Path) -> None:
    """Logs without ids are compared as the exporter tells them apart, those that are alike too."""
    world.publish(3, status="pending")
    for _ in range(3):
        world.insert(world.clock.now - DAY, postId="p1")
    late = FakeLateApi(world)
    late.set_generation("zernio")
    with closing(ExporterHarness(late, path, generation="auto")) as exporter:
        exporter.settle()
        exporter.poll()
        report = AuditHarness(exporter, path).run()
        assert report.ok
        assert (256, 0, 0) == (report.logs + report.too_recent, report.deleted, report.in_gap)
        lost = next(key for key, _ in exporter.observations if int(key[:13]) < (world.clock.now - DAY) * 1000)
        lose(path, lost)
        report = AuditHarness(exporter, path).run(wait=0.0)
        assert [lost] == [difference.entry.key for difference in report.differences]


def test_logs_that_are_yet_to_be_recognized(exporter: ExporterHarness, world: World, path: Path) -> None:
    """After a switch a log is no difference and was not deleted, but what nobody has counted is one."""
    exporter.poll()
    adopt(exporter)
    report = AuditHarness(exporter, path).run()
    assert report.ok
    assert (250, 0) == (report.logs + report.too_recent, report.deleted)
    world.insert(world.clock.now - 2 * DAY, platform="tiktok")
    world.delete(world.ids[150])
    report = AuditHarness(exporter, path).run(wait=0.0)
    assert [("tiktok", frozenset())] == [
        (found.entry.platform, found.recorded_statuses) for found in report.differences
    ]
    assert 1 == report.deleted


def test_what_settled_before_it_was_recognized(exporter: ExporterHarness, world: World, path: Path) -> None:
    """A log that was counted as pending and has settled since is the status that is missing."""
    world.insert(world.clock.now - DAY, status="pending", platform="tiktok")
    (waiting,) = (row["_id"] for row in world.rows if row["status"] == "pending")
    exporter.settle()
    exporter.poll()
    adopt(exporter)
    world.change(waiting, "failed")
    report = AuditHarness(exporter, path).run(wait=0.0)
    assert [("failed", frozenset({"pending"}))] == [
        (found.entry.status, found.recorded_statuses) for found in report.differences
    ]


def test_connections_that_are_yet_to_be_recognized(world: World, path: Path) -> None:
    """Their events are taken for those that they were counted as."""
    for event in ("connect_success", "reconnect_success", "disconnect"):
        world.add_connection(event)
        world.clock.advance(600)
    scope = Scope("default", "connections")
    with closing(ExporterHarness(FakeLateApi(world), path, feeds=["connections"])) as exporter:
        exporter.settle()
        exporter.poll()
        adopt(exporter, scope)
        report = AuditHarness(exporter, path).run(scope=scope)
    assert report.ok
    assert (3, 0) == (report.logs + report.too_recent, report.deleted)


def test_an_api_of_another_generation(exporter: ExporterHarness, path: Path) -> None:
    """Where the exporter has not heard of a switch, it is to be started."""
    exporter.api.set_generation("zernio")
    report = AuditHarness(exporter, path).run()
    assert not report.ok
    assert (
        "the API speaks generation zernio and the state was counted from late; start the exporter once, and it goes on "
        "from there"
    ) == report.error


def test_since_before_logs_are_kept(exporter: ExporterHarness, path: Path) -> None:
    """A generation keeps logs for so long and no longer."""
    with pytest.raises(ConfigError, match="--since: must be at most 7d, as long as generation late of the API keeps"):
        AuditHarness(exporter, path).run(since=8 * DAY)
    adopt(exporter)
    assert AuditHarness(exporter, path).run(since=8 * DAY).ok


# What is printed.

MADE = AuditReport(
    workspace="brand",
    feed="publishing",
    since=1_795_000_000_000,
    until=1_795_600_000_000,
    polled=True,
    logs=35_012,
    requests=358,
    seconds=41.23,
    tally=FeedAccounting(observation_count=36_120, stored_count=35_420, pruned_count=700, series_values={}),
)
ENTRY = LogEntry(key="65f1", status="failed", created=1_795_500_000_000, platform="tiktok", action="publish")


def changed(**changes: Any) -> AuditReport:
    """The report with something in it."""
    return AuditReport(**{name: changes.get(name, getattr(MADE, name)) for name in MADE.__struct_fields__})


def test_text_of_a_good_report() -> None:
    """What was compared, what it cost, and how the books close."""
    assert [
        "brand publishing: no difference",
        "  35,012 logs from 2026-11-18T11:06:40Z to 2026-11-25T09:46:40Z compared, 358 requests, 41.2 s",
        "  36,120 counted in all: 35,420 on record, 700 forgotten by age",
    ] == list(render_text([MADE]))


def test_text_of_what_differs() -> None:
    """A line a difference with id, time and both statuses, and what to do."""
    settled = LogEntry(key="!ab", status="success", platform="instagram", action="retry")
    report = changed(
        differences=[Difference(ENTRY, frozenset()), Difference(settled, frozenset({"pending", "failed"}))],
        imbalances=[
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
        "  2 logs in a gap that the exporter knows of and will read",
        "  1 log too new to be judged",
        "  1,200 logs on record that the API no longer shows: deleted there",
        "  missing  2026-11-24T06:00:00Z  tiktok     publish  failed   not counted                 65f1",
        "  status   -                     instagram  retry    success  counted as failed, pending  !ab",
        "  The next reconcile walk should count them; audit again after it, or with a longer --wait.",
        "  late_publishing_logs_total says 36,122, 2 more than were counted: they were counted twice.",
        "  late_publishing_retries_total says 11, 1 less than were counted: they are not counted.",
        "  Records and forgotten make 36,119, 1 less than were counted: they are lost, and count twice when met again.",
        "  Records and forgotten make 36,125, 5 more than were counted: they were never counted.",
    ] == lines[3:]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reconciled": True}, "this is a bug, please report it"),
        ({"polled": False}, "once it runs"),
        ({}, "audit again"),
    ],
)
def test_text_says_what_to_do(changes: dict[str, Any], words: str) -> None:
    """The advice is another one where a walk has passed, and where nobody polls."""
    lines = list(render_text([changed(differences=[Difference(ENTRY, frozenset())], **changes)]))
    assert "brand publishing: 1 difference" == lines[0]
    assert words in lines[-1]
    assert ("no exporter polls" in "".join(lines)) == (changes.get("polled") is False)


def test_text_is_cut_after_fifty_lines() -> None:
    """Thousands of differences are a number."""
    lines = list(render_text([changed(differences=[Difference(ENTRY, frozenset())] * 1300)]))
    assert 50 == sum("missing" in line for line in lines)
    assert "  and 1,250 more; --format json names them all" in lines


def test_text_of_several_feeds() -> None:
    """A paragraph each; trouble is a line."""
    broken = AuditReport(workspace="brand", feed="connections", error="nothing has been counted yet")
    lines = list(render_text([MADE, broken]))
    assert ["", "brand connections: nothing has been counted yet"] == lines[-2:]


def test_text_of_a_time_beyond_the_calendar() -> None:
    """An absurd time is shown as it is."""
    odd = LogEntry(key="a", status="x", created=10**18)
    assert str(10**18) in "".join(render_text([changed(differences=[Difference(odd, frozenset())])]))


def test_json() -> None:
    """One object with every difference."""
    report = changed(
        differences=[Difference(ENTRY, frozenset({"pending"}))],
        imbalances=[CounterMismatch("", 5, 4), CounterMismatch("x", 5, 7)],
    )
    read = json.loads(render_json([MADE, report]))
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

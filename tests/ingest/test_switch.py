"""Every log exactly once without ids, and through the day on which the API stops giving them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import precondition, rule

from late_exporter.feeds import GENERATIONS
from late_exporter.ingest import poller
from late_exporter.ingest.poller import PollConfig
from late_exporter.simulator.log_list import LogRow
from tests.ingest.test_exactness import EVENTS as HAPPENINGS
from tests.ingest.test_exactness import NEVER, Events, Exactness
from tests.support.profiles import example_count, is_thorough
from tests.support.worlds import (
    DAY,
    HOUR,
    MINUTE,
    ExporterHarness,
    FakeLateApi,
    ListQuirks,
    LogStatus,
    VirtualClock,
    World,
    zernio,
)

Start: TypeAlias = Callable[..., ExporterHarness]

ZERNIO = GENERATIONS["zernio"]["publishing"]
LOGS = "late_publishing_logs_total"


@pytest.fixture
def world() -> World:
    """A key without logs."""
    return World(VirtualClock())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an exporter that finds out what the API speaks, with a state in a file of its own."""
    started: list[ExporterHarness] = []

    def start(late: FakeLateApi, **options: Any) -> ExporterHarness:
        pace = options.pop("pace", PollConfig(reconcile_interval=NEVER))
        started.append(
            ExporterHarness(late, tmp_path / f"{len(started)}.db", generation="auto", config=pace, **options)
        )
        return started[-1]

    yield start
    for exporter in started:
        exporter.close()


def truth(rows: Sequence[LogRow]) -> Counter[tuple[str, ...]]:
    """How many logs there are by platform, action and status."""
    return Counter((row["platform"], row["action"], row["status"]) for row in rows)


def counts(exporter: ExporterHarness) -> Counter[tuple[str, ...]]:
    """How many logs are shown by platform, action and status."""
    return Counter({labels: int(value) for labels, value in exporter.scrape().family(LOGS).items()})


def switch(exporter: ExporterHarness) -> None:
    """The vendor turns the old endpoints off, and the exporter finds out."""
    exporter.api.generation = "zernio"
    for _ in range(4):
        exporter.poll_repeatedly(1)
    assert "zernio" == exporter.poller.generation


ALIKE: dict[str, Any] = {"requestId": None}
"""Nothing tells such logs apart but their number."""


@pytest.mark.parametrize("cap", [10, 100])
def test_logs_without_ids_are_counted_once(cap: int, world: World, start: Start) -> None:
    """A first sync, a catch-up, a restart and late logs of generation zernio are exact."""
    exporter = start(FakeLateApi(world, quirks=ListQuirks(max_page_size=cap), generation="zernio"))
    world.publish(230, over=5 * DAY)
    exporter.poll()
    assert truth(world.rows) == counts(exporter)
    world.clock.advance(HOUR)
    world.publish(47, platform="tiktok", status="failed")
    exporter.restart(downtime=HOUR)
    exporter.poll_repeatedly(2)
    world.insert(world.clock.now - 20 * MINUTE)
    exporter.poll_repeatedly(2)
    assert truth(world.rows) == counts(exporter)
    assert len(set(exporter.counted)) == len(exporter.counted) == 278


@pytest.mark.parametrize("alike", [2, 5, 40])
def test_logs_that_are_alike_are_as_many_as_there_are(alike: int, world: World, start: Start) -> None:
    """Logs of one moment that nothing tells apart count each, wherever pages break; so does a later one."""
    exporter = start(FakeLateApi(world, generation="zernio"))
    world.publish(61, over=DAY)
    world.publish(alike, over=0, **ALIKE)
    world.clock.advance(1)
    world.publish(90, over=0.5)
    exporter.poll()
    exporter.restart()
    assert truth(world.rows) == counts(exporter)
    world.archives.publishing.insert(dict(world.rows[90], _id="twin"))
    exporter.poll_repeatedly(3)
    assert truth(world.rows) == counts(exporter)


def test_the_order_of_equals_does_not_matter(world: World, start: Start) -> None:
    """Logs of one moment in another order, in several statuses, are no new logs."""
    late = FakeLateApi(world, generation="zernio")
    exporter = start(late)
    world.publish(3, over=0, **ALIKE)
    (failed,) = world.publish(1, over=0, status="failed", **ALIKE)
    world.publish(2, over=0, **ALIKE)
    exporter.poll()
    expected = counts(exporter)
    row = world.archives.publishing.get(failed)
    assert row is not None
    world.archives.publishing.delete(failed)
    world.archives.publishing.insert(row)
    exporter.poll_repeatedly(2)
    assert truth(world.rows) == expected == counts(exporter)


@pytest.mark.parametrize("deleted", [1, 3, 12])
def test_a_page_that_begins_among_equals_leaves_none_out(deleted: int, world: World, start: Start) -> None:
    """Where rows are pulled up between two pages, logs alike at the edge are still all counted."""
    exporter = start(FakeLateApi(world, quirks=ListQuirks(max_page_size=10), generation="zernio"))
    world.publish(40, over=DAY)
    world.publish(4, over=0, **ALIKE)
    world.clock.advance(60)
    world.publish(8, over=30)
    exporter.api.before_request(2, lambda: world.delete_top(deleted))
    before = truth(world.rows)
    exporter.poll()
    exporter.settle()
    assert before[("instagram", "publish", "success")] >= counts(exporter).total() >= 52 - deleted
    assert truth(world.rows) - counts(exporter) == Counter()


@pytest.mark.parametrize("depth", [1, 20, 260])
def test_a_pending_log_settles_without_its_post(depth: int, world: World, start: Start) -> None:
    """What became of a pending log at any depth is asked for by its time, within two polls."""
    exporter = start(FakeLateApi(world, generation="zernio"))
    (waiting,) = world.publish(1, status="pending", durationMs=None)
    world.clock.advance(HOUR)
    world.publish(depth)
    exporter.poll()
    world.change(waiting, "failed", statusCode=500, durationMs=10)
    exporter.poll_repeatedly(2)
    assert {("instagram", "publish", "pending"): 1, ("instagram", "publish", "failed"): 1} == {
        labels: count for labels, count in counts(exporter).items() if labels[2] != "success"
    }
    assert {} == exporter.scrape().family("late_publishing_pending_logs")


def test_a_pending_log_that_was_deleted_is_given_up(world: World, start: Start) -> None:
    """A pending log that its time no longer shows is gone."""
    exporter = start(FakeLateApi(world, generation="zernio"))
    (waiting,) = world.publish(1, status="pending")
    world.clock.advance(HOUR)
    world.publish(150)
    exporter.poll()
    world.delete(waiting)
    exporter.poll_repeatedly(2)
    assert {} == exporter.scrape().family("late_publishing_pending_logs")
    assert 0 == len(exporter.recorders[next(iter(exporter.recorders))].pending_logs)


def test_a_list_that_ignores_times_is_left_to_the_walks(world: World, start: Start) -> None:
    """Where ``from`` and ``to`` are ignored nothing is given up, and the budget is not spent on it."""
    late = FakeLateApi(world, generation="zernio", quirks=ListQuirks(ignores_time_filter=True))
    exporter = start(late, pace=PollConfig())
    (waiting,) = world.publish(1, status="pending")
    world.clock.advance(2 * HOUR)
    world.publish(250, over=HOUR)
    exporter.poll()
    world.change(waiting, "success")
    exporter.poll_repeatedly(3)
    asked = len(late.requests)
    exporter.poll_repeatedly(2)
    assert 2 * 2 >= len(late.requests) - asked
    exporter.settle()
    assert truth(world.rows)["instagram", "publish", "success"] == counts(exporter)["instagram", "publish", "success"]
    assert {} == exporter.scrape().family("late_publishing_pending_logs")


def test_a_time_whose_logs_do_not_move_on_ends_the_search(world: World, start: Start) -> None:
    """Where the API shows the same page of a moment again and again, a poll ends, and no log is given up."""
    exporter = start(FakeLateApi(world, quirks=ListQuirks(max_page_size=10), generation="zernio"))
    ids = world.publish(15, over=0, status="pending")
    world.clock.advance(HOUR)
    world.publish(20)
    exporter.poll()
    for log_id in ids:
        world.change(log_id, "success")
    exporter.api.quirks = ListQuirks(max_page_size=10, ignores_skip=True)
    asked = len(exporter.api.requests)
    exporter.poll()
    assert len(exporter.api.requests) - asked <= 4
    exporter.api.quirks = ListQuirks(max_page_size=10)
    exporter.poll_repeatedly(3)
    assert truth(list(world.history.values())) == counts(exporter)


def test_a_switch_neither_loses_nor_doubles_a_log(world: World, start: Start) -> None:
    """What was counted by id is recognized; what came, settled or was missed about the switch counts once."""
    exporter = start(FakeLateApi(world))
    world.publish(150, over=5 * DAY)
    world.publish(4, over=0)
    kinds = ({"status": "pending"}, {"action": "retry", "attemptNumber": 2}, {"platform": "tiktok", "status": "failed"})
    ids = world.publish(9, over=HOUR, kinds=kinds)
    exporter.poll()
    exporter.poll_repeatedly(2)
    world.change(ids[0], "success")
    world.insert(world.clock.now - 30 * MINUTE)
    world.publish(130, over=10 * MINUTE, platform="twitter")
    switch(exporter)
    world.change(ids[3], "failed", statusCode=500)
    exporter.poll_repeatedly(3)
    plan, imbalances = exporter.run_audit()
    assert ([], [], 294) == (plan.differences, imbalances, len(plan.listed_keys or ()))
    expected = truth(list(world.history.values()))
    assert expected == counts(exporter)
    exporter.restart()
    exporter.poll_repeatedly(3)
    assert expected == counts(exporter)


def test_a_switch_in_the_middle_of_a_catch_up(world: World, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap that was left in one generation is read to its end in the other one, after a crash at any step."""
    monkeypatch.setattr(poller, "COMMIT_SIZE", 15)
    step, going_on = 0, True
    while going_on:
        step += 7
        world = World(VirtualClock())
        exporter = start(FakeLateApi(world, quirks=ListQuirks(max_page_size=10)))
        world.publish(30, over=HOUR)
        exporter.poll()
        world.clock.advance(HOUR)
        world.publish(60)
        going_on = exporter.kill(step)
        exporter.api.generation = "zernio"
        world.publish(25)
        exporter.poll()
        exporter.poll_repeatedly(3)
        assert "zernio" == exporter.poller.generation
        assert truth(world.rows) == counts(exporter)
    assert step > 20


def test_a_crash_at_any_step_of_a_switch(world: World, start: Start) -> None:
    """The state is one generation's or the other's, never in between."""
    for step in range(1, 60, 3):
        world = World(VirtualClock())
        exporter = start(FakeLateApi(world))
        ids = world.publish(130, over=DAY, kinds=({}, {"status": "pending"}))
        exporter.poll()
        exporter.restart()
        exporter.api.generation = "zernio"
        world.change(ids[1], "failed")
        exporter.kill(step)
        exporter.poll_repeatedly(3)
        exporter.settle()
        assert truth(list(world.history.values())) == counts(exporter)


def test_a_state_of_an_earlier_version_is_recognized_too(world: World, start: Start) -> None:
    """Logs that were counted before marks were kept are told by their time and status."""
    exporter = start(FakeLateApi(world))
    ids = world.publish(120, over=DAY, kinds=({}, {"status": "pending"}))
    exporter.poll()
    store = exporter.store.store
    store._connection.execute("UPDATE observation SET fingerprint = NULL")  # type: ignore[attr-defined]  # noqa: SLF001 - as 0.1.0 has left it
    switch(exporter)
    world.change(ids[1], "success")
    exporter.poll_repeatedly(3)
    exporter.settle()
    assert truth(list(world.history.values())) == counts(exporter)


def test_ids_that_come_one_day_double_nothing(world: World, start: Start) -> None:
    """Logs that were counted without an id are recognized when they have one, and new ones are known by it."""
    exporter = start(FakeLateApi(world, generation="zernio"))
    ids = world.publish(130, over=DAY)
    world.publish(3, over=0, **ALIKE)
    exporter.poll()
    for number, log_id in enumerate([*ids, *world.ids]):
        world.archives.publishing.update(log_id, zernioId=f"z{number}")
    world.publish(20, over=1, zernioId="y")
    for number, log_id in enumerate(world.ids[:20]):
        world.archives.publishing.update(log_id, zernioId=f"y{number}")
    exporter.poll_repeatedly(3)
    assert truth(world.rows) == counts(exporter)
    exporter.restart()
    exporter.poll_repeatedly(1)
    assert 153 == counts(exporter).total()


def test_connections_are_recognized_by_what_both_generations_tell(world: World, start: Start) -> None:
    """An account that came again is only connected in the other generation, and no new event."""
    exporter = start(FakeLateApi(world), feeds=("connections",))
    for event in ("connect_success", "disconnect", "reconnect_success", "connect_failed"):
        world.clock.advance(60)
        world.add_connection(event)
    exporter.poll()
    before = exporter.scrape().family("late_connection_events_total")
    switch(exporter)
    assert before == exporter.scrape().family("late_connection_events_total")
    world.add_connection("disconnect", accountId="acc2")
    exporter.poll_repeatedly(2)
    assert 5 == exporter.scrape().sum("late_connection_events_total")


def _key(written: bytes) -> str:
    (entry,) = ZERNIO.parse(b'{"logs": [' + written + b"]}").entries
    return entry.key


class Anonymous(Exactness):
    """The same world where logs have no ids, or lose them one day."""

    generation = "zernio"

    def __init__(self) -> None:
        super().__init__()
        self._known: set[LogStatus] = set()
        self._ids: dict[str, str] = {}

    def _start(self, late: FakeLateApi, path: Path, pace: PollConfig) -> ExporterHarness:
        late.generation = self.generation
        return ExporterHarness(late, path, config=pace, generation="auto")

    def _id(self, key: str) -> str:
        """Whatever a log is known by."""
        for sighted in self.world.history.keys() - self._known:
            self._known.add(sighted)
            self._ids[_key(msgspec.json.encode(zernio(self.world.history[sighted])))] = sighted[0]
        return self._ids.get(key, key)


class Unequal(World):
    """A world in which no two logs are of one moment."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self._moments: set[int] = set()

    def insert(self, created: float | None, *, precise: bool = True, **fields: Any) -> str:  # noqa: ARG002 - it always is
        """Insert a log at the next moment that is free."""
        moment = int((self.clock.now if created is None else created) * 1000)
        while moment in self._moments:
            moment += 1
        self._moments.add(moment)
        return super().insert(moment / 1000, precise=True, **fields)


class Switching(Anonymous):
    """The vendor turns the old endpoints off.

    Logs of one moment are left to the kill loop and to the tests above: where one of them was deleted or counted in
    part about the switch, it may be taken for another.
    """

    generation = "late"

    def __init__(self) -> None:
        super().__init__()
        self.world = Unequal(VirtualClock())

    @precondition(lambda self: self.late.generation == "late")
    @rule(events=HAPPENINGS)
    def switch(self, events: Events) -> None:
        """The old endpoints are gone, and the exporter finds out."""
        self._foresee(events)
        self.late.generation = "zernio"
        for _ in range(4):
            self.exporter.poll()
            self.world.clock.advance(30)
        self.late.clear_events()
        self.steady = False
        self._compare()


SETTINGS = settings(
    phases=[Phase.generate],
    max_examples=example_count(12, thorough=200),
    stateful_step_count=25,
    deadline=None,
    derandomize=not is_thorough(),
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestAnonymous, TestSwitching = Anonymous.TestCase, Switching.TestCase
TestAnonymous.settings = TestSwitching.settings = SETTINGS

"""Replicas that heartbeat, move workspaces and die, at a virtual time."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from random import Random

import pytest

from late_exporter.app import replicas
from late_exporter.errors import StoreRegressed
from late_exporter.protocols import Logger
from late_exporter.store.membership import MAX_MOVES
from tests.support.clock import SleepingClock
from tests.support.loggers import RecordingLogger
from tests.support.membership import LEASE, MemoryMembership, SimulatedReplica

HEARTBEAT = LEASE / replicas.HEARTBEATS_PER_LEASE
NAMES = [f"w{number:02}" for number in range(12)]
HANDOVERS = "late_exporter_cluster_handovers_total"
NOT_READY = "this replica has no lease and shows no workspaces; its last heartbeat failed: the database is down"


class Cluster:
    """Some replicas of twelve workspaces, and the checks that hold at any time."""

    def __init__(self, names: Iterable[str] = NAMES) -> None:
        self.clock, self.membership = SleepingClock(), MemoryMembership()
        self.groups = {name: name for name in names}
        self.replicas: list[SimulatedReplica] = []

    def add(self, name: str = "a", *, lease: float = LEASE, logger: Logger | None = None) -> SimulatedReplica:
        replica = SimulatedReplica(self.membership, self.clock, self.groups, name, lease=lease, logger=logger)
        self.replicas.append(replica)
        return replica

    async def remove(self, replica: SimulatedReplica, *, is_clean: bool) -> None:
        self.replicas.remove(replica)
        await (replica.stop() if is_clean else replica.kill())

    async def run(self, seconds: float, step: float = HEARTBEAT / 2) -> None:
        """Let time pass, and check all the time that no workspace is shown or written twice."""
        end = self.clock.elapsed + seconds
        while self.clock.elapsed < end:
            await self.clock.reach(min(self.clock.elapsed + step, end))
            self.check()

    def check(self) -> None:
        """Check that no two replicas show a workspace, and that no two may write it; a paused one answers nothing.

        Nor may any write to a workspace of which it has not read the state since it has claimed it.
        """
        awake = [each for each in self.replicas if not each.is_paused]
        shown = Counter(name for each in awake for name in each.exporter.scrape())
        assert set(shown.values()) <= {1}
        writing = [(name, each) for each in awake for name in each.exporter.polled if each.can_commit(name)]
        assert set(Counter(name for name, _ in writing).values()) <= {1}
        assert all(each.exporter.loaded_tokens[name] == each.store.tokens[name] for name, each in writing)

    def shown(self) -> dict[str, SimulatedReplica]:
        return {name: each for each in self.replicas for name in each.exporter.scrape()}


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """Return a cluster without replicas, which are killed at the end.

    Their ids, which decide who owns what, are the same in each run: of three random ones, each hundredth owns nothing.
    """
    monkeypatch.setattr("late_exporter.app.replicas.secrets.randbits", Random(1).getrandbits)
    new_cluster = Cluster()
    yield new_cluster
    for replica in new_cluster.replicas:
        replica.resume()
        await replica.kill()


async def test_replicas_share_the_workspaces(cluster: Cluster) -> None:
    """Soon after the start each workspace is shown by one of them, and each shows some."""
    first, second, third = (cluster.add(name) for name in "abc")
    await cluster.run(4 * HEARTBEAT)
    assert set(NAMES) == cluster.shown().keys()
    assert all(each.exporter.scrape() for each in (first, second, third))
    assert 3 == first.exporter.gauges["late_exporter_cluster_members", ()]
    owned = [each.exporter.gauges["late_exporter_cluster_owned_workspaces", ()] for each in cluster.replicas]
    assert 12 == sum(owned)
    assert "" == first.replica.unready_reason()
    members = first.replica.health().members
    assert ["a", "b", "c"] == sorted(each.name for each in members)
    assert set(NAMES) == {name for each in members for name in each.workspaces}
    assert ["a"] == [each.name for each in members if each.is_self]


async def test_a_dead_replica_is_replaced_after_a_lease(cluster: Cluster) -> None:
    """Its workspaces are shown by others soon after the lease, and not before its trust has ended."""
    first, _ = cluster.add(), cluster.add()
    await cluster.run(4 * HEARTBEAT)
    orphans = first.exporter.scrape()
    assert orphans
    await cluster.remove(first, is_clean=False)
    await cluster.run(LEASE - HEARTBEAT)
    assert cluster.shown().keys().isdisjoint(orphans)
    await cluster.run(4 * HEARTBEAT)
    assert set(NAMES) == cluster.shown().keys()


async def test_a_replica_that_is_stopped_is_replaced_at_once(cluster: Cluster) -> None:
    """It leaves, so that others take over with their next heartbeat."""
    first, _ = cluster.add(), cluster.add()
    await cluster.run(4 * HEARTBEAT)
    await cluster.remove(first, is_clean=True)
    assert not first.exporter.scrape()
    await cluster.run(2 * HEARTBEAT)
    assert set(NAMES) == cluster.shown().keys()


async def test_a_paused_replica_shows_and_writes_nothing(cluster: Cluster) -> None:
    """One that was paused for longer than a lease shows nothing from its first instruction on, and joins again."""
    first, second = cluster.add(), cluster.add()
    await cluster.run(4 * HEARTBEAT)
    before = set(first.exporter.scrape())
    first.pause()
    await cluster.run(2 * LEASE)
    assert set(NAMES) == second.exporter.scrape()
    first.resume()
    assert before == set(first.exporter.published), "it does not know yet"
    assert not first.exporter.scrape()
    assert not any(first.can_commit(name) for name in before)
    await cluster.run(4 * HEARTBEAT)
    assert set(NAMES) == cluster.shown().keys()
    assert first.exporter.scrape()
    assert len(before) == first.exporter.gauges[HANDOVERS, ("lost",)]
    assert 2 == len(cluster.membership.members)


async def test_a_new_replica_gets_its_share_bit_by_bit() -> None:
    """Others give away a few workspaces with each heartbeat, each of which is shown again with the next one."""
    cluster = Cluster(f"w{number:03}" for number in range(12 * MAX_MOVES))
    cluster.add()
    await cluster.run(4 * HEARTBEAT)
    assert len(cluster.groups) == len(cluster.shown())
    cluster.add()
    missing = []
    for _ in range(20):
        await cluster.run(HEARTBEAT, step=HEARTBEAT)
        missing.append(len(cluster.groups) - len(cluster.shown()))
    assert max(missing) <= 2 * MAX_MOVES
    assert 0 == missing[-1]
    assert all(len(each.exporter.scrape()) > 4 * MAX_MOVES for each in cluster.replicas)
    for replica in cluster.replicas:
        await replica.kill()


async def test_many_workspaces_are_added_bit_by_bit(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat adds some of the workspaces that are not in the state yet, and the next ones add the rest."""
    monkeypatch.setattr(replicas, "MAX_ADDED", 5)
    replica = cluster.add()
    added = []
    for _ in range(4):
        await cluster.run(HEARTBEAT, step=HEARTBEAT)
        added.append(len(cluster.membership.owners))
    assert [10, 12, 12, 12] == added
    assert set(NAMES) == replica.exporter.scrape()


async def test_an_outage_of_the_database(cluster: Cluster) -> None:
    """Nothing is shown once the trust has ended; afterwards each shows what it showed, and nothing has moved."""
    cluster.add("a")
    cluster.add("b")
    await cluster.run(4 * HEARTBEAT)
    before = cluster.shown()
    cluster.membership.is_down = True
    await cluster.run(LEASE)
    assert not cluster.shown()
    assert NOT_READY == cluster.replicas[0].replica.unready_reason()
    assert cluster.replicas[0].exporter.gauges["late_exporter_cluster_lease_age_seconds", ()] > LEASE - HEARTBEAT
    await cluster.run(4 * LEASE)
    cluster.membership.is_down = False
    await cluster.run(2 * LEASE)
    assert before == cluster.shown()
    assert {0} == {
        each.exporter.gauges[HANDOVERS, (kind,)] for each in cluster.replicas for kind in ("lost", "released")
    }


async def test_a_replica_without_a_database_is_not_ready(cluster: Cluster) -> None:
    """It shows nothing and says why, until the database answers."""
    cluster.membership.is_down = True
    replica = cluster.add()
    await cluster.run(2 * HEARTBEAT)
    assert NOT_READY == replica.replica.unready_reason()
    assert not cluster.shown()
    cluster.membership.is_down = False
    await cluster.run(2 * HEARTBEAT)
    assert set(NAMES) == cluster.shown().keys()


async def test_a_fenced_workspace_is_claimed_again(cluster: Cluster) -> None:
    """If another process has written to a workspace, its owner gets another token."""
    replica = cluster.add()
    await cluster.run(2 * HEARTBEAT)
    cluster.membership.tokens["w03"] = -1
    assert not replica.can_commit("w03")
    replica.store.fenced_workspaces.append("w03")
    await cluster.run(2 * HEARTBEAT)
    assert all(map(replica.can_commit, NAMES))
    assert set(NAMES) == cluster.shown().keys()
    assert 1 == replica.exporter.gauges["late_exporter_cluster_fenced_commits_total", ()]


async def test_a_state_that_has_lost_commits(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that notices when it claims a workspace ends."""
    replica = cluster.add()

    def adopt(_: object) -> None:
        raise StoreRegressed

    monkeypatch.setattr(replica.store, "adopt", adopt)
    await cluster.run(2 * HEARTBEAT)
    with pytest.raises(ExceptionGroup) as info:
        await replica.kill()
    assert info.group_contains(StoreRegressed)
    cluster.replicas.clear()


async def test_a_failure_is_logged_once(cluster: Cluster) -> None:
    """Workspaces that cannot be added are no failure of the heartbeat, and are tried again without a line each time."""
    logger = RecordingLogger()
    replica = cluster.add(logger=logger)
    replica.exporter.fails = True
    await cluster.run(10 * HEARTBEAT)
    replica.exporter.fails = False
    await cluster.run(4 * HEARTBEAT)
    assert set(NAMES) == replica.exporter.scrape()
    failures = [event for _, event in logger.above_debug if not event.startswith("workspaces")]
    assert ["handover failed", "handover recovered"] == failures


async def test_a_claim_whose_answer_is_lost(cluster: Cluster) -> None:
    """A workspace that the state says is owned, but that its owner does not know of, is claimed again."""
    replica = cluster.add()
    await cluster.run(2 * HEARTBEAT)
    cluster.groups["w99"] = "w99"
    (member_id,) = cluster.membership.members
    cluster.membership.add_workspaces(["w99"])
    cluster.membership.claim(member_id, ["w99"], ["publishing"])
    await cluster.run(3 * HEARTBEAT)
    assert {*NAMES, "w99"} == replica.exporter.scrape()
    assert replica.can_commit("w99")


async def test_a_reload_adds_and_removes_workspaces(cluster: Cluster) -> None:
    """A workspace that is not configured any more is released, and a new one is claimed."""
    replica = cluster.add()
    await cluster.run(2 * HEARTBEAT)
    del cluster.groups["w05"]
    cluster.groups["new"] = "new"
    await cluster.run(2 * HEARTBEAT)
    assert {*NAMES, "new"} - {"w05"} == replica.exporter.scrape()
    assert cluster.membership.owners["w05"] is None
    assert 0 == replica.exporter.gauges["late_exporter_cluster_unowned_workspaces", ()]


async def test_a_workspace_that_was_lost_is_read_again(cluster: Cluster) -> None:
    """A replica that is removed while it adds workspaces stops those that it had before it claims them again."""
    replica = cluster.add()
    await cluster.run(2 * HEARTBEAT)
    replica.exporter.can_change.clear()
    cluster.groups["new"] = "new"
    await cluster.run(2 * HEARTBEAT)
    cluster.membership.leave(next(iter(cluster.membership.members)))
    await cluster.run(2 * HEARTBEAT)
    replica.exporter.can_change.set()
    await cluster.run(3 * HEARTBEAT)
    assert {*NAMES, "new"} == replica.exporter.scrape()


async def test_a_workspace_that_could_not_be_added(cluster: Cluster) -> None:
    """Once another replica owns it, this one shows the workspaces that it can add."""
    other = cluster.add()
    await cluster.run(2 * HEARTBEAT)
    replica = cluster.add()
    replica.exporter.fails = True
    await cluster.run(4 * HEARTBEAT)
    replica.pause()
    await cluster.run(LEASE + 4 * HEARTBEAT)
    assert set(NAMES) == other.exporter.scrape()
    replica.exporter.fails = False
    replica.resume()
    await cluster.run(4 * HEARTBEAT)
    assert replica.exporter.scrape()
    assert set(NAMES) == cluster.shown().keys()


async def test_replicas_with_different_leases(cluster: Cluster) -> None:
    """While the option is changed one by one, a replica that was removed shows nothing from its next heartbeat on."""
    first, second = cluster.add(), cluster.add(lease=LEASE / 3)
    await cluster.run(4 * HEARTBEAT)
    assert first.exporter.scrape()
    first.pause()
    await cluster.run(LEASE / 2)
    assert set(NAMES) == second.exporter.scrape()
    first.exporter.can_change.clear()
    first.resume()
    await cluster.run(0.1)
    assert not first.exporter.scrape()


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(8))
async def test_any_order_of_faults(cluster: Cluster, seed: int) -> None:
    """Whatever happens, no workspace is shown or written by two replicas; afterwards each is shown by one."""
    draw = Random(seed)
    names = itertools.count()
    for _ in range(3):
        cluster.add(str(next(names)))
    for _ in range(40):
        replica = draw.choice(cluster.replicas)
        match draw.choice(("pause", "pause", "resume", "kill", "stop", "add", "down", "up")):
            case "pause":
                replica.pause()
            case "resume":
                replica.resume()
            case "kill" | "stop" as end if len(cluster.replicas) > 1 and not replica.is_paused:
                await cluster.remove(replica, is_clean=end == "stop" and not cluster.membership.is_down)
            case "add" if len(cluster.replicas) < 5:
                cluster.add(str(next(names)))
            case "down" | "up" as state:
                cluster.membership.is_down = state == "down"
        await cluster.run(draw.choice((HEARTBEAT / 3, HEARTBEAT, 3 * HEARTBEAT, LEASE, 1.5 * LEASE)))
    cluster.membership.is_down = False
    for replica in cluster.replicas:
        replica.resume()
    await cluster.run(2.5 * LEASE)
    assert set(NAMES) == cluster.shown().keys()
    assert len(cluster.replicas) == len(cluster.membership.members)

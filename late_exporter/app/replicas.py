"""One of several replicas: send heartbeats, and poll and expose the workspaces that this replica owns."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import NamedTuple

from late_exporter.app.exporter import Exporter
from late_exporter.errors import StoreError
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.protocols import Logger, Offload
from late_exporter.series import Series, SeriesValue
from late_exporter.status import ClusterHealth, MemberHealth
from late_exporter.store import SharedStore
from late_exporter.store.membership import (
    Assignment,
    ClaimedFeed,
    ClusterView,
    Member,
    Membership,
    MemberWatch,
    Moves,
    TrustWindow,
)

HEARTBEATS_PER_LEASE = 10
"""Heartbeats in a lease, so that some of them may fail."""

MAX_ADDED = 5_000
"""Maximum number of workspaces that a heartbeat adds to the state; 100,000 at once exceed its deadline."""

MAX_LOGGED_NAMES = 10

HEARTBEAT, HANDOVER = "heartbeat", "handover"
"""What can fail."""

HANDOVERS = "late_exporter_cluster_handovers_total"
FENCED_COMMITS: Series = ("late_exporter_cluster_fenced_commits_total", ())

NO_LEASE = "this replica has no lease and shows no workspaces"


def boot_time() -> float:
    """Return the seconds of a clock that is never set; on Linux it keeps running while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class SharedState(NamedTuple):
    """The state as a replica uses it: store and membership, each with a function that runs a call in its thread."""

    store: SharedStore
    offload: Offload
    membership: Membership
    offload_membership: Offload


class ReplicaConfig(NamedTuple):
    """Configuration of a replica.

    Args:
        name: Name of this replica, for people.
        feeds: Feeds of each workspace.
        lease: Seconds without a heartbeat after which others consider a replica dead.
    """

    name: str
    feeds: Sequence[str]
    lease: float


class ClusterReport:
    """The metrics and log messages of a replica about the replicas.

    Args:
        registry: Registry of the exporter.

    Attributes:
        failures: Errors of the last heartbeat and of the last handover, if they have failed.
    """

    def __init__(self, registry: SeriesRegistry, logger: Logger) -> None:
        self._registry = registry
        self._logger = logger
        self._counts = Counter[tuple[str, tuple[str, ...]]]({FENCED_COMMITS: 0})
        self._counts.update({(HANDOVERS, (kind,)): 0 for kind in ("claimed", "released", "lost")})
        self._created = time.time()
        self.failures: dict[str, str] = {}

    def count_fenced_commit(self) -> None:
        self._counts[FENCED_COMMITS] += 1

    def count_handover(self, kind: str, names: AbstractSet[str]) -> None:
        """Count and log workspaces that were claimed, released or lost."""
        self._counts[HANDOVERS, (kind,)] += len(names)
        write = self._logger.warning if kind == "lost" else self._logger.info
        write(f"workspaces {kind}", **_described(names))

    def report_removed(self, members: Iterable[Member]) -> None:
        names = [each.name for each in members]
        self._logger.warning("replicas removed, because their heartbeat has stopped", names=names)

    def report_failure(self, action: str, exc: StoreError) -> None:
        """Log that a heartbeat or a handover has failed, unless for the same reason as the last one."""
        if str(exc) != self.failures.get(action):
            self.failures[action] = str(exc)
            event = f"{action} failed"
            self._logger.warning(event, error=str(exc))

    def report_recovery(self, action: str) -> None:
        if self.failures.pop(action, ""):
            event = f"{action} recovered"
            self._logger.info(event)

    def update(self, ownership: Ownership, configured: Iterable[str], lease_age: float) -> None:
        """Set the gauges, and the counters to what was counted."""
        for name, value in (
            ("members", len(ownership.view.members)),
            ("owned_workspaces", len(ownership.held)),
            ("unowned_workspaces", len(ownership.unowned(configured))),
            ("lease_age_seconds", lease_age),
        ):
            self._registry.set_gauge(f"late_exporter_cluster_{name}", (), value)
        self._registry.update({series: SeriesValue(count, self._created) for series, count in self._counts.items()})


class Ownership:
    """Who owns which workspace, as far as a replica knows.

    Attributes:
        member_id: Id of this replica; None before it is a member.
        view: The members and the owners as of the last heartbeat, and what has changed since.
        held: Workspaces that this replica owns.
        leaving: Those of them that it is giving away.
    """

    def __init__(self) -> None:
        self.member_id: int | None = None
        self.view = ClusterView((), {})
        self.held: set[str] = set()
        self.leaving: set[str] = set()
        self._assignment = Assignment()

    def plan(self, groups: Mapping[str, str]) -> Moves:
        """Return the next moves of this replica; none before it is a member."""
        return Moves((), ()) if self.member_id is None else self._assignment.plan(self.view, self.member_id, groups)

    def free(self, names: Iterable[str]) -> None:
        """Take note that workspaces are free."""
        self.view = self.view._replace(owners={**self.view.owners, **dict.fromkeys(names)})

    def lose(self, names: AbstractSet[str]) -> None:
        """Take note that this replica does not own workspaces any more."""
        self.held -= names
        self.leaving &= self.held

    def take(self, names: AbstractSet[str], wanted: Iterable[str]) -> None:
        """Note which of the wanted workspaces were claimed; others may claim the rest after the next heartbeat."""
        self.held |= names
        owners = {**self.view.owners, **dict.fromkeys(names, self.member_id)}
        for name in set(wanted) - names:
            del owners[name]
        self.view = self.view._replace(owners=owners)

    def remove_members(self, member_ids: AbstractSet[int]) -> None:
        """Take note that members were removed, so that their workspaces are free."""
        members = [member for member in self.view.members if member.member_id not in member_ids]
        self.view = self.view._replace(members=members)
        self.free(name for name, owner in self.view.owners.items() if owner in member_ids)

    def unowned(self, configured: Iterable[str]) -> Sequence[str]:
        """Return the configured workspaces without an owner, sorted."""
        owners = self.view.owners
        return sorted(name for name in configured if name in owners and owners[name] is None)

    def health(self, configured: Iterable[str], lease_age: float) -> ClusterHealth:
        """Return the members, and who owns what."""
        owned: dict[int | None, list[str]] = {}
        for workspace, owner in self.view.owners.items():
            owned.setdefault(owner, []).append(workspace)
        members = tuple(
            MemberHealth(
                name=member.name,
                is_self=member.member_id == self.member_id,
                workspaces=tuple(sorted(owned.get(member.member_id, ()))),
            )
            for member in self.view.members
        )
        return ClusterHealth(members=members, unowned_workspaces=tuple(self.unowned(configured)), lease_age=lease_age)


class Replica:
    """Member of the replicas that share a state.

    Heartbeats and moves are two tasks, because a heartbeat must not wait for a poller that is being stopped.

    Args:
        exporter: Exporter, which owns no workspace at first.
        clock: Clock that keeps running while the machine is suspended, in seconds.
    """

    def __init__(
        self,
        exporter: Exporter,
        state: SharedState,
        config: ReplicaConfig,
        *,
        logger: Logger,
        clock: Callable[[], float] = boot_time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._exporter = exporter
        self._state = state
        self._config = config
        self._clock, self._sleep = clock, sleep
        self._trust = TrustWindow(config.lease, clock)
        self._watch = MemberWatch(config.lease)
        self._ownership = Ownership()
        self._report = ClusterReport(exporter.registry, logger)
        # The workspaces that the exporter polls, and all that may be in published bodies.
        self._served: AbstractSet[str] = frozenset()
        self._shown: AbstractSet[str] = frozenset()
        self._lock = asyncio.Lock()  # so that a view is never older than what is known to be owned
        self._heartbeat_event = asyncio.Event()

    async def run(self) -> None:
        """Take part until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_heartbeats())
            group.create_task(self._move_repeatedly())

    async def close(self) -> None:
        """Leave, so that others own the workspaces at once; the pollers must be stopped and nothing be served."""
        self._trust.revoke()
        membership, member_id = self._state.membership, self._ownership.member_id
        if member_id is not None and HEARTBEAT not in self._report.failures:
            with suppress(StoreError):
                await self._state.offload_membership(membership.leave, member_id)
        await self._state.offload_membership(membership.close)

    async def visible_workspaces(self) -> AbstractSet[str] | None:
        """Return the workspaces whose series may be shown; None is all of this replica. May run in any thread."""
        return None if self._trust.is_open() else frozenset()

    def unready_reason(self) -> str:
        """Return why this replica is not ready; empty if it is."""
        if self._trust.is_open():
            return ""
        failure = self._report.failures.get(HEARTBEAT)
        return f"{NO_LEASE}; its last heartbeat failed: {failure}" if failure else NO_LEASE

    def health(self) -> ClusterHealth:
        """Return the members, and who owns what, as of the last heartbeat."""
        return self._ownership.health(self._exporter.sharing_groups(), self._trust.age)

    async def _send_heartbeats(self) -> None:
        interval = self._config.lease / HEARTBEATS_PER_LEASE
        while True:
            started_at = self._clock()
            try:
                async with self._lock:
                    await self._send_heartbeat(started_at)
                self._report.report_recovery(HEARTBEAT)
            except StoreError as exc:
                self._report.report_failure(HEARTBEAT, exc)
            self._report.update(self._ownership, self._exporter.sharing_groups(), self._trust.age)
            self._heartbeat_event.set()
            await self._sleep(max(0.0, started_at + interval - self._clock()))

    async def _send_heartbeat(self, started_at: float) -> None:
        """Send a heartbeat, remove dead members, and prolong the trust if only owned workspaces are exposed."""
        offload, membership, ownership = self._state.offload_membership, self._state.membership, self._ownership
        member_id = ownership.member_id
        view: ClusterView | None = None if member_id is None else await offload(membership.send_heartbeat, member_id)
        if view is None or member_id is None:
            self._lose(ownership.held)
            ownership.member_id = member_id = secrets.randbits(62)
            await offload(membership.join, member_id, self._config.name)
            view = await offload(membership.send_heartbeat, member_id)
            if view is None:
                raise StoreError("this replica was removed while it registered")
        mine = {name for name, owner in view.owners.items() if owner == member_id}
        self._lose(ownership.held - mine)
        ownership.view = view
        if self._shown <= ownership.held:
            self._trust.renew(started_at)
        else:  # Others may show the rest, at once if their lease is shorter or this machine did not count a pause.
            self._trust.revoke()
        await self._remove_dead(member_id)
        if missing := sorted(self._exporter.sharing_groups().keys() - view.owners.keys())[:MAX_ADDED]:
            await offload(membership.add_workspaces, missing)
            ownership.free(missing)
        if stray := mine - ownership.held:  # A claim whose answer was lost.
            await offload(membership.release, member_id, stray)
            ownership.free(stray)

    async def _remove_dead(self, member_id: int) -> None:
        """Remove the members whose heartbeat has stopped, so that their workspaces are free."""
        others = [member for member in self._ownership.view.members if member.member_id != member_id]
        if dead := self._watch.dead_members(others, self._clock()):
            removed = await self._state.offload_membership(self._state.membership.remove, dead)
            self._ownership.remove_members(removed)
            self._report.report_removed(dead)

    def _lose(self, names: AbstractSet[str]) -> None:
        if names:
            self._report.count_handover("lost", names)
            self._ownership.lose(set(names))

    async def _move_repeatedly(self) -> None:
        while True:
            await self._heartbeat_event.wait()
            self._heartbeat_event.clear()
            try:
                await self._give_away()
                while await self._claim():
                    pass
                self._report.report_recovery(HANDOVER)
            except StoreError as exc:
                self._report.report_failure(HANDOVER, exc)

    async def _give_away(self) -> None:
        """Stop polling what is lost and a few of the workspaces that others should own; release the latter."""
        ownership, fenced = self._ownership, self._state.store.fenced_workspaces
        while fenced:  # Another process has taken them over: they have to be claimed again.
            ownership.leaving.add(fenced.popleft())
            self._report.count_fenced_commit()
        ownership.leaving.update(ownership.plan(self._exporter.sharing_groups()).releases)
        ownership.leaving &= ownership.held
        await self._serve(self._served & (ownership.held - ownership.leaving))
        async with self._lock:
            released = ownership.leaving & ownership.held
            if not released or ownership.member_id is None:
                return
            await self._state.offload_membership(self._state.membership.release, ownership.member_id, released)
            ownership.lose(released)
            ownership.free(released)
        self._report.count_handover("released", released)

    async def _claim(self) -> bool:
        """Claim a few free workspaces that this replica should own, and serve them; return whether there were any."""
        ownership, state = self._ownership, self._state
        async with self._lock:
            planned = ownership.plan(self._exporter.sharing_groups()).claims
            # Not what was lost and is still polled: its state has to be read again, as others may have changed it.
            claims = [name for name in planned if name not in self._shown]
            feeds: Sequence[ClaimedFeed] = ()
            if claims and ownership.member_id is not None:
                claim = state.membership.claim
                feeds = await state.offload_membership(claim, ownership.member_id, claims, self._config.feeds)
            claimed = {feed.scope.workspace for feed in feeds}
            ownership.take(claimed, claims)
        if claimed:
            await state.offload(state.store.adopt, feeds)
            self._report.count_handover("claimed", claimed)
        await self._serve(ownership.held - ownership.leaving)
        return bool(claimed)

    async def _serve(self, names: AbstractSet[str]) -> None:
        """Poll and show workspaces, and no others; return once the others are not shown any more."""
        if names == self._served == self._shown:
            return
        self._shown |= names
        await self._exporter.own(frozenset(names))
        self._served = names
        if removed := self._shown - names:  # Also workspaces that could not be added.
            await self._exporter.publisher.wait_published()
            self._shown = names
            await self._state.offload(self._state.store.forget, removed - self._ownership.held)


def _described(names: AbstractSet[str]) -> dict[str, object]:
    """Return the fields of a log entry about workspaces."""
    if len(names) <= MAX_LOGGED_NAMES:
        return {"workspaces": sorted(names)}
    return {"count": len(names)}

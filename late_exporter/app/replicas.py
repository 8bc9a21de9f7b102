"""One of several replicas: beat, and poll and show the workspaces that this replica owns."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import NamedTuple

from late_exporter.app.exporter import Exporter
from late_exporter.errors import LateError, StoreError
from late_exporter.protocols import Logger, Offload
from late_exporter.series import SeriesValue
from late_exporter.status import ClusterHealth, MemberHealth
from late_exporter.store import SharedStore
from late_exporter.store.membership import Assignment, ClusterView, Membership, MemberWatch, TrustWindow

BEATS_PER_LEASE = 10
"""Beats in a lease, so that some of them may fail."""

MAX_LOGGED_NAMES = 10

NO_LEASE = "this replica has no lease, because the database does not answer; it shows no workspaces"


def boot_time() -> float:
    """Return seconds of a clock that is never set; on Linux it goes on while the machine is suspended."""
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
        lease: Seconds after which others take a replica for dead whose beat has stopped.
    """

    name: str
    feeds: Sequence[str]
    lease: float


class Replica:
    """Member of the replicas that share a state.

    Beats and moves are two tasks, because a beat must not wait for a poller that is being stopped.

    Args:
        exporter: Exporter, which owns no workspace at first.
        clock: Clock that goes on while the machine is suspended, in seconds.
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
        self._store, self._offload, self._membership, self._offload_membership = state
        self._config = config
        self._logger, self._clock, self._sleep = logger, clock, sleep
        self._trust = TrustWindow(config.lease, clock)
        self._watch = MemberWatch(config.lease)
        self._assignment = Assignment()
        self._member_id: int | None = None
        self._view = ClusterView((), {})
        # The workspaces that this replica owns, those of them that it is giving away, those that the exporter polls,
        # and all that may be in published bodies.
        self._held: set[str] = set()
        self._leaving: set[str] = set()
        self._served: AbstractSet[str] = frozenset()
        self._shown: AbstractSet[str] = frozenset()
        self._counts = Counter[tuple[str, tuple[str, ...]]]()
        self._lock = asyncio.Lock()  # so that a view is never older than what is known to be owned
        self._beat_event = asyncio.Event()
        self._failure = ""
        self._created = time.time()
        exporter.exposition.shows_workspaces = self._trust.is_open

    async def run(self) -> None:
        """Take part until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat_repeatedly())
            group.create_task(self._move_repeatedly())

    async def close(self) -> None:
        """Leave, so that others own the workspaces at once; the pollers must be stopped and nothing be served."""
        self._trust.revoke()
        if self._member_id is not None and not self._failure:
            with suppress(StoreError):
                await self._offload_membership(self._membership.leave, self._member_id)
        await self._offload_membership(self._membership.close)

    def unready_reason(self) -> str:
        """Return why this replica is not ready; nothing if it knows the members."""
        return "" if self._trust.is_open() else NO_LEASE

    def health(self) -> ClusterHealth:
        """Return the members, and who owns what, as of the last beat."""
        owned: dict[int | None, list[str]] = {}
        for workspace, owner in self._view.owners.items():
            owned.setdefault(owner, []).append(workspace)
        groups = self._exporter.sharing_groups()
        members = tuple(
            MemberHealth(
                name=member.name,
                is_self=member.member_id == self._member_id,
                workspaces=tuple(sorted(owned.get(member.member_id, ()))),
            )
            for member in self._view.members
        )
        unowned = tuple(sorted(name for name in owned.get(None, ()) if name in groups))
        return ClusterHealth(members=members, unowned_workspaces=unowned, lease_age=self._trust.age)

    async def _beat_repeatedly(self) -> None:
        interval = self._config.lease / BEATS_PER_LEASE
        while True:
            started_at = self._clock()
            try:
                async with self._lock:
                    await self._beat(started_at)
                self._report_recovery()
            except StoreError as exc:
                self._report_failure(exc)
            self._update_metrics()
            self._beat_event.set()
            await self._sleep(max(0.0, started_at + interval - self._clock()))

    async def _beat(self, started_at: float) -> None:
        """Beat; prolong the trust if nothing is shown that this replica does not own; look after the others."""
        offload, membership = self._offload_membership, self._membership
        member_id = self._member_id
        view: ClusterView | None = None if member_id is None else await offload(membership.beat, member_id)
        if view is None or member_id is None:
            self._lose(self._held)
            self._member_id = member_id = secrets.randbits(62)
            await offload(membership.join, member_id, self._config.name)
            view = await offload(membership.beat, member_id)
            if view is None:
                raise StoreError("this replica was removed while it registered")
        mine = {name for name, owner in view.owners.items() if owner == member_id}
        self._lose(self._held - mine)
        self._view = view
        if self._shown <= self._held:
            self._trust.renew(started_at)
        await self._remove_dead(member_id)
        if missing := self._exporter.sharing_groups().keys() - view.owners.keys():
            await offload(membership.add_workspaces, sorted(missing))
            self._free(missing)
        if stray := mine - self._held:  # A claim whose answer was lost.
            await offload(membership.release, member_id, stray)
            self._free(stray)

    async def _remove_dead(self, member_id: int) -> None:
        """Remove the members whose beat has stopped, so that their workspaces are free."""
        others = [member for member in self._view.members if member.member_id != member_id]
        if dead := self._watch.dead_members(others, self._clock()):
            removed = await self._offload_membership(self._membership.remove, dead)
            members = [member for member in self._view.members if member.member_id not in removed]
            self._view = self._view._replace(members=members)
            self._free(name for name, owner in self._view.owners.items() if owner in removed)
            self._logger.warning("replicas removed, because their beat has stopped", names=[each.name for each in dead])

    def _free(self, names: Iterable[str]) -> None:
        """Take note that workspaces are free."""
        self._view = self._view._replace(owners={**self._view.owners, **dict.fromkeys(names)})

    def _lose(self, names: AbstractSet[str]) -> None:
        if names:
            self._count("late_exporter_cluster_handovers_total", len(names), "lost")
            self._logger.warning("workspaces lost", **_described(names))
            self._held -= set(names)
            self._leaving &= self._held

    async def _move_repeatedly(self) -> None:
        while True:
            await self._beat_event.wait()
            self._beat_event.clear()
            try:
                await self._give_away()
                while await self._claim():
                    pass
            except LateError as exc:
                self._report_failure(exc)

    async def _give_away(self) -> None:
        """Stop to poll and show what is lost, and a few of the workspaces that others should own; release these."""
        while self._store.fenced_workspaces:  # Another process has taken them over: they have to be claimed again.
            self._leaving.add(self._store.fenced_workspaces.popleft())
            self._count("late_exporter_cluster_fenced_commits_total", 1)
        if self._member_id is not None:
            moves = self._assignment.plan(self._view, self._member_id, self._exporter.sharing_groups())
            self._leaving.update(moves.releases)
        self._leaving &= self._held
        await self._serve(self._served & (self._held - self._leaving))
        async with self._lock:
            released = self._leaving & self._held
            if not released or self._member_id is None:
                return
            await self._offload_membership(self._membership.release, self._member_id, released)
            self._held -= released
            self._leaving -= released
            self._free(released)
        self._count("late_exporter_cluster_handovers_total", len(released), "released")
        self._logger.info("workspaces released", **_described(released))

    async def _claim(self) -> bool:
        """Claim a few free workspaces that this replica should own, and serve them; return whether there were any."""
        async with self._lock:
            if self._member_id is None:
                return False
            moves = self._assignment.plan(self._view, self._member_id, self._exporter.sharing_groups())
            feeds = []
            if moves.claims:
                feeds = await self._offload_membership(
                    self._membership.claim, self._member_id, moves.claims, self._config.feeds
                )
            claimed = {feed.scope.workspace for feed in feeds}
            self._held |= claimed
            # Those that others have claimed meanwhile are theirs as of the next beat.
            owners = {**self._view.owners, **dict.fromkeys(claimed, self._member_id)}
            for name in set(moves.claims) - claimed:
                del owners[name]
            self._view = self._view._replace(owners=owners)
        if claimed:
            await self._offload(self._store.adopt, feeds)
            self._count("late_exporter_cluster_handovers_total", len(claimed), "claimed")
            self._logger.info("workspaces claimed", **_described(claimed))
        await self._serve(self._held - self._leaving)
        return bool(claimed)

    async def _serve(self, names: AbstractSet[str]) -> None:
        """Poll and show workspaces, and no others; return once the others are not shown any more."""
        if names == self._served:
            return
        self._shown |= names
        await self._exporter.own(frozenset(names))
        removed, self._served = self._served - names, names
        if removed:
            await self._exporter.publisher.wait_published()
            self._shown = names
            await self._offload(self._store.forget, removed - self._held)

    def _count(self, family: str, amount: int, *labels: str) -> None:
        self._counts[family, labels] += amount

    def _update_metrics(self) -> None:
        registry, owners, groups = self._exporter.registry, self._view.owners, self._exporter.sharing_groups()
        unowned = sum(name in owners and owners[name] is None for name in groups)
        for name, value in (
            ("members", len(self._view.members)),
            ("owned_workspaces", len(self._held)),
            ("unowned_workspaces", unowned),
            ("lease_age_seconds", self._trust.age),
        ):
            registry.set_gauge(f"late_exporter_cluster_{name}", (), value)
        self._count("late_exporter_cluster_fenced_commits_total", 0)
        for kind in ("claimed", "released", "lost"):
            self._count("late_exporter_cluster_handovers_total", 0, kind)
        registry.update({series: SeriesValue(count, self._created) for series, count in self._counts.items()})

    def _report_failure(self, exc: LateError) -> None:
        if str(exc) != self._failure:
            self._failure = str(exc)
            self._logger.warning("beat failed", error=self._failure)

    def _report_recovery(self) -> None:
        if self._failure:
            self._failure = ""
            self._logger.info("beat recovered")


def _described(names: AbstractSet[str]) -> dict[str, object]:
    """Return the fields of a log entry about workspaces."""
    if len(names) <= MAX_LOGGED_NAMES:
        return {"workspaces": sorted(names)}
    return {"count": len(names)}

"""Replicas over a membership in memory, at a virtual time, with pauses, kills and a database that fails."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, cast

from late_exporter.app.exporter import Exporter
from late_exporter.app.replicas import Replica, ReplicaConfig, SharedState
from late_exporter.errors import StoreError
from late_exporter.model import Scope
from late_exporter.protocols import Logger
from late_exporter.series import Labels, Series, SeriesValue
from late_exporter.store import SharedStore
from late_exporter.store.membership import ClaimedFeed, ClusterView, Member
from tests.support.clock import SleepingClock
from tests.support.loggers import NullLogger
from tests.support.steps import drive

LEASE = 30.0


class MemoryMembership:
    """The tables of the membership in memory.

    Attributes:
        tokens: Fencing token of each workspace.
        is_down: Whether every operation fails.
    """

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.owners: dict[str, int | None] = {}
        self.tokens: dict[str, int] = {}
        self.is_down = False
        self._numbers = itertools.count(1)

    def _check(self) -> None:
        if self.is_down:
            raise StoreError("the database is down")

    def join(self, member_id: int, name: str) -> None:
        self._check()
        self.members[member_id] = Member(member_id, name, 0)

    def send_heartbeat(self, member_id: int) -> ClusterView | None:
        self._check()
        if member_id not in self.members:
            return None
        member = self.members[member_id]
        self.members[member_id] = member._replace(heartbeat=member.heartbeat + 1)
        return ClusterView(list(self.members.values()), dict(self.owners))

    def add_workspaces(self, workspaces: Iterable[str]) -> None:
        self._check()
        for workspace in workspaces:
            self.owners.setdefault(workspace, None)

    def remove(self, members: Iterable[Member]) -> AbstractSet[int]:
        self._check()
        removed = {each.member_id for each in members if self.members.get(each.member_id) == each}
        for member_id in removed:
            self.leave(member_id)
        return removed

    def claim(self, member_id: int, workspaces: Iterable[str], feeds: Iterable[str]) -> Sequence[ClaimedFeed]:
        self._check()
        if member_id not in self.members:
            raise StoreError("violates foreign key constraint")
        claimed = [name for name in workspaces if name in self.owners and self.owners[name] is None]
        token = next(self._numbers)
        for name in claimed:
            self.owners[name], self.tokens[name] = member_id, token
        return [ClaimedFeed(Scope(name, feed), token, 1, 0, 0) for name in claimed for feed in feeds]

    def release(self, member_id: int, workspaces: Iterable[str]) -> None:
        self._check()
        for name in workspaces:
            if self.owners[name] == member_id:
                self.owners[name] = None

    def leave(self, member_id: int) -> None:
        self._check()
        self.members.pop(member_id, None)
        self.owners = {name: None if owner == member_id else owner for name, owner in self.owners.items()}

    def close(self) -> None:
        pass


class Store:
    """The part of a shared store that a replica uses, with the tokens of its claims."""

    def __init__(self) -> None:
        self.fenced_workspaces: deque[str] = deque()
        self.tokens: dict[str, int] = {}

    def adopt(self, feeds: Sequence[ClaimedFeed]) -> None:
        self.tokens |= {scope.workspace: token for scope, token, *_ in feeds}

    def forget(self, workspaces: Collection[str]) -> None:
        for name in workspaces:
            self.tokens.pop(name, None)


class RecordingExporter:
    """An exporter of workspaces that records what it polls, and publishes it when it is awaited.

    Args:
        tokens: Current fencing token of each workspace.

    Attributes:
        polled: Workspaces that it polls.
        loaded_tokens: Fencing token of each of them when it was added.
        can_change: Event that is set while other workspaces can be added and removed.
        fails: Whether adding workspaces fails.
        published: Workspaces in the published bodies.
        gauges: Values of the metrics without labels.
    """

    def __init__(self, groups: Mapping[str, str], tokens: Mapping[str, int]) -> None:
        self.groups = groups
        self._tokens = tokens
        self.loaded_tokens: dict[str, int | None] = {}
        self.can_change = asyncio.Event()
        self.can_change.set()
        self.fails = False
        self.polled: AbstractSet[str] = frozenset()
        self.published: AbstractSet[str] = frozenset()
        self.gauges: dict[Series, float] = {}
        self.exposition = self.publisher = self.registry = self
        self.visible_workspaces: Callable[[], Coroutine[Any, Any, AbstractSet[str] | None]]

    def sharing_groups(self) -> Mapping[str, str]:
        return self.groups

    async def own(self, names: AbstractSet[str]) -> None:
        """Poll other workspaces. Those that are added may be published at any time."""
        self.published |= names
        added = names - self.polled
        await self.can_change.wait()
        if added and self.fails:
            raise StoreError("the state cannot be read")
        self.loaded_tokens |= {name: self._tokens.get(name) for name in added}
        await asyncio.sleep(0)
        self.polled = names

    async def wait_published(self) -> None:
        await asyncio.sleep(0)
        self.published = self.polled

    def set_gauge(self, family: str, labels: Labels, value: float) -> None:
        self.gauges[family, labels] = value

    def update(self, values: Mapping[Series, SeriesValue]) -> None:
        for series, value in values.items():
            assert isinstance(value.value, int)
            self.gauges[series] = value.value

    def scrape(self) -> AbstractSet[str]:
        """Return the workspaces that a scrape shows."""
        visible = drive(self.visible_workspaces())
        return self.published if visible is None else self.published & visible


class SimulatedReplica:
    """A replica whose process can be paused and killed."""

    def __init__(
        self,
        membership: MemoryMembership,
        clock: SleepingClock,
        groups: Mapping[str, str],
        name: str = "a",
        *,
        lease: float = LEASE,
        logger: Logger | None = None,
    ) -> None:
        self.store = Store()
        self.exporter = RecordingExporter(groups, self.store.tokens)
        self._membership, self._clock = membership, clock
        self._running = asyncio.Event()
        self._running.set()
        self.replica = Replica(
            cast("Exporter", self.exporter),
            SharedState(cast("SharedStore", self.store), self._offload, membership, self._offload),
            ReplicaConfig(name, ("publishing",), lease),
            logger=logger or NullLogger(),
            clock=clock.monotonic,
            sleep=self._sleep,
        )
        self.exporter.visible_workspaces = self.replica.visible_workspaces
        self._task = asyncio.ensure_future(self.replica.run())

    @property
    def is_paused(self) -> bool:
        return not self._running.is_set()

    async def _offload(self, call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Call; a pause comes before or after it."""
        await self._running.wait()
        result = call(*args, **keywords)
        await asyncio.sleep(0)
        await self._running.wait()
        return result

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self._running.wait()

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    async def kill(self) -> None:
        """End the process without a trace."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def stop(self) -> None:
        """End the process by SIGTERM."""
        await self.kill()
        await self.replica.close()

    def can_commit(self, workspace: str) -> bool:
        """Return whether the fence would accept a commit."""
        return self.store.tokens.get(workspace) == self._membership.tokens[workspace]

"""Which replicas are alive, which workspaces each of them owns, and until when it may show them.

Replicas share one state. Each is a member that owns workspaces, with a heartbeat, a counter that it keeps incrementing.
This module decides and does nothing else. All times are of one machine's own clock, in seconds: those of two machines
are never compared. Why that is enough is in docs/decisions/0008-replicas.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import NamedTuple, Protocol

from late_exporter.model import Scope

MARGIN_SHARE = 0.1
"""Share of the lease by which a replica stops showing its workspaces before others may own them."""

MAX_LOOK_SHARE = 0.5
"""Share of the lease after which a replica that has not looked at the members starts its observation again."""

MAX_MOVES = 20
"""Workspaces that are claimed, or given away, at a time."""


class Member(NamedTuple):
    """A replica as it is registered.

    Args:
        name: Name of its machine, for people.
        heartbeat: Counter that it increments.
    """

    member_id: int
    name: str
    heartbeat: int


class ClusterView(NamedTuple):
    """The members, and the id of the owner of each workspace, None if it is free; as of one heartbeat."""

    members: Sequence[Member]
    owners: Mapping[str, int | None]


class ClaimedFeed(NamedTuple):
    """A feed of a workspace that was claimed: its fencing token, and its row in the state."""

    scope: Scope
    token: int
    scope_id: int
    revision: int
    log_count: int


class Membership(Protocol):
    """The registered members and the owners of workspaces. Every method raises StoreError if nothing was changed."""

    def join(self, member_id: int, name: str) -> None:
        """Register a member."""

    def send_heartbeat(self, member_id: int) -> ClusterView | None:
        """Increment the heartbeat of a member; return the view after it, None if the member was removed.

        Raises:
            StoreRegressed: The state has lost earlier heartbeats; its feeds are marked as restored.
        """

    def add_workspaces(self, workspaces: Iterable[str]) -> None:
        """Register workspaces, which are free, unless they are registered."""

    def remove(self, members: Iterable[Member]) -> AbstractSet[int]:
        """Remove the given members whose heartbeat has not changed; free their workspaces; return their ids."""

    def claim(self, member_id: int, workspaces: Iterable[str], feeds: Iterable[str]) -> Sequence[ClaimedFeed]:
        """Make a member the owner of those of some workspaces that are free; return their feeds.

        Each gets another fencing token, so that its previous owner can no longer change anything.
        """

    def release(self, member_id: int, workspaces: Iterable[str]) -> None:
        """Let workspaces of a member become free."""

    def leave(self, member_id: int) -> None:
        """Remove a member; its workspaces become free."""

    def close(self) -> None:
        """Close the connection."""


class MemberWatch:
    """Finds members whose heartbeat has stopped.

    Args:
        lease: Seconds for which a heartbeat must be seen unchanged.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: dict[int, tuple[int, float]] = {}
        self._looked_at = -math.inf

    def dead_members(self, members: Iterable[Member], now: float) -> list[Member]:
        """Return the members whose heartbeat has not moved for a lease, as of ``now``, a time after they were read.

        After a pause, this process cannot know whether others have paused, too, for example because the database was
        down: it starts its observation again.
        """
        if now - self._looked_at > self._lease * MAX_LOOK_SHARE:
            self._seen.clear()
        self._looked_at = now
        seen = {}
        for member in members:
            heartbeat, since = self._seen.get(member.member_id, (None, now))
            seen[member.member_id] = (member.heartbeat, since if heartbeat == member.heartbeat else now)
        self._seen = seen
        return [member for member in members if now - seen[member.member_id][1] >= self._lease]


class TrustWindow:
    """The time in which a replica may show the series of its workspaces.

    It begins with a heartbeat, and ends before another replica can have waited for the next one for a whole lease.

    Args:
        lease: Seconds of the lease.
        clock: Clock that keeps running while the machine is suspended.
    """

    def __init__(self, lease: float, clock: Callable[[], float]) -> None:
        self._lease = lease
        self._clock = clock
        self._renewed_at = -math.inf
        self._created_at = clock()

    def renew(self, heartbeat_started_at: float) -> None:
        """Prolong the trust by a heartbeat that has succeeded and was started at a time."""
        self._renewed_at = max(self._renewed_at, heartbeat_started_at)

    def revoke(self) -> None:
        self._renewed_at = -math.inf

    def is_open(self) -> bool:
        return self._clock() < self._renewed_at + self._lease * (1 - MARGIN_SHARE)

    @property
    def age(self) -> float:
        """Seconds since the heartbeat that prolonged the trust, or since the start if there was none."""
        return self._clock() - max(self._renewed_at, self._created_at)


class Moves(NamedTuple):
    """Workspaces to claim, and to give away."""

    claims: Sequence[str]
    releases: Sequence[str]


class Assignment:
    """Which member should own which workspace, by rendezvous hashing: a change of the members moves as few as possible.

    Workspaces of one group have the same owner.
    """

    def __init__(self) -> None:
        self._members: frozenset[int] = frozenset()
        self._owners: dict[str, int] = {}

    def plan(self, view: ClusterView, member_id: int, groups: Mapping[str, str]) -> Moves:
        """Return the next moves of a member.

        Args:
            view: Members and owners.
            member_id: The member.
            groups: Group of each configured workspace.
        """
        wanted = {name for name, group in groups.items() if self._owner(group, view) == member_id}
        free = [name for name, owner in view.owners.items() if owner is None and name in wanted]
        unwanted = [name for name, owner in view.owners.items() if owner == member_id and name not in wanted]
        return Moves(free[:MAX_MOVES], unwanted[:MAX_MOVES])

    def _owner(self, group: str, view: ClusterView) -> int | None:
        members = frozenset(member.member_id for member in view.members)
        if members != self._members:
            self._members, self._owners = members, {}
        if group not in self._owners and members:
            self._owners[group] = max(members, key=lambda member: _score(group, member))
        return self._owners.get(group)


def _score(group: str, member_id: int) -> bytes:
    return blake2b(f"{group}\0{member_id}".encode(errors="surrogatepass"), digest_size=8).digest()

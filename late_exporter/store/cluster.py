"""Who owns which workspaces of a state that several processes use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import msgspec


class MemberHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A replica, and the workspaces that it owns; ``is_self`` for the one that says so."""

    name: str
    is_self: bool = False
    workspaces: tuple[str, ...] = ()


class ClusterHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The replicas that share the state, and the workspaces that none of them owns."""

    members: tuple[MemberHealth, ...] = ()
    unowned_workspaces: tuple[str, ...] = ()


class ClusterView(NamedTuple):
    """Who owns what, and which workspaces this process should take and give away next.

    Args:
        owners: Workspaces of each replica by the name of its session; its own name is that of the
            database's session.
        unowned: Configured workspaces without an owner.
    """

    owners: Mapping[str, AbstractSet[str]] = {}
    unowned: Sequence[str] = ()
    take: AbstractSet[str] = frozenset()
    give: AbstractSet[str] = frozenset()

    def health(self, own_session: str) -> ClusterHealth:
        """Return what the status page shows; the name of a replica is the last word of that of its session."""
        members = [
            MemberHealth(
                name=name.rpartition(" ")[2],
                is_self=name == own_session,
                workspaces=tuple(sorted(owned)),
            )
            for name, owned in sorted(self.owners.items())
        ]
        return ClusterHealth(members=tuple(members), unowned_workspaces=tuple(self.unowned))

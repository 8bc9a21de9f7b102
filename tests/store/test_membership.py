"""Members, the trust window and the assignment, without a database."""

from __future__ import annotations

from collections import Counter

import pytest

from late_exporter.store.membership import MAX_MOVES, Assignment, ClusterView, Member, MemberWatch, TrustWindow
from tests.support.clock import VirtualClock

LEASE = 30.0


def members(**heartbeats: int) -> list[Member]:
    return [Member(ord(name), name, heartbeat) for name, heartbeat in heartbeats.items()]


def watch(looks: dict[float, list[Member]]) -> list[list[str]]:
    """Return the names of the dead members of each look, given the members by time."""
    new_watch = MemberWatch(LEASE)
    return [[member.name for member in new_watch.dead_members(seen, now)] for now, seen in looks.items()]


def test_a_member_whose_heartbeat_stops_is_dead_after_a_lease() -> None:
    """It is dead once its heartbeat was seen not to move for a lease; others, whose heartbeat moves, are not."""
    looks = {now: members(a=3, b=int(now)) for now in (100.0, 110.0, 120.0, 129.0, 130.0)}
    assert [[], [], [], [], ["a"]] == watch(looks)


def test_a_heartbeat_that_moves_begins_another_lease() -> None:
    """The lease begins when the last heartbeat was first seen, whatever the number of the heartbeat."""
    looks = {0.0: members(a=9), 14.0: members(a=9), 28.0: members(a=2), 42.0: members(a=2), 57.0: members(a=2)}
    assert [[], [], [], [], []] == watch(looks)
    assert ["a"] == watch({**looks, 58.0: members(a=2)})[-1]


def test_no_member_is_dead_after_a_pause_of_the_observer() -> None:
    """An observer that was paused, or had no database, cannot know whether the others had the same trouble."""
    looks = {0.0: members(a=1), 3.0: members(a=1), 600.0: members(a=1), 614.0: members(a=1), 629.0: members(a=1)}
    assert [[], [], [], [], []] == watch(looks)
    assert ["a"] == watch({**looks, 630.0: members(a=1)})[-1]


def test_a_member_that_comes_back_is_not_dead() -> None:
    """A member that was removed and registers again is another one."""
    looks = {0.0: members(a=1), 10.0: members(b=1), 20.0: members(a=1, b=2), 31.0: members(a=1, b=3)}
    assert [[], [], [], []] == watch(looks)


def test_trust_ends_before_the_lease() -> None:
    """It ends a margin before a lease after the start of the last good heartbeat, before anybody can take over."""
    clock = VirtualClock()
    trust = TrustWindow(LEASE, clock.monotonic)
    assert not trust.is_open()
    clock.advance(5)
    trust.renew(3.0)
    assert trust.is_open()
    assert 2.0 == trust.age
    clock.advance(24.9)
    assert trust.is_open()
    clock.advance(0.1)
    assert not trust.is_open()
    trust.renew(1.0)
    assert not trust.is_open(), "an older heartbeat shortens nothing and prolongs nothing"
    trust.renew(30.0)
    assert trust.is_open()
    trust.revoke()
    assert not trust.is_open()


def test_an_expired_answer_does_not_open_the_window() -> None:
    """The answer to a heartbeat that was sent before a pause comes too late."""
    clock = VirtualClock()
    trust = TrustWindow(LEASE, clock.monotonic)
    started_at = clock.monotonic()
    clock.advance(60)
    trust.renew(started_at)
    assert not trust.is_open()


def view(owners: dict[str, int | None], *ids: int) -> ClusterView:
    return ClusterView([Member(member_id, str(member_id), 1) for member_id in ids], owners)


def assigned(names: list[str], *ids: int) -> dict[str, int]:
    """Return the member that claims each workspace if all are free."""
    claims: dict[str, int] = {}
    for member_id in ids:
        owners: dict[str, int | None] = dict.fromkeys(names)
        assignment = Assignment()
        while moves := assignment.plan(view(owners, *ids), member_id, {name: name for name in names}).claims:
            claims |= dict.fromkeys(moves, member_id)
            owners |= dict.fromkeys(moves, member_id)
    return claims


def test_each_workspace_has_one_member_and_all_members_have_some() -> None:
    """The members agree without talking to each other, and have about as many workspaces each."""
    names = [f"w{number}" for number in range(300)]
    owners = assigned(names, 1, 2, 3)
    assert set(names) == owners.keys()
    assert all(70 < count < 130 for count in Counter(owners.values()).values())


def test_a_change_of_members_moves_as_few_as_possible() -> None:
    """A member that leaves gives its workspaces to the others, and nothing else moves."""
    names = [f"w{number}" for number in range(300)]
    before, after = assigned(names, 1, 2, 3), assigned(names, 1, 3)
    assert {name for name in names if before[name] != after[name]} == {name for name in names if before[name] == 2}


def test_workspaces_of_one_group_have_the_same_owner() -> None:
    """They share the quota of a key, which only one process can divide."""
    owners: dict[str, int | None] = {f"w{number}": None for number in range(9)}
    groups = dict.fromkeys(owners, "w0")
    claims = [Assignment().plan(view(owners, 1, 2), member_id, groups).claims for member_id in (1, 2)]
    assert [0, 9] == sorted(map(len, claims))


def test_moves_are_limited() -> None:
    """Few workspaces move at a time: a member that appears does not interrupt all of them at once."""
    names = [f"w{number}" for number in range(300)]
    groups = {name: name for name in names}
    assert MAX_MOVES == len(Assignment().plan(view(dict.fromkeys(names), 1), 1, groups).claims)
    assert MAX_MOVES == len(Assignment().plan(view(dict.fromkeys(names, 1), 1, 2), 1, groups).releases)


@pytest.mark.parametrize("owner", [1, 2, None])
def test_a_workspace_that_is_not_configured(owner: int | None) -> None:
    """It is given away, and never claimed."""
    moves = Assignment().plan(view({"gone": owner}, 1, 2), 1, {})
    assert ([], ["gone"] if owner == 1 else []) == moves


def test_a_member_without_a_view_moves_nothing() -> None:
    """As long as no member is known, nothing is claimed."""
    assert ([], []) == Assignment().plan(view({"w": None}), 1, {"w": "w"})

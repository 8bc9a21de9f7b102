"""Who owns which workspace of a PostgreSQL state: one session at a time, and only what it still has is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest

from late_exporter.errors import StoreError, StoreFenced, StoreInUse, StoreMissing
from late_exporter.model import Scope
from late_exporter.store.migrations import TABLES
from late_exporter.store.ownership import ClusterView, Ownership
from late_exporter.store.postgres import PostgresDatabase
from tests.e2e.program import wait_until
from tests.store.test_store import batch_of
from tests.support.exporter import open_store
from tests.support.postgres import Cluster
from tests.support.proxy import Proxy
from tests.support.store import execute, log_count, problems

pytestmark = pytest.mark.e2e

NAMES = ("acme", "beta", "gamma", "umbrella")
GROUPS = {name: name for name in NAMES}


class Replica:
    """An exporter that shares a state with others.

    Attributes:
        owned: Workspaces after the last turn.
    """

    def __init__(self, url: str, *, is_shared: bool = True, lease: float = 60.0) -> None:
        self.url = url
        self.store = open_store(url, is_shared=is_shared)
        database = self.store.database
        assert isinstance(database, PostgresDatabase)
        self.session_name = database.session_name
        self.ownership = Ownership(self.store, database, is_shared=is_shared, lease=lease)
        self.owned: frozenset[str] = frozenset()

    def turn(self, groups: Mapping[str, str] = GROUPS) -> ClusterView:
        """Do what an exporter does every few seconds."""
        kept = self.ownership.reconnect()
        view = self.ownership.look(groups)
        self.ownership.give(view.give)
        self.owned = self.ownership.take(view.take)
        if new := self.owned - (kept - view.give):
            self.store.feed_states([Scope(name, "publishing") for name in sorted(new)])
        return view

    def commit(self, workspace: str, key: str) -> int:
        """Count a log of a workspace; return 0 if it was counted already."""
        (result,) = self.store.commit_all([batch_of(Scope(workspace, "publishing"), key)])
        if isinstance(result, StoreError):
            raise result
        return len(result.observations)


@pytest.fixture
def url(postgres: Cluster) -> str:
    """Return the URL of an empty state."""
    return postgres.create_schema()


@pytest.fixture
def open_replica(url: str) -> Iterator[Callable[..., Replica]]:
    """Return a function that opens a replica of the state, which is closed at the end."""
    with ExitStack() as stack:

        def open_one(at: str = url, **options: Any) -> Replica:
            replica = Replica(at, **options)
            stack.callback(replica.store.close)
            return replica

        yield open_one


def settle(*replicas: Replica, groups: Mapping[str, str] = GROUPS) -> list[int]:
    """Let the replicas have turns until nothing moves; return how many workspaces each of them owns, which are all."""

    def nothing_moves() -> bool:
        views = [replica.turn(groups) for _ in range(3) for replica in replicas]
        owned = sorted(name for replica in replicas for name in replica.owned)
        return owned == sorted(groups) and not any(view.take or view.give for view in views[-len(replicas) :])

    wait_until(nothing_moves)
    assert all(replica.owned == replica.ownership.confirm() for replica in replicas)
    return [len(replica.owned) for replica in replicas]


def end_session(url: str, replica: Replica) -> None:
    """End the session of a replica, as a restart of the server does, and wait until its locks are free."""
    name = replica.session_name
    execute(url, f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = '{name}'")  # noqa: S608 - a constant


# Who takes what


def test_replicas_have_equal_shares(url: str, open_replica: Callable[..., Replica]) -> None:
    """Whenever one comes or goes."""
    first, second = open_replica(), open_replica()
    assert settle(first, second) == [2, 2]
    assert sorted(each.is_self for each in first.turn().members) == [False, True]
    others = [open_replica(), open_replica()]
    assert settle(first, second, *others) == [1, 1, 1, 1]
    for replica in (second, *others):
        end_session(url, replica)
    assert settle(first) == [4]


def test_a_workspace_is_taken_that_was_free_at_two_looks(url: str, open_replica: Callable[..., Replica]) -> None:
    """Its owner may be about to lock it again on another session; a single exporter need not wait."""
    replica = open_replica()
    assert (replica.turn().take, replica.turn().unowned) == (frozenset(), [*NAMES])
    assert replica.owned == {*NAMES}
    end_session(url, replica)
    alone = open_replica(is_shared=False)
    assert {*NAMES} == alone.turn().take == alone.owned


def test_workspaces_of_a_group_have_one_owner(open_replica: Callable[..., Replica]) -> None:
    """They share the quota of a key."""
    groups = {"a1": "a", "a2": "a", "a3": "a", "b": "b", "c1": "c", "c2": "c"}
    replicas = [open_replica() for _ in range(2)]
    settle(*replicas, groups=groups)
    for replica in replicas:
        mine = {groups[name] for name in replica.owned}
        assert replica.owned == {name for name, group in groups.items() if group in mine}
        assert 1 <= len(mine) <= 2


def test_a_workspace_that_is_not_configured_any_more_is_given_away(open_replica: Callable[..., Replica]) -> None:
    replica = open_replica()
    settle(replica)
    assert replica.turn({name: name for name in NAMES[1:]}).give == {"acme"}
    assert {*NAMES[1:]} == replica.owned == replica.ownership.confirm()


# What is safe


def test_a_taken_workspace_continues_where_its_owner_has_ended(url: str, open_replica: Callable[..., Replica]) -> None:
    """The former owner changes nothing of it any more."""
    first = open_replica()
    settle(first)
    second = open_replica()
    assert first.commit("acme", "a") == 1
    first.ownership.give(["acme"])
    with pytest.raises(StoreFenced):
        first.commit("acme", "b")
    assert second.ownership.take(["acme", "beta"]) == {"acme"}
    second.store.feed_states([Scope("acme", "publishing")])
    assert [second.commit("acme", key) for key in "ab"] == [0, 1]
    assert log_count(second.store) == 2
    assert problems(url) == []


def test_a_silent_replica_is_ended(url: str, open_replica: Callable[..., Replica]) -> None:
    """Its next commit fails, and it shows nothing, until it owns what is left for it."""
    first = open_replica()
    settle(first)
    second = open_replica(lease=0.0)
    settle(second)
    with pytest.raises(StoreError):
        first.commit("acme", "a")
    with pytest.raises(StoreError, match="the connection was lost"):
        first.ownership.confirm()
    assert frozenset() == first.ownership.reconnect() == first.ownership.confirm()
    assert first.store.feeds == {}
    with pytest.raises(StoreFenced):
        first.commit("acme", "a")
    assert second.commit("acme", "a") == 1
    assert problems(url) == []


def test_what_is_left_of_the_former_session_is_ended(url: str, open_replica: Callable[..., Replica]) -> None:
    """Such as a session whose client is gone without a word: it has the locks, and its commit may still come."""
    replica = open_replica()
    settle(replica)
    end_session(url, replica)
    with psycopg.connect(url, application_name=replica.session_name, autocommit=True) as former:
        former.execute("SELECT pg_advisory_lock(lock_class, id::integer) FROM late_state, late_workspace")
        with pytest.raises(StoreError):
            replica.ownership.confirm()
        assert {*NAMES} == replica.ownership.reconnect() == replica.ownership.confirm()
        with pytest.raises(psycopg.OperationalError):
            former.execute("SELECT 1")
    former.close()
    assert replica.commit("acme", "a") == 1


def test_a_former_session_that_hangs_keeps_only_what_it_has_locked(
    url: str, open_replica: Callable[..., Replica]
) -> None:
    """It is no other replica; what is free is taken meanwhile, and the rest once it has ended."""
    replica = open_replica()
    replica.turn()
    with psycopg.connect(url, autocommit=True) as former:  # It appears after the end of what is left of former ones.
        former.execute("SELECT set_config('application_name', %s, false)", (replica.session_name,))
        locks = "SELECT pg_advisory_lock(lock_class, id::integer) FROM late_state, late_workspace WHERE name = 'acme'"
        former.execute(locks)
        views = [replica.turn() for _ in range(3)]
        assert replica.owned == {"beta", "gamma", "umbrella"} == replica.ownership.confirm()
        assert [each.is_self for each in views[-1].members] == [True]
        assert views[-1].unowned == ["acme"]
    settle(replica)


@pytest.fixture
def proxy(postgres: Cluster) -> Iterator[Proxy]:
    with Proxy(postgres.port) as running:
        yield running


def through(port: int, postgres: Cluster, url: str) -> str:
    """Return the URL of a state through a proxy."""
    return url.replace(f":{postgres.port}/", f":{port}/")


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize(("lost", "kept"), [("request", {*NAMES}), ("answer", {*NAMES} - {"acme", "beta"})])
def test_a_session_that_is_lost_in_a_commit(
    postgres: Cluster,
    url: str,
    proxy: Proxy,
    open_replica: Callable[..., Replica],
    lost: str,
    kept: set[str],
    *,
    is_shared: bool,
) -> None:
    """A workspace whose commit is durable without an answer has to be loaded; nothing counts twice, nothing is lost."""
    replica = open_replica(through(proxy.port, postgres, url), is_shared=is_shared)
    settle(replica)
    proxy.cut(lost, b"COMMIT\0")
    commits = [batch_of(Scope(name, "publishing"), "a") for name in ("acme", "beta")]
    assert all(isinstance(result, StoreError) for result in replica.store.commit_all(commits))
    assert kept == replica.ownership.reconnect() == replica.ownership.confirm()
    settle(replica)
    new = int(lost == "request")
    assert [replica.commit(*log) for log in (("acme", "a"), ("beta", "a"), ("acme", "b"))] == [new, new, 1]
    assert (log_count(replica.store), log_count(replica.store, workspace="beta")) == (2, 1)
    assert problems(url) == []


def test_a_transaction_that_is_late(
    postgres: Cluster, url: str, proxy: Proxy, open_replica: Callable[..., Replica]
) -> None:
    """One that the network holds back changes nothing later, and its locks keep no other replica from counting."""
    first = open_replica(through(proxy.port, postgres, url))
    settle(first)
    second = open_replica(lease=0.0)
    proxy.hang_at(b"COMMIT\0")
    with ThreadPoolExecutor(1) as executor:
        late_commit = executor.submit(first.commit, "acme", "a")
        wait_until(lambda: proxy.is_hanging)
        settle(second)
        assert second.commit("acme", "b") == 1
        proxy.resume()
        with pytest.raises(StoreError):
            late_commit.result()
    assert second.commit("acme", "a") == 1
    assert problems(url) == []


def test_a_state_that_is_gone_is_not_created_again(url: str, open_replica: Callable[..., Replica]) -> None:
    """Such as after a failover to an empty server: counters would begin at 0."""
    replica = open_replica()
    settle(replica)
    execute(url, *(f"DROP TABLE {table}" for table in ("late_state", *TABLES)))
    end_session(url, replica)
    for _ in range(2):
        with pytest.raises(StoreError):
            replica.ownership.confirm()
        with pytest.raises(StoreMissing, match=r"the state is gone; restart to create another$"):
            replica.ownership.reconnect()


@pytest.mark.parametrize(
    ("change", "use", "error"),
    [
        ("pg_advisory_unlock_all()", Replica.turn, "the session has other locks than it should have"),
        (
            "set_config('late_exporter.session', 'another', false)",
            lambda replica: replica.ownership.confirm(),
            "a pooler in transaction mode lends other sessions",
        ),
    ],
)
def test_a_session_of_others_is_not_used(
    open_replica: Callable[..., Replica], change: str, use: Callable[[Replica], object], error: str
) -> None:
    """A pooler in transaction mode lends the sessions of other clients, or this one to others."""
    replica = open_replica()
    settle(replica)
    with replica.store.database.reading() as session:
        session.execute(f"SELECT {change}")
    with pytest.raises(StoreError, match=error):
        use(replica)
    with pytest.raises(StoreError, match="the connection was lost"):
        replica.ownership.confirm()


def test_two_states_of_a_database_do_not_disturb_each_other(
    postgres: Cluster, open_replica: Callable[..., Replica]
) -> None:
    """Their locks differ, and neither ends the sessions of the other or counts its replicas."""
    first, second = (open_replica(postgres.create_schema(), lease=0.0) for _ in range(2))
    for _ in range(3):
        for replica in (first, second):
            view = replica.turn()
            assert [each.is_self for each in view.members] == [True]
    assert {*NAMES} == first.ownership.confirm() == second.ownership.confirm()


def test_a_single_exporter_and_replicas_exclude_each_other(url: str, open_replica: Callable[..., Replica]) -> None:
    """Until the other one has ended."""
    replicas = [open_replica() for _ in range(2)]
    with pytest.raises(StoreInUse, match=r"in use by another late-exporter; stop it, or start all .* --state.replicas"):
        open_store(url)
    for replica in replicas:
        replica.store.close()
    with closing(open_store(url)), pytest.raises(StoreInUse, match=r"in use by an exporter without --state.replicas"):
        open_replica()
    open_replica()

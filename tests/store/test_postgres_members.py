"""Members, ownership and fencing of workspaces in PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from random import Random

import psycopg
import pytest

from late_exporter.errors import StoreError, StoreFenced, StoreInUse, StoreRegressed
from late_exporter.model import DAY_MS, Batch, Coverage, LogEntry, Observation, Scope
from late_exporter.series import IncCounter
from late_exporter.store import SharedStore, open_membership, open_shared_store, open_store
from late_exporter.store.maintenance import open_admin
from late_exporter.store.membership import Member, Membership
from late_exporter.store.postgres.database import REPLICA_NAME
from late_exporter.store.postgres.days import PARTITIONS
from late_exporter.store.postgres.members import SESSIONS
from tests.e2e.program import wait_until
from tests.support.postgres import Cluster, LaggingStandby
from tests.support.proxy import Proxy
from tests.support.store import commit_batch

pytestmark = pytest.mark.e2e

NOW = 20_400 * DAY_MS
"""Midnight of a day in November 2025."""

FEEDS = ("publishing", "connections")
LOGS = "late_publishing_logs_total"
NAMES = [f"w{number}" for number in range(6)]


@pytest.fixture
def url(postgres: Cluster) -> str:
    """Return the URL of a state with six free workspaces."""
    new_url = postgres.create_schema()
    open_shared_store(new_url).close()
    with closing(open_membership(new_url)) as membership:
        membership.add_workspaces(NAMES)
    return new_url


@pytest.fixture
def membership(url: str) -> Iterator[Membership]:
    with closing(open_membership(url)) as new_membership:
        yield new_membership


@pytest.fixture
def open_replica(url: str, membership: Membership) -> Iterator[Callable[..., SharedStore]]:
    """Return a function that opens a store which has claimed some workspaces for a member."""
    with ExitStack() as stack:

        def open_replica(member_id: int, *workspaces: str) -> SharedStore:
            store = stack.enter_context(closing(open_shared_store(url)))
            membership.join(member_id, f"replica-{member_id}")
            store.adopt(membership.claim(member_id, workspaces, FEEDS))
            return store

        yield open_replica


def commit(store: SharedStore, workspace: str, *times: int, prune_before: int | None = None) -> int:
    """Commit a log for each of some times; return how many were new."""
    observations = [
        Observation(
            LogEntry(key=f"{time:013d}-{'a' * 12}+{0:016x}.0", status="success", created=time),
            (IncCounter(LOGS, (workspace, "tiktok", "publish", "success")),),
        )
        for time in times
    ]
    coverage = Coverage(retention_floor=0, complete_since=1, is_synced=True)
    batch = Batch(committed_at=1.0, observations=observations, coverage=coverage, prune_before=prune_before)
    return len(commit_batch(store, Scope(workspace, "publishing"), batch).observations)


def owners(membership: Membership, member_id: int) -> dict[str, int | None]:
    view = membership.send_heartbeat(member_id)
    assert view is not None
    return dict(view.owners)


def test_a_heartbeat_moves_and_shows_everybody(membership: Membership) -> None:
    """A member sees itself and the others, each with its heartbeat; one that was removed is told so."""
    membership.join(1, "a")
    membership.join(2, "b")
    membership.send_heartbeat(1)
    view = membership.send_heartbeat(1)
    assert view is not None
    assert [Member(1, "a", 2), Member(2, "b", 0)] == list(view.members)
    assert dict.fromkeys(NAMES) == view.owners
    membership.leave(1)
    assert membership.send_heartbeat(1) is None


def test_only_a_member_whose_heartbeat_stands_still_is_removed(membership: Membership) -> None:
    """One that has sent a heartbeat since it was seen stays; the workspaces of a removed one are free."""
    for member_id in (1, 2):
        membership.join(member_id, "a")
    membership.claim(1, NAMES[:2], FEEDS)
    membership.claim(2, NAMES[2:], FEEDS)
    seen = membership.send_heartbeat(2)
    assert seen is not None
    membership.send_heartbeat(1)
    assert set() == membership.remove([member for member in seen.members if member.member_id == 1])
    seen = membership.send_heartbeat(2)
    assert seen is not None
    assert {1} == membership.remove([member for member in seen.members if member.member_id == 1])
    assert {None: 2, 2: 4} == _counts(owners(membership, 2).values())
    with pytest.raises(StoreError, match="violates foreign key constraint"):
        membership.claim(1, NAMES[:2], FEEDS)
    assert {None: 2, 2: 4} == _counts(owners(membership, 2).values())


def _counts(values: Iterable[int | None]) -> dict[int | None, int]:
    found = list(values)
    return {value: found.count(value) for value in found}


def test_a_claim_takes_what_is_free(membership: Membership) -> None:
    """It returns every feed of the workspaces, also new ones, and never a workspace that another member owns."""
    membership.join(1, "a")
    membership.join(2, "b")
    first = membership.claim(1, ["w0", "w1", "unknown"], FEEDS)
    assert {Scope(name, feed) for name in ("w0", "w1") for feed in FEEDS} == {feed.scope for feed in first}
    assert {"w2"} == {feed.scope.workspace for feed in membership.claim(2, ["w1", "w2"], FEEDS)}
    membership.release(2, ["w0", "w2"])
    assert {"w0": 1, "w1": 1, "w2": None} == {name: owners(membership, 1)[name] for name in ("w0", "w1", "w2")}
    again = membership.claim(2, ["w2"], FEEDS)
    assert {feed.token for feed in again}.isdisjoint(feed.token for feed in first)
    membership.leave(2)
    assert owners(membership, 1)["w2"] is None


def test_a_claim_fences_the_previous_owner(
    membership: Membership, open_replica: Callable[..., SharedStore], url: str
) -> None:
    """It can write nothing any more to the workspace, but to its others, also within one transaction."""
    first = open_replica(1, "w0", "w1")
    assert 1 == commit(first, "w0", NOW)
    assert 1 == commit(first, "w1", NOW)
    membership.release(1, ["w0"])
    second = open_replica(2, "w0")
    for _ in range(2):
        with pytest.raises(StoreFenced, match="another replica owns the workspace, so nothing was counted here"):
            commit(first, "w0", NOW + 1)
    assert ["w0", "w0"] == list(first.fenced_workspaces)
    assert 1 == commit(first, "w1", NOW + 1)
    assert 1 == commit(second, "w0", NOW, NOW + 1)
    assert [] == list(second.fenced_workspaces)
    first.forget(["w0"])
    with pytest.raises(StoreFenced):
        first.feed_state(Scope("w0", "publishing"))
    assert [] == list(open_admin(url).check())


def test_a_workspace_that_was_not_claimed_is_not_written(open_replica: Callable[..., SharedStore]) -> None:
    """Neither an existing feed nor a new one."""
    store = open_replica(1)
    with pytest.raises(StoreFenced):
        commit(store, "w0", NOW)


def test_a_workspace_comes_back(membership: Membership, open_replica: Callable[..., SharedStore]) -> None:
    """Its first owner continues where the second one has stopped."""
    first = open_replica(1, "w0")
    commit(first, "w0", NOW)
    membership.release(1, ["w0"])
    second = open_replica(2, "w0")
    assert 2 == commit(second, "w0", NOW, NOW + 1, NOW + 2)
    membership.release(2, ["w0"])
    first.adopt(membership.claim(1, ["w0"], FEEDS))
    assert 1 == commit(first, "w0", NOW + 2, NOW + 3)
    assert 4 == first.feed_state(Scope("w0", "publishing")).log_count
    assert 4 == first.size("w0")[0]


def test_series_of_some_workspaces(open_replica: Callable[..., SharedStore]) -> None:
    """A page has those of the given workspaces only."""
    store = open_replica(1, *NAMES)
    for name in NAMES:
        commit(store, name, NOW)
    page, cursor = store.series_page(("", ""), limit=2, workspaces=["w1", "w3", "w4"])
    rest, cursor = store.series_page(cursor, limit=2, workspaces=["w1", "w3", "w4"])
    end, _ = store.series_page(cursor, limit=2, workspaces=["w1", "w3", "w4"])
    assert ["w1", "w3", "w4"] == [labels[0] for _, labels in (*page, *rest)]
    assert {} == end


def test_a_replica_that_is_cut_off_blocks_no_one(
    url: str,
    membership: Membership,
    open_replica: Callable[..., SharedStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A claim leaves out what an incomplete transaction has locked, and ends that if it has waited for too long."""
    store = open_replica(1, "w0", "w1")
    commit(store, "w0", NOW)
    membership.leave(1)
    membership.join(2, "b")
    with ExitStack() as stack:
        cut_off = stack.enter_context(closing(psycopg.connect(url, application_name=REPLICA_NAME)))
        cut_off.execute("UPDATE late_scope SET logs = 99 WHERE workspace = 'w0'")
        assert {"w1", "w2"} == claimed_names(membership, 2, "w0", "w1", "w2")
        assert set() == claimed_names(membership, 2, "w0"), "it may be about to be complete"
        monkeypatch.setattr("late_exporter.store.postgres.members.STUCK_SECONDS", 0.0)
        assert set() == claimed_names(membership, 2, "w0")
        wait_until(lambda: claimed_names(membership, 2, "w0"))
        with pytest.raises(psycopg.OperationalError):
            cut_off.commit()
    assert 1 == store.size("w0")[0]


def claimed_names(membership: Membership, member_id: int, *names: str) -> set[str]:
    return {feed.scope.workspace for feed in membership.claim(member_id, names, FEEDS)}


def test_a_member_that_is_locked_is_removed_later(url: str, membership: Membership) -> None:
    """A member whose own transaction is incomplete does not keep others from sending heartbeats."""
    membership.join(1, "a")
    membership.join(2, "b")
    with closing(psycopg.connect(url)) as other:
        other.execute("UPDATE late_member SET beat = beat + 1 WHERE id = 1")
        assert set() == membership.remove([Member(1, "a", 0)])
        other.rollback()
    assert {1} == membership.remove([Member(1, "a", 0)])


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_connection_lost_during_a_claim(postgres: Cluster, url: str, lost: str) -> None:
    """The claim is repeated, and returns what is owned, whether or not the first one was durable."""
    with (
        Proxy(postgres.port) as proxy,
        closing(open_membership(url.replace(f":{postgres.port}/", f":{proxy.port}/"))) as membership,
    ):
        membership.join(1, "a")
        proxy.cut(lost, b"COMMIT")
        feeds = membership.claim(1, ["w0", "w1"], FEEDS)
        assert {"w0", "w1"} == {feed.scope.workspace for feed in feeds}
        assert {"w0": 1, "w1": 1, "w2": None} == {
            name: owner for name, owner in owners(membership, 1).items() if name in ("w0", "w1", "w2")
        }


def test_concurrent_members_count_once(url: str) -> None:
    """Of several replicas that claim, commit, release and remove each other, each log is counted by exactly one."""
    times = [NOW + number for number in range(40)]
    counted: list[int] = []

    def work(seed: int) -> None:
        draw = Random(seed)
        with closing(open_membership(url)) as membership, closing(open_shared_store(url)) as store:
            for turn in range(25):
                member_id = 1000 * seed + turn
                with suppress(StoreError):
                    membership.join(member_id, "a")
                    store.adopt(membership.claim(member_id, draw.sample(NAMES, 4), FEEDS))
                for name in NAMES:
                    with suppress(StoreError):
                        counted.append(commit(store, name, *draw.sample(times, 10)))
                with suppress(StoreError):
                    view = membership.send_heartbeat(member_id)
                    membership.remove(view.members if view and draw.random() < 0.3 else ())
                    membership.release(member_id, draw.sample(NAMES, 2))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(open_store_of_all(url)) as store:
        counted += [commit(store, name, *times) for name in NAMES]
        totals = [store.series_values()[LOGS, (name, "tiktok", "publish", "success")].value for name in NAMES]
    assert [40] * 6 == totals
    assert 240 == sum(counted)
    assert [] == list(open_admin(url).check())


def open_store_of_all(url: str) -> SharedStore:
    """Open a store that has claimed all workspaces, whoever owns them."""
    with closing(open_membership(url)) as membership:
        membership.join(99, "last")
        view = membership.send_heartbeat(99)
        assert view is not None
        membership.remove(member for member in view.members if member.member_id != 99)
        store = open_shared_store(url)
        store.adopt(membership.claim(99, NAMES, FEEDS))
    return store


def test_an_exporter_without_replicas_is_refused(
    url: str, membership: Membership, open_replica: Callable[..., SharedStore]
) -> None:
    """A state that replicas share is not taken over by a single exporter, unless all of them are gone."""
    store = open_replica(1, "w0")
    with pytest.raises(StoreInUse, match=r"is shared by the replicas replica-1; start with --state.replicas, or stop"):
        open_store(url)
    with pytest.raises(StoreInUse), open_admin(url).writing():
        pass
    assert 1 == commit(store, "w0", NOW)
    store.close()
    membership.close()
    with psycopg.connect(url, autocommit=True) as connection:  # The server ends their sessions a moment later.
        wait_until(lambda: connection.execute(SESSIONS, (REPLICA_NAME,)).fetchone() == (0,))
    with closing(open_store(url)) as single:
        assert 1 == commit_batch(single, Scope("w0", "publishing"), Batch(committed_at=1.0, observations=())).log_count
    with closing(open_membership(url)) as reopened:
        assert reopened.send_heartbeat(1) is None


def test_a_state_of_a_single_exporter_is_shared_later(postgres: Cluster) -> None:
    """Replicas continue with the logs that it has counted, and fence it off."""
    url = postgres.create_schema()
    with closing(open_store(url)) as single, closing(open_membership(url)) as membership:
        scope = Scope("acme", "publishing")
        entry = LogEntry(key=f"{NOW:013d}-{'a' * 12}+{0:016x}.0", status="success", created=NOW)
        commit_batch(single, scope, Batch(committed_at=1.0, observations=[Observation(entry, ())]))
        membership.join(1, "a")
        membership.add_workspaces(["acme"])
        with closing(open_shared_store(url)) as store:
            store.adopt(membership.claim(1, ["acme"], FEEDS))
            assert 1 == commit(store, "acme", NOW, NOW + 1)
        with pytest.raises(StoreFenced):
            commit_batch(single, scope, Batch(committed_at=1.0, observations=()))


def test_a_server_that_lost_commits(open_replica: Callable[..., SharedStore], url: str) -> None:
    """Every workspace is marked as restored, also those of other replicas, which may be dead."""
    first, other = open_replica(1, "w0", "w1"), open_replica(2, "w2")
    for store, name in ((first, "w0"), (first, "w1"), (other, "w2")):
        commit(store, name, NOW)
    standby = LaggingStandby(url)
    commit(first, "w0", NOW + 1)
    standby.promote()
    with pytest.raises(StoreRegressed):
        commit(first, "w0", NOW + 2)
    states = [(first, "w0"), (first, "w1"), (other, "w2")]
    assert [True, True, True] == [store.feed_state(Scope(name, "publishing")).is_restored for store, name in states]


def test_a_server_that_lost_heartbeats(
    membership: Membership, open_replica: Callable[..., SharedStore], url: str
) -> None:
    """The next heartbeat fails and marks every workspace as restored; nothing can be claimed before."""
    store = open_replica(1, "w0")
    for _ in range(3):
        membership.send_heartbeat(1)
    standby = LaggingStandby(url)
    membership.send_heartbeat(1)
    membership.send_heartbeat(1)
    standby.promote()
    assert set() == claimed_names(membership, 1, "w1")
    assert not store.feed_state(Scope("w0", "publishing")).is_restored
    with pytest.raises(StoreRegressed, match="the server has lost commits that it had acknowledged"):
        membership.send_heartbeat(1)
    assert store.feed_state(Scope("w0", "publishing")).is_restored


def test_a_server_that_lost_a_claim(open_replica: Callable[..., SharedStore], url: str) -> None:
    """The owner by that claim has lost commits, and is not told that another replica owns the workspace."""
    first = open_replica(1, "w0")
    commit(first, "w0", NOW)
    standby = LaggingStandby(url)
    with closing(open_store_of_all(url)) as second:
        commit(second, "w0", NOW + 1)
        standby.promote()
        with pytest.raises(StoreRegressed):
            commit(second, "w0", NOW + 2)


def test_a_server_that_lost_its_members(
    postgres: Cluster, membership: Membership, open_replica: Callable[..., SharedStore], url: str
) -> None:
    """A replica that has to join again, as after a pause, notices lost commits when it claims a workspace again."""
    store = open_replica(1, "w0", "w1")
    commit(store, "w0", NOW)
    membership.leave(1)
    standby = LaggingStandby(url)
    membership.join(2, "a")
    store.adopt(membership.claim(2, ["w0", "w1"], FEEDS))
    commit(store, "w0", NOW + 1)
    standby.promote()
    assert membership.send_heartbeat(2) is None
    store.forget(["w0", "w1"])
    membership.join(3, "a")
    with pytest.raises(StoreRegressed):
        store.adopt(membership.claim(3, ["w0", "w1"], FEEDS))
    assert [(True,)] == postgres.execute(url, "SELECT bool_and(restored) FROM late_scope")


def test_a_partition_that_another_replica_has_dropped(open_replica: Callable[..., SharedStore], url: str) -> None:
    """A log of that day is stored in the rest by the second attempt, and counts once."""
    first, second = open_replica(1, "w0"), open_replica(2, "w1")
    commit(first, "w0", *range(NOW, NOW + 8))
    assert 1 == commit(second, "w1", NOW + 1)
    commit(first, "w0", prune_before=NOW + 5 * DAY_MS)
    with pytest.raises(StoreError):
        commit(second, "w1", NOW + 2)
    assert 1 == commit(second, "w1", NOW + 1, NOW + 2)
    assert [] == list(open_admin(url).check())


def test_days_that_other_replicas_have_dropped(
    postgres: Cluster, open_replica: Callable[..., SharedStore], url: str
) -> None:
    """They do not keep a replica from dropping the next ones: it may be the only one that is left."""
    first, second = open_replica(1, "w0"), open_replica(2, "w1")
    for store, name in ((first, "w0"), (second, "w1")):
        commit(store, name, NOW, NOW + DAY_MS)
    day = NOW // DAY_MS
    for store, name in ((second, "w1"), (first, "w0")):
        commit(store, name, prune_before=NOW + DAY_MS)
    assert [(day + 1,)] == postgres.execute(url, PARTITIONS)
    for store, name in ((first, "w0"), (second, "w1")):
        commit(store, name, prune_before=NOW + 2 * DAY_MS)
    assert [] == postgres.execute(url, PARTITIONS)
    assert [] == list(open_admin(url).check())


def test_a_day_that_is_dropped_during_an_audit(
    postgres: Cluster, open_replica: Callable[..., SharedStore], url: str
) -> None:
    """The counts of a feed are those of one moment, so that its audit finds no difference."""
    other = open_replica(2, "w1")
    commit(other, "w1", NOW)
    with (
        Proxy(postgres.port) as proxy,
        ThreadPoolExecutor(1) as executor,
        closing(open_membership(url)) as membership,
        closing(open_shared_store(url.replace(f":{postgres.port}/", f":{proxy.port}/"))) as store,
    ):
        membership.join(1, "a")
        store.adopt(membership.claim(1, ["w0"], FEEDS))
        commit(store, "w0", NOW, NOW + DAY_MS, prune_before=NOW + DAY_MS)  # half of the day is needed
        proxy.hang_at(b"FROM late_observation WHERE scope")
        counting = executor.submit(store.accounting, Scope("w0", "publishing"))
        wait_until(lambda: proxy.is_hanging)
        commit(other, "w1", prune_before=NOW + DAY_MS)
        assert [(NOW // DAY_MS + 1,)] == postgres.execute(url, PARTITIONS)
        proxy.resume()
        accounting = counting.result()
    assert accounting.observation_count == accounting.stored_count + accounting.pruned_count


def test_a_day_that_is_dropped_while_another_replica_needs_it(
    postgres: Cluster, open_replica: Callable[..., SharedStore], url: str
) -> None:
    """What it stores there meanwhile is kept, so that no log is counted twice."""
    second = open_replica(2, "w1")
    with (
        Proxy(postgres.port) as proxy,
        closing(open_membership(url)) as membership,
        closing(open_shared_store(url.replace(f":{postgres.port}/", f":{proxy.port}/"))) as first,
    ):
        membership.join(1, "a")
        first.adopt(membership.claim(1, ["w0"], FEEDS))
        commit(first, "w0", *range(NOW, NOW + 8))
        commit(second, "w1", NOW)
        proxy.hang_at(b"SELECT o.scope, o.key, count(*) AS observations")
        dropping = threading.Thread(target=commit, args=(first, "w0"), kwargs={"prune_before": NOW + 5 * DAY_MS})
        dropping.start()
        wait_until(lambda: proxy.is_hanging)
        assert 1 == commit(second, "w1", NOW, NOW + 1)
        proxy.resume()
        dropping.join()
    assert [] == postgres.execute(url, PARTITIONS)
    assert 0 == commit(second, "w1", NOW, NOW + 1)
    assert [] == list(open_admin(url).check())

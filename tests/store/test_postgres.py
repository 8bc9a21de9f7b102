"""The session of the state in PostgreSQL: deadlines, losses, and what the server must be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from late_exporter.errors import StoreError
from late_exporter.store import Store
from late_exporter.store.database import LONG_SECONDS
from late_exporter.store.snapshot import open_snapshot
from tests.e2e.program import wait_until
from tests.support.exporter import open_store
from tests.support.postgres import Cluster, find_programs, running_cluster
from tests.support.proxy import Proxy
from tests.support.store import SCOPE, commit, log_count, observation, read_scopes

pytestmark = pytest.mark.e2e


@pytest.fixture
def url(postgres: Cluster) -> str:
    """Return the URL of an empty state."""
    return postgres.create_schema()


@pytest.fixture
def proxied(postgres: Cluster, url: str) -> Iterator[tuple[Proxy, Store]]:
    """Open an empty state through a proxy."""
    with (
        Proxy(postgres.port) as proxy,
        closing(open_store(url.replace(f":{postgres.port}/", f":{proxy.port}/"))) as store,
    ):
        yield proxy, store


# Deadlines


def test_a_server_that_does_not_answer(proxied: tuple[Proxy, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit fails at its deadline, and the calls that wait for it fail at once, so that a stop need not wait."""
    proxy, store = proxied
    commit(store, observation("a"))
    monkeypatch.setattr("late_exporter.store.postgres.SECONDS", 0.2)
    proxy.hang()
    with pytest.raises(StoreError, match="no answer in time"):
        commit(store, observation("b"))
    monkeypatch.setattr("late_exporter.store.postgres.SECONDS", 120.0)
    with pytest.raises(StoreError, match="the connection was lost"):
        commit(store, observation("b"))
    with pytest.raises(StoreError, match="time"):
        store.database.connect()
    proxy.heal()
    wait_until(lambda: is_connected(store))
    store.feed_state(SCOPE)
    assert len(commit(store, observation("b")).observations) == 1
    assert log_count(store) == 2


def execute_unread(store: Store) -> None:
    """Execute a statement without reading its result."""
    with store.database.reading() as session:
        session.execute("SELECT 1")


@pytest.mark.parametrize(
    ("pattern", "use"), [(b"SELECT 1", execute_unread), (b"COMMIT\0", lambda store: store.feed_state(SCOPE))]
)
def test_a_server_that_does_not_answer_at_the_end(
    proxied: tuple[Proxy, Store], monkeypatch: pytest.MonkeyPatch, pattern: bytes, use: Callable[[Store], object]
) -> None:
    """Statements whose results nobody reads are waited for when the transaction ends, also one that loads feeds."""
    proxy, store = proxied
    monkeypatch.setattr("late_exporter.store.postgres.SECONDS", 0.2)
    proxy.hang_at(pattern)
    with pytest.raises(StoreError, match="the connection gave no answer in time"):
        use(store)


def is_connected(store: Store) -> bool:
    """Connect again; return whether that succeeded."""
    try:
        store.database.connect()
    except StoreError:
        return False
    return True


def test_a_snapshot_that_is_read_for_a_long_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is that of each answer: a command may read the API meanwhile."""
    elapsed, monotonic = [0.0], time.monotonic
    keys = [f"{number}" for number in range(250)]
    with closing(open_store(url)) as store:
        commit(store, *map(observation, keys))
    monkeypatch.setattr("time.monotonic", lambda: monotonic() + elapsed[0])
    with open_snapshot(url) as snapshot:
        for _ in range(2):
            assert len(snapshot.lookup(SCOPE, keys)) == 250
            elapsed[0] += LONG_SECONDS


# What the server must be


READ_ONLY = "the server is read-only, as a standby, during a failover or by default_transaction_read_only"


def test_a_read_only_session_is_refused(url: str) -> None:
    """It would lock workspaces that it cannot poll, and keep them from other replicas."""
    open_store(url).close()
    with pytest.raises(StoreError, match=READ_ONLY):
        open_store(f"{url}{'&' if '?' in url else '?'}options=-c%20default_transaction_read_only%3Don", is_shared=True)


def test_a_standby_is_refused(postgres: Cluster, url: str) -> None:
    """It has other locks than its primary, which may have been promoted or not."""
    open_store(url).close()
    programs = find_programs()
    assert programs is not None
    with running_cluster(programs, primary_port=postgres.port) as standby:
        at_standby = url.replace(f":{postgres.port}/", f":{standby.port}/")
        with pytest.raises(StoreError, match=READ_ONLY):
            open_store(at_standby)
        assert read_scopes(at_standby) == []


def test_the_encoding_of_the_database(postgres: Cluster) -> None:
    """A database that cannot hold all text is refused."""
    create = "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    postgres.execute(postgres.url("postgres"), create)
    with pytest.raises(StoreError, match="the database has the encoding LATIN1; create one with UTF8"):
        open_store(postgres.url("latin"))


@pytest.mark.parametrize(("configured", "expected"), [("off", "on"), ("remote_apply", "remote_apply")])
def test_an_asynchronous_commit_is_not_accepted(url: str, configured: str, expected: str) -> None:
    """A commit is durable even if the database is configured otherwise; a stricter setting is kept."""
    with (
        closing(open_store(f"{url}%20-csynchronous_commit%3D{configured}")) as store,
        store.database.reading() as session,
    ):
        assert session.execute("SHOW synchronous_commit").fetchone() == (expected,)


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_simultaneous_starts_create_one_state(postgres: Cluster, url: str, isolation: str) -> None:
    """Replicas that start at once on an empty database wait for each other, whatever its default isolation is."""
    stores: list[Store] = []
    option = f"%20-cdefault_transaction_isolation%3D{isolation.replace(' ', '%5C%20')}"
    threads = [
        threading.Thread(target=lambda: stores.append(open_store(f"{url}{option}", is_shared=True))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 6
    assert len(postgres.execute(url, "SELECT * FROM late_state")) == 1
    for store in stores:
        store.close()

"""The session of the state in PostgreSQL: deadlines, losses, and what the server must be."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from late_exporter.errors import StoreError
from late_exporter.store import Store
from tests.e2e.program import wait_until
from tests.support.exporter import open_store
from tests.support.postgres import Cluster
from tests.support.proxy import Proxy
from tests.support.store import SCOPE, commit, log_count, observation

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


def test_a_server_that_does_not_answer_at_the_end(
    proxied: tuple[Proxy, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statements whose results nobody reads are waited for when the transaction ends."""
    proxy, store = proxied
    monkeypatch.setattr("late_exporter.store.postgres.SECONDS", 0.2)
    proxy.hang_at(b"COMMIT\0")
    with pytest.raises(StoreError, match="the connection gave no answer in time"):
        store.feed_state(SCOPE)


def is_connected(store: Store) -> bool:
    """Connect again; return whether that succeeded."""
    try:
        store.database.connect()
    except StoreError:
        return False
    return True


# What the server must be


def test_a_read_only_session_is_refused(url: str) -> None:
    """Such as that of a standby: it would lock workspaces that it cannot poll, and keep them from other replicas."""
    open_store(url).close()
    with pytest.raises(StoreError, match="the server is read-only, as a standby, during a failover or by"):
        open_store(f"{url}%20-cdefault_transaction_read_only%3Don", is_shared=True)


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
    option = f"%20-cdefault_transaction_isolation%3D{isolation.replace(' ', '%5C%20')}"
    with ThreadPoolExecutor(6) as executor:
        stores = [*executor.map(lambda _: open_store(f"{url}{option}", is_shared=True), range(6))]
    assert len(postgres.execute(url, "SELECT * FROM late_state")) == 1
    for store in stores:
        store.close()

"""A state of an earlier version is upgraded as a whole or not at all, and no other version uses it afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from late_exporter.commands.check import check_state
from late_exporter.errors import StoreError, StoreInUse, StoreOutdated
from late_exporter.feeds import FEEDS
from late_exporter.ingest.accounting import check_counters
from late_exporter.model import IncCounter, SeriesValue
from late_exporter.store import database_at, migrations
from late_exporter.store.copying import copy_state
from late_exporter.store.database import Transaction
from late_exporter.store.migrations import STEPS, Step
from late_exporter.store.records import Coverage
from late_exporter.store.rows import series_id
from tests.store.test_ownership import Replica, settle
from tests.support.exporter import open_store
from tests.support.postgres import Cluster
from tests.support.states import load, tables
from tests.support.store import (
    LOGS,
    SCOPE,
    all_rows,
    commit,
    execute,
    observation,
    problems,
    read_scopes,
    stored_series,
)

RENAMED = "late_renamed_total"


def example_step(transaction: Transaction, types: Mapping[str, str]) -> None:
    """Add a column, and rename a metric, whose series are identified by digests of their names."""
    transaction.execute("ALTER TABLE late_feed ADD COLUMN note {text} NOT NULL DEFAULT ''".format(**types))
    rows = transaction.execute("SELECT workspace, id, labels FROM late_series WHERE family = ?", (LOGS,)).fetchall()
    for workspace, former_id, labels in rows:
        new_id = series_id((RENAMED, msgspec.json.decode(labels, type=tuple[str, ...])))
        transaction.execute(
            "UPDATE late_series SET id = ?, family = ? WHERE workspace = ? AND id = ?",
            (new_id, RENAMED, workspace, former_id),
        )


def failing_step(transaction: Transaction, _: Mapping[str, str]) -> None:
    """Fail after a change."""
    transaction.execute("UPDATE late_feed SET logs = 9")
    transaction.execute("INSERT INTO late_log (feed) VALUES (1)")


@contextmanager
def program_with(*further: Step) -> Iterator[None]:
    """Be a version of the program that has further steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "STEPS", (*STEPS, *further))
        yield


@pytest.fixture
def written(url: str) -> str:
    """Return the URL of a state in which this version has counted a log."""
    with closing(open_store(url)) as store:
        commit(store, observation("a"))
    return url


# States of released versions


@pytest.mark.parametrize("version", range(1, len(STEPS) + 1))
def test_a_state_of_each_version_is_upgraded(path: Path, version: int) -> None:
    """It has the tables of a new state, so that no step was changed, nothing is lost, and counting goes on."""
    load(version, path)
    url = f"sqlite:///{path}"
    with closing(open_store(url)) as store:
        state = store.feed_state(SCOPE)
        assert state.log_count == 4
        assert len(state.pending_logs) == 1
        assert check_counters(SCOPE, FEEDS["publishing"], store.accounting(SCOPE)) == []
        assert len(commit(store, observation("1759999980000-k.0"), observation("new")).observations) == 1
    assert problems(url) == []
    new = path.with_name("new.db")
    open_store(f"sqlite:///{new}").close()
    assert tables(new) == tables(path)


# Steps


def test_a_step_runs_once(written: str) -> None:
    """When the exporter starts; earlier versions refuse the state from then on, and do not change it."""
    for _ in range(2):
        with program_with(example_step), closing(open_store(written)) as store:
            assert {family for family, _ in stored_series(store)} == {RENAMED}
            assert len(commit(store, observation("a")).observations) == 0
    assert execute(written, "SELECT note FROM late_feed") == [("",)]
    refusal = r"is a state of another version of late-exporter \(schema 2, this version uses 1\); it was not changed"
    for opening in (open_store, read_scopes):
        with pytest.raises(StoreError, match=refusal):
            opening(written)
    assert execute(written, "SELECT version FROM late_state") == [(2,)]


def test_a_step_that_fails_changes_nothing(written: str) -> None:
    """Nor do the steps before it; the version that has written the state continues with it."""
    before = all_rows(written)
    with program_with(example_step, failing_step), pytest.raises(StoreError):
        open_store(written)
    assert before == all_rows(written)
    assert problems(written) == []
    with closing(open_store(written)) as store:
        assert len(commit(store, observation("a"), observation("b")).observations) == 1


# Commands


def test_commands_do_not_upgrade(written: str, target: str, tmp_path: Path) -> None:
    """They name both versions; the check rehearses the upgrade, and a backup is of the state as it is."""
    before = all_rows(written)
    outdated = (
        r"earlier version of late-exporter \(schema 1, this version uses 2\); an exporter of this version upgrades"
    )
    with program_with(example_step):
        with pytest.raises(StoreOutdated, match=outdated):
            read_scopes(written)
        with pytest.raises(StoreOutdated, match=outdated):
            copy_state(written, target)
        result = check_state(written)
        assert result.level == "ok"
        assert "schema 1, this version uses 2" in result.message
        if written.startswith("sqlite:"):
            database_at(written).backup(tmp_path / "backup.db")
            assert before == all_rows(f"sqlite:///{tmp_path}/backup.db")
    with program_with(failing_step):
        assert check_state(written).level == "error"
    assert before == all_rows(written)


def test_the_check_does_not_stop_an_exporter_of_an_earlier_version(written: str) -> None:
    with closing(open_store(written)) as store, program_with(failing_step):
        assert check_state(written).level == "ok"
        assert len(commit(store, observation("b")).observations) == 1


# Counters of subsets


@pytest.mark.parametrize("lost", ["DELETE FROM late_series", "UPDATE late_series SET value = '1'"])
def test_a_counter_of_a_subset_is_completed_when_it_is_loaded(url: str, lost: str) -> None:
    """A version without it has counted: since ever, or between two versions that have it."""
    family = "late_publishing_failures_total"
    coverage = Coverage(retention_floor=0, complete_since=1, is_synced=True)
    increments = [
        IncCounter(LOGS, ("acme", "tiktok", "retry", "failed"), amount=5),
        IncCounter(family, ("acme", "tiktok", "retry", "timeout", "504"), amount=5),
    ]
    with closing(open_store(url)) as store:
        commit(store, coverage=coverage, increments=increments)
    execute(url, "UPDATE late_feed SET observations = 5, pruned = 5", f"{lost} WHERE family = '{family}'")
    with closing(open_store(url)) as store:
        healed = [store.feed_state(SCOPE).healed_counts for _ in range(2)]
        assert check_counters(SCOPE, FEEDS["publishing"], store.accounting(SCOPE)) == []
        values = stored_series(store)
    is_new = lost.startswith("DELETE")
    assert healed == [{} if is_new else {family: 4}, {}]
    unknown = values[family, ("acme", "tiktok", "retry", "unknown", "unknown")]
    assert unknown == SeriesValue(5 if is_new else 4, 0.0)


# Replicas


@pytest.mark.e2e
def test_replicas_of_an_earlier_version_end_with_the_upgrade(postgres: Cluster) -> None:
    """They neither write nor show anything afterwards, and the new version owns all workspaces within two looks."""
    url = postgres.create_schema()
    olds = [Replica(url), Replica(url)]
    assert settle(*olds) == [2, 2]
    owned = [next(iter(sorted(old.owned))) for old in olds]
    for old, workspace in zip(olds, owned, strict=True):
        assert old.commit(workspace, "a") == 1
    with program_with(example_step):
        new = Replica(url)
    for _ in range(2):
        for old, workspace in zip(olds, owned, strict=True):
            with pytest.raises(StoreError):
                old.commit(workspace, "b")
            with suppress(StoreError):
                assert not old.ownership.confirm()
            with pytest.raises(StoreError, match=r"schema 2, this version uses 1"):
                old.turn()
    with program_with(example_step):
        assert settle(new) == [4]
        assert [new.commit(workspace, key) for key in ("a", "b") for workspace in owned] == [0, 0, 1, 1]
        assert problems(url) == []
        new.store.close()


@pytest.mark.e2e
def test_an_upgrade_just_before_a_replica_locks_the_state(postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that comes back looks at the version after its lock, because nobody ends its session any more."""
    old = Replica(postgres.create_schema())
    settle(old)
    old.store.database.close()
    lock_state = old.store.database.lock_state

    def upgrade_first(**options: bool) -> None:
        with program_with(example_step):
            open_store(old.url, is_shared=True).close()
        lock_state(**options)

    monkeypatch.setattr(old.store.database, "lock_state", upgrade_first)
    with pytest.raises(StoreError, match=r"schema 2, this version uses 1"):
        old.ownership.reconnect()
    with pytest.raises(StoreError, match="the connection was lost"):
        old.commit("acme", "a")


@pytest.mark.e2e
def test_an_exporter_alone_is_not_ended(postgres: Cluster) -> None:
    url = postgres.create_schema()
    with closing(open_store(url)) as store:
        for is_shared in (False, True):
            with program_with(example_step), pytest.raises(StoreInUse):
                open_store(url, is_shared=is_shared)
        assert len(commit(store, observation("a")).observations) == 1


@pytest.mark.e2e
def test_replicas_that_start_together_upgrade_once(postgres: Cluster) -> None:
    """One of them does, and ends the others, which start again."""
    url = postgres.create_schema()
    open_store(url).close()

    def start(_: int) -> int:
        for attempt in range(20):
            with suppress(StoreError):
                open_store(url, is_shared=True).close()
                return attempt
        raise AssertionError

    with program_with(example_step), ThreadPoolExecutor(4) as executor:
        attempts = [*executor.map(start, range(4))]
    assert max(attempts) < 5
    assert execute(url, "SELECT version FROM late_state") == [(2,)]

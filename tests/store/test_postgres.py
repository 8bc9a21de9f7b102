"""Behaviour of the state in PostgreSQL that no other backend has."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

from late_exporter.errors import StoreError, StoreFenced, StoreInUse, StoreRegressed
from late_exporter.feeds import GENERATIONS
from late_exporter.model import DAY_MS, Batch, Coverage, FeedCommit, LogEntry, Observation, Scope
from late_exporter.series import IncCounter, ObserveHistogram
from late_exporter.store import Store, open_store
from late_exporter.store.maintenance import open_admin, open_snapshot
from late_exporter.store.postgres import days
from late_exporter.store.postgres.database import LONG_DEADLINE_SECONDS, SETTINGS, Database, until_deadline
from late_exporter.store.postgres.snapshot import PostgresSnapshot
from late_exporter.store.postgres.store import PostgresStore
from tests.e2e.program import wait_until
from tests.support.postgres import PASSWORD, USER, Cluster, LaggingStandby, running_bouncer
from tests.support.proxy import Proxy
from tests.support.store import all_rows, commit_batch, copy_state

pytestmark = pytest.mark.e2e

T = TypeVar("T")

SCOPE = Scope("acme", "publishing")
OTHER = Scope("umbrella", "publishing")
LOGS = "late_publishing_logs_total"
ZERNIO = GENERATIONS["zernio"]["publishing"]
NOW = 20_400 * DAY_MS
"""Midnight of a day in November 2025."""

END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'late-exporter'"


@pytest.fixture
def url(postgres: Cluster) -> str:
    """Return the URL of an empty state."""
    return postgres.create_schema()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """Open an empty state."""
    with closing(open_store(url)) as new_store:
        yield new_store


def observation(created: int, number: int = 0, status: str = "success", workspace: str = "acme") -> Observation:
    """Return an observation with a key that begins with its time, as those of the API do."""
    entry = LogEntry(key=f"{created:013d}-{'a' * 12}+{number:016x}.0", status=status, created=created)
    return Observation(entry, (IncCounter(LOGS, (workspace, "tiktok", "publish", status)),))


def commit(store: Store, *observations: Observation, scope: Scope = SCOPE, prune_before: int | None = None) -> int:
    """Commit observations; return how many of them were new."""
    increments = [IncCounter("late_exporter_polls_total", (scope.workspace, scope.feed, "success"))]
    batch = Batch(
        committed_at=1.0,
        observations=observations,
        increments=increments,
        prune_before=prune_before,
        coverage=Coverage(retention_floor=0, complete_since=1, is_synced=True),
    )
    return len(commit_batch(store, scope, batch).observations)


def commit_all(store: Store, commits: Sequence[FeedCommit]) -> list[int | StoreError]:
    """Commit batches together; return how many observations of each were new, or its error."""
    assert isinstance(store, PostgresStore)
    results = store.commit_all(commits)
    return [result if isinstance(result, StoreError) else len(result.observations) for result in results]


def counts(store: Store, workspace: str = "acme") -> tuple[object, object]:
    """Return the counter of the logs and that of the commits."""
    values = store.series_values()
    series = (
        (LOGS, (workspace, "tiktok", "publish", "success")),
        (
            "late_exporter_polls_total",
            (workspace, "publishing", "success"),
        ),
    )
    logs, polls = (values[each].value if each in values else 0 for each in series)
    return logs, polls


def partitions(postgres: Cluster, url: str) -> list[int]:
    return [day for (day,) in postgres.execute(url, days.PARTITIONS)]


# Partitions of days


def test_logs_are_in_the_partition_of_their_day(postgres: Cluster, url: str, store: Store) -> None:
    """A log whose key and time agree is in the partition of its day; any other is in the rest, and found there."""
    other_day = LogEntry(key=observation(NOW).entry.key.replace("a" * 12, "b" * 12), status="success", created=1)
    odd = [Observation(LogEntry(key=key, status="success", created=NOW), ()) for key in ("z", "6b06aebc" + "0" * 16)]
    with_id = LogEntry(key=f"{NOW // 1000:08x}{0:016x}", status="failed", created=NOW + 5)
    before_1970 = LogEntry(key=f"-1234567{0:016x}", status="failed", created=-0x1234567 * 1000)
    dated = [observation(NOW - DAY_MS), observation(NOW), Observation(with_id, ())]
    observations = [*dated, *odd, Observation(other_day, ()), Observation(before_1970, ())]
    assert 7 == commit(store, *observations)

    rows = dict(postgres.execute(url, "SELECT day, count(*) FROM late_observation GROUP BY day"))
    assert {0: 4, 20_399: 1, 20_400: 2} == rows
    assert [20_399, 20_400] == partitions(postgres, url)
    keys = [each.entry.key for each in observations]
    assert set(keys) == set(store.lookup(SCOPE, keys))
    assert 0 == commit(store, *observations)


def test_expired_days_are_dropped(postgres: Cluster, url: str, store: Store) -> None:
    """A day that has expired is dropped; a workspace that still needs it keeps its logs."""
    for day in range(4):
        commit(store, *(observation(NOW + day * DAY_MS + number, number) for number in range(10)))
    late = observation(NOW + 5, 99, workspace="umbrella")
    commit(store, late, scope=OTHER)
    commit(store, observation(NOW, 500, "pending"))
    commit(store, prune_before=NOW + 2 * DAY_MS + DAY_MS // 2)

    assert [20_402, 20_403] == partitions(postgres, url)
    accounting = store.accounting(SCOPE)
    assert (41, 20, 21) == (accounting.observation_count, accounting.stored_count, accounting.pruned_count)
    assert (20, 1) == (store.size("acme")[0], store.size("umbrella")[0])
    assert {} == store.feed_state(SCOPE).pending_logs
    assert 0 == commit(store, late, scope=OTHER), "it is still known"
    assert [] == list(open_admin(url).check())


def test_a_day_is_kept_while_most_of_it_is_needed(postgres: Cluster, url: str, store: Store) -> None:
    """A workspace with a longer retention keeps the day; it is dropped once that has passed, too."""
    for scope in (SCOPE, OTHER):
        commit(
            store, *(observation(NOW + number, number, workspace=scope.workspace) for number in range(10)), scope=scope
        )
    commit(store, prune_before=NOW + DAY_MS)
    assert [20_400] == partitions(postgres, url)
    commit(store, scope=OTHER, prune_before=NOW + 2 * DAY_MS)
    assert [] == partitions(postgres, url)
    assert [0, 0] == [store.size(name)[0] for name in ("acme", "umbrella")]


def test_a_partition_in_use_costs_no_commit(url: str, store: Store) -> None:
    """A reader that blocks the removal of a day, or the creation of one, does not fail a commit."""
    commit(store, observation(NOW))
    with psycopg.connect(url) as reader:
        reader.execute("SELECT count(*) FROM late_observation")
        assert 1 == commit(store, observation(NOW + 9 * DAY_MS), prune_before=NOW + 2 * DAY_MS)
    reader.close()
    assert 0 == commit(store, observation(NOW + 9 * DAY_MS))
    assert [] == list(open_admin(url).check())


def test_a_day_that_cannot_be_dropped_is_tried_again(
    postgres: Cluster, url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only at the same time of the next day, at which a daily backup is running again."""
    commit(store, observation(NOW))
    with psycopg.connect(url) as reader:
        reader.execute("SELECT count(*) FROM late_observation")
        commit(store, prune_before=NOW + 2 * DAY_MS)
    reader.close()
    commit(store, prune_before=NOW + 2 * DAY_MS)
    assert [NOW // DAY_MS] == partitions(postgres, url)
    monkeypatch.setattr("late_exporter.store.postgres.store.PRUNE_RETRY_SECONDS", 0.0)
    commit(store, prune_before=NOW + 2 * DAY_MS)
    assert [] == partitions(postgres, url)


def test_a_day_that_cannot_be_added_is_tried_from_time_to_time(
    postgres: Cluster, url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt blocks the look-ups of all processes, so that not each commit makes one while a backup is running."""
    with psycopg.connect(url) as reader:
        reader.execute("SELECT count(*) FROM late_observation")
        commit(store, observation(NOW))
    reader.close()
    commit(store, observation(NOW + 1))
    assert [] == partitions(postgres, url)
    monkeypatch.setattr(days, "RETRY_SECONDS", 0.0)
    commit(store, observation(NOW + 2))
    assert [NOW // DAY_MS] == partitions(postgres, url)
    assert 0 == commit(store, *(observation(NOW + number) for number in range(3)))
    assert [] == list(open_admin(url).check())


def test_odd_times_create_a_bounded_number_of_partitions(
    postgres: Cluster, url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of many days do not create a partition for each."""
    monkeypatch.setattr(days, "MAX_PARTITIONS", 3)
    logs = [observation(NOW + day * DAY_MS) for day in range(6)]
    assert 6 == commit(store, *logs)
    assert 3 == len(partitions(postgres, url))
    assert 0 == commit(store, *logs)


# Fencing


def test_a_later_start_fences_the_earlier_one(url: str, store: Store) -> None:
    """After another process has opened the state, the first can change nothing, and nothing is lost or doubled."""
    commit(store, observation(NOW))
    with closing(open_store(url)) as other:
        words = "another late-exporter has taken this state over, so nothing was counted; stop one of the two"
        for _ in range(2):
            with pytest.raises(StoreFenced, match=words):
                commit(store, observation(NOW + 1))
        assert 1 == commit(other, observation(NOW), observation(NOW + 1))
        assert (2, 2) == counts(other)


def test_concurrent_owners_count_once(url: str) -> None:
    """Of two processes that commit the same logs all the time, each log is counted by exactly one."""
    logs = [observation(NOW + number) for number in range(60)]
    counted: list[int] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(12):
            with closing(open_store(url)) as own, suppress(StoreFenced):
                counted.extend(commit(own, *draw.sample(logs, 10)) for _ in range(3))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(open_store(url)) as store:
        assert 60 == sum(counted) + commit(store, *logs)
        assert 60 == counts(store)[0]
    assert [] == list(open_admin(url).check())


def test_a_removed_workspace_is_not_written(postgres: Cluster, url: str) -> None:
    """A process whose workspace is removed from the database does not bring parts of it back."""
    with closing(open_store(url)) as store:
        commit(store, observation(NOW))
        for table in ("scope", "observation", "series"):
            postgres.execute(url, f"DELETE FROM late_{table}")  # noqa: S608 - constants
        with pytest.raises(StoreError, match="the workspace was removed from the state; restart late-exporter"):
            commit(store, observation(NOW + 1))
    with closing(open_store(url)) as store:
        assert {} == store.series_values()
    with open_snapshot(url) as snapshot:
        assert [] == snapshot.scopes


# Commits of several feeds


def test_feeds_are_committed_together(url: str, store: Store) -> None:
    """Feeds that share a series are committed in one transaction, and no increment of it is lost."""
    shared = IncCounter("late_exporter_api_requests_total", ("acme", "/v1/logs", "200"))
    scopes = [Scope("acme", feed) for feed in ("publishing", "connections")] + [OTHER]
    for turn in range(2):
        batches = [
            FeedCommit(
                scope, Batch(committed_at=1.0, observations=[observation(NOW + turn, turn)], increments=[shared])
            )
            for scope in scopes
        ]
        results = commit_all(store, batches)
        assert [1, 1, 1] == results
    values = store.series_values()
    assert 6 == values[shared.family, shared.labels].value == counts(store)[0]
    assert [2, 2, 2] == [state.log_count for state in map(store.feed_state, scopes)]
    assert [] == list(open_admin(url).check())


def test_an_error_of_one_feed_costs_the_others_nothing(postgres: Cluster, url: str, store: Store) -> None:
    """The batch that cannot be stored has an error, and the others are stored."""
    commit(store, scope=OTHER)
    commit(store)
    postgres.execute(url, "UPDATE late_scope SET token = 1 WHERE workspace = 'umbrella'")
    batches = [FeedCommit(scope, Batch(committed_at=1.0, observations=[observation(NOW)])) for scope in (OTHER, SCOPE)]
    failed, stored = commit_all(store, batches)
    assert isinstance(failed, StoreFenced)
    assert 1 == stored == store.feed_state(SCOPE).log_count


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_group_whose_answer_is_lost(proxied: tuple[Proxy, Store], lost: str) -> None:
    """It counts once, whether or not it was durable."""
    proxy, store = proxied
    scopes = (SCOPE, OTHER)
    for scope in scopes:
        commit(store, scope=scope)
    proxy.cut(lost, b"COMMIT")
    logs = {scope: observation(NOW, workspace=scope.workspace) for scope in scopes}
    batches = [FeedCommit(scope, Batch(committed_at=1.0, observations=[log])) for scope, log in logs.items()]
    assert [1, 1] == commit_all(store, batches)
    assert [1, 1] == [counts(store, scope.workspace)[0] for scope in scopes]


# Lost connections


@pytest.fixture
def proxied(postgres: Cluster, url: str) -> Iterator[tuple[Proxy, Store]]:
    """Open an empty state through a proxy."""
    with (
        Proxy(postgres.port) as proxy,
        closing(open_store(url.replace(f":{postgres.port}/", f":{proxy.port}/"))) as store,
    ):
        yield proxy, store


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_connection_lost_during_a_commit(proxied: tuple[Proxy, Store], lost: str) -> None:
    """The commit is sent again, and counts once, whether or not the first one was durable."""
    proxy, store = proxied
    commit(store, observation(NOW))
    proxy.cut(lost, b"COMMIT")
    assert 2 == commit(store, observation(NOW + 1), observation(NOW + 2))
    assert 0 == commit(store, observation(NOW + 1))
    assert (3, 3) == counts(store)
    assert 3 == store.size("acme")[0]


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_commit_whose_outcome_stays_unknown(proxied: tuple[Proxy, Store], lost: str) -> None:
    """If nothing answers any more, the commit fails; the next returns what was durable, and nothing counts twice."""
    proxy, store = proxied
    commit(store, observation(NOW))
    proxy.cut(lost, b"COMMIT", refuse=True)
    backlog = IncCounter("late_exporter_polls_total", ("acme", "publishing", "success"))
    batch = Batch(committed_at=1.0, observations=[observation(NOW + 1)], increments=[backlog])
    for _ in range(2):
        with pytest.raises(StoreError):
            commit_batch(store, SCOPE, batch)
    proxy.heal()
    result = commit_batch(
        store,
        SCOPE,
        Batch(committed_at=1.0, observations=[observation(NOW + 1), observation(NOW + 2)], increments=[backlog] * 2),
    )
    assert {observation(NOW + 1), observation(NOW + 2)} == set(result.observations)
    assert 3 == result.series_values[LOGS, ("acme", "tiktok", "publish", "success")].value
    assert (3, 3) == counts(store)
    assert 3 == result.log_count
    assert {} == result.pending_logs or result.pending_logs is None


def test_a_feed_whose_outcome_was_unknown_shows_current_values(proxied: tuple[Proxy, Store]) -> None:
    """A series that two feeds share does not fall when the second of them returns what was durable long before."""
    proxy, store = proxied
    assert isinstance(store, PostgresStore)
    shared = ObserveHistogram(
        "late_exporter_api_request_duration_seconds", ("acme", "/v1/logs"), micros=1000, bounds=(1.0,)
    )
    scopes = [Scope("acme", feed) for feed in ("publishing", "connections")]
    for scope in scopes:
        commit(store, scope=scope)
    proxy.cut("answer", b"COMMIT", refuse=True)
    batch = Batch(committed_at=1.0, increments=[shared])
    assert all(isinstance(result, StoreError) for result in store.commit_all([FeedCommit(s, batch) for s in scopes]))
    proxy.heal()
    first = commit_batch(store, scopes[0], Batch(committed_at=1.0, increments=[shared, shared]))
    second = commit_batch(store, scopes[1], Batch(committed_at=1.0, increments=[shared]))
    series = (shared.family, shared.labels)
    assert (
        first.series_values[series].value == second.series_values[series].value == store.series_values()[series].value
    )


def test_a_hung_network(proxied: tuple[Proxy, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is an error at the deadline, and no log is lost or counted twice."""
    monkeypatch.setattr("late_exporter.store.postgres.database.DEADLINE_SECONDS", 1.0)
    proxy, store = proxied
    commit(store, observation(NOW))
    proxy.hang()
    with pytest.raises(StoreError):
        commit(store, observation(NOW + 1))
    proxy.heal()
    commit(store, observation(NOW + 1))
    assert 2 == counts(store)[0]


def test_calls_that_wait_for_a_hung_server_fail_with_it(
    proxied: tuple[Proxy, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a connection that timed out, the next calls fail at once, so that a stop need not wait for each of them."""
    monkeypatch.setattr("late_exporter.store.postgres.database.DEADLINE_SECONDS", 0.1)
    proxy, store = proxied
    commit(store, observation(NOW))
    proxy.hang()
    for error in ("no answer in time", "time", "the server does not answer", "the server does not answer"):
        with pytest.raises(StoreError, match=error):
            commit(store, observation(NOW + 1))
    proxy.heal()
    monkeypatch.undo()
    wait_until(lambda: is_committed(store, observation(NOW + 1)))
    assert 2 == counts(store)[0]


def test_hosts_that_do_not_answer(postgres: Cluster, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the attempts to connect to them take, the state on the host that answers is used."""
    monkeypatch.setattr("late_exporter.store.postgres.database.DEADLINE_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{postgres.port}"
        state_url = f"{url.replace(f'127.0.0.1:{postgres.port}', hosts)}&connect_timeout=2"
        with closing(open_store(state_url)) as store:
            postgres.execute(url, END_SESSIONS)
            assert 1 == commit(store, observation(NOW))
            postgres.execute(url, END_SESSIONS)
            assert (1, 1) == counts(store)


def is_committed(store: Store, row: Observation) -> bool:
    """Commit an observation; return whether that succeeded."""
    try:
        commit(store, row)
    except StoreError:
        return False
    return True


def test_the_driver_logs_no_failed_transaction(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """The error is raised; a line about each would come with every poll of an outage."""
    with closing(Database(url)) as database:
        with pytest.raises(StoreError, match="division by zero"):
            database.transact(("SELECT 1 / 0", ()), *[("SELECT 1", ())] * 1000)
        assert [(1,)] == database.transact(("SELECT 1", ()))
    assert [] == caplog.records


def test_operations_end_at_the_deadline() -> None:
    """A generator of psycopg that waits in its clean-up, too, is ended, so that it prints nothing when it is freed."""
    steps: list[str] = []

    def operation() -> Generator[Any, Any, None]:
        try:
            yield "read"
        finally:
            try:
                yield "clean up"
            finally:
                steps.append("ended")

    waiting = until_deadline(operation(), deadline=0.0)
    assert "read" == next(waiting)
    with pytest.raises(psycopg.OperationalError, match="no answer in time"):
        waiting.send("ready")
    assert ["ended"] == steps


def test_a_restart_of_the_server(postgres: Cluster, url: str, store: Store) -> None:
    """Ended sessions are no error: the next call connects again."""
    commit(store, observation(NOW))
    postgres.execute(url, END_SESSIONS)
    assert 1 == commit(store, observation(NOW + 1))
    postgres.execute(url, END_SESSIONS)
    assert (2, 2) == counts(store)


@pytest.mark.parametrize(
    "event",
    [
        "INSERT ON late_observation",
        "INSERT ON late_series",
        "UPDATE ON late_scope",
        "INSERT ON late_pending",
        "DELETE ON late_pending",
        "DELETE ON late_observation_rest",
    ],
)
def test_a_full_disk_at_any_statement(postgres: Cluster, url: str, store: Store, event: str) -> None:
    """A commit that fails is rolled back, the error has a remedy, and the same batch counts once when it is retried."""
    old = Observation(LogEntry(key="old", status="pending", created=NOW - DAY_MS), ())
    commit(store, old, observation(NOW, 1, "pending"))
    postgres.execute(
        url,
        "CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$",
        f"CREATE TRIGGER fault BEFORE {event} FOR EACH ROW EXECUTE FUNCTION fault()",
    )
    before = store.series_values(), store.feed_state(SCOPE)
    logs = [observation(NOW, 1), observation(NOW, 2), observation(NOW, 3, "pending")]
    for _ in range(2):
        with pytest.raises(StoreError, match="could not extend file; free some space; nothing is lost meanwhile"):
            commit(store, *logs, prune_before=NOW)
        assert before == (store.series_values(), store.feed_state(SCOPE))
    postgres.execute(url, f"DROP TRIGGER fault ON {event.rpartition(' ')[2]}")
    assert 3 == commit(store, *logs, prune_before=NOW)
    assert (2, 2) == counts(store)
    assert [logs[2].entry.key] == list(store.feed_state(SCOPE).pending_logs)
    assert [] == list(open_admin(url).check())


@pytest.fixture
def bouncer(postgres: Cluster, require_tool: Callable[[str], str]) -> Iterator[int]:
    """Start pgbouncer in transaction mode, with two server connections; return its port."""
    with running_bouncer(require_tool("pgbouncer"), postgres) as port:
        yield port


def test_behind_pgbouncer(postgres: Cluster, bouncer: int) -> None:
    """In transaction mode, clients that share server connections neither see nor need anything of a session."""
    urls = [postgres.create_database() for _ in range(2)]
    with ExitStack() as stack:
        stores = [
            stack.enter_context(closing(open_store(each.replace(f":{postgres.port}/", f":{bouncer}/"))))
            for each in urls
        ]
        for turn in range(5):
            for number, each in enumerate(stores):
                assert 1 == commit(each, observation(NOW + turn, number), prune_before=NOW - DAY_MS)
                assert (turn + 1, turn + 1) == counts(each)
        with open_snapshot(urls[0].replace(f":{postgres.port}/", f":{bouncer}/")) as snapshot:
            commit(stores[0], observation(NOW + 9))
            assert 5 == len(list(snapshot.recorded_statuses(SCOPE)))
        postgres.execute(
            urls[0],
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        assert 1 == commit(stores[0], observation(NOW + 10))
        assert (7, 7) == counts(stores[0])


# Administration


def fill(store: Store) -> None:
    """Commit logs of two workspaces: on several days, pending, without a time, and with odd text."""
    for scope in (SCOPE, OTHER):
        logs = [observation(NOW + number * DAY_MS // 3, number, workspace=scope.workspace) for number in range(20)]
        logs += [observation(NOW + 7, 40 + number, "pending", scope.workspace) for number in range(3)]
        odd = LogEntry(key='a\x00"é🔥', status="odd\x00", created=None, platform="x\x00")
        commit(store, *logs, Observation(odd, ()), scope=scope)


def test_a_copy_is_exact_whatever_the_session_escapes(postgres: Cluster, url: str) -> None:
    """Bytes arrive as they are, also if strings of the session have backslash escapes."""
    with closing(open_store(url)) as store:
        fill(store)
    target = postgres.create_schema()
    copy_state(url, f"{target}%20-cstandard_conforming_strings%3Doff")
    assert all_rows(url) == all_rows(target)


def test_a_state_that_takes_long_to_read_and_write(
    url: str, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is that of each part of a state, not of all of it, nor of what else is done meanwhile."""
    elapsed, monotonic = [0.0], time.monotonic
    monkeypatch.setattr("time.monotonic", lambda: monotonic() + elapsed[0])
    monkeypatch.setattr("late_exporter.store.postgres.queries.ROWS_PER_FETCH", 2)
    monkeypatch.setattr("late_exporter.store.postgres.admin.ROWS_PER_COPY", 2)

    def slowly(rows: Iterable[T]) -> Iterator[T]:
        for row in rows:
            elapsed[0] += LONG_DEADLINE_SECONDS
            yield row

    with closing(open_store(url)) as store:
        commit(store, *(observation(NOW + number) for number in range(5)))
    with open_snapshot(url) as snapshot:
        assert 5 == len(list(slowly(snapshot.recorded_statuses(SCOPE))))
    rows = PostgresSnapshot.rows
    monkeypatch.setattr(PostgresSnapshot, "rows", lambda *args: slowly(rows(*args)))
    target = postgres.create_schema()
    copy_state(url, target)
    assert [] == list(open_admin(target).check())


def test_changes_require_exclusive_access(postgres: Cluster) -> None:
    """A state that an exporter uses is not changed by a command."""
    url = postgres.create_database()
    with closing(open_store(url)) as store:
        fill(store)
        admin = open_admin(url)
        assert admin.is_in_use()
        with pytest.raises(StoreInUse), admin.writing():
            pass
        commit(store, observation(NOW - 1))
    assert not admin.is_in_use()


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DELETE FROM late_observation WHERE status = 'odd'::bytea OR key LIKE '%3.0'::bytea", "logs are stored"),
        ("UPDATE late_scope SET logs = logs + 1", "logs are stored"),
        ("INSERT INTO late_pending VALUES (1, 'nobody', 1, 'a', 'b', NULL)", "pending logs are not stored as counted"),
        ("UPDATE late_series SET value = '{'", "the value cannot be decoded"),
    ],
)
def test_check_reports_inconsistencies(postgres: Cluster, url: str, statement: str, fault: str) -> None:
    """Changes that bypass the store are reported."""
    with closing(open_store(url)) as store:
        fill(store)
    assert [] == list(open_admin(url).check())
    postgres.execute(url, statement)
    assert [line for line in open_admin(url).check() if fault in line]


def test_a_snapshot_does_not_change(url: str, store: Store) -> None:
    """Later commits are neither visible to a snapshot nor blocked by it."""
    fill(store)
    with open_snapshot(url) as snapshot:
        before = snapshot.series_values()
        statuses = list(snapshot.recorded_statuses(SCOPE))
        commit(store, observation(NOW - 1))
        assert before == snapshot.series_values() != store.series_values()
        assert statuses == list(snapshot.recorded_statuses(SCOPE))
        assert 24 == len(statuses) == snapshot.feed_state(SCOPE).log_count
        assert (NOW, NOW + 19 * DAY_MS // 3) == snapshot.created_range(SCOPE)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            snapshot._connection.execute("DELETE FROM late_scope")  # type: ignore[attr-defined] # noqa: SLF001 - that it cannot


# What the server must provide


def test_a_snapshot_keeps_its_days(url: str, store: Store) -> None:
    """A day that expires before the snapshot has read it is not dropped meanwhile, so that its counts agree."""
    commit(store, observation(NOW), observation(NOW + 1))
    with open_snapshot(url) as snapshot:
        commit(store, prune_before=NOW + 2 * DAY_MS)
        accounting = snapshot.accounting(SCOPE)
    assert (2, 2, 0) == (accounting.observation_count, accounting.stored_count, accounting.pruned_count)


def test_unusable_servers_are_named(postgres: Cluster, url: str) -> None:
    """Each error names the database without its password, and the remedy."""
    postgres.execute(url, "CREATE ROLE stranger LOGIN PASSWORD 'secret'")
    stranger = url.replace(f"{USER}:{PASSWORD}@", "stranger:secret@")
    closed = url.replace(f":{postgres.port}/", ":9/")
    wrong = url.replace(PASSWORD, "wrong-password")
    for bad, words in (
        (stranger, "no schema has been selected to create in; the user needs the right to create tables"),
        (closed, "connection to server at .127.0.0.1., port 9 failed"),
        (wrong, "password authentication failed.*; check the user in --state.url"),
        (url.replace("/postgres?", "/nothing?"), 'database "nothing" does not exist; create the database'),
    ):
        with pytest.raises(StoreError, match=words) as caught:
            open_store(bad)
        assert PASSWORD not in str(caught.value)
        assert "wrong-password" not in str(caught.value)
        assert "secret" not in str(caught.value)
        assert str(caught.value).startswith("postgresql://")
    with pytest.raises(StoreError, match="cannot be created in any schema of the search_path; the user needs"):
        open_snapshot(stranger)
    schema = url.rpartition("%3D")[2]
    postgres.execute(url, f"GRANT USAGE ON SCHEMA {schema} TO stranger")
    with pytest.raises(StoreError, match=f"cannot be created in the schema {schema}; the user needs the right"):
        open_snapshot(stranger)
    postgres.execute(url, f"REVOKE USAGE ON SCHEMA {schema} FROM stranger", "DROP ROLE stranger")


def test_password_file(url: str, tmp_path: Path) -> None:
    """The password is read from its file at each connection."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    with closing(open_store(url.replace(f":{PASSWORD}@", "@"), file)) as store:
        commit(store, observation(NOW))
        file.write_text("wrong")
        store._database.disconnect()  # type: ignore[attr-defined] # noqa: SLF001 - as if the server had been restarted
        with pytest.raises(StoreError, match="password authentication failed"):
            commit(store, observation(NOW + 1))
        file.unlink()
        with pytest.raises(StoreError, match=f"--state.password-file {file}: cannot be read: No such file"):
            commit(store, observation(NOW + 1))
        file.write_text(PASSWORD)
        assert 1 == commit(store, observation(NOW + 1))


def test_a_read_only_server(postgres: Cluster) -> None:
    """A server that has become a standby is an error with a remedy; nothing is lost."""
    url = postgres.create_database()
    name = url.rpartition("/")[2]
    with closing(open_store(url)) as store:
        commit(store, observation(NOW))
        postgres.execute(postgres.url("postgres"), f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        store._database.disconnect()  # type: ignore[attr-defined] # noqa: SLF001 - a failover ends all sessions
        with pytest.raises(StoreError, match=r"cannot execute .* in a read-only transaction; the server is read-only"):
            commit(store, observation(NOW + 1))
        postgres.execute(postgres.url("postgres"), f"ALTER DATABASE {name} RESET default_transaction_read_only")
        store._database.disconnect()  # type: ignore[attr-defined] # noqa: SLF001 - as above
        assert 1 == commit(store, observation(NOW + 1))
        assert (2, 2) == counts(store)


def test_a_server_that_lost_commits(url: str) -> None:
    """A database that went back in time is noticed before anything is counted; a restart counts what was lost."""
    logs = [observation(NOW + number) for number in range(5)]
    with closing(open_store(url)) as store:
        commit(store, *logs[:2])
        standby = LaggingStandby(url)
        commit(store, logs[2])
        commit(store, logs[3])
        standby.promote()
        for _ in range(2):
            with pytest.raises(StoreRegressed, match="the server has lost commits that it had acknowledged"):
                commit(store, logs[4])
    with closing(open_store(url)) as store:
        assert store.feed_state(SCOPE).is_restored
        assert (2, 0) == counts(store)
        commit(store, *logs)
        assert 5 == counts(store)[0]
        assert not store.feed_state(SCOPE).is_restored
    assert [] == list(open_admin(url).check())


def test_a_state_with_another_schema_is_refused(postgres: Cluster, url: str) -> None:
    """The error names the database and the remedy, and nothing is changed."""
    open_store(url).close()
    postgres.execute(url, "UPDATE late_state SET schema = 3")
    words = (
        r"^postgresql://late@.* is a state of another version of late-exporter \(schema 3, this version uses 1\);"
        " it was not changed: use that version, or name another state with --state.url$"
    )
    for opening in (open_store, open_snapshot):
        with pytest.raises(StoreError, match=words):
            opening(url)
    assert [(3,)] == postgres.execute(url, "SELECT schema FROM late_state")


def test_simultaneous_starts_create_one_state(url: str) -> None:
    """Processes that start at once on an empty database wait for each other."""
    stores: list[Store] = []
    threads = [threading.Thread(target=lambda: stores.append(open_store(url))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 6 == len(stores)
    for store in stores:
        store.close()


def test_simultaneous_starts_on_a_database_with_another_isolation(postgres: Cluster) -> None:
    """The lock of the creation is of use whatever the default isolation of the user is."""
    postgres.execute(
        postgres.url("postgres"), "ALTER ROLE CURRENT_USER SET default_transaction_isolation = serializable"
    )
    try:
        test_simultaneous_starts_create_one_state(postgres.create_schema())
    finally:
        postgres.execute(postgres.url("postgres"), "ALTER ROLE CURRENT_USER RESET default_transaction_isolation")


def test_the_encoding_of_the_database(postgres: Cluster) -> None:
    """A database that cannot hold all text is refused."""
    postgres.execute(
        postgres.url("postgres"),
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    with pytest.raises(StoreError, match="the database has the encoding LATIN1; create one with UTF8"):
        open_store(postgres.url("latin"))


@pytest.mark.parametrize(("configured", "expected"), [("off", "on"), ("remote_apply", "remote_apply")])
def test_an_asynchronous_commit_is_not_accepted(url: str, configured: str, expected: str) -> None:
    """A commit is durable even if the database is configured otherwise; a stricter setting is kept."""
    with psycopg.connect(url) as connection:
        connection.execute(f"SET synchronous_commit = {configured}")
        connection.execute(SETTINGS)
        assert (expected,) == connection.execute("SHOW synchronous_commit").fetchone()
    connection.close()

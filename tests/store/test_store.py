"""What is counted, and how often; the same in every database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pytest

from late_exporter.errors import StoreError, StoreFenced
from late_exporter.health import Failure
from late_exporter.model import (
    FailureStreak,
    Histogram,
    IncCounter,
    LatestValue,
    ObserveHistogram,
    RecordAttempt,
    Scope,
    SeriesValue,
    SetLatest,
    Value,
)
from late_exporter.store import Store
from late_exporter.store.records import (
    Batch,
    CommitResult,
    Coverage,
    FeedState,
    Gap,
    ListPosition,
    Observation,
    PendingLog,
)
from tests.support.exporter import open_store
from tests.support.store import (
    NOW,
    OTHER,
    SCOPE,
    commit,
    commit_batch,
    execute,
    log_count,
    observation,
    problems,
    stored_series,
)

HOUR = 3_600_000
COVERAGE = Coverage(
    retention_floor=1,
    complete_since=2,
    caught_up_at=3,
    newest=ListPosition(NOW, "b"),
    gaps=(Gap(ListPosition(5, "x"), 4, 100, 3),),
    is_synced=True,
)
FAILURES = (Failure(key="a", time=1.5, platform="tiktok", account_id="a1", error="no video 🔥"),)


def test_a_restart_changes_nothing(url: str) -> None:
    """Everything is there, values of all kinds with any labels, and nothing counts again."""
    odd = ("acme", '"\\,\n\x7f', "\u2028🔥", "\ufffd", "", "x" * 20_000)
    increments = (
        IncCounter("part", odd, amount=0.25),
        ObserveHistogram("histogram", odd, micros=(1_500_000,), bounds=(1.0, 2.0)),
        SetLatest("words", odd, at=NOW, value=("@acme 🔥", "p1")),
        RecordAttempt("streak", odd, at=NOW, failed=True),
    )
    values: dict[str, Value] = {
        "part": 0.25,
        "histogram": Histogram((1.0, 2.0), (0, 1, 0), 1_500_000),
        "words": LatestValue(NOW, ("@acme 🔥", "p1")),
        "streak": FailureStreak(failures=(NOW,)),
    }
    logs = observation("a"), observation("b", "pending", post_id="p")
    with closing(open_store(url)) as store:
        commit(store, *logs, increments=increments, coverage=COVERAGE, progress=b'{"page": 1}', failures=FAILURES)
        series, statuses = stored_series(store), store.lookup(SCOPE, ["a", "b", "c"])
    assert {(name, odd): SeriesValue(value, 1.0) for name, value in values.items()}.items() <= series.items()
    with closing(open_store(url)) as store:
        pending = {"b": PendingLog("b", NOW, "tiktok", "media_upload", "p")}
        assert FeedState(COVERAGE, pending, 2, b'{"page": 1}', FAILURES) == store.feed_state(SCOPE)
        assert commit(store, *logs).observations == []
        assert (series, statuses) == (stored_series(store), store.lookup(SCOPE, ["a", "b", "c"]))


def test_the_size_of_a_workspace(store: Store) -> None:
    """A workspace has the logs of its feeds and a proportional share of the bytes, also of a state that grows fast."""
    commit(store, observation("0"), scope=OTHER)
    store.size("umbrella")
    for scope, count in ((SCOPE, 200), (Scope("acme", "connections"), 100), (OTHER, 100)):
        commit(store, *(observation(f"{number}") for number in range(count)), scope=scope)
    acme, umbrella, nobody = store.size("acme"), store.size("umbrella"), store.size("nobody")
    assert (acme[0], umbrella[0], nobody[0]) == (300, 100, 0)
    assert 400 * 20 < acme[1] + umbrella[1] < 400 * 2000
    assert acme[1] == pytest.approx(3 * umbrella[1], abs=3)


# Failures


@contextmanager
def fault(url: str, event: str, condition: str = "") -> Iterator[None]:
    """Let the statements of an event fail as if the disk were full."""
    table, when = event.rpartition(" ")[2], f"WHEN ({condition})" if condition else ""
    if url.startswith("sqlite:"):
        create = [f"CREATE TRIGGER fault BEFORE {event} {when} BEGIN SELECT raise(ABORT, 'disk full'); END"]
    else:
        raise_error = "BEGIN RAISE EXCEPTION 'disk full' USING ERRCODE = 'disk_full'; END"
        create = [
            f"CREATE OR REPLACE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ {raise_error} $$",
            f"CREATE TRIGGER fault BEFORE {event} FOR EACH ROW {when} EXECUTE FUNCTION fault()",
        ]
    execute(url, *create)
    yield
    execute(url, "DROP TRIGGER fault" if url.startswith("sqlite:") else f"DROP TRIGGER fault ON {table}")


@pytest.mark.parametrize(
    "event",
    [
        "INSERT ON late_log",
        "INSERT ON late_series",
        "UPDATE ON late_feed",
        "INSERT ON late_pending",
        "DELETE ON late_pending",
        "DELETE ON late_log",
    ],
)
def test_a_commit_that_fails_at_any_statement_changes_nothing(url: str, store: Store, event: str) -> None:
    """The same batch counts once when it is tried again."""
    commit(store, observation("old", "pending", NOW - HOUR), observation("a", "pending"), coverage=COVERAGE)
    batch = Batch(
        scope=SCOPE,
        observations=[observation("a"), Observation(observation("b").entry, ()), observation("c", "pending")],
        increments=[IncCounter("polls", ("acme",))],
        coverage=Coverage(retention_floor=2, complete_since=2),
        prune_before=NOW,
    )
    keys = ["old", "a", "b", "c"]
    before = stored_series(store), store.lookup(SCOPE, keys), store.size("acme")[0]
    with fault(url, event):
        with pytest.raises(StoreError, match=r"disk full(; free some space; nothing is lost meanwhile)?$"):
            commit_batch(store, batch)
        assert before == (stored_series(store), store.lookup(SCOPE, keys), store.size("acme")[0])
    assert len(commit_batch(store, batch).observations) == 3
    assert stored_series(store)["polls", ("acme",)].value == 1
    assert (["c"], Coverage(retention_floor=2, complete_since=2)) == (
        [*store.feed_state(SCOPE).pending_logs][-1:],
        store.feed_state(SCOPE).coverage,
    )
    assert problems(url) == []


# Commits of several feeds


def batch_of(scope: Scope, *keys: str, status: str = "success") -> Batch:
    """Return a batch of logs of a feed, with a counter of them."""
    logs = [observation(key, status, workspace=scope.workspace) for key in keys]
    return Batch(scope=scope, observations=logs)


def new_counts(results: Sequence[CommitResult | StoreError]) -> list[object]:
    """Return the number of new observations of each batch, or the type of its error."""
    return [type(each) if isinstance(each, StoreError) else len(each.observations) for each in results]


def test_each_batch_of_a_group_has_the_result_that_it_had_alone(store: Store) -> None:
    """Also if several are of one feed, or of one series."""
    connections = Scope("acme", "connections")
    store.feed_states([SCOPE, OTHER, connections])
    groups = [
        [batch_of(SCOPE, "a", "b"), batch_of(OTHER, "a"), batch_of(connections, "c")],
        [batch_of(SCOPE, "d", status="pending"), batch_of(SCOPE, "d", "a", "e")],
    ]
    with closing(open_store("sqlite://")) as other:
        for group in groups:
            expected = [commit_batch(other, each) for each in group]
            assert expected == store.commit_all(group)
        assert stored_series(other) == stored_series(store)
    assert (log_count(store), log_count(store, workspace="umbrella")) == (5, 1)
    assert (store.size("acme")[0], store.size("umbrella")[0]) == (5, 1)
    assert store.commit_all([]) == []


def test_an_error_of_one_batch_costs_the_others_nothing(url: str, store: Store) -> None:
    """The batch that cannot be stored has an error and leaves no trace; the others are stored."""
    scopes = [Scope(f"w{number}", "publishing") for number in range(5)]
    store.feed_states(scopes)
    commits = [batch_of(scope, "good", *(["bad"] if scope is scopes[2] else [])) for scope in scopes]
    with fault(url, "INSERT ON late_log", "NEW.key = 'bad'"):
        for new in (1, 0):
            assert new_counts(store.commit_all(commits)) == [new, new, StoreError, new, new]
            assert [log_count(store, workspace=scope.workspace) for scope in scopes] == [1, 1, 0, 1, 1]
    assert new_counts(store.commit_all(commits)) == [0, 0, 2, 0, 0]
    assert problems(url) == []


# Several processes


def test_a_feed_that_another_process_has_changed_is_not_written(url: str, store: Store) -> None:
    """Until it is loaded again; the feeds of others are."""
    store.feed_states([SCOPE, OTHER])
    changed = "UPDATE late_feed SET revision = revision + 1 WHERE workspace = {}"
    execute(url, changed.format("(SELECT id FROM late_workspace WHERE name = 'acme')"))
    commits = [batch_of(SCOPE, "a"), batch_of(OTHER, "a")]
    assert new_counts(store.commit_all(commits)) == [StoreFenced, 1]
    with pytest.raises(StoreFenced, match="nothing of the workspace was counted: another process has changed it"):
        commit(store, observation("a"))
    store.feed_state(SCOPE)
    assert new_counts(store.commit_all(commits)) == [1, 0]


# What is no state


def test_an_incomplete_state_is_refused(url: str) -> None:
    """The tables that are left are not changed, and the error has a remedy."""
    with closing(open_store(url)) as store:
        commit(store, observation("a"))
    execute(url, "DROP TABLE late_state")
    with pytest.raises(StoreError, match=r"is the database of another program|; the state is incomplete; restore"):
        open_store(url)
    assert execute(url, "SELECT key FROM late_log") == [("a",)]

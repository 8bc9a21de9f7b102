from __future__ import annotations

import os
import random
import resource
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from late_exporter.errors import ConfigError, StoreError
from late_exporter.model import (
    Batch,
    CommitResult,
    Coverage,
    FeedAccounting,
    FeedState,
    Gap,
    ListPosition,
    LogEntry,
    Observation,
    PendingLog,
    Scope,
)
from late_exporter.series import (
    AttemptOutcome,
    FailureStreak,
    Histogram,
    IncCounter,
    Increment,
    LatestValue,
    ObserveHistogram,
    ObserveLog,
    RecordAttempt,
    SeriesValue,
    SetByLog,
    SetLatest,
    Value,
)
from late_exporter.store import Store, open_store
from late_exporter.store.maintenance import open_snapshot, require_writable
from late_exporter.store.queries import store_errors
from tests.support.store import commit_batch

MINUTE = 60_000
HOUR = 60 * MINUTE
NOW = 29_333_333 * MINUTE  # on the minute, in October 2025
AT = NOW / 1000
SCOPE = Scope("acme", "publishing")
LOGS = "late_publishing_logs_total"

Backend: TypeAlias = Callable[[pytest.FixtureRequest, Path], str]

BACKENDS: dict[str, Backend] = {
    "memory": lambda _, __: "sqlite://",
    "file": lambda _, folder: f"sqlite:///{folder}/state/late.db",
    "postgres": lambda request, _: request.getfixturevalue("postgres").create_schema(),
}
"""A URL a backend; a new backend is a row here, and one in DURABLE if it outlives its process."""

STATES = Path(__file__).parents[1] / "states"
"""SQL dumps of the states of released versions."""


def backends(*names: str) -> list[Any]:
    """Return parameters of tests; a backend that needs a server is no unit test."""
    return [pytest.param(name, marks=[pytest.mark.e2e] if name == "postgres" else []) for name in names]


DURABLE = [name for name in BACKENDS if name != "memory"]

Reopen: TypeAlias = Callable[[], Store]


def entry(key: str, status: str = "success", created: int | None = NOW, **facts: Any) -> LogEntry:
    """Return a publishing log."""
    return LogEntry(key=key, status=status, created=created, platform="tiktok", action="publish", **facts)


def observation(key: str, status: str = "success", created: int | None = NOW, **facts: Any) -> Observation:
    """Return an observation with one increment."""
    log = entry(key, status, created, **facts)
    return Observation(log, (IncCounter(LOGS, ("acme", log.platform, log.action, log.status)),))


def commit(store: Store, *observations: Observation, scope: Scope = SCOPE, **rest: Any) -> CommitResult:
    """Commit observations."""
    times = {"committed_at": AT, "series_created_at": rest.pop("at", AT)} | rest
    return commit_batch(store, scope, Batch(observations=observations, **times))


def counter_value(store: Store, status: str = "success", workspace: str = "acme") -> object:
    """Return the counter of the observations in a status."""
    total = store.series_values().get((LOGS, (workspace, "tiktok", "publish", status)))
    return total.value if total else 0


def lookup(store: Store, *keys: str, scope: Scope = SCOPE) -> Mapping[str, frozenset[str]]:
    """Look up the statuses of logs."""
    return store.lookup(scope, keys)


@pytest.fixture(params=backends(*BACKENDS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Open an empty state of each backend."""
    with closing(open_store(BACKENDS[request.param](request, tmp_path))) as new_store:
        yield new_store


@pytest.fixture(params=backends(*DURABLE))
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Return a function that reopens the same state."""
    url = BACKENDS[request.param](request, tmp_path)
    return lambda: open_store(url)


# Behaviour of every backend.


def test_new_state_is_empty(store: Store) -> None:
    """A new state has no logs, series or coverage."""
    assert {} == store.series_values()
    assert FeedState(coverage=None, pending_logs={}, log_count=0) == store.feed_state(SCOPE)
    assert {} == lookup(store, "a")
    assert 0 == store.size("acme")[0]


def test_observation_counts_once(store: Store) -> None:
    """An observation counts once, in one batch or in several."""
    first = commit(store, observation("a"), observation("a"))
    again = commit(store, observation("a"), observation("b"))

    assert [observation("a")] == first.observations
    assert [observation("b")] == again.observations
    assert 2 == counter_value(store)
    assert 2 == again.log_count == store.feed_state(SCOPE).log_count


def test_observation_counts_once_across_restarts(reopen: Reopen) -> None:
    """After a restart the state is complete, and nothing counts again."""
    coverage = Coverage(
        retention_floor=1,
        complete_since=2,
        caught_up_at=3,
        newest=ListPosition(NOW, "b"),
        gaps=(Gap(ListPosition(5, "x"), 4, 100, 3),),
        is_synced=True,
    )
    with closing(reopen()) as store:
        commit(store, observation("a"), observation("b", "pending", post_id="p"), coverage=coverage)
        before = store.series_values(), store.feed_state(SCOPE), lookup(store, "a", "b", "c")
    with closing(reopen()) as store:
        assert before == (store.series_values(), store.feed_state(SCOPE), lookup(store, "a", "b", "c"))
        assert [] == commit(store, observation("a"), observation("b", "pending", post_id="p")).observations
        assert 1 == counter_value(store)
        assert coverage == store.feed_state(SCOPE).coverage
        assert {"b": PendingLog("b", NOW, "tiktok", "publish", "p")} == store.feed_state(SCOPE).pending_logs


def test_each_status_counts(store: Store) -> None:
    """A log counts once in each status, as one log."""
    commit(store, observation("a", "pending"))
    result = commit(store, observation("a", "failed"), observation("a", "pending"), observation("a", "success"))

    assert ["failed", "success"] == [observation.entry.status for observation in result.observations]
    assert [1, 1, 1] == [counter_value(store, status) for status in ("pending", "failed", "success")]
    assert 1 == result.log_count
    assert {"a": frozenset({"pending", "failed", "success"})} == lookup(store, "a", "b")


def test_once_per_log_increments(store: Store) -> None:
    """Such an increment applies to the first observation only, even if two are in one batch."""

    def paused(key: str, status: str) -> Observation:
        return Observation(
            entry(key, status), (IncCounter("pauses", ("acme",), once_per_log=True), IncCounter("seen", ("acme",)))
        )

    commit(store, paused("a", "pending"), paused("a", "success"))
    commit(store, paused("a", "failed"), paused("b", "success"))

    assert 2 == store.series_values()["pauses", ("acme",)].value
    assert 4 == store.series_values()["seen", ("acme",)].value


def test_increments_of_a_batch_always_apply(store: Store) -> None:
    """The exporter's own metrics are counted with any batch."""
    for _ in range(2):
        commit(store, observation("a"), increments=(IncCounter("polls", ("acme",)),))

    assert 2 == store.series_values()["polls", ("acme",)].value


def test_commit_returns_changed_series(store: Store) -> None:
    """A commit returns the values of the series that it changed, and no others."""
    commit(store, observation("a"))
    result = commit(store, observation("b", "failed"), at=AT + 1)

    assert {(LOGS, ("acme", "tiktok", "publish", "failed")): SeriesValue(1, AT + 1)} == result.series_values
    assert {} == commit(store, observation("b", "failed")).series_values


def test_creation_time_is_kept(reopen: Reopen) -> None:
    """A series keeps its creation time, also if it began at zero."""
    series = "seen", ("acme",)
    with closing(reopen()) as store:
        assert {series: SeriesValue(0, 7.5)} == commit(
            store, increments=(IncCounter(*series, amount=0),), at=7.5
        ).series_values
    with closing(reopen()) as store:
        assert {series: SeriesValue(1, 7.5)} == commit(store, increments=(IncCounter(*series),), at=9.0).series_values


def test_values_of_all_kinds_are_stored(reopen: Reopen) -> None:
    """Counters, histograms, gauges and streaks are restored, with any labels."""
    odd = ("acme", '"\\,\n\x00\x7f', "\u2028🔥", "�", "")
    increments: Sequence[Increment] = (
        IncCounter("whole", odd),
        IncCounter("part", odd, amount=0.25),
        ObserveHistogram("histogram", odd, micros=1_500_000, bounds=(1.0, 2.0)),
        SetLatest("reading", odd, at=NOW, value=12.5),
        SetLatest("words", odd, at=NOW, value="@acme 🔥"),
        AttemptOutcome("streak", odd, at=NOW, failed=True),
    )
    with closing(reopen()) as store:
        returned = commit(store, increments=increments).series_values
    expected: dict[str, Value] = {
        "whole": 1,
        "part": 0.25,
        "histogram": Histogram((1.0, 2.0), (0, 1, 0), 1_500_000),
        "reading": LatestValue(NOW, 12.5),
        "words": LatestValue(NOW, "@acme 🔥"),
        "streak": FailureStreak(failures=(NOW,)),
    }
    with closing(reopen()) as store:
        assert (
            {(name, odd): SeriesValue(value, AT) for name, value in expected.items()}
            == returned
            == store.series_values()
        )


def test_the_creation_time_of_series(reopen: Reopen) -> None:
    """A series keeps the time of the batch that created it, or 0 if that was history."""
    series = [(LOGS, ("acme", platform, "publish", "success")) for platform in ("a", "b")]
    with closing(reopen()) as store:
        for each, created_at in zip(series, (0.0, 7.5), strict=True):
            commit(store, increments=[IncCounter(*each)], series_created_at=created_at)
        result = commit(store, increments=[IncCounter(*each) for each in series], series_created_at=9.0)
        expected = {series[0]: SeriesValue(2, 0.0), series[1]: SeriesValue(2, 7.5)}
        assert expected == result.series_values
    with closing(reopen()) as store:
        assert expected == store.series_values()


def test_similar_keys_are_different(store: Store) -> None:
    """Keys that differ in any way are different logs."""
    keys = ["a", "A", "a ", "a\x00", "a\x00b", "'; DROP TABLE observation; --", "é", "e\u0301", "%", "🔥", "a" * 128]
    result = commit(store, *map(observation, keys))

    assert len(keys) == len(result.observations) == counter_value(store)
    assert set(keys) == set(lookup(store, *keys))
    assert {"a\x00"} == set(lookup(store, "a\x00"))


def test_lookup_of_any_number_of_keys(store: Store) -> None:
    """A lookup accepts no keys, duplicate keys and a thousand keys."""
    commit(store, *(observation(f"k{number}") for number in range(1000)))

    assert {} == lookup(store)
    assert {"k1"} == set(lookup(store, "k1", "k1"))
    assert 1000 == len(lookup(store, *(f"k{number}" for number in range(1000))))


def test_pending_until_final(store: Store) -> None:
    """A log is pending from its first pending observation until its first other one."""
    waiting = commit(store, observation("b", "pending", NOW, post_id="p"), observation("a", "pending", NOW - 1))
    same = commit(store, observation("b", "pending", NOW, post_id="p"), observation("c"))
    settled = commit(store, observation("b", "failed"))

    expected = {
        "a": PendingLog("a", NOW - 1, "tiktok", "publish", None),
        "b": PendingLog("b", NOW, "tiktok", "publish", "p"),
    }
    assert expected == waiting.pending_logs
    assert ["a", "b"] == list(waiting.pending_logs or ()), "oldest first"
    assert same.pending_logs is None, "nothing has changed"
    assert {"a": expected["a"]} == settled.pending_logs == store.feed_state(SCOPE).pending_logs


@pytest.mark.parametrize("together", [True, False])
def test_outdated_pending_observation(store: Store, *, together: bool) -> None:
    """A pending observation after a final one counts, but does not make the log pending."""
    final, stale = observation("a"), observation("a", "pending")
    batches = [[final, stale]] if together else [[final], [stale]]
    for batch in batches:
        commit(store, *batch)

    assert 1 == counter_value(store, "pending")
    assert {} == store.feed_state(SCOPE).pending_logs


def test_pending_and_final_in_one_batch(store: Store) -> None:
    """A log that is observed as pending and as final in one batch is not pending."""
    result = commit(store, observation("a", "pending"), observation("a"))

    assert 2 == len(result.observations)
    assert {} == store.feed_state(SCOPE).pending_logs


def test_deleted_pending_log(store: Store) -> None:
    """A deleted pending log is no longer pending, stays counted, and does not become pending again."""
    commit(store, observation("a", "pending"), observation("b", "pending"))
    result = commit(store, deleted_keys=("a", "never seen"))
    commit(store, observation("a", "pending"))

    assert {"b"} == set(result.pending_logs or ())
    assert {"b"} == set(store.feed_state(SCOPE).pending_logs)
    assert 2 == counter_value(store, "pending")
    assert 2 == result.log_count
    assert commit(store, deleted_keys=("a",)).pending_logs is None


def test_coverage_is_replaced_or_kept(store: Store) -> None:
    """A batch without coverage keeps the previous one."""
    coverage = Coverage(retention_floor=1, complete_since=1)
    commit(store, coverage=coverage)
    commit(store, observation("a"))
    assert coverage == store.feed_state(SCOPE).coverage

    commit(store, coverage=Coverage(retention_floor=2, complete_since=2))
    assert Coverage(retention_floor=2, complete_since=2) == store.feed_state(SCOPE).coverage


def test_scopes_are_independent(store: Store) -> None:
    """A key in another feed or workspace is another log, which pruning and settling do not affect."""
    others = Scope("acme", "connections"), Scope("umbrella", "publishing")
    for scope in (SCOPE, *others):
        assert (
            1
            == commit(
                store, observation("a", "pending"), scope=scope, coverage=Coverage(retention_floor=0, complete_since=0)
            ).log_count
        )
    assert 3 == counter_value(store, "pending"), "the series is the increment's business"

    commit(
        store,
        observation("b"),
        prune_before=NOW + HOUR,
        deleted_keys=("a",),
        coverage=Coverage(retention_floor=9, complete_since=9),
    )
    assert {} == lookup(store, "a")
    for scope in others:
        assert {"a": frozenset({"pending"})} == lookup(store, "a", "b", scope=scope)
        state = store.feed_state(scope)
        assert (1, {"a"}, 0) == (
            state.log_count,
            set(state.pending_logs),
            state.coverage and state.coverage.retention_floor,
        )


def test_size_of_a_workspace(store: Store) -> None:
    """A workspace has the logs of its feeds and a proportional share of the bytes."""
    commit(store, *(observation(f"a{number}") for number in range(200)))
    commit(store, *(observation(f"b{number}") for number in range(100)), scope=Scope("acme", "connections"))
    commit(store, *(observation(f"c{number}") for number in range(100)), scope=Scope("umbrella", "publishing"))
    acme, umbrella, nobody = store.size("acme"), store.size("umbrella"), store.size("nobody")

    assert [300, 100, 0] == [acme[0], umbrella[0], nobody[0]]
    assert 400 * 20 < acme[1] + umbrella[1] < 400 * 2000
    assert acme[1] == pytest.approx(3 * umbrella[1], abs=3)


def test_size_includes_the_write_ahead_log(tmp_path: Path) -> None:
    """A commit is in the write-ahead log first, which takes space, too."""
    path = tmp_path / "late.db"
    with closing(open_store(f"sqlite:///{path}")) as store:
        commit(store, *(observation(f"a{number}") for number in range(200)))
        files = [file.stat().st_size for file in tmp_path.glob("late.db*") if file.suffix in (".db", ".db-wal")]
        assert len(files) == 2
        assert min(files) > 0
        # SQLite counts the pages that are in the log only.
        assert max(files) < store.size("acme")[1] <= sum(files) + 200 * 4096


def test_batches_in_any_order_fill_the_pages(tmp_path: Path) -> None:
    """Lists are read from new to old, which must not leave every page of the B-tree half empty."""
    keys = [f"{number:024}" for number in range(20_000)]
    sizes = []
    for name, ordered in (("ascending", keys), ("descending", keys[::-1])):
        path = tmp_path / f"{name}.db"
        with closing(open_store(f"sqlite:///{path}")) as store:
            for start in range(0, len(ordered), 5000):
                commit(store, *(observation(key) for key in ordered[start : start + 5000]))
        sizes.append(path.stat().st_size)
    assert sizes[1] < 1.1 * sizes[0]


@pytest.mark.parametrize("store", ["memory", "file"], indirect=True)
def test_size_reads_only_the_feeds_of_the_workspace(store: Store) -> None:
    """A commit and its size read no row of other workspaces, and the share stays right as logs come and go."""
    names = [f"w{number}" for number in range(20)]
    for name in names:
        commit(store, *(observation(f"{index}", created=NOW) for index in range(10)), scope=Scope(name, "publishing"))
        store.size(name)
    statements: list[str] = []
    connection = store._connection  # type: ignore[attr-defined] # noqa: SLF001 - what is counted is the work
    connection.set_trace_callback(statements.append)
    commit(store, *(observation(f"more{index}", created=NOW) for index in range(10)), scope=Scope("w0", "publishing"))
    first, other = store.size("w0"), store.size("w1")
    connection.set_trace_callback(None)
    assert [] == [statement for statement in statements if "FROM scope" in statement and "WHERE" not in statement]
    assert (20, 10) == (first[0], other[0])
    assert first[1] == pytest.approx(2 * other[1], abs=3)
    commit(store, scope=Scope("w0", "publishing"), prune_before=NOW + HOUR)
    assert (0, 10) == (store.size("w0")[0], store.size("w1")[0])
    (whole,) = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
    assert sum(store.size(name)[1] for name in names) >= 0.999 * whole, "the shares are those of the whole state"


@pytest.mark.parametrize("key", ["in time", "at random"])
def test_prune_deletes_older_logs(store: Store, key: str) -> None:
    """Only older logs are deleted, whatever their keys are; the counters stay."""
    times = [NOW + offset for offset in range(-30 * MINUTE, 30 * MINUTE, 20_000)]
    draw = random.Random(1)
    times_by_key = {f"{at:014}" if key == "in time" else f"{draw.getrandbits(96):024x}": at for at in times}
    commit(store, *(observation(name, created=at) for name, at in times_by_key.items()))
    commit(store, *(observation(name, "failed", at) for name, at in list(times_by_key.items())[::2]))
    result = commit(store, prune_before=NOW + 30_000)

    expected = {name for name, at in times_by_key.items() if at >= NOW + 30_000}
    assert expected == set(lookup(store, *times_by_key))
    assert len(expected) == result.log_count == store.size("acme")[0]
    assert len(times) == counter_value(store)


@pytest.mark.exhaustive
def test_prune_is_incremental(store: Store) -> None:
    """A few commits delete any number of expired logs, and never a younger one."""
    draw = random.Random(2)
    due = [f"{draw.getrandbits(96):024x}" for _ in range(21_000)]
    recent = [f"{draw.getrandbits(96):024x}" for _ in range(500)]
    commit_batch(
        store,
        SCOPE,
        Batch(committed_at=AT, observations=[Observation(entry(key, created=NOW - HOUR), ()) for key in due]),
    )
    commit_batch(store, SCOPE, Batch(committed_at=AT, observations=[Observation(entry(key), ()) for key in recent]))
    log_counts = [commit(store, prune_before=NOW).log_count for _ in range(6)]

    assert 10_000 < log_counts[0] < 12_500
    assert 500 == log_counts[-1]
    assert recent == [key for key in recent if key in lookup(store, *recent)]


def test_prune_reaches_all_keys(store: Store) -> None:
    """Expired logs are deleted behind any number of logs that stay."""
    recent = [Observation(entry(f"a{number}"), ()) for number in range(2_500)]
    due = [Observation(entry(f"b{number}", created=NOW - HOUR), ()) for number in range(50)]
    commit_batch(store, SCOPE, Batch(committed_at=AT, observations=[*recent, *due]))
    log_counts = [commit(store, prune_before=NOW).log_count for _ in range(12)]

    assert log_counts[0] <= 2_550
    assert 2_500 == log_counts[-1]
    assert {} == lookup(store, *(f"b{number}" for number in range(50)))


def test_prune_deletes_pending_logs(store: Store) -> None:
    """A pruned log is no longer pending."""
    commit(store, observation("old", "pending", NOW - HOUR), observation("new", "pending"))

    assert {"new"} == set(commit(store, prune_before=NOW).pending_logs or ())
    assert commit(store, prune_before=NOW).pending_logs is None
    assert {"new"} == set(store.feed_state(SCOPE).pending_logs)


def test_extreme_times(store: Store) -> None:
    """Logs of the first year, of the last year and without a time are stored, and pruned by their time."""
    commit(store, observation("first", created=-62_135_596_800_000), observation("last", created=253_402_300_799_999))
    commit(store, observation("undated", "pending", None))

    result = commit(store, prune_before=NOW)
    assert {"last", "undated"} == set(lookup(store, "first", "last", "undated"))
    assert 2 == result.log_count


def test_accounting_of_a_feed(store: Store) -> None:
    """Every counted observation is stored or pruned, with duplicates and several statuses."""
    assert FeedAccounting(observation_count=0, stored_count=0, pruned_count=0, series_values={}) == store.accounting(
        SCOPE
    )
    commit(store, observation("a", "pending", NOW - HOUR), observation("b", created=NOW - HOUR), observation("c"))
    commit(store, observation("a", created=NOW - HOUR), observation("b", created=NOW - HOUR))
    commit(store, observation("d"), scope=Scope("acme", "connections"))
    assert FeedAccounting(
        observation_count=4, stored_count=4, pruned_count=0, series_values=store.series_values()
    ) == store.accounting(SCOPE)

    commit(store, prune_before=NOW)
    assert FeedAccounting(
        observation_count=4, stored_count=1, pruned_count=3, series_values=store.series_values()
    ) == store.accounting(SCOPE)
    commit(store, observation("e"))
    assert (5, 2, 3) == (
        store.accounting(SCOPE).observation_count,
        store.accounting(SCOPE).stored_count,
        store.accounting(SCOPE).pruned_count,
    )
    other = store.accounting(Scope("acme", "connections"))
    assert (1, 1, 0) == (other.observation_count, other.stored_count, other.pruned_count)


class UnsupportedIncrement(Increment, frozen=True):
    """An increment that the store cannot apply."""


@pytest.mark.parametrize(
    ("increment", "error"),
    [
        (UnsupportedIncrement("bad", ("acme",)), (KeyError, TypeError)),
        (SetLatest("bad", ("acme",), at=1, value="\ud800"), UnicodeEncodeError),
    ],
)
def test_bug_in_a_commit_changes_nothing(store: Store, increment: Increment, error: type[Exception]) -> None:
    """A batch that fails by a bug is rolled back, and the bug is not reported as a StoreError."""
    commit(store, observation("a", "pending"), coverage=Coverage(retention_floor=1, complete_since=1))
    before = store.series_values(), store.feed_state(SCOPE), lookup(store, "a", "b")
    with pytest.raises(error):
        commit(
            store,
            observation("a"),
            observation("b"),
            Observation(entry("c"), (increment,)),
            coverage=Coverage(retention_floor=2, complete_since=2),
            deleted_keys=("a",),
        )

    assert before == (store.series_values(), store.feed_state(SCOPE), lookup(store, "a", "b"))
    assert 2 == len(commit(store, observation("a"), observation("b")).observations)


def test_values_continue_from_the_state(store: Store) -> None:
    """Each commit continues from the stored values, after one of other series and a failed one as well."""
    series = (LOGS, ("acme", "tiktok", "publish", "success"))
    commit(store, observation("a"))
    commit(store, observation("b"))
    with pytest.raises((KeyError, TypeError)):
        commit(store, observation("c"), increments=[UnsupportedIncrement("bad", ("acme",))])
    commit(store, observation("d", "failed"))
    result = commit(store, observation("e"))
    assert SeriesValue(3, AT) == result.series_values[series] == store.series_values()[series]


def test_observations_of_a_kind_count_together(store: Store) -> None:
    """Of observations that share their increments only the new ones count, and once per log if so declared."""
    increments = (
        IncCounter("logs", ("acme",)),
        IncCounter("once", ("acme",), once_per_log=True),
        ObserveLog("lag", ("acme",), once_per_log=True, number="lag", bounds=(1.0,)),
        ObserveLog("duration", ("acme",), number="duration", bounds=(1.0,)),
        SetByLog("newest", ("acme",)),
        RecordAttempt("streak", ("acme",), failed=True),
    )
    commit(store, Observation(entry("a", created=NOW), increments))
    observations = [
        Observation(entry(key, status, created=NOW - lag, duration=duration), increments)
        for key, status, lag, duration in (
            ("a", "success", 0, 5),  # counted before
            ("a", "failed", 0, 2_000_000),  # in another status
            ("b", "success", 2000, 1),
            ("b", "failed", 1000, 1),
            ("b", "failed", 1000, 1),  # again
        )
    ]
    values = {family: value.value for (family, _), value in commit(store, *observations, now=NOW).series_values.items()}
    assert (4, 2) == (values["logs"], values["once"])
    assert Histogram((1.0,), (1, 1), 2_000_000) == values["lag"], "that of the first commit was in no time"
    assert Histogram((1.0,), (3, 1), 2_000_002) == values["duration"]
    assert LatestValue(NOW, NOW / 1000) == values["newest"]
    assert FailureStreak(failures=(NOW - 2000, NOW - 1000, NOW, NOW)) == values["streak"]


# Behaviour of the SQLite file.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a new state."""
    return tmp_path / "late.db"


def open_file(path: Path) -> Store:
    """Open the state in a file."""
    return open_store(f"sqlite:///{path}")


def open_error(path: Path) -> str:
    """Return the error of reopen a file, without its directory."""
    with pytest.raises(StoreError) as caught:
        open_file(path).close()
    return str(caught.value).replace(str(path.parent), "")


def execute(path: Path, *statements: str) -> None:
    """Execute statements on a SQLite file."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_relative_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes mean a relative path, four an absolute one; directories are created."""
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///some/where/a.db").close()
    open_store(f"sqlite:///{tmp_path}/else/b.db").close()

    assert (tmp_path / "some/where/a.db").is_file()
    assert (tmp_path / "else/b.db").is_file()


def test_unknown_url_scheme() -> None:
    """An unknown scheme is a ConfigError."""
    with pytest.raises(ConfigError) as caught:
        open_store("postgres://db/late")
    expected = "--state.url 'postgres://db/late': not a state URL; write it like sqlite:///data/late-exporter.db"
    assert expected == str(caught.value)


def test_file_properties(path: Path) -> None:
    """The file has the application id and schema version, and commits are synchronous."""
    with closing(open_file(path)) as store, closing(sqlite3.connect(path)) as connection:
        pragmas = ["application_id", "user_version", "journal_mode"]
        assert [0x4C617465, 1, "wal"] == [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
        assert [(2,)] == list(store._connection.execute("PRAGMA synchronous"))  # type: ignore[attr-defined] # noqa: SLF001 - a setting of the connection


def test_a_closed_state_is_one_file(path: Path) -> None:
    """Closing checkpoints the write-ahead log."""
    with closing(open_file(path)) as store:
        commit(store, observation("a"))

    assert {"late.db", "late.db.lock"} == {file.name for file in path.parent.iterdir()}


def other_program(path: Path) -> None:
    """Create the database of another program."""
    execute(path, "CREATE TABLE bookmark (url TEXT)", "INSERT INTO bookmark VALUES ('https://example.com')")


def foreign_application_id(path: Path) -> None:
    """Create a database with the application id of another program."""
    execute(path, "PRAGMA application_id = 252006674")


def noise(path: Path) -> None:
    """Create a file with only the header of a database."""
    path.write_bytes(b"SQLite format 3\0" + random.Random(3).randbytes(8000))


def renumbered(path: Path, version: int) -> None:
    """Create a state with another number of its schema."""
    open_file(path).close()
    execute(path, f"PRAGMA user_version = {version}")


FOREIGN = "/late.db is the database of another program; it was not changed"
OTHER_SCHEMA = (
    "/late.db is a state of another version of late-exporter (schema 2, this version uses 1); it was not changed: use"
    " that version, or name another state with --state.url"
)
STRANGE = (
    "/late.db is not a state of late-exporter, or is damaged; it was not changed: restore a backup, or name another"
    " file"
)
REMEDY = "restore a backup, or remove the file to begin a new state"


@pytest.mark.parametrize(
    ("expected", "prepare"),
    [
        (STRANGE, lambda path: path.write_bytes(b"\0")),
        (STRANGE, lambda path: path.write_text("api_key: secret\n" * 100)),
        (STRANGE, lambda path: path.write_bytes(b"\0" * 8192)),
        (STRANGE, lambda path: path.write_bytes(b"SQLite format 3")),
        (f"/late.db: file is not a database; {REMEDY}", noise),
        (STRANGE, lambda path: renumbered(path, -1)),
        (STRANGE, lambda path: renumbered(path, 0)),
        (STRANGE, lambda path: execute(path, "PRAGMA user_version = 3")),
        (STRANGE, lambda path: execute(path, "PRAGMA user_version = -1")),
        (FOREIGN, other_program),
        (FOREIGN, foreign_application_id),
        (OTHER_SCHEMA, lambda path: renumbered(path, 2)),
    ],
)
def test_unusable_files_are_rejected(path: Path, expected: str, prepare: Callable[[Path], object]) -> None:
    """A file that is foreign, damaged or of another version is named and not changed, on every attempt."""
    prepare(path)
    before = path.read_bytes()

    assert [expected] * 2 == [open_error(path), open_error(path)]
    assert before == path.read_bytes()
    assert {"late.db"} <= {file.name for file in path.parent.iterdir()} <= {"late.db", "late.db.lock"}


def test_missing_table(path: Path) -> None:
    """A state that lacks a table is damaged."""
    open_file(path).close()
    execute(path, "DROP TABLE scope")
    assert f"/late.db: no such table: scope; {REMEDY}" == open_error(path)
    with pytest.raises(StoreError, match=f"no such table: scope; {REMEDY}$"):
        open_snapshot(f"sqlite:///{path}")


@pytest.mark.parametrize("table", ["event", "observation", "pending"])
def test_the_check_finds_a_missing_table(path: Path, table: str) -> None:
    """A table that is not read at the start is missed before an exporter needs it; nothing is changed."""
    open_file(path).close()
    before = path.read_bytes()
    require_writable(f"sqlite:///{path}")
    assert before == path.read_bytes()
    execute(path, f"DROP TABLE {table}")
    with pytest.raises(StoreError, match=f"no such table: (main.)?{table}; {REMEDY}$"):
        require_writable(f"sqlite:///{path}")


def test_corrupt_page(path: Path) -> None:
    """A corrupt page is an error that names the file."""
    with closing(open_file(path)) as store:
        commit(store, *(observation(f"{number:024}") for number in range(3000)))
    content = bytearray(path.read_bytes())
    content[4096:] = random.Random(4).randbytes(len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(StoreError) as caught, closing(open_file(path)) as store:
        store.series_values()
    assert f"{path}: database disk image is malformed; {REMEDY}" == str(caught.value)
    assert bytes(content[4096:]) == path.read_bytes()[4096:]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE series SET value = x'7b'",
        'UPDATE series SET value = \'{"type":"other"}\'',
        "UPDATE series SET labels = 'acme'",
        "UPDATE series SET labels = CAST(x'ff' AS TEXT)",
        "UPDATE series SET value = 1.5",
        "UPDATE series SET family = x'6c617465'",
        "UPDATE series SET labels = x'5b5d'",
        "UPDATE series SET created = 'yes'",
        "UPDATE scope SET coverage = x'7b'",
        "UPDATE scope SET coverage = 1.5",
        "UPDATE scope SET coverage = '{}'",
        "UPDATE scope SET progress = 1.5",
        "UPDATE scope SET logs = 'many'",
    ],
)
def test_corrupt_values(path: Path, statement: str) -> None:
    """A value that is corrupt or of another type is an error that names the file and the remedy."""
    with closing(open_file(path)) as store:
        commit(store, observation("a"))
    execute(path, statement)

    with closing(open_file(path)) as store, pytest.raises(StoreError, match=f"(?s)^{path}: .*; {REMEDY}$"):
        _ = store.series_values(), store.feed_state(SCOPE)


@pytest.mark.parametrize(
    ("reason", "prepare", "statement"),
    [
        ("attempt to write a readonly database", "PRAGMA query_only = ON", "CREATE TABLE more (a)"),
        ("database or disk is full", "PRAGMA max_page_count = 1", "CREATE TABLE more (a)"),
        ("database is locked", "BEGIN", "CREATE TABLE more (a)"),
        ('near "NONSENSE": syntax error', "BEGIN", "NONSENSE"),
    ],
)
def test_other_errors_are_no_damage(path: Path, reason: str, prepare: str, statement: str) -> None:
    """No advice to remove the state is given if it cannot be written at present, or SQLite lacks a feature."""
    open_file(path).close()
    with (
        closing(sqlite3.connect(path)) as other,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection,
    ):
        connection.execute(prepare)
        if reason == "database is locked":
            other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError) as caught, store_errors(path):
            connection.execute(statement)
    assert f"{path}: {reason}" == str(caught.value)


def create_socket(path: Path) -> None:
    """Create a Unix socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def create_device(path: Path) -> None:
    """Create a device of its own that discards what is written, as root."""
    if os.geteuid() != 0:
        pytest.skip("only root may create devices")
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices may not be created")


@pytest.mark.parametrize("create", [Path.mkdir, os.mkfifo, create_socket, create_device])
def test_only_a_regular_file_is_a_state(path: Path, create: Callable[[Path], object]) -> None:
    """Anything else is refused and not replaced, also by the name of a symbolic link, and no lock file is created."""
    create(path)
    link = path.with_name("link.db")
    link.symlink_to(path)
    before = path.stat()
    for name in (path, link):
        expected = f"/{name.name} is not a regular file; name a file, or use sqlite:// for a state in memory"
        assert expected == open_error(name)
    assert before.st_ino == path.stat().st_ino
    assert {"late.db", "link.db"} == {file.name for file in path.parent.iterdir()}


def test_file_instead_of_a_directory(path: Path) -> None:
    """A directory that cannot be created is named."""
    path.write_text("a file")
    for below, words in (("x.db", "File exists"), ("deeper/x.db", "Not a directory")):
        with pytest.raises(StoreError) as caught:
            open_file(path / below)
        expected = f"{path / below}: the state cannot be written: {words}: {(path / below).parent}"
        assert expected == str(caught.value)
    assert "a file" == path.read_text()


def test_lock_that_cannot_be_created(path: Path) -> None:
    """A lock file that cannot be written is named."""
    lock = path.with_name("late.db.lock")
    lock.mkdir()
    assert "/late.db: the state cannot be written: Is a directory: /late.db.lock" == open_error(path)
    assert not path.exists()


def test_read_only_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only file is rejected before it is changed."""
    open_file(path).close()
    before = path.read_bytes()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anything

    assert "/late.db: the state cannot be written: it is read-only" == open_error(path)
    assert before == path.read_bytes()


def test_file_in_use_is_rejected(path: Path) -> None:
    """A file in use is rejected, also by another path or from another process, until it is closed."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    words = "is in use by another late-exporter; every process needs a state of its own"
    with closing(open_file(path)) as store:
        commit(store, observation("a"))
        assert f"/late.db {words}" == open_error(path)
        assert f"/link.db {words}" == open_error(link)
        program = f"from late_exporter.store import open_store; open_store('sqlite:///{path}')"
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert f"late_exporter.errors.StoreInUse: {path} {words}" == result.stderr.splitlines()[-1]
        assert 2 == len(commit(store, observation("b"), observation("c")).observations)
    with closing(open_file(link)) as store:
        assert 3 == counter_value(store)


def test_rejected_file_is_unlocked(path: Path) -> None:
    """A file that was rejected can be opened once it is repaired."""
    renumbered(path, 2)
    open_error(path)
    execute(path, "PRAGMA user_version = 1")
    open_file(path).close()


@pytest.mark.parametrize(
    "event",
    [
        "INSERT ON observation",
        "INSERT ON series",
        "UPDATE ON scope",
        "INSERT ON pending",
        "DELETE ON pending",
        "DELETE ON observation",
    ],
)
def test_failed_commit_changes_nothing(path: Path, event: str) -> None:
    """A commit that fails at any statement is rolled back; the same batch counts once when it is retried."""
    with closing(open_file(path)) as store:
        commit(
            store,
            observation("old", "pending", NOW - HOUR),
            observation("a", "pending"),
            coverage=Coverage(retention_floor=1, complete_since=1),
        )
        execute(path, f"CREATE TRIGGER fault BEFORE {event} BEGIN SELECT raise(ABORT, 'no luck'); END")
        before = (
            store.series_values(),
            store.feed_state(SCOPE),
            lookup(store, "old", "a", "b", "c"),
            store.size("acme")[0],
        )
        batch = Batch(
            committed_at=AT,
            observations=[observation("a"), observation("b"), observation("c", "pending")],
            increments=[IncCounter("polls", ("acme",))],
            coverage=Coverage(retention_floor=2, complete_since=2),
            prune_before=NOW,
        )
        for _ in range(2):
            with pytest.raises(StoreError) as caught:
                commit_batch(store, SCOPE, batch)
            assert f"{path}: no luck" == str(caught.value)
            after = (
                store.series_values(),
                store.feed_state(SCOPE),
                lookup(store, "old", "a", "b", "c"),
                store.size("acme")[0],
            )
            assert before == after

        execute(path, "DROP TRIGGER fault")
        result = commit_batch(store, SCOPE, batch)
        assert (3, {"c"}, 3) == (len(result.observations), set(result.pending_logs or ()), result.log_count)
        assert 1 == store.series_values()["polls", ("acme",)].value


@contextmanager
def full_disk(path: Path, *, room: int) -> Iterator[None]:
    """Limit the size of all files to that of the write-ahead log plus some room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = path.with_name(f"{path.name}-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 100, 5000, 50_000])
def test_full_disk(path: Path, room: int) -> None:
    """A full disk loses nothing that was committed; with free space the same batch counts once."""
    batch = Batch(
        committed_at=AT, observations=[observation(f"{number:024}", created=NOW + number) for number in range(2000)]
    )
    with closing(open_file(path)) as store:
        commit(store, observation("a"))
        with full_disk(path, room=room):
            for _ in range(3):
                with pytest.raises(StoreError, match=f"^{path}: (disk I/O error|database or disk is full)$"):
                    commit_batch(store, SCOPE, batch)
                assert (1, 1) == (counter_value(store), store.size("acme")[0])
        assert 2000 == len(commit_batch(store, SCOPE, batch).observations)
    with closing(open_file(path)) as store:
        assert (2001, 2001) == (counter_value(store), store.feed_state(SCOPE).log_count)


def test_database_size_limit(path: Path) -> None:
    """SQLite's size limit loses nothing that was result."""
    with closing(open_file(path)) as store:
        commit(store, observation("a"))
        pragma = store._connection.execute  # type: ignore[attr-defined] # noqa: SLF001 - a limit of the connection
        pragma(f"PRAGMA max_page_count = {pragma('PRAGMA page_count').fetchone()[0]}")
        batch = [observation(f"{number:024}") for number in range(2000)]
        with pytest.raises(StoreError) as caught:
            commit(store, *batch)
        assert f"{path}: database or disk is full" == str(caught.value)
        assert 1 == counter_value(store)

        pragma("PRAGMA max_page_count = 100000")
        assert 2000 == len(commit(store, *batch).observations)


def test_killed_process_loses_no_commit(path: Path) -> None:
    """A killed process leaves what it committed, counted once, and no lock."""
    program = f"""
import os
from late_exporter.model import Batch, FeedCommit, LogEntry, Scope, Observation
from late_exporter.series import IncCounter
from late_exporter.store import open_store
store = open_store("sqlite:///{path}")
new = [Observation(LogEntry(key=str(n), status="success"), (IncCounter("seen", ("acme",)),)) for n in range(100)]
for number in range(0, 100, 10):
    batch = Batch(committed_at=1.0, observations=new[number:number + 10])
    assert store.commit_all([FeedCommit(Scope("acme", "publishing"), batch)])[0].observations
os._exit(9)
"""
    assert 9 == subprocess.run([sys.executable, "-c", program], check=False).returncode
    with closing(open_file(path)) as store:
        again = [
            Observation(LogEntry(key=str(n), status="success"), (IncCounter("seen", ("acme",)),)) for n in range(101)
        ]
        assert 1 == len(commit(store, *again).observations)
        assert 101 == store.series_values()["seen", ("acme",)].value


def test_closed_store_raises(path: Path) -> None:
    """A closed store raises StoreError."""
    store = open_file(path)
    store.close()
    with pytest.raises(StoreError, match=f"^{path}: Cannot operate on a closed database"):
        store.series_values()


@pytest.mark.parametrize(
    ("happening", "words"),
    [
        (
            lambda path: path.unlink(),
            "the state file was removed: No such file or directory; restart to create a new one",
        ),
        (
            lambda path: (path.rename(path.with_suffix(".old")), path.touch()),
            "the state was replaced by another file; restart to use that one",
        ),
    ],
)
def test_removed_file_is_an_error(path: Path, happening: Callable[[Path], object], words: str) -> None:
    """Nothing is counted in a file that was removed or replaced."""
    with closing(open_store(f"sqlite:///{path}")) as store:
        commit(store, observation("a"))
        happening(path)

        with pytest.raises(StoreError) as caught:
            commit(store, observation("b"))

        assert f"{path}: {words}" == str(caught.value)

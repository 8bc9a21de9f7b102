from __future__ import annotations

import os
import random
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from late_exporter.errors import ConfigError, StoreError
from late_exporter.feeds import FEEDS
from late_exporter.model import (
    AttemptOutcome,
    Batch,
    CommitResult,
    Coverage,
    FailureStreak,
    FeedAccounting,
    FeedState,
    Gap,
    Histogram,
    IncCounter,
    Increment,
    KnownLogs,
    LatestValue,
    ListPosition,
    LogEntry,
    Observation,
    ObserveHistogram,
    PendingLog,
    Scope,
    SeriesValue,
    SetLatest,
    Value,
)
from late_exporter.store import Store, open_store

MINUTE = 60_000
HOUR = 60 * MINUTE
NOW = 29_333_333 * MINUTE  # on the minute, in October 2025
AT = NOW / 1000
SCOPE = Scope("acme", "publishing")
LOGS = "late_publishing_logs_total"

BACKENDS: dict[str, Callable[[Path], str]] = {
    "memory": lambda _: "sqlite://",
    "file": lambda folder: f"sqlite:///{folder}/state/late.db",
}
"""A URL a backend; a new backend is a row here, and one in DURABLE if it outlives its process."""

STATES = Path(__file__).parents[1] / "states"
"""What every released version has left behind, as SQL."""

DURABLE = [name for name in BACKENDS if name != "memory"]

Opening: TypeAlias = Callable[[], Store]


def entry(key: str, status: str = "success", created: int | None = NOW, **facts: Any) -> LogEntry:
    """A publishing log."""
    return LogEntry(key=key, status=status, created=created, platform="tiktok", action="publish", **facts)


def once(key: str, status: str = "success", created: int | None = NOW, **facts: Any) -> Observation:
    """A sighting that counts in one series a status."""
    log = entry(key, status, created, **facts)
    return Observation(log, (IncCounter(LOGS, ("acme", log.platform, log.action, log.status)),))


def commit(store: Store, *sightings: Observation, scope: Scope = SCOPE, **rest: Any) -> CommitResult:
    """Make sightings durable."""
    return store.commit(scope, Batch(committed_at=rest.pop("at", AT), observations=sightings, **rest))


def counted(store: Store, status: str = "success", workspace: str = "acme") -> object:
    """How many logs the state has counted in a status."""
    total = store.series_values().get((LOGS, (workspace, "tiktok", "publish", status)))
    return total.value if total else 0


def lookup(store: Store, *keys: str, scope: Scope = SCOPE, since: int = 0) -> KnownLogs:
    """Look up keys of generation ``late``."""
    entries = [LogEntry(key=key, status="success") for key in keys]
    return store.lookup(scope, entries, feed=FEEDS[scope.feed], since=since)


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty state of every backend."""
    with closing(open_store(BACKENDS[request.param](tmp_path))) as opened:
        yield opened


@pytest.fixture(params=DURABLE)
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    """Opens the same state again and again."""
    url = BACKENDS[request.param](tmp_path)
    return lambda: open_store(url)


# What every backend does.


def test_nothing_is_known_at_first(store: Store) -> None:
    """A new state is empty."""
    assert {} == store.series_values()
    assert FeedState(coverage=None, pending_logs={}, log_count=0) == store.feed_state(SCOPE)
    assert KnownLogs({}) == lookup(store, "a")
    assert 0 == store.size("acme")[0]


def test_a_sighting_counts_once(store: Store) -> None:
    """The same sighting counts once, in one batch or in several."""
    first = commit(store, once("a"), once("a"))
    again = commit(store, once("a"), once("b"))

    assert [once("a")] == first.observations
    assert [once("b")] == again.observations
    assert 2 == counted(store)
    assert 2 == again.log_count == store.feed_state(SCOPE).log_count


def test_a_sighting_counts_once_across_restarts(opening: Opening) -> None:
    """What was counted before a restart is not counted after it, and nothing of it is lost."""
    coverage = Coverage(
        retention_floor=1,
        complete_since=2,
        caught_up_at=3,
        newest=ListPosition(NOW, "b"),
        gaps=(Gap(ListPosition(5, "x"), 4, 100, 3),),
        is_synced=True,
    )
    with closing(opening()) as store:
        commit(store, once("a"), once("b", "pending", post_id="p"), coverage=coverage)
        before = store.series_values(), store.feed_state(SCOPE), lookup(store, "a", "b", "c")
    with closing(opening()) as store:
        assert before == (store.series_values(), store.feed_state(SCOPE), lookup(store, "a", "b", "c"))
        assert [] == commit(store, once("a"), once("b", "pending", post_id="p")).observations
        assert 1 == counted(store)
        assert coverage == store.feed_state(SCOPE).coverage
        assert {"b": PendingLog("b", NOW, "tiktok", "publish", "p")} == store.feed_state(SCOPE).pending_logs


def test_each_status_counts(store: Store) -> None:
    """A log counts once in each status, is one log, and is known in all of them."""
    commit(store, once("a", "pending"))
    committed = commit(store, once("a", "failed"), once("a", "pending"), once("a", "success"))

    assert ["failed", "success"] == [sighting.entry.status for sighting in committed.observations]
    assert [1, 1, 1] == [counted(store, status) for status in ("pending", "failed", "success")]
    assert 1 == committed.log_count
    assert {"a": frozenset({"pending", "failed", "success"})} == lookup(store, "a", "b").statuses


def test_once_a_log(store: Store) -> None:
    """What counts once a log counts with its first sighting only, even when two come together."""

    def paused(key: str, status: str) -> Observation:
        return Observation(
            entry(key, status), (IncCounter("pauses", ("acme",), once_per_log=True), IncCounter("seen", ("acme",)))
        )

    commit(store, paused("a", "pending"), paused("a", "success"))
    commit(store, paused("a", "failed"), paused("b", "success"))

    assert 2 == store.series_values()["pauses", ("acme",)].value
    assert 4 == store.series_values()["seen", ("acme",)].value


def test_increments_of_a_batch_always_count(store: Store) -> None:
    """What the exporter counts of itself counts in any case."""
    for _ in range(2):
        commit(store, once("a"), increments=(IncCounter("polls", ("acme",)),))

    assert 2 == store.series_values()["polls", ("acme",)].value


def test_only_moved_totals_are_told(store: Store) -> None:
    """A commit tells the new totals of the series that it moved, and of no others."""
    commit(store, once("a"))
    committed = commit(store, once("b", "failed"), at=AT + 1)

    assert {(LOGS, ("acme", "tiktok", "publish", "failed")): SeriesValue(1, AT + 1)} == committed.series_values
    assert {} == commit(store, once("b", "failed")).series_values


def test_a_birth_stays(opening: Opening) -> None:
    """A series keeps the time at which it began, also one that began at zero."""
    series = "seen", ("acme",)
    with closing(opening()) as store:
        assert {series: SeriesValue(0, 7.5)} == commit(
            store, increments=(IncCounter(*series, amount=0),), at=7.5
        ).series_values
    with closing(opening()) as store:
        assert {series: SeriesValue(1, 7.5)} == commit(store, increments=(IncCounter(*series),), at=9.0).series_values


def test_every_kind_of_value_is_kept(opening: Opening) -> None:
    """Counters, histograms, readings and streaks come back as they were, whatever is in their labels."""
    odd = ("acme", '"\\,\n\x00\x7f', "\u2028🔥", "�", "")
    increments: Sequence[Increment] = (
        IncCounter("whole", odd),
        IncCounter("part", odd, amount=0.25),
        ObserveHistogram("histogram", odd, micros=1_500_000, bounds=(1.0, 2.0)),
        SetLatest("reading", odd, at=NOW, value=12.5),
        SetLatest("words", odd, at=NOW, value="@acme 🔥"),
        AttemptOutcome("streak", odd, at=NOW, failed=True),
    )
    with closing(opening()) as store:
        told = commit(store, increments=increments).series_values
    expected: dict[str, Value] = {
        "whole": 1,
        "part": 0.25,
        "histogram": Histogram((1.0, 2.0), (0, 1, 0), 1_500_000),
        "reading": LatestValue(NOW, 12.5),
        "words": LatestValue(NOW, "@acme 🔥"),
        "streak": FailureStreak(failures=(NOW,)),
    }
    with closing(opening()) as store:
        assert (
            {(name, odd): SeriesValue(value, AT) for name, value in expected.items()} == told == store.series_values()
        )


def test_odd_keys_stay_apart(store: Store) -> None:
    """Keys that differ in anything are different logs."""
    keys = ["a", "A", "a ", "a\x00", "a\x00b", "'; DROP TABLE sighting; --", "é", "e\u0301", "%", "🔥", "a" * 128]
    committed = commit(store, *map(once, keys))

    assert len(keys) == len(committed.observations) == counted(store)
    assert set(keys) == set(lookup(store, *keys).statuses)
    assert {"a\x00"} == set(lookup(store, "a\x00").statuses)


def test_many_keys_in_one_question(store: Store) -> None:
    """A question may be about no key, the same key twice, or a thousand keys."""
    commit(store, *(once(f"k{number}") for number in range(1000)))

    assert {} == lookup(store).statuses
    assert {"k1"} == set(lookup(store, "k1", "k1").statuses)
    assert 1000 == len(lookup(store, *(f"k{number}" for number in range(1000))).statuses)


def test_pending_until_final(store: Store) -> None:
    """A log is pending from its first sighting as pending until it is seen in another status."""
    waiting = commit(store, once("b", "pending", NOW, post_id="p"), once("a", "pending", NOW - 1))
    same = commit(store, once("b", "pending", NOW, post_id="p"), once("c"))
    settled = commit(store, once("b", "failed"))

    expected = {
        "a": PendingLog("a", NOW - 1, "tiktok", "publish", None),
        "b": PendingLog("b", NOW, "tiktok", "publish", "p"),
    }
    assert expected == waiting.pending_logs
    assert ["a", "b"] == list(waiting.pending_logs or ()), "oldest first"
    assert same.pending_logs is None, "nothing has changed"
    assert {"a": expected["a"]} == settled.pending_logs == store.feed_state(SCOPE).pending_logs


@pytest.mark.parametrize("together", [True, False])
def test_stale_pending(store: Store, *, together: bool) -> None:
    """A log that is seen as pending after it was seen as final counts as a sighting, but does not wait."""
    final, stale = once("a"), once("a", "pending")
    batches = [[final, stale]] if together else [[final], [stale]]
    for batch in batches:
        commit(store, *batch)

    assert 1 == counted(store, "pending")
    assert {} == store.feed_state(SCOPE).pending_logs


def test_pending_and_final_at_once(store: Store) -> None:
    """A log that is seen as pending and as final in one batch does not wait."""
    committed = commit(store, once("a", "pending"), once("a"))

    assert 2 == len(committed.observations)
    assert {} == store.feed_state(SCOPE).pending_logs


def test_gone(store: Store) -> None:
    """A pending log that no longer exists stops waiting, stays counted, and does not wait again."""
    commit(store, once("a", "pending"), once("b", "pending"))
    committed = commit(store, deleted_keys=("a", "never seen"))
    commit(store, once("a", "pending"))

    assert {"b"} == set(committed.pending_logs or ())
    assert {"b"} == set(store.feed_state(SCOPE).pending_logs)
    assert 2 == counted(store, "pending")
    assert 2 == committed.log_count
    assert commit(store, deleted_keys=("a",)).pending_logs is None


def test_coverage_is_replaced_or_left(store: Store) -> None:
    """A batch without a coverage leaves the last one."""
    coverage = Coverage(retention_floor=1, complete_since=1)
    commit(store, coverage=coverage)
    commit(store, once("a"))
    assert coverage == store.feed_state(SCOPE).coverage

    commit(store, coverage=Coverage(retention_floor=2, complete_since=2))
    assert Coverage(retention_floor=2, complete_since=2) == store.feed_state(SCOPE).coverage


def test_scopes_do_not_mix(store: Store) -> None:
    """The same key in another feed or another workspace is another log; pruning and settling one leaves the other."""
    others = Scope("acme", "connections"), Scope("umbrella", "publishing")
    for scope in (SCOPE, *others):
        assert (
            1
            == commit(
                store, once("a", "pending"), scope=scope, coverage=Coverage(retention_floor=0, complete_since=0)
            ).log_count
        )
    assert 3 == counted(store, "pending"), "the series is the increment's business"

    commit(
        store,
        once("b"),
        prune_before=NOW + HOUR,
        deleted_keys=("a",),
        coverage=Coverage(retention_floor=9, complete_since=9),
    )
    assert {} == lookup(store, "a").statuses
    for scope in others:
        assert {"a": frozenset({"pending"})} == lookup(store, "a", "b", scope=scope).statuses
        state = store.feed_state(scope)
        assert (1, {"a"}, 0) == (
            state.log_count,
            set(state.pending_logs),
            state.coverage and state.coverage.retention_floor,
        )


def test_size(store: Store) -> None:
    """A workspace holds the logs of its feeds, and its part of the bytes."""
    commit(store, *(once(f"a{number}") for number in range(200)))
    commit(store, *(once(f"b{number}") for number in range(100)), scope=Scope("acme", "connections"))
    commit(store, *(once(f"c{number}") for number in range(100)), scope=Scope("umbrella", "publishing"))
    acme, umbrella, nobody = store.size("acme"), store.size("umbrella"), store.size("nobody")

    assert [300, 100, 0] == [acme[0], umbrella[0], nobody[0]]
    assert 400 * 20 < acme[1] + umbrella[1] < 400 * 2000
    assert acme[1] == pytest.approx(3 * umbrella[1], abs=3)


def test_held_and_fading(store: Store) -> None:
    """Logs from a time on are held; those within two minutes of it may have expired already."""
    minutes = (-10, -3, -2, -1, 0, 1, 2, 3, 10)
    commit(store, *(once(f"{number}", created=NOW + minute * MINUTE) for number, minute in enumerate(minutes)))
    commit(store, once("4", "failed"), once("again", created=NOW + 59_999))

    assert (8, 6) == (lookup(store, since=NOW).stored_count, lookup(store, since=NOW).expiring_count)
    assert (8, 6) == (lookup(store, since=NOW + 59_999).stored_count, lookup(store, since=NOW + 59_999).expiring_count)
    assert (7, 6) == (lookup(store, since=NOW + MINUTE).stored_count, lookup(store, since=NOW + MINUTE).expiring_count)
    assert (10, 0) == (lookup(store, since=0).stored_count, lookup(store, since=0).expiring_count)


@pytest.mark.parametrize("key", ["in time", "at random"])
def test_prune_forgets_what_is_older(store: Store, key: str) -> None:
    """Only logs of the minutes before a time are forgotten, wherever their keys stand; the counters stay."""
    times = [NOW + offset for offset in range(-30 * MINUTE, 30 * MINUTE, 20_000)]
    draw = random.Random(1)
    named = {f"{at:014}" if key == "in time" else f"{draw.getrandbits(96):024x}": at for at in times}
    commit(store, *(once(name, created=at) for name, at in named.items()))
    commit(store, *(once(name, "failed", at) for name, at in list(named.items())[::2]))
    committed = commit(store, prune_before=NOW + 30_000)

    expected = {name for name, at in named.items() if at >= NOW}
    assert expected == set(lookup(store, *named).statuses)
    assert len(expected) == committed.log_count == store.size("acme")[0]
    assert (len(expected), 9) == (lookup(store, since=NOW).stored_count, lookup(store, since=NOW).expiring_count)
    assert len(times) == counted(store)


def test_prune_takes_turns(store: Store) -> None:
    """However many logs are due, a few commits forget them all, and never a younger one."""
    draw = random.Random(2)
    due = [f"{draw.getrandbits(96):024x}" for _ in range(21_000)]
    kept = [f"{draw.getrandbits(96):024x}" for _ in range(500)]
    store.commit(
        SCOPE, Batch(committed_at=AT, observations=[Observation(entry(key, created=NOW - HOUR), ()) for key in due])
    )
    store.commit(SCOPE, Batch(committed_at=AT, observations=[Observation(entry(key), ()) for key in kept]))
    left = [commit(store, prune_before=NOW).log_count for _ in range(4)]

    assert left[0] > left[1] > left[2] == left[3] == 500
    assert kept == [key for key in kept if key in lookup(store, *kept).statuses]
    assert (500, 500) == (lookup(store, since=NOW).stored_count, lookup(store, since=NOW).expiring_count)


def test_prune_gets_everywhere(store: Store) -> None:
    """However many logs are to be kept, those that are due behind them are forgotten too."""
    kept = [Observation(entry(f"a{number}"), ()) for number in range(20_500)]
    due = [Observation(entry(f"b{number}", created=NOW - HOUR), ()) for number in range(50)]
    store.commit(SCOPE, Batch(committed_at=AT, observations=[*kept, *due]))
    left = [commit(store, prune_before=NOW).log_count for _ in range(6)]

    assert [20_550, 20_500] == [left[0], left[-1]]
    assert {} == lookup(store, *(f"b{number}" for number in range(50))).statuses


def test_prune_ends_waiting(store: Store) -> None:
    """A pending log that is forgotten no longer waits."""
    commit(store, once("old", "pending", NOW - HOUR), once("new", "pending"))

    assert {"new"} == set(commit(store, prune_before=NOW).pending_logs or ())
    assert commit(store, prune_before=NOW).pending_logs is None
    assert {"new"} == set(store.feed_state(SCOPE).pending_logs)


def test_extreme_times(store: Store) -> None:
    """Logs from the first year, from the last one and without a time are held, and pruned by their time."""
    commit(store, once("first", created=-62_135_596_800_000), once("last", created=253_402_300_799_999))
    commit(store, once("undated", "pending", None))
    assert 3 == lookup(store).stored_count + 1, "the first year is before 1970"

    committed = commit(store, prune_before=NOW)
    assert {"last", "undated"} == set(lookup(store, "first", "last", "undated").statuses)
    assert 2 == committed.log_count


def test_the_books_of_a_feed(store: Store) -> None:
    """Every sighting that was ever counted is held or forgotten, whatever was committed twice or in two statuses."""
    assert FeedAccounting(observation_count=0, stored_count=0, pruned_count=0, series_values={}) == store.accounting(
        SCOPE
    )
    commit(store, once("a", "pending", NOW - HOUR), once("b", created=NOW - HOUR), once("c"))
    commit(store, once("a", created=NOW - HOUR), once("b", created=NOW - HOUR))
    commit(store, once("d"), scope=Scope("acme", "connections"))
    assert FeedAccounting(
        observation_count=4, stored_count=4, pruned_count=0, series_values=store.series_values()
    ) == store.accounting(SCOPE)

    commit(store, prune_before=NOW)
    assert FeedAccounting(
        observation_count=4, stored_count=1, pruned_count=3, series_values=store.series_values()
    ) == store.accounting(SCOPE)
    commit(store, once("e"))
    assert (5, 2, 3) == (
        store.accounting(SCOPE).observation_count,
        store.accounting(SCOPE).stored_count,
        store.accounting(SCOPE).pruned_count,
    )
    other = store.accounting(Scope("acme", "connections"))
    assert (1, 1, 0) == (other.observation_count, other.stored_count, other.pruned_count)


class Refusing(Increment, frozen=True):
    """An increment that the ledger has no arithmetic for."""


@pytest.mark.parametrize(
    ("increment", "error"),
    [
        (Refusing("bad", ("acme",)), (KeyError, TypeError)),
        (SetLatest("bad", ("acme",), at=1, value="\ud800"), UnicodeEncodeError),
    ],
)
def test_a_bug_leaves_nothing(store: Store, increment: Increment, error: type[Exception]) -> None:
    """A batch that fails by a bug leaves no trace, and the bug is not taken for a fault of the state."""
    commit(store, once("a", "pending"), coverage=Coverage(retention_floor=1, complete_since=1))
    before = store.series_values(), store.feed_state(SCOPE), lookup(store, "a", "b")
    with pytest.raises(error):
        commit(
            store,
            once("a"),
            once("b"),
            Observation(entry("c"), (increment,)),
            coverage=Coverage(retention_floor=2, complete_since=2),
            deleted_keys=("a",),
        )

    assert before == (store.series_values(), store.feed_state(SCOPE), lookup(store, "a", "b"))
    assert 2 == len(commit(store, once("a"), once("b")).observations)


# What the file of SQLite does.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the state is to be."""
    return tmp_path / "late.db"


def opened(path: Path) -> Store:
    """The state in a file."""
    return open_store(f"sqlite:///{path}")


def refusal(path: Path) -> str:
    """Why the state in a file is refused, with the folder left out."""
    with pytest.raises(StoreError) as caught:
        opened(path).close()
    return str(caught.value).replace(str(path.parent), "")


def execute(path: Path, *statements: str) -> None:
    """Do something to a file of SQLite."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_relative_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes name a relative path, four an absolute one; folders are made."""
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///some/where/a.db").close()
    open_store(f"sqlite:///{tmp_path}/else/b.db").close()

    assert (tmp_path / "some/where/a.db").is_file()
    assert (tmp_path / "else/b.db").is_file()


def test_unknown_kind_of_state() -> None:
    """A URL of another kind is a mistake of the user."""
    with pytest.raises(ConfigError) as caught:
        open_store("postgres://db/late")
    expected = "--state.url 'postgres://db/late': not a state URL; write it like sqlite:///data/late-exporter.db"
    assert expected == str(caught.value)


def test_how_the_file_is_written(path: Path) -> None:
    """The file is marked as ours, has a schema version, and every commit reaches the disk."""
    with closing(opened(path)) as store, closing(sqlite3.connect(path)) as connection:
        pragmas = ["application_id", "user_version", "journal_mode"]
        assert [0x4C617465, 3, "wal"] == [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
        assert [(2,)] == list(store._connection.execute("PRAGMA synchronous"))  # type: ignore[attr-defined] # noqa: SLF001 - a setting of the connection


SIGHTINGS = "SELECT scope, key, status, created FROM sighting"


@pytest.mark.parametrize("version", [file.stem for file in sorted(STATES.glob("*.sql"))])
def test_a_state_of_a_released_version(path: Path, version: str) -> None:
    """A state that a released version has written goes on, with nothing lost, and its books are closed rightly."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((STATES / f"{version}.sql").read_text())
        before = [list(connection.execute(text)) for text in (SIGHTINGS, "SELECT * FROM series")]
    publishing, connections = Scope("default", "publishing"), Scope("default", "connections")
    for _ in range(2):
        with closing(opened(path)) as store, closing(sqlite3.connect(path)) as connection:
            assert before == [list(connection.execute(text)) for text in (SIGHTINGS, "SELECT * FROM series")]
            tallies = [store.accounting(scope) for scope in (publishing, connections)]
            assert [(17, 7, 10), (2, 2, 0)] == [
                (tally.observation_count, tally.stored_count, tally.pruned_count) for tally in tallies
            ]
            assert store.feed_state(publishing).coverage is not None
    with closing(opened(path)) as store:
        old, new = once("6b06aebc0000000000000009", "pending"), once("new")
        assert [new] == commit(store, old, new, scope=publishing).observations
        assert 18 == store.accounting(publishing).observation_count


def test_a_closed_state_is_one_file(path: Path) -> None:
    """Closing leaves nothing in the journal."""
    with closing(opened(path)) as store:
        commit(store, once("a"))

    assert {"late.db", "late.db.lock"} == {file.name for file in path.parent.iterdir()}


def test_an_empty_file_becomes_a_state(path: Path) -> None:
    """A file that was made beforehand and is empty is used."""
    path.touch()
    with closing(opened(path)) as store:
        commit(store, once("a"))
    with closing(opened(path)) as store:
        assert 1 == counted(store)


def other_program(path: Path) -> None:
    """The database of another program."""
    execute(path, "CREATE TABLE bookmark (url TEXT)", "INSERT INTO bookmark VALUES ('https://example.com')")


def other_mark(path: Path) -> None:
    """A database that another program has marked as its own."""
    execute(path, "PRAGMA application_id = 252006674")


def newer(path: Path) -> None:
    """The state of a later version."""
    opened(path).close()
    execute(path, "PRAGMA user_version = 4711")


def noise(path: Path) -> None:
    """A file that only begins like a database."""
    path.write_bytes(b"SQLite format 3\0" + random.Random(3).randbytes(8000))


FOREIGN = "/late.db is the database of another program; it was not changed"
STRANGE = "/late.db is not a state of late-exporter, or is damaged; it was not changed"


@pytest.mark.parametrize(
    ("expected", "prepare"),
    [
        (STRANGE, lambda path: path.write_bytes(b"\0")),
        (STRANGE, lambda path: path.write_text("api_key: secret\n" * 100)),
        (STRANGE, lambda path: path.write_bytes(b"\0" * 8192)),
        (STRANGE, lambda path: path.write_bytes(b"SQLite format 3")),
        ("/late.db: file is not a database", noise),
        (FOREIGN, other_program),
        (FOREIGN, other_mark),
        (
            "/late.db was written by a newer late-exporter (schema 4711, this version supports 3); it was not changed",
            newer,
        ),
    ],
)
def test_a_file_that_is_not_ours(path: Path, expected: str, prepare: Callable[[Path], object]) -> None:
    """A foreign, newer or damaged file is named, refused and left as it is, as often as it is tried."""
    prepare(path)
    before = path.read_bytes()

    assert [expected] * 2 == [refusal(path), refusal(path)]
    assert before == path.read_bytes()
    assert {"late.db", "late.db.lock"} == {file.name for file in path.parent.iterdir()}


def test_damage_inside(path: Path) -> None:
    """Damage in the middle of the file is an error that names it as soon as it is met."""
    with closing(opened(path)) as store:
        commit(store, *(once(f"{number:024}") for number in range(3000)))
    content = bytearray(path.read_bytes())
    content[4096:] = random.Random(4).randbytes(len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(StoreError) as caught, closing(opened(path)) as store:
        store.series_values()
    assert f"{path}: database disk image is malformed" == str(caught.value)
    assert bytes(content[4096:]) == path.read_bytes()[4096:]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE series SET value = x'7b'",
        'UPDATE series SET value = \'{"type":"other"}\'',
        "UPDATE series SET labels = 'acme'",
        "UPDATE series SET labels = CAST(x'ff' AS TEXT)",
    ],
)
def test_damaged_values(path: Path, statement: str) -> None:
    """A value or a label that was damaged is an error that names the file."""
    with closing(opened(path)) as store:
        commit(store, once("a"))
    execute(path, statement)

    with closing(opened(path)) as store, pytest.raises(StoreError, match=f"^{path}: "):
        store.series_values()


def test_a_directory_in_place_of_the_file(path: Path) -> None:
    """A directory is no state."""
    path.mkdir()
    assert "/late.db: the state cannot be read: Is a directory" == refusal(path)
    assert [] == list(path.iterdir())


def test_a_file_in_place_of_the_directory(path: Path) -> None:
    """A folder that cannot be made is named."""
    path.write_text("a file")
    for below, words in (("x.db", "File exists"), ("deeper/x.db", "Not a directory")):
        with pytest.raises(StoreError) as caught:
            opened(path / below)
        expected = f"{path / below}: the state cannot be written: {words}: {(path / below).parent}"
        assert expected == str(caught.value)
    assert "a file" == path.read_text()


def test_a_lock_that_cannot_be_made(path: Path) -> None:
    """A lock file that cannot be written is named."""
    lock = path.with_name("late.db.lock")
    lock.mkdir()
    assert "/late.db: the state cannot be written: Is a directory: /late.db.lock" == refusal(path)
    assert not path.exists()


def test_a_read_only_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be written is refused before anything is done to it."""
    opened(path).close()
    before = path.read_bytes()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anything

    assert "/late.db: the state cannot be written: it is read-only" == refusal(path)
    assert before == path.read_bytes()


def test_a_second_exporter_on_the_same_file(path: Path) -> None:
    """A file in use is refused, also by another name or from another process, until it is free again."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    words = "is in use by another late-exporter; every process needs a state of its own"
    with closing(opened(path)) as store:
        commit(store, once("a"))
        assert f"/late.db {words}" == refusal(path)
        assert f"/link.db {words}" == refusal(link)
        program = f"from late_exporter.store import open_store; open_store('sqlite:///{path}')"
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert f"late_exporter.errors.StoreInUse: {path} {words}" == result.stderr.splitlines()[-1]
        assert 2 == len(commit(store, once("b"), once("c")).observations)
    with closing(opened(link)) as store:
        assert 3 == counted(store)


def test_a_refused_file_is_not_kept_locked(path: Path) -> None:
    """After a refusal the file is free: once it is put right, it opens."""
    newer(path)
    refusal(path)
    execute(path, "PRAGMA user_version = 3")
    opened(path).close()


@pytest.mark.parametrize("event", ["INSERT ON sighting", "INSERT ON series", "INSERT ON tally", "UPDATE ON scope",
                                   "INSERT ON pending", "DELETE ON pending", "DELETE ON sighting"])  # fmt: skip
def test_a_failing_commit_leaves_nothing(path: Path, event: str) -> None:
    """Wherever a commit fails, nothing of it is kept; the same batch counts once when it is tried again."""
    with closing(opened(path)) as store:
        commit(
            store,
            once("old", "pending", NOW - HOUR),
            once("a", "pending"),
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
            observations=[once("a"), once("b"), once("c", "pending")],
            increments=[IncCounter("polls", ("acme",))],
            coverage=Coverage(retention_floor=2, complete_since=2),
            prune_before=NOW,
        )
        for _ in range(2):
            with pytest.raises(StoreError) as caught:
                store.commit(SCOPE, batch)
            assert f"{path}: no luck" == str(caught.value)
            after = (
                store.series_values(),
                store.feed_state(SCOPE),
                lookup(store, "old", "a", "b", "c"),
                store.size("acme")[0],
            )
            assert before == after

        execute(path, "DROP TRIGGER fault")
        committed = store.commit(SCOPE, batch)
        assert (3, {"c"}, 3) == (len(committed.observations), set(committed.pending_logs or ()), committed.log_count)
        assert 1 == store.series_values()["polls", ("acme",)].value


@contextmanager
def full_disk(path: Path, *, room: int) -> Iterator[None]:
    """No file may grow beyond what the journal has now, and some room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = path.with_name(f"{path.name}-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 100, 5000, 50_000])
def test_full_disk(path: Path, room: int) -> None:
    """A full disk costs a commit and nothing that was counted; with space again, the same batch counts once."""
    batch = Batch(committed_at=AT, observations=[once(f"{number:024}", created=NOW + number) for number in range(2000)])
    with closing(opened(path)) as store:
        commit(store, once("a"))
        with full_disk(path, room=room):
            for _ in range(3):
                with pytest.raises(StoreError, match=f"^{path}: (disk I/O error|database or disk is full)$"):
                    store.commit(SCOPE, batch)
                assert (1, 1) == (counted(store), lookup(store).stored_count)
        assert 2000 == len(store.commit(SCOPE, batch).observations)
    with closing(opened(path)) as store:
        assert (2001, 2001) == (counted(store), store.feed_state(SCOPE).log_count)


def test_file_that_may_not_grow(path: Path) -> None:
    """SQLite's own limit to the size of the file costs a commit and nothing that was counted."""
    with closing(opened(path)) as store:
        commit(store, once("a"))
        pragma = store._connection.execute  # type: ignore[attr-defined] # noqa: SLF001 - a limit of the connection
        pragma(f"PRAGMA max_page_count = {pragma('PRAGMA page_count').fetchone()[0]}")
        batch = [once(f"{number:024}") for number in range(2000)]
        with pytest.raises(StoreError) as caught:
            commit(store, *batch)
        assert f"{path}: database or disk is full" == str(caught.value)
        assert 1 == counted(store)

        pragma("PRAGMA max_page_count = 100000")
        assert 2000 == len(commit(store, *batch).observations)


def test_a_killed_process_loses_nothing_that_was_committed(path: Path) -> None:
    """A process that dies without closing leaves what it committed, counted once, and the file free."""
    program = f"""
import os
from late_exporter.model import IncCounter, Batch, LogEntry, Scope, Observation
from late_exporter.store import open_store
store = open_store("sqlite:///{path}")
sightings = [Observation(LogEntry(key=str(n), status="success"), (IncCounter("seen", ("acme",)),)) for n in range(100)]
for number in range(0, 100, 10):
    store.commit(Scope("acme", "publishing"), Batch(committed_at=1.0, observations=sightings[number:number + 10]))
os._exit(9)
"""
    assert 9 == subprocess.run([sys.executable, "-c", program], check=False).returncode
    with closing(opened(path)) as store:
        again = [
            Observation(LogEntry(key=str(n), status="success"), (IncCounter("seen", ("acme",)),)) for n in range(101)
        ]
        assert 1 == len(commit(store, *again).observations)
        assert 101 == store.series_values()["seen", ("acme",)].value


def test_what_is_asked_of_a_closed_state_fails(path: Path) -> None:
    """A closed state answers nothing, with our error."""
    store = opened(path)
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
def test_file_taken_away(path: Path, happening: Callable[[Path], object], words: str) -> None:
    """Nothing is counted into a file that is no longer there: it would be lost without a word."""
    with closing(open_store(f"sqlite:///{path}")) as store:
        commit(store, once("a"))
        happening(path)

        with pytest.raises(StoreError) as caught:
            commit(store, once("b"))

        assert f"{path}: {words}" == str(caught.value)

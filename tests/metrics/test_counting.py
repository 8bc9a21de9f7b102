"""Logs that are counted together give the same values as logs that are counted one by one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.metrics.aggregation import apply_increments
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.counting import count_logs, observe_log, project_log
from late_exporter.model import LogEntry, LogKind
from late_exporter.series import (
    Exemplar,
    IncCounter,
    Increment,
    ObserveHistogram,
    ObserveLog,
    ObserveValues,
    Series,
    SetCurrent,
    Value,
)
from late_exporter.store.batches import effective_increments
from late_exporter.store.records import Batch, Observation

NOW = 1_763_993_002_000
FEEDS = [feed for feeds in GENERATIONS.values() for feed in feeds.values()]
LAG = ObserveLog("late_exporter_log_lag_seconds", ("acme", "publishing"), once_per_log=True, number="lag")

logs = st.builds(
    LogEntry,
    key=st.sampled_from("abcdef"),
    status=st.sampled_from(["pending", "success", "failed"]),
    created=st.none() | st.integers(NOW - 50, NOW),
    platform=st.sampled_from(["tiktok", "x"]),
    action=st.sampled_from(["publish", "retry", "rate_limit_pause", "connect_failed", "reconnect_success"]),
    account_id=st.none() | st.sampled_from(["a1", "a2"]),
    username=st.none() | st.sampled_from(["@acme", "unknown"]),
    status_code=st.none() | st.just(429),
    error_code=st.none() | st.just("TIMEOUT"),
    duration=st.none() | st.integers(0, 10**9),
    delay=st.none() | st.integers(0, 10**9),
    attempt=st.none() | st.integers(1, 3),
    expires_at=st.none() | st.integers(1, 3),
)


def with_buckets(increments: Iterable[Increment]) -> tuple[Increment, ...]:
    """Return increments with the buckets of the catalogue, as the label limiter does."""
    return tuple(
        msgspec.structs.replace(increment, bounds=CATALOGUE[increment.family].buckets)
        if isinstance(increment, ObserveHistogram | ObserveLog | ObserveValues)
        else increment
        for increment in increments
    )


def observe(feed: Feed, entries: Sequence[LogEntry]) -> tuple[list[Observation], dict[str, Observation]]:
    """Return the observations of new logs, which share the increments of their kinds, and the first of each log."""
    kinds: dict[LogKind, tuple[Increment, ...]] = {}
    new = [
        Observation(entry, kinds.setdefault(entry.kind, with_buckets([*feed.project("acme", entry.kind), LAG])))
        for entry in entries
    ]
    return new, {each.entry.key: each for each in reversed(new)}


def add_up(increments: Iterable[Increment]) -> dict[Series, Value]:
    """Return the values of the series after some increments."""
    values: dict[Series, Value] = {}
    for increment in increments:
        series = (increment.family, increment.labels)
        values[series] = apply_increments((increment,), values.get(series))
    return values


@given(st.sampled_from(FEEDS), st.lists(logs, max_size=30))
def test_logs_of_one_kind_count_like_each_of_them(feed: Feed, entries: list[LogEntry]) -> None:
    """Counters, buckets, sums, newest values and streaks are those of the logs one by one, of each log once."""
    new, first = observe(feed, entries)
    one_by_one: list[Increment] = []
    for observation in new:
        increments = [*project_log(feed, "acme", observation.entry), *count_logs(LAG, (observation.entry,), NOW)]
        is_first = first[observation.entry.key] is observation
        one_by_one += [each for each in with_buckets(increments) if is_first or not each.once_per_log]
    batch = Batch(committed_at=0.0, now=NOW, observations=new)
    assert add_up(one_by_one) == add_up(chain.from_iterable(effective_increments(batch, new, first)))


@given(st.sampled_from(FEEDS), logs, st.randoms(use_true_random=False))
def test_only_the_kind_decides_which_series_change(feed: Feed, log: LogEntry, draw: random.Random) -> None:
    """Another id, time and duration change the same series."""
    other = msgspec.structs.replace(
        log,
        key="other",
        created=log.created and NOW - draw.randrange(50),
        duration=log.duration and draw.randrange(10**9),
        post_id="post",
    )
    if log.duration == 0:
        other = msgspec.structs.replace(other, duration=7)
    assert other.kind == log.kind
    assert [(each.family, each.labels) for each in project_log(feed, "acme", log)] == [
        (each.family, each.labels) for each in project_log(feed, "acme", other)
    ]


def test_increments_without_logs_apply_unchanged() -> None:
    """Increments of the exporter itself come first, and in their order, which decides the value of a gauge."""
    own = [SetCurrent("g", (), value=1.0), IncCounter("c", (), amount=0), SetCurrent("g", (), value=2.0)]
    assert [(each,) for each in own] == list(effective_increments(Batch(committed_at=0.0, increments=own), [], {}))


@pytest.mark.parametrize(("length", "count"), [(58, 1), (59, 0)])
def test_exemplars(length: int, count: int) -> None:
    """An exemplar has both ids if they are short enough, and no time of the future."""
    log = LogEntry(key="k" * 57, status="success", post_id="p" * length, created=NOW + 5, duration=7)
    increment = ObserveLog("f", (), number="duration", has_exemplar=True)
    exemplar = Exemplar((("log_id", log.key), ("post_id", log.post_id or "")), NOW / 1000)
    assert ObserveHistogram("f", (), micros=7, exemplar=exemplar if count else None) == observe_log(increment, log, NOW)

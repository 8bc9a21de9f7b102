from __future__ import annotations

from functools import reduce
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter.metrics.aggregation import apply_increments, decode_value, encode_value, exemplar_of
from late_exporter.model import (
    FailureStreak,
    Histogram,
    IncCounter,
    Increment,
    Labels,
    LogEntry,
    ObserveHistogram,
    ObserveLog,
    RecordAttempt,
    SetLatest,
    Value,
)

LABELS: Labels = ("acme",)
NOW = 1_763_993_002_000
MOST = 2**63 - 1
BOUNDS = (0.1, 1.0, 10.0)
OBSERVE = ObserveLog("f", LABELS, number="duration")

IncrementT = TypeVar("IncrementT", bound=Increment)


def apply_one_by_one(increments: list[IncrementT], value: Value | None = None) -> Value | None:
    """Apply the increments one after the other, encoding and decoding the value in between."""
    return reduce(
        lambda before, increment: decode_value(encode_value(apply_increments([increment], before))), increments, value
    )


adds = st.builds(lambda amount: IncCounter("f", LABELS, amount=amount), st.integers(0, 10**6))
observations = st.builds(
    lambda micros: ObserveHistogram("f", LABELS, micros=(micros,), bounds=BOUNDS),
    st.integers(0, 10**15) | st.sampled_from([0, 100_000, 100_001, 10_000_000]),
)
latest_values = st.builds(
    lambda at, value: SetLatest("f", LABELS, at=at, value=value), st.integers(-5, 5), st.integers(0, 12)
)
names = st.builds(
    lambda at, value: SetLatest("f", LABELS, at=at, value=value), st.integers(-5, 5), st.tuples(st.text(max_size=2))
)
results = st.builds(
    lambda at, failed: RecordAttempt("f", LABELS, at=at, failed=failed), st.integers(1, 30), st.booleans()
)


def in_two_orders(kind: st.SearchStrategy[IncrementT]) -> st.SearchStrategy[tuple[list[IncrementT], list[IncrementT]]]:
    """Generate increments in two orders."""
    return st.lists(kind, min_size=1, max_size=20).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some)))


@given(
    in_two_orders(adds)
    | in_two_orders(observations)
    | in_two_orders(latest_values)
    | in_two_orders(names)
    | in_two_orders(results)
)
def test_order_does_not_matter(orders: tuple[list[Increment], list[Increment]]) -> None:
    """Increments give the same value in any order, one by one or together."""
    one, other = orders
    assert (
        apply_one_by_one(one) == apply_one_by_one(other) == apply_increments(one, None) == apply_increments(other, None)
    )


def test_saturation() -> None:
    """A sum saturates at 64 bits; observations are still counted, and the value can be encoded."""
    absurd = [ObserveHistogram("f", LABELS, micros=(10**15,), bounds=BOUNDS)] * 3
    full = Histogram(BOUNDS, (0, 0, 0, 5), MOST - 2 * 10**15)
    assert Histogram(BOUNDS, (0, 0, 0, 8), MOST) == apply_increments(absurd, full) == apply_one_by_one(absurd, full)


def test_long_streak() -> None:
    """The newest thousand failures of a streak are kept, and end with a success."""
    failures = [RecordAttempt("f", LABELS, at=at, failed=True) for at in range(1, 3501)]
    value = apply_increments(failures, None)
    for late, failed, length in ((7, True, 1000), (2000, False, 1000), (3000, False, 500), (3500, False, 0)):
        after = apply_increments([RecordAttempt("f", LABELS, at=late, failed=failed)], value)
        assert isinstance(after, FailureStreak)
        assert length == len(after.failures)


@pytest.mark.parametrize(
    ("times", "length"),
    [((1, 2, 5), 1), ((1, 6), 1), ((1, 11), 2), ((1, 8, 15), 2), ((1, 11, 12, 21), 3)],
)
def test_failures_of_one_post(times: tuple[int, ...], length: int) -> None:
    """With a spacing of ten, a failure within ten after a counted one is no further one."""
    increments = [RecordAttempt("f", LABELS, at=at, failed=True, spacing=10) for at in times]
    streak = apply_increments(increments, None)
    assert isinstance(streak, FailureStreak)
    assert streak.length == length


@pytest.mark.parametrize("key", ["x" * 110, 'x"'], ids=["too long", "a quote"])
def test_an_exemplar_that_parsers_reject_is_omitted(key: str) -> None:
    """Ids may have 128 characters with their names, and no quote, which prometheus_client's parser rejects."""
    assert exemplar_of(OBSERVE, LogEntry(key=key, status="success", post_id="postid", created=NOW), NOW) is None

"""Aggregate increments into the values of series, and encode the values for the state."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from late_exporter.series import (
    FailureStreak,
    Histogram,
    IncCounter,
    Increment,
    LatestValue,
    ObserveHistogram,
    ObserveValues,
    RecordAttempt,
    SetCurrent,
    SetLatest,
    Value,
)

MICROS_PER_SECOND = 1_000_000
MAX_SUM_MICROS = 2**63 - 1
"""Sums saturate here: SQLite stores 64-bit integers, and one absurd duration must not fail a poll."""

MAX_STREAK_TIMES = 1000
"""Number of failures per account whose times are kept; older failures are only counted."""

encode_value: Callable[[Value], bytes] = msgspec.json.Encoder().encode
decode_value: Callable[[bytes], Value] = msgspec.json.Decoder(Value).decode
"""Decode a value; raises msgspec.DecodeError if it is invalid."""


def apply_increments(increments: Sequence[Increment], value: Value | None) -> Value:
    """Return the value after increments of one kind of value; ``value`` is None for a new series.

    Their order matters for SetCurrent only.
    """
    return _AGGREGATORS[type(increments[0])](increments, value)


def _add(increments: Sequence[IncCounter], value: Value | None) -> Value:
    previous = value if isinstance(value, int | float) else 0
    return previous + sum(increment.amount for increment in increments)


def _observe(increments: Sequence[ObserveHistogram | ObserveValues], value: Value | None) -> Value:
    bounds = increments[0].bounds
    previous = value if isinstance(value, Histogram) else Histogram(bounds, (0,) * (len(bounds) + 1))
    counts, micros = list(rebucket(previous, bounds).counts), previous.micros
    for increment in increments:
        values = increment.micros if isinstance(increment, ObserveValues) else (increment.micros,)
        for each in values:
            counts[bisect_left(bounds, each / MICROS_PER_SECOND)] += 1
        micros += sum(values)
    return Histogram(bounds, tuple(counts), min(micros, MAX_SUM_MICROS))


def _set_latest(increments: Sequence[SetLatest], value: Value | None) -> Value:
    values = [LatestValue(increment.at, increment.value) for increment in increments]
    values += [value] if isinstance(value, LatestValue) else []
    return max(values, key=lambda candidate: (candidate.at, str(candidate.value)))


def _update_streak(increments: Sequence[RecordAttempt], value: Value | None) -> Value:
    streak = value if isinstance(value, FailureStreak) else FailureStreak()
    for increment in increments:
        if increment.at > streak.last_success:
            streak = _add_failure(streak, increment.at) if increment.failed else _add_success(streak, increment.at)
    return streak


_AGGREGATORS: Mapping[type[Increment], Callable[[Any, Value | None], Value]] = {
    IncCounter: _add,
    ObserveHistogram: _observe,
    ObserveValues: _observe,
    SetLatest: _set_latest,
    SetCurrent: lambda increments, _: LatestValue(0, increments[-1].value),
    RecordAttempt: _update_streak,
}


def _add_failure(streak: FailureStreak, at: int) -> FailureStreak:
    failures = list(streak.failures)
    insort(failures, at)
    if len(failures) <= MAX_STREAK_TIMES:
        return msgspec.structs.replace(streak, failures=tuple(failures))
    return msgspec.structs.replace(
        streak,
        failures=tuple(failures[1:]),
        older_failures=streak.older_failures + 1,
        older_until=max(streak.older_until, failures[0]),
    )


def _add_success(streak: FailureStreak, at: int) -> FailureStreak:
    later = streak.failures[bisect_right(streak.failures, at) :]
    if at < streak.older_until:
        return FailureStreak(at, later, streak.older_failures, streak.older_until)
    return FailureStreak(at, later)


def rebucket(histogram: Histogram, bounds: tuple[float, ...]) -> Histogram:
    """Return the histogram with other bounds: a bucket moves to the first new bucket that contains it entirely."""
    if histogram.bounds == bounds:
        return histogram
    counts = [0] * (len(bounds) + 1)
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        counts[bisect_left(bounds, bound)] += count
    return Histogram(bounds, tuple(counts), histogram.micros)

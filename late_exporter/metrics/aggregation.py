"""Turn logs of one kind into increments, and apply increments to the values of series.

Values are encoded for the state.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from late_exporter.model import (
    MAX_CLOCK_SKEW_MS,
    UNKNOWN,
    Exemplar,
    FailureStreak,
    Histogram,
    IncCounter,
    Increment,
    LatestValue,
    LogEntry,
    ObserveHistogram,
    ObserveLog,
    RecordAttempt,
    SetByLog,
    SetCurrent,
    SetLatest,
    Value,
)

MICROS_PER_SECOND = 1_000_000
MAX_SUM_MICROS = 2**63 - 1
"""Sums saturate here.

SQLite stores 64-bit integers, and one absurd duration must not fail a poll.
"""

MAX_EXEMPLAR_CHARACTERS = 128
"""Limit of OpenMetrics for the names and values of an exemplar's labels."""

MAX_STREAK_TIMES = 1000
"""Number of failures that are kept, the newest ones; a longer streak has no more."""

encode_value: Callable[[Value], bytes] = msgspec.json.Encoder().encode
decode_value: Callable[[str | bytes], Value] = msgspec.json.Decoder(Value).decode
"""Decode a value; raises msgspec.DecodeError if it is invalid."""


def count_logs(increment: Increment, logs: Sequence[LogEntry], now: int) -> Sequence[Increment]:
    """Return an increment of a kind with the numbers of its logs.

    ``now`` is the API time in milliseconds.
    """
    series = increment.family, increment.labels
    match increment:
        case IncCounter(amount=amount):
            return [IncCounter(*series, amount=amount * len(logs))]
        case ObserveLog(bounds=bounds):
            micros = tuple(_observed_micros(increment, log, now) for log in logs)
            return [ObserveHistogram(*series, micros=micros, bounds=bounds)]
        case SetByLog(value=value):
            at = max(_times(logs, now))
            return [SetLatest(*series, at=at, value=at / 1000 if value is None else value)]
        case RecordAttempt(at=0):
            return [msgspec.structs.replace(increment, at=at) for at in _times(logs, now)]
    return [increment] * len(logs)


def _times(logs: Sequence[LogEntry], now: int) -> list[int]:
    # A time that is further ahead is wrong, and would stay the newest one.
    latest = now + MAX_CLOCK_SKEW_MS
    return [min(log.created or 0, latest) for log in logs]


def lag_micros(log: LogEntry, now: int) -> int:
    """Return the time from the creation of a log to its count, in microseconds."""
    return max(0, now - (log.created or 0)) * 1000


def exemplar_of(increment: ObserveLog, log: LogEntry, now: int) -> Exemplar | None:
    """Return the exemplar of an observed log; None if parsers would reject its ids."""
    labels = (("log_id", log.key), ("post_id", log.post_id or UNKNOWN))
    text = "".join(name + value for name, value in labels)
    if len(text) > MAX_EXEMPLAR_CHARACTERS or '"' in text:  # parsers reject an escaped quote
        return None
    value = _observed_micros(increment, log, now) / MICROS_PER_SECOND
    return Exemplar(labels, value, min(log.created or 0, now) / 1000)


def _observed_micros(increment: ObserveLog, log: LogEntry, now: int) -> int:
    """Return the number of a log that an increment observes, in microseconds."""
    if increment.number == "lag":
        return lag_micros(log, now)
    number = log.delay if increment.number == "delay" else log.duration
    return number or 0


def apply_increments(increments: Sequence[Increment], value: Value | None) -> Value:
    """Return the value after increments of one kind of value; ``value`` is None for a new series.

    Their order matters for SetCurrent only.
    """
    return _AGGREGATORS[type(increments[0])](increments, value)


def _add(increments: Sequence[IncCounter], value: Value | None) -> Value:
    previous = value if isinstance(value, int | float) else 0
    return previous + sum(increment.amount for increment in increments)


def _observe(increments: Sequence[ObserveHistogram], value: Value | None) -> Value:
    bounds = increments[0].bounds
    previous = Histogram(bounds, (0,) * (len(bounds) + 1))
    if isinstance(value, Histogram):
        previous = rebucket(value, bounds)
    counts = list(previous.counts)
    micros = previous.micros
    for increment in increments:
        for each in increment.micros:
            counts[bisect_left(bounds, each / MICROS_PER_SECOND)] += 1
        micros += sum(increment.micros)
    return Histogram(bounds, tuple(counts), min(micros, MAX_SUM_MICROS))


def _set_latest(increments: Sequence[SetLatest], value: Value | None) -> Value:
    values = [LatestValue(increment.at, increment.value) for increment in increments]
    values += [value] if isinstance(value, LatestValue) else []
    return max(values, key=lambda candidate: (candidate.at, str(candidate.value)))


def _update_streak(increments: Sequence[RecordAttempt], value: Value | None) -> Value:
    streak = value if isinstance(value, FailureStreak) else FailureStreak()
    successes = [each.at for each in increments if not each.failed]
    last_success = max([streak.last_success, *successes])
    failures = sorted([*streak.failures, *(each.at for each in increments if each.failed)])
    failures = failures[bisect_right(failures, last_success) :]
    spacing = increments[-1].spacing
    return FailureStreak(last_success, tuple(failures[-MAX_STREAK_TIMES:]), spacing)


_AGGREGATORS: Mapping[type[Increment], Callable[[Any, Value | None], Value]] = {
    IncCounter: _add,
    ObserveHistogram: _observe,
    SetLatest: _set_latest,
    SetCurrent: lambda increments, _: LatestValue(0, increments[-1].value),
    RecordAttempt: _update_streak,
}


def rebucket(histogram: Histogram, bounds: tuple[float, ...]) -> Histogram:
    """Return the histogram with other bounds.

    A bucket moves to the first new bucket that contains it entirely.
    """
    if histogram.bounds == bounds:
        return histogram
    counts = [0] * (len(bounds) + 1)
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        counts[bisect_left(bounds, bound)] += count
    return Histogram(bounds, tuple(counts), histogram.micros)

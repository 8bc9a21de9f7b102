"""The arithmetic of the ledger: how an increment moves a value, and how values are written down."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from functools import singledispatch

import msgspec

from late_exporter.model import Add, Histogram, Increment, Observe, Reading, Result, Streak, Take, Value

__all__ = ["decode", "encode", "fold", "rebucket"]

MICROS = 1_000_000
SATURATION = 2**63 - 1
"""Sums stop here rather than overflow: one absurd duration must not cost a poll."""

STREAK_LENGTH = 1000
"""Failures of an account kept one by one; older ones are only counted."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Value] = msgspec.json.Decoder(Value)


def encode(value: Value) -> bytes:
    """The written form of a value."""
    return _encoder.encode(value)


def decode(written: bytes) -> Value:
    """The value of a written form; raises msgspec.DecodeError where it is none."""
    return _decoder.decode(written)


@singledispatch
def fold(increment: Increment, value: Value | None) -> Value:
    """The value after an increment; None is a series that does not exist yet.

    Folding does not depend on the order of the increments.
    """
    raise TypeError(f"no arithmetic for {type(increment).__name__} on {type(value).__name__}")


@fold.register
def _(increment: Add, value: Value | None) -> Value:
    before = value if isinstance(value, int | float) else 0
    return before + increment.amount


@fold.register
def _(increment: Observe, value: Value | None) -> Value:
    before = value if isinstance(value, Histogram) else Histogram(increment.bounds, (0,) * (len(increment.bounds) + 1))
    before = rebucket(before, increment.bounds)
    counts = list(before.counts)
    counts[bisect_left(before.bounds, increment.micros / MICROS)] += 1
    return Histogram(before.bounds, tuple(counts), min(before.micros + increment.micros, SATURATION))


@fold.register
def _(increment: Take, value: Value | None) -> Value:
    newer = Reading(increment.at, increment.value)
    if not isinstance(value, Reading):
        return newer
    return max(value, newer, key=lambda reading: (reading.at, str(reading.value)))


@fold.register
def _(increment: Result, value: Value | None) -> Value:
    streak = value if isinstance(value, Streak) else Streak()
    return _fail(streak, increment.at) if increment.failed else _succeed(streak, increment.at)


def _fail(streak: Streak, at: int) -> Streak:
    if at <= streak.success:
        return streak
    failures = list(streak.failures)
    insort(failures, at)
    if len(failures) <= STREAK_LENGTH:
        return msgspec.structs.replace(streak, failures=tuple(failures))
    return msgspec.structs.replace(
        streak,
        failures=tuple(failures[1:]),
        folded=streak.folded + 1,
        folded_until=max(streak.folded_until, failures[0]),
    )


def _succeed(streak: Streak, at: int) -> Streak:
    if at <= streak.success:
        return streak
    later = streak.failures[bisect_right(streak.failures, at) :]
    if at < streak.folded_until:
        return Streak(at, later, streak.folded, streak.folded_until)
    return Streak(at, later)


def rebucket(histogram: Histogram, bounds: tuple[float, ...]) -> Histogram:
    """The histogram over other bounds: each old bucket goes into the first new one that surely holds it."""
    if histogram.bounds == bounds:
        return histogram
    counts = [0] * (len(bounds) + 1)
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        counts[bisect_left(bounds, bound)] += count
    return Histogram(bounds, tuple(counts), histogram.micros)

"""Value types of series: their labels, the changes of their values, and the values.

Times are integers in milliseconds since the Unix epoch unless documented otherwise. ``gc=False`` as
in ``late_exporter.model``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Labels: TypeAlias = tuple[str, ...]
"""Label values in the order of the family's label names, workspace first."""

Series: TypeAlias = tuple[str, Labels]
"""Family name and label values that identify a series."""


class Exemplar(msgspec.Struct, frozen=True, gc=False):
    """An exemplar: label pairs of at most 128 characters in total, and a Unix time in seconds."""

    labels: tuple[tuple[str, str], ...]
    timestamp: float


class Increment(msgspec.Struct, frozen=True, gc=False):
    """A change of one series.

    Logs of one kind share their increments: ObserveLog, SetByLog and RecordAttempt take a number or
    a time from each log, and any other increment applies once per log.

    Args:
        family: Metric family name.
        labels: Label values.
        once_per_log: Apply only for the first observed status of a log.
    """

    family: str
    labels: Labels
    once_per_log: bool = False


class IncCounter(Increment, frozen=True, kw_only=True, gc=False):
    """Increment a counter; an amount of 0 only creates the series."""

    amount: float = 1


class ObserveHistogram(Increment, frozen=True, kw_only=True, gc=False):
    """Observe a histogram; ``micros`` is the value in millionths of the family's unit."""

    micros: int
    bounds: tuple[float, ...] = ()
    exemplar: Exemplar | None = None


class ObserveValues(Increment, frozen=True, kw_only=True, gc=False):
    """Observe a histogram with the values of several logs, in millionths of the family's unit."""

    micros: tuple[int, ...]
    bounds: tuple[float, ...] = ()


class SetLatest(Increment, frozen=True, kw_only=True, gc=False):
    """Set a gauge, unless it has a value of a later time; texts are its last labels."""

    at: int
    value: float | tuple[str, ...]


class SetCurrent(Increment, frozen=True, kw_only=True, gc=False):
    """Set a gauge of the exporter itself: the last value applied wins, whatever its time."""

    value: float


class RecordAttempt(Increment, frozen=True, kw_only=True, gc=False):
    """Record a failed or successful publishing attempt of an account.

    A time of 0 is that of each log.
    """

    at: int = 0
    failed: bool


class ObserveLog(Increment, frozen=True, kw_only=True, gc=False):
    """Observe a histogram with a number of each log.

    Args:
        number: ``duration`` or ``delay`` of the log, or ``lag`` from its creation to its count.
        bounds: Upper bounds of the buckets.
        has_exemplar: Whether the newest log of each bucket becomes its exemplar.
    """

    number: Literal["duration", "delay", "lag"]
    bounds: tuple[float, ...] = ()
    has_exemplar: bool = False


class SetByLog(Increment, frozen=True, kw_only=True, gc=False):
    """Set a gauge as of the creation of the newest log.

    The value is that time in seconds if it is None.
    """

    value: float | tuple[str, ...] | None = None


class Histogram(msgspec.Struct, frozen=True, tag="histogram", gc=False):
    """A histogram value; ``counts`` has one non-cumulative count per bound, then one for +Inf."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    micros: int = 0


class LatestValue(msgspec.Struct, frozen=True, tag="reading", gc=False):
    """A gauge value, or the values of its last labels, and the time of the log that set it.

    The time is 0 for gauges of the exporter itself.
    """

    at: int
    value: float | tuple[str, ...]


class FailureStreak(msgspec.Struct, frozen=True, tag="streak", gc=False):
    """The failures since the last success; the result does not depend on the order of arrival.

    Args:
        last_success: Time of the newest success.
        failures: Times of the newest failures since then, oldest first.
        older_failures: Number of older failures since then, of which only the count is kept.
        older_until: Time of the newest of the older failures.
    """

    last_success: int = 0
    failures: tuple[int, ...] = ()
    older_failures: int = 0
    older_until: int = 0


Value: TypeAlias = int | float | Histogram | LatestValue | FailureStreak


class SeriesValue(msgspec.Struct, frozen=True, gc=False):
    """Value of a series, and its creation time in Unix seconds.

    The time is 0 for history, and for what is not stored.
    """

    value: Value
    created: float

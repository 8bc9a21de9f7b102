"""Frozen value types shared by all packages: logs, and series with the changes of their values.

Times are integers in milliseconds since the Unix epoch unless documented otherwise. Durations are
integers in microseconds, so that their sums do not depend on the order in which logs arrive.

The small types are numerous and cannot be part of a reference cycle, so ``gc=False`` keeps them out
of the garbage collector.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

import msgspec

# Statuses of logs that the exporter interprets.
PENDING = "pending"
SUCCESS = "success"
FAILED = "failed"

REJECTED = "rejected"
"""Status of a row that is not counted as a log."""

UNKNOWN = "unknown"
"""Label value of what a log does not say."""

# Generations of the API.
LATE = "late"
ZERNIO = "zernio"

MINUTE_MS = 60_000
DAY_MS = 86_400_000

MAX_CLOCK_SKEW_MS = 300_000
"""Milliseconds by which clocks may differ: a log that is further ahead has a wrong time."""

PAGE_SIZE = 100
"""Logs per page; the most that the API returns."""

PAGE_OVERLAP = 2
"""Minimum number of rows that two pages share, so that a shift between the two reads is noticed."""


class Scope(NamedTuple):
    """One feed of one workspace: the first labels of the exporter's own metrics of a feed."""

    workspace: str
    feed: str


class Deviation(msgspec.Struct, frozen=True, gc=False):
    """A field of a log or of its envelope that differs from the documented schema.

    Args:
        path: Dotted path, such as ``response.errorCode``.
        kind: ``unknown``, ``missing``, ``type`` if the JSON type differs, or ``value`` if the value
            is undocumented.
        type: Actual JSON type of a field that is unknown or has another one.
    """

    path: str
    kind: str
    type: str = ""


class LogKind(msgspec.Struct, frozen=True, gc=False):
    """The fields of a log that decide which series it changes.

    Logs of one kind have the same increments.

    Args:
        duration: Duration in microseconds; 0 in a kind whose logs have durations of their own.
        delay: Time from the schedule of a post to the end of its successful attempt, as the
            duration.
        profile_id: Profile of the account, if the row names one.
        expires_at: Expiry time of the account's token.
        has_link: Whether a published post has a link; None if the log does not say.
        rejection_reason: Reason why the row is not a log that can be counted exactly once; None if
            it is one.
        deviations: Differences from the documented schema.
    """

    status: str
    duration: int | None = None
    delay: int | None = None
    platform: str = UNKNOWN
    action: str = UNKNOWN
    method: str = UNKNOWN
    account_id: str | None = None
    username: str | None = None
    profile_id: str | None = None
    status_code: int | None = None
    error_code: str | None = None
    expires_at: int | None = None
    has_link: bool | None = None
    rejection_reason: str | None = None
    deviations: tuple[Deviation, ...] = ()


class LogEntry(LogKind, frozen=True, kw_only=True, gc=False):
    """A log as returned by a log list, reduced to the fields that are counted.

    Args:
        key: Identity within the feed; for a row without one, a digest of the row, so that it is
            rejected once.
        created: Creation time; None only if the row is rejected.
        attempt: Attempt number of a log of a post.
        is_own: Whether this program caused the log, by a request to the API; such a log is left out
            of every count.
        error: Error message; empty if there is none.
    """

    key: str
    created: int | None = None
    post_id: str | None = None
    attempt: int | None = None
    is_own: bool = False
    error: str = ""

    @property
    def kind(self) -> LogKind:
        return LogKind(
            status=self.status,
            duration=self.duration and 0,
            delay=self.delay and 0,
            platform=self.platform,
            action=self.action,
            method=self.method,
            account_id=self.account_id,
            username=self.username,
            profile_id=self.profile_id,
            status_code=self.status_code,
            error_code=self.error_code,
            expires_at=self.expires_at,
            has_link=self.has_link,
            rejection_reason=self.rejection_reason,
            deviations=self.deviations,
        )


class LogPage(msgspec.Struct, frozen=True, weakref=True, dict=True):
    """One response of a log list, in API order.

    Args:
        total: Number of logs in the whole list; None if not reported.
        has_more: Whether the list continues after this page; None if not reported.
        without_ids: Identical logs are distinguished by an ordinal, which is only correct if the
            page contains all logs of that time.
        statuses: Statuses in which its logs were read before, by key; a missing key is a new log.
            Empty unless a poll has fetched the page.
        skipped: Number of rows that the API cannot deliver, by the key of the log that follows
            them; the key is empty at the end of the page.
    """

    entries: tuple[LogEntry, ...]
    total: int | None = None
    has_more: bool | None = None
    without_ids: bool = False
    statuses: Mapping[str, frozenset[str]] = msgspec.field(default_factory=dict)
    skipped: Mapping[str, int] = msgspec.field(default_factory=dict)

    @cached_property
    def times(self) -> tuple[int, ...]:
        """The creation times of those logs that have one."""
        return tuple([entry.created for entry in self.entries if entry.created is not None])

    @property
    def is_last(self) -> bool:
        """Whether the page is empty, or shorter than requested without an announcement of more."""
        return not self.entries or (len(self.entries) < PAGE_SIZE and self.has_more is not True)

    @property
    def is_within_time(self) -> bool:
        """Whether all its logs have one time, of which there may be more below."""
        is_long = len(self.entries) > PAGE_OVERLAP  # Some lists announce more rows at their end.
        return is_long and not self.is_last and len({entry.created for entry in self.entries}) == 1


Labels: TypeAlias = tuple[str, ...]
"""Label values in the order of the family's label names, workspace first."""

Series: TypeAlias = tuple[str, Labels]
"""Family name and label values that identify a series."""


class Exemplar(msgspec.Struct, frozen=True, gc=False):
    """An exemplar: label pairs of at most 128 characters, a value, and a Unix time in seconds."""

    labels: tuple[tuple[str, str], ...]
    value: float
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
    """Observe values of a histogram, in millionths of the family's unit."""

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
    """Record a failed or successful publishing attempt of an account, a platform or a workspace.

    Args:
        at: Its time; 0 for that of each log.
        spacing: Milliseconds within which several failures count as one.
    """

    at: int = 0
    failed: bool
    spacing: int = 0


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
        spacing: Milliseconds within which several failures count as one.
    """

    last_success: int = 0
    failures: tuple[int, ...] = ()
    spacing: int = 0

    @property
    def length(self) -> int:
        """The number of failures."""
        if not self.spacing:
            return len(self.failures)
        count = 0
        next_time = 0
        for time in self.failures:
            if time >= next_time:
                count += 1
                next_time = time + self.spacing
        return count


Value: TypeAlias = int | float | Histogram | LatestValue | FailureStreak


class SeriesValue(msgspec.Struct, frozen=True, gc=False):
    """Value of a series, and its creation time in Unix seconds.

    The time is 0 for history, and for what is not stored.
    """

    value: Value
    created: float

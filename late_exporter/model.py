"""Frozen value types shared by all packages.

Times are integers in milliseconds since the Unix epoch unless documented otherwise. Durations are integers in
microseconds, so that their sums do not depend on the order in which logs arrive.

The small types are numerous and cannot be part of a reference cycle, so ``gc=False`` keeps them out of the garbage
collector.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import msgspec

from late_exporter.series import Increment, Series, SeriesValue

PENDING, SUCCESS, FAILED = "pending", "success", "failed"
"""Statuses of logs that the exporter interprets."""

REJECTED = "rejected"
"""Status of a row that is not counted as a log."""

VALUE_DEVIATION = "value"
"""Kind of the deviations of values, of which a field may have several."""

UNKNOWN = "unknown"
"""Label value of what a log does not say."""

LATE, ZERNIO = "late", "zernio"
"""Generations of the API."""

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
        kind: ``unknown``, ``missing``, ``type`` if the JSON type differs, or ``value`` if the value is undocumented.
        type: Actual JSON type; empty if the field is missing.
        sample: Excerpt of the value that is safe to log.
    """

    path: str
    kind: str
    type: str = ""
    sample: str = ""


class LogDetail(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The fields of a log that only its event shows; a missing one is empty.

    Args:
        error: Error message.
        url: Address of the published post.
        caption: Beginning of the post's text; always empty unless captions are to be shown.
    """

    log_id: str = ""
    post_id: str = ""
    account_id: str = ""
    username: str = ""
    error: str = ""
    url: str = ""
    caption: str = ""


class LogKind(msgspec.Struct, frozen=True, gc=False):
    """The fields of a log that decide which series it changes; logs of one kind have the same increments.

    Args:
        has_duration: Whether it has a duration.
    """

    status: str
    platform: str
    action: str
    method: str
    account_id: str | None
    username: str | None
    status_code: int | None
    error_code: str | None
    attempt: int | None
    expires_at: int | None
    rejection_reason: str | None
    deviations: tuple[Deviation, ...]
    has_duration: bool


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A log as returned by a log list, reduced to the fields that are counted.

    Args:
        key: Identity within the feed; for a row without one, a digest of the row, so that it is rejected once.
        created: Creation time; None only if the row is rejected.
        duration: Duration in microseconds.
        attempt: Attempt number in millionths, because histograms sum integers.
        expires_at: Expiry time of the account's token.
        rejection_reason: Reason why the row is not a log that can be counted exactly once; None if it is one.
        is_own: Whether this program caused the log, by a request to the API; such a log is left out of every count.
        profile_id: Profile of the log, if the row names one.
        deviations: Differences from the documented schema.
        detail: What the log's event shows besides; None if the log has no event.
    """

    key: str
    status: str
    created: int | None = None
    platform: str = "unknown"
    action: str = "unknown"
    method: str = "unknown"
    post_id: str | None = None
    account_id: str | None = None
    username: str | None = None
    status_code: int | None = None
    error_code: str | None = None
    duration: int | None = None
    attempt: int | None = None
    expires_at: int | None = None
    rejection_reason: str | None = None
    is_own: bool = False
    profile_id: str | None = None
    deviations: tuple[Deviation, ...] = ()
    detail: LogDetail | None = None

    @property
    def kind(self) -> LogKind:
        return LogKind(
            self.status,
            self.platform,
            self.action,
            self.method,
            self.account_id,
            self.username,
            self.status_code,
            self.error_code,
            self.attempt,
            self.expires_at,
            self.rejection_reason,
            self.deviations,
            self.duration is not None,
        )


def creation_times(entries: Iterable[LogEntry]) -> list[int]:
    """Return the creation times of those logs that have one."""
    return [entry.created for entry in entries if entry.created is not None]


class LogPage(msgspec.Struct, frozen=True, weakref=True, dict=True):
    """One response of a log list, in API order.

    Args:
        total: Number of logs in the whole list; None if not reported.
        has_more: Whether the list continues after this page; None if not reported.
        without_ids: Identical logs are distinguished by an ordinal, which is only correct if the page contains all logs
            of that time.
        size: Number of logs that were requested.
    """

    entries: tuple[LogEntry, ...]
    total: int | None = None
    has_more: bool | None = None
    without_ids: bool = False
    size: int = PAGE_SIZE

    @cached_property
    def times(self) -> tuple[int, ...]:
        """The creation times of those logs that have one."""
        return tuple(creation_times(self.entries))

    @cached_property
    def median(self) -> ListPosition | None:
        """The median of the logs that have a time, by time; None if none has."""
        positions = sorted([(entry.created, entry.key) for entry in self.entries if entry.created is not None])
        return ListPosition(*positions[len(positions) // 2]) if positions else None

    @cached_property
    def deviations(self) -> Collection[Deviation]:
        """The ways in which its logs differ from the documentation, each once."""
        return dict.fromkeys([deviation for entry in self.entries for deviation in entry.deviations]).keys()

    @cached_property
    def has_own(self) -> bool:
        """Whether a log is left out because it is a request of this program."""
        return bool([entry for entry in self.entries if entry.is_own])

    def crosses(self, limit: int) -> bool:
        """Return whether the page ends below a time; a single row with a wrong time does not count."""
        times = sorted(self.times)
        return bool(times) and times[min(1, len(times) - 1)] < limit

    @property
    def is_last(self) -> bool:
        """Whether the page is empty, or shorter than requested without an announcement of more."""
        return not self.entries or (len(self.entries) < self.size and self.has_more is not True)

    @property
    def is_within_time(self) -> bool:
        """Whether all its logs have one time, of which there may be more below."""
        is_long = len(self.entries) > PAGE_OVERLAP  # Some lists announce more rows at their end.
        return is_long and not self.is_last and len({entry.created for entry in self.entries}) == 1


class ListPosition(msgspec.Struct, frozen=True, gc=False):
    """Position of a log in a log list."""

    created: int
    key: str


class Gap(msgspec.Struct, frozen=True):
    """An unread range of a log list, from below ``upper`` down to ``lower``.

    Args:
        upper: Last log read above the range.
        lower: Creation time down to which the range is unread; older logs have been read.
        depth: Last known index of ``upper`` in the list; a hint for seeking.
        last_complete_at: Time of the last read without a gap. Logs that left the retention since then are lost.
        failure_count: Number of attempts to read the next page of the range that failed.
    """

    upper: ListPosition
    lower: int
    depth: int
    last_complete_at: int
    failure_count: int = 0


class Coverage(msgspec.Struct, frozen=True):
    """The part of a log list that has been counted: logs since ``retention_floor``, except those in a gap.

    Args:
        retention_floor: Logs created before this time are never counted.
        complete_since: Start of the period without lost logs.
        caught_up_at: API time of the last read that reached the high-water mark; 0 before the first one.
        newest: Newest counted log, the high-water mark.
        gaps: Unread ranges, newest first.
        is_synced: Whether the first sync is complete.
        published_at: API time at which the first sync was complete and the series were first exposed; 0 if unknown.
        generation: API generation of the list.
        is_switched: Whether older logs were counted from another list, or by other keys.
    """

    retention_floor: int
    complete_since: int
    caught_up_at: int = 0
    newest: ListPosition | None = None
    gaps: tuple[Gap, ...] = ()
    is_synced: bool = False
    published_at: int = 0
    generation: str = LATE
    is_switched: bool = False

    @property
    def is_caught_up(self) -> bool:
        """Whether everything down to the retention floor was read."""
        return self.is_synced and not self.gaps


class FeedAccounting(msgspec.Struct, frozen=True, kw_only=True):
    """Redundant counts of a feed in the state; observations are stored or pruned, and all are in the series.

    Args:
        observation_count: Observations ever counted.
        stored_count: Observations whose keys are stored.
        pruned_count: Observations whose keys were deleted because of their age.
        series_values: Value of every series.
    """

    observation_count: int
    stored_count: int
    pruned_count: int
    series_values: Mapping[Series, SeriesValue]


class PendingLog(msgspec.Struct, frozen=True, gc=False):
    """A log whose last observed status is pending."""

    key: str
    created: int
    platform: str
    action: str
    post_id: str | None


class Observation(msgspec.Struct, frozen=True, gc=False):
    """A log in a status, and the increments to apply if the store does not have that status yet.

    Logs of one kind share the tuple of increments, see ``Increment``.

    Args:
        event: Log event as JSON, which the store puts into its outbox if the observation is new; None if it has none.
    """

    entry: LogEntry
    increments: tuple[Increment, ...]
    event: bytes | None = None


class QueuedEvent(NamedTuple):
    """A log event in the outbox.

    Args:
        number: Number in the outbox; events were queued in the order of their numbers.
        body: The event as JSON.
    """

    number: int
    workspace: str
    body: bytes


class Backlog(NamedTuple):
    """The number of events of a workspace in the outbox, and the time at which the oldest of them was queued."""

    event_count: int
    oldest: int


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The content of one transaction.

    Args:
        committed_at: Time of the commit, in Unix seconds.
        now: API time in milliseconds, from which the lag of a log is computed.
        observations: Counted if the store inserts them, ignored if it has them.
        increments: Increments that are always applied.
        series_created_at: Creation time of the series that the batch creates, in Unix seconds; 0 if they are history.
        coverage: New coverage of the feed; None keeps the current one.
        deleted_keys: Keys of pending logs that the API no longer has.
        prune_before: Logs created before this time may be deleted; the coverage's retention floor keeps them from being
            counted again.
        progress: Work that a later run continues, encoded; None keeps what is stored.
    """

    committed_at: float
    now: int = 0
    observations: Sequence[Observation] = ()
    increments: Sequence[Increment] = ()
    series_created_at: float = 0.0
    coverage: Coverage | None = None
    deleted_keys: Sequence[str] = ()
    prune_before: int | None = None
    progress: bytes | None = None


class FeedCommit(NamedTuple):
    """A batch, and the feed of a workspace that it belongs to."""

    scope: Scope
    batch: Batch


class CommitResult(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a transaction.

    Args:
        observations: Observations that were inserted.
        pending_logs: Pending logs of the feed by key; None if unchanged.
    """

    observations: Sequence[Observation]
    series_values: Mapping[Series, SeriesValue]
    pending_logs: Mapping[str, PendingLog] | None
    log_count: int


class FeedState(msgspec.Struct, frozen=True):
    """State of one feed of a workspace.

    Args:
        coverage: None before the first read.
        progress: Work that a later run continues, encoded; empty if there is none.
    """

    coverage: Coverage | None
    pending_logs: Mapping[str, PendingLog]
    log_count: int
    progress: bytes = b""

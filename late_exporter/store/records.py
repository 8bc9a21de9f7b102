"""Records of the state: what the store takes, and what it returns.

Times are integers in milliseconds since the Unix epoch unless documented otherwise. ``gc=False`` as
in ``late_exporter.model``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from late_exporter.health import Failure
from late_exporter.model import LATE, Increment, LogEntry, Scope, Series, SeriesValue


class ListPosition(msgspec.Struct, frozen=True, gc=False):
    """Position of a log in a log list."""

    created: int
    key: str


class Gap(msgspec.Struct, frozen=True):
    """An unread range of a log list, from below ``upper`` down to ``lower``.

    Args:
        upper: Last log read above the range.
        lower: Creation time down to which the range is unread; older logs have been read.
        depth: Index of ``upper`` in the list when it was read, to seek in lists without a filter by
            time.
        last_complete_at: Time of the last read without a gap. Logs that left the retention since
            then are lost.
        failure_count: Number of attempts to read the next page of the range that failed.
    """

    upper: ListPosition
    lower: int
    depth: int
    last_complete_at: int
    failure_count: int = 0


class Coverage(msgspec.Struct, frozen=True):
    """The part of a log list that has been counted.

    These are the logs since ``retention_floor``, except those in a gap.

    Args:
        retention_floor: Logs created before this time are never counted.
        complete_since: Start of the period without lost logs.
        caught_up_at: API time of the last read that reached the high-water mark; 0 before the first
            one.
        newest: Newest counted log, the high-water mark.
        gaps: Unread ranges, newest first.
        is_synced: Whether the first sync is complete.
        published_at: API time at which the first sync was complete and the series were first
            exposed; 0 if unknown.
        generation: API generation of the list.
    """

    retention_floor: int
    complete_since: int
    caught_up_at: int = 0
    newest: ListPosition | None = None
    gaps: tuple[Gap, ...] = ()
    is_synced: bool = False
    published_at: int = 0
    generation: str = LATE

    @property
    def is_caught_up(self) -> bool:
        """Whether everything down to the retention floor was read."""
        return self.is_synced and not self.gaps


class FeedAccounting(msgspec.Struct, frozen=True, kw_only=True):
    """Redundant counts of a feed in the state.

    Observations are stored or pruned, and all are in the series.

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
    """

    entry: LogEntry
    increments: tuple[Increment, ...]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of one feed that are committed together.

    Args:
        scope: The feed, and its workspace.
        now: API time in milliseconds, from which the lag of a log is computed.
        observations: Counted if the store inserts them, ignored if it has them.
        increments: Increments that are always applied.
        series_created_at: Creation time of the series that the batch creates, in Unix seconds by
            the API's clock; 0 if they are history.
        coverage: New coverage of the feed; None keeps the current one.
        deleted_keys: Keys of pending logs that the API no longer has.
        prune_before: Logs created before this time may be deleted; the coverage's retention floor
            keeps them from being counted again.
        progress: Work that a later run continues, encoded; None keeps what is stored.
        failures: Last failed attempts to publish; None keeps those that are stored.
    """

    scope: Scope
    now: int = 0
    observations: Sequence[Observation] = ()
    increments: Sequence[Increment] = ()
    series_created_at: float = 0.0
    coverage: Coverage | None = None
    deleted_keys: Sequence[str] = ()
    prune_before: int | None = None
    progress: bytes | None = None
    failures: tuple[Failure, ...] | None = None


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
        failures: Last failed attempts to publish, newest first.
        healed_counts: Logs by counter that it had missed when the state was loaded.
    """

    coverage: Coverage | None
    pending_logs: Mapping[str, PendingLog]
    log_count: int
    progress: bytes = b""
    failures: tuple[Failure, ...] = ()
    healed_counts: Mapping[str, int] = {}


@lru_cache(256)
def with_status(statuses: frozenset[str] | None, status: str) -> frozenset[str]:
    """Return the statuses of a log, None for a new one, with one more.

    It is the same object for all logs.
    """
    return frozenset((status,)) if statuses is None else statuses | {status}

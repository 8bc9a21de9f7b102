"""The frozen value types that every other module speaks in.

Times are integers in milliseconds since the Unix epoch unless a name says otherwise, durations are integers in
microseconds: sums of integers do not depend on the order in which logs arrive.

None of the small values can be part of a cycle, and there are many of them: they are kept out of the garbage collector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

__all__ = [
    "DAY_MS",
    "PAGE_SIZE",
    "PENDING",
    "AttemptOutcome",
    "Batch",
    "CommitResult",
    "Coverage",
    "Deviation",
    "Exemplar",
    "FailureStreak",
    "Feed",
    "FeedAccounting",
    "FeedState",
    "Gap",
    "Histogram",
    "IncCounter",
    "Increment",
    "KnownLogs",
    "Labels",
    "LatestValue",
    "ListPosition",
    "LogEntry",
    "LogPage",
    "LogView",
    "Observation",
    "ObserveHistogram",
    "PendingLog",
    "RawLog",
    "Scope",
    "Series",
    "SeriesValue",
    "SetLatest",
    "Value",
]

PENDING = "pending"
DAY_MS = 86_400_000

PAGE_SIZE = 100
"""Logs per page; the most that the API returns."""

Labels: TypeAlias = tuple[str, ...]
"""Label values in the order of the family's label names; the first one is the workspace."""

Series: TypeAlias = tuple[str, Labels]
"""A family's name and the label values that pick one of its series."""


class Scope(msgspec.Struct, frozen=True):
    """One log list of one API key."""

    workspace: str
    feed: str


class Deviation(msgspec.Struct, frozen=True, gc=False):
    """A field of a log, or around the logs, that is not as documented.

    Args:
        path: Where it is, as in ``response.errorCode``.
        kind: ``unknown``, ``missing``, or ``type`` where it has another one.
        type: The JSON type found; empty where it is missing.
        sample: What may be shown of a value found.
    """

    path: str
    kind: str
    type: str = ""
    sample: str = ""


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of a log list, reduced to what can be counted.

    ``created`` is None where the row has no usable time. A row without a usable key is ``rejection_reason`` with the reason;
    its key is then a fingerprint, so that it too is counted once. ``fingerprint`` is what a log has in common with itself in
    the other generation of the API, and ``status_fingerprint`` what it has so in one status. ``deviations`` are what of it is not
    as documented.
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
    fingerprint: str = ""
    status_fingerprint: str = ""
    deviations: tuple[Deviation, ...] = ()


RawLog: TypeAlias = Mapping[str, Any]
"""A log as the API sent it, with all its fields."""


class LogView(msgspec.Struct, frozen=True, kw_only=True):
    """A log for display; a field that is missing or has another type than documented is empty.

    Args:
        key: Key of its LogEntry.
        row: The log as the API sent it.
        previous_status: Status in which it was shown before.
        time: ``created`` in ISO 8601, or the text of the API if that is not a time.
        duration: Duration in microseconds.
        error: Error message.
    """

    key: str
    row: RawLog
    platform: str
    action: str
    status: str
    previous_status: str = ""
    log_id: str = ""
    post_id: str = ""
    created: int | None = None
    time: str = ""
    account_id: str = ""
    username: str = ""
    attempt: int | None = None
    duration: int | None = None
    status_code: str = ""
    error_code: str = ""
    error: str = ""
    url: str = ""
    endpoint: str = ""
    caption: str = ""
    method: str = ""


class LogPage(msgspec.Struct, frozen=True, gc=False):
    """One answer of a log list, in the order of the API.

    ``total`` and ``has_more`` are what the answer says of the whole list, None where it does not. ``without_ids``: logs that
    are alike are told apart by their number, so that a page has to show all that share a time, or tells too few.
    """

    entries: tuple[LogEntry, ...]
    total: int | None = None
    has_more: bool | None = None
    without_ids: bool = False


class ListPosition(msgspec.Struct, frozen=True, gc=False):
    """A place in a log list."""

    created: int
    key: str


class Gap(msgspec.Struct, frozen=True, rename={"last_complete_at": "since"}):
    """A stretch of a log list that has not been read: below ``upper``, down to ``lower``.

    Args:
        upper: The last log read before the stretch.
        lower: Logs at or before this time have been read.
        depth: Where in the list ``upper`` stood when last seen; a hint.
        last_complete_at: When the list was last read without a gap: logs older than the retention by then are lost.
    """

    upper: ListPosition
    lower: int
    depth: int
    last_complete_at: int


_COVERAGE_KEYS = {
    "retention_floor": "horizon",
    "complete_since": "start",
    "caught_up_at": "checked",
    "newest": "head",
    "is_synced": "synced",
    "published_at": "shown",
}
"""Field names of released state files."""


class Coverage(msgspec.Struct, frozen=True, rename=_COVERAGE_KEYS):
    """What of a log list has been counted: everything from ``retention_floor`` on that is in none of the gaps.

    Args:
        retention_floor: Logs created before this are out of scope and never counted.
        complete_since: Since when the record is whole.
        caught_up_at: API time of the last read that reached known ground; 0 before the first.
        newest: The newest log counted.
        gaps: Newest first.
        is_synced: The first sync is complete.
        published_at: API time at which it was, before which nothing of the feed was shown; 0: not known.
        generation: Of the API, whose logs are known by their keys.
    """

    retention_floor: int
    complete_since: int
    caught_up_at: int = 0
    newest: ListPosition | None = None
    gaps: tuple[Gap, ...] = ()
    is_synced: bool = False
    published_at: int = 0
    generation: str = "late"


class Exemplar(msgspec.Struct, frozen=True, gc=False):
    """What an observation points to: label pairs, at most 128 characters together, and a Unix time in seconds."""

    labels: tuple[tuple[str, str], ...]
    timestamp: float


class Increment(msgspec.Struct, frozen=True, gc=False):
    """What one sighting does to one series.

    Args:
        family: Name of the family.
        labels: Label values.
        once_per_log: Applies to the first sighting of a log only, whatever its later statuses.
    """

    family: str
    labels: Labels
    once_per_log: bool = False


class IncCounter(Increment, frozen=True, kw_only=True, gc=False):
    """Adds to a counter; an amount of 0 only brings the series into being."""

    amount: float = 1


class ObserveHistogram(Increment, frozen=True, kw_only=True, gc=False):
    """Adds one observation to a histogram; ``micros`` is its value in millionths of the family's unit."""

    micros: int
    bounds: tuple[float, ...] = ()
    exemplar: Exemplar | None = None


class SetLatest(Increment, frozen=True, kw_only=True, gc=False):
    """Sets a reading, unless a newer one is there."""

    at: int
    value: float | str


class AttemptOutcome(Increment, frozen=True, kw_only=True, gc=False):
    """An attempt of an account that failed or succeeded at a time."""

    at: int
    failed: bool


class Histogram(msgspec.Struct, frozen=True, tag="histogram", gc=False):
    """``counts`` has one number a bound and a last one for +Inf; none of them is cumulative."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    micros: int = 0


class LatestValue(msgspec.Struct, frozen=True, tag="reading", gc=False):
    """A value that the newest log gives."""

    at: int
    value: float | str


_STREAK_KEYS = {"last_success": "success", "older_failures": "folded", "older_until": "folded_until"}
"""Field names of released state files."""


class FailureStreak(msgspec.Struct, frozen=True, tag="streak", gc=False, rename=_STREAK_KEYS):
    """The failures since the last success, in whatever order they are learnt.

    Args:
        last_success: Time of the newest success.
        failures: Times of later failures, oldest first.
        older_failures: How many still older failures were folded into this number.
        older_until: Time of the newest of those.
    """

    last_success: int = 0
    failures: tuple[int, ...] = ()
    older_failures: int = 0
    older_until: int = 0


Value: TypeAlias = int | float | Histogram | LatestValue | FailureStreak


class SeriesValue(msgspec.Struct, frozen=True, gc=False):
    """A series' value, and the Unix time in seconds at which it began."""

    value: Value
    created: float


class FeedAccounting(msgspec.Struct, frozen=True, kw_only=True):
    """What the books of the state itself say of a feed, all of one moment: what was counted is held or forgotten.

    Args:
        observation_count: Sightings that were ever counted; kept beside the totals, which are to say the same.
        stored_count: Sightings whose keys are held.
        pruned_count: Sightings whose keys were let go of because of their age.
        series_values: The total of every series.
    """

    observation_count: int
    stored_count: int
    pruned_count: int
    series_values: Mapping[Series, SeriesValue]


class PendingLog(msgspec.Struct, frozen=True, gc=False):
    """A log that was pending when last seen."""

    key: str
    created: int
    platform: str
    action: str
    post_id: str | None


class Observation(msgspec.Struct, frozen=True, gc=False):
    """A log in a status, and what it does to the series if the store has not seen it so before."""

    entry: LogEntry
    increments: tuple[Increment, ...]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction makes durable.

    Args:
        observations: Counted where the store really inserts them.
        increments: Counted in any case.
        coverage: Replaces the scope's coverage; None leaves it.
        deleted_keys: Keys of pending logs that no longer exist.
        prune_before: Logs created before this may be forgotten; the coverage's horizon keeps them from coming back.
        committed_at: Unix time in seconds, the birth of new series.
    """

    committed_at: float
    observations: Sequence[Observation] = ()
    increments: Sequence[Increment] = ()
    coverage: Coverage | None = None
    deleted_keys: Sequence[str] = ()
    prune_before: int | None = None


class CommitResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction did.

    Args:
        observations: Those really inserted.
        series_values: The new total of every series that was moved.
        pending_logs: The feed's pending logs where these have changed, else None.
        log_count: How many logs are held of the feed.
    """

    observations: Sequence[Observation]
    series_values: Mapping[Series, SeriesValue]
    pending_logs: Mapping[str, PendingLog] | None
    log_count: int


class KnownLogs(msgspec.Struct, frozen=True):
    """What the state knows of some logs, and of the whole list.

    Args:
        statuses: The statuses in which each log was counted; a log that is missing here is new.
        stored_count: How many logs the state holds that the API may still show.
        expiring_count: How many of them are about to expire, so that the API may or may not show them.
    """

    statuses: Mapping[str, frozenset[str]]
    stored_count: int = 0
    expiring_count: int = 0


class FeedState(msgspec.Struct, frozen=True):
    """What the state keeps of one feed of a workspace; a coverage of None: it was never read."""

    coverage: Coverage | None
    pending_logs: Mapping[str, PendingLog]
    log_count: int


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """One log list of the API: where it is, how it reads, what it counts.

    Args:
        name: Value of the label ``feed``.
        path: Path below the base URL.
        retention: How long the API keeps a log, in milliseconds.
        parse: Body of an answer to a page; raises BadPayload.
        view: Callback that returns a log for display, given the log as the API sent it and its entry.
        project: An entry to its increments, workspace first in the labels.
        post_path: Path of the logs of one post, with ``{postId}``; None where there are none.
        counter: The family that counts every sighting once.
        generation: Of the API, by its name.
        query: What picks the list where several share a path.
        has_pending: Logs may be pending and change their status.
        supports_time_filter: The list can be asked for the logs of a time.
        counter_labels: Labels and values of those series of the counter that are of this feed, where others share it.
        subset_counters: Families that count those sightings which ``counter`` has under one value of a label: label and value.
    """

    name: str
    path: str
    retention: int
    parse: Callable[[bytes], LogPage]
    view: Callable[[RawLog, LogEntry], LogView]
    project: Callable[[str, LogEntry], Iterable[Increment]]
    counter: str
    subset_counters: Mapping[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    post_path: str | None = None
    generation: str = "late"
    query: Mapping[str, str] = msgspec.field(default_factory=dict)
    has_pending: bool = False
    supports_time_filter: bool = False
    counter_labels: Mapping[str, str] = msgspec.field(default_factory=dict)

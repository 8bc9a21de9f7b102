"""The frozen value types that every other module speaks in.

Times are integers in milliseconds since the Unix epoch unless a name says otherwise, durations are integers in
microseconds: sums of integers do not depend on the order in which logs arrive.

None of the small values can be part of a cycle, and there are many of them: they are kept out of the garbage collector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

__all__ = [
    "PENDING",
    "Add",
    "Batch",
    "Committed",
    "Coverage",
    "Deviation",
    "Entry",
    "Exemplar",
    "Feed",
    "FeedState",
    "Gap",
    "Histogram",
    "Increment",
    "Known",
    "Labels",
    "Mark",
    "Observe",
    "Page",
    "Pending",
    "Reading",
    "Result",
    "Scope",
    "Series",
    "Sighting",
    "Streak",
    "Take",
    "Tally",
    "Total",
    "Value",
]

PENDING = "pending"

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


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of a log list, reduced to what can be counted.

    ``created`` is None where the row has no usable time. A row without a usable key is ``rejected`` with the reason;
    its key is then a fingerprint, so that it too is counted once. ``mark`` is what a log has in common with itself in
    the other generation of the API, and ``detail`` what it has so in one status. ``deviations`` are what of it is not
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
    expires: int | None = None
    rejected: str | None = None
    mark: str = ""
    detail: str = ""
    deviations: tuple[Deviation, ...] = ()


class Page(msgspec.Struct, frozen=True, gc=False):
    """One answer of a log list, in the order of the API.

    ``total`` and ``more`` are what the answer says of the whole list, None where it does not. ``anonymous``: logs that
    are alike are told apart by their number, so that a page has to show all that share a time, or tells too few.
    """

    entries: tuple[Entry, ...]
    total: int | None = None
    more: bool | None = None
    anonymous: bool = False


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A place in a log list."""

    created: int
    key: str


class Gap(msgspec.Struct, frozen=True):
    """A stretch of a log list that has not been read: below ``upper``, down to ``lower``.

    Args:
        upper: The last log read before the stretch.
        lower: Logs at or before this time have been read.
        depth: Where in the list ``upper`` stood when last seen; a hint.
        since: When the list was last read without a gap: logs older than the retention by then are lost.
    """

    upper: Mark
    lower: int
    depth: int
    since: int


class Coverage(msgspec.Struct, frozen=True):
    """What of a log list has been counted: everything from ``horizon`` on that is in none of the gaps.

    Args:
        horizon: Logs created before this are out of scope and never counted.
        start: Since when the record is whole.
        checked: API time of the last read that reached known ground; 0 before the first.
        head: The newest log counted.
        gaps: Newest first.
        synced: The first sync is complete.
        shown: API time at which it was, before which nothing of the feed was shown; 0: not known.
        generation: Of the API, whose logs are known by their keys.
    """

    horizon: int
    start: int
    checked: int = 0
    head: Mark | None = None
    gaps: tuple[Gap, ...] = ()
    synced: bool = False
    shown: int = 0
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
        once: Applies to the first sighting of a log only, whatever its later statuses.
    """

    family: str
    labels: Labels
    once: bool = False


class Add(Increment, frozen=True, kw_only=True, gc=False):
    """Adds to a counter; an amount of 0 only brings the series into being."""

    amount: float = 1


class Observe(Increment, frozen=True, kw_only=True, gc=False):
    """Adds one observation to a histogram; ``micros`` is its value in millionths of the family's unit."""

    micros: int
    bounds: tuple[float, ...] = ()
    exemplar: Exemplar | None = None


class Take(Increment, frozen=True, kw_only=True, gc=False):
    """Sets a reading, unless a newer one is there."""

    at: int
    value: float | str


class Result(Increment, frozen=True, kw_only=True, gc=False):
    """An attempt of an account that failed or succeeded at a time."""

    at: int
    failed: bool


class Histogram(msgspec.Struct, frozen=True, tag="histogram", gc=False):
    """``counts`` has one number a bound and a last one for +Inf; none of them is cumulative."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    micros: int = 0


class Reading(msgspec.Struct, frozen=True, tag="reading", gc=False):
    """A value that the newest log gives."""

    at: int
    value: float | str


class Streak(msgspec.Struct, frozen=True, tag="streak", gc=False):
    """The failures since the last success, in whatever order they are learnt.

    Args:
        success: Time of the newest success.
        failures: Times of later failures, oldest first.
        folded: How many still older failures were folded into this number.
        folded_until: Time of the newest of those.
    """

    success: int = 0
    failures: tuple[int, ...] = ()
    folded: int = 0
    folded_until: int = 0


Value: TypeAlias = int | float | Histogram | Reading | Streak


class Total(msgspec.Struct, frozen=True, gc=False):
    """A series' value, and the Unix time in seconds at which it began."""

    value: Value
    created: float


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What the books of the state itself say of a feed, all of one moment: what was counted is held or forgotten.

    Args:
        counted: Sightings that were ever counted; kept beside the totals, which are to say the same.
        held: Sightings whose keys are held.
        forgotten: Sightings whose keys were let go of because of their age.
        totals: The total of every series.
    """

    counted: int
    held: int
    forgotten: int
    totals: Mapping[Series, Total]


class Pending(msgspec.Struct, frozen=True, gc=False):
    """A log that was pending when last seen."""

    key: str
    created: int
    platform: str
    action: str
    post_id: str | None


class Sighting(msgspec.Struct, frozen=True, gc=False):
    """A log in a status, and what it does to the series if the store has not seen it so before."""

    entry: Entry
    increments: tuple[Increment, ...]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction makes durable.

    Args:
        sightings: Counted where the store really inserts them.
        increments: Counted in any case.
        coverage: Replaces the scope's coverage; None leaves it.
        gone: Keys of pending logs that no longer exist.
        prune: Logs created before this may be forgotten; the coverage's horizon keeps them from coming back.
        at: Unix time in seconds, the birth of new series.
    """

    at: float
    sightings: Sequence[Sighting] = ()
    increments: Sequence[Increment] = ()
    coverage: Coverage | None = None
    gone: Sequence[str] = ()
    prune: int | None = None


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction did.

    Args:
        sightings: Those really inserted.
        totals: The new total of every series that was moved.
        pendings: The feed's pending logs where these have changed, else None.
        logs: How many logs are held of the feed.
    """

    sightings: Sequence[Sighting]
    totals: Mapping[Series, Total]
    pendings: Mapping[str, Pending] | None
    logs: int


class Known(msgspec.Struct, frozen=True):
    """What the state knows of some logs, and of the whole list.

    Args:
        statuses: The statuses in which each log was counted; a log that is missing here is new.
        held: How many logs the state holds that the API may still show.
        fading: How many of them are about to expire, so that the API may or may not show them.
    """

    statuses: Mapping[str, frozenset[str]]
    held: int = 0
    fading: int = 0


class FeedState(msgspec.Struct, frozen=True):
    """What the state keeps of one feed of a workspace; a coverage of None: it was never read."""

    coverage: Coverage | None
    pendings: Mapping[str, Pending]
    logs: int


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """One log list of the API: where it is, how it reads, what it counts.

    Args:
        name: Value of the label ``feed``.
        path: Path below the base URL.
        retention: How long the API keeps a log, in milliseconds.
        parse: Body of an answer to a page; raises BadPayload.
        project: An entry to its increments, workspace first in the labels.
        post_path: Path of the logs of one post, with ``{postId}``; None where there are none.
        counter: The family that counts every sighting once.
        generation: Of the API, by its name.
        query: What picks the list where several share a path.
        settles: Logs may be pending and change their status.
        windowed: The list can be asked for the logs of a time.
        only: Labels and values of those series of the counter that are of this feed, where others share it.
        shares: Families that count those sightings which ``counter`` has under one value of a label: label and value.
    """

    name: str
    path: str
    retention: int
    parse: Callable[[bytes], Page]
    project: Callable[[str, Entry], Iterable[Increment]]
    counter: str
    shares: Mapping[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    post_path: str | None = None
    generation: str = "late"
    query: Mapping[str, str] = msgspec.field(default_factory=dict)
    settles: bool = False
    windowed: bool = False
    only: Mapping[str, str] = msgspec.field(default_factory=dict)

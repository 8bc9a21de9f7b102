"""The interface of a feed, and a log as commands show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from late_exporter.model import LATE, Increment, LogEntry, LogKind, LogPage

RawLog: TypeAlias = Mapping[str, Any]
"""A log as the API sent it, with all its fields."""


class LogView(msgspec.Struct, frozen=True, kw_only=True):
    """A log for display; a field that is missing or has another type than documented is empty.

    Args:
        key: Key of its LogEntry.
        row: The log as the API sent it.
        time: ``created`` in ISO 8601.
        duration: Duration in microseconds.
        error: Error message.
        is_own: Whether this program caused the log.
    """

    key: str
    row: RawLog
    platform: str
    action: str
    status: str
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
    scheduled_for: str = ""
    method: str = ""
    is_own: bool = False
    workspace: str = ""


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """A log list of the API: its endpoint, its decoder, and its metrics.

    Args:
        name: Value of the label ``feed``.
        path: Path below the base URL.
        retention: Time that the API keeps a log, in milliseconds.
        parse: Decode a response body; raises BadPayload.
        view: Return a log for display, given the row and its entry.
        project: Return the increments of the logs of a kind; the labels start with the workspace.
        counter: Family that counts every observation once.
        subset_counters: Families that count the observations with some label values of ``counter``,
            by label.
        post_path: Path of the logs of one post, with ``{postId}``; None if the API has none.
        generation: Name of the API generation.
        query: Query parameters that select the feed among several at ``path``.
        supports_time_filter: Whether the list can be filtered by creation time.
        counter_labels: Labels that select the feed's series among those of ``counter``.
        number_entries: Number identical logs again if their pages are joined; None if all logs have
            ids.
    """

    name: str
    path: str
    retention: int
    parse: Callable[[bytes], LogPage]
    view: Callable[[RawLog, LogEntry], LogView]
    project: Callable[[str, LogKind], Iterable[Increment]]
    counter: str
    subset_counters: Mapping[str, Mapping[str, Sequence[str]]] = msgspec.field(default_factory=dict)
    post_path: str | None = None
    generation: str = LATE
    query: Mapping[str, str] = msgspec.field(default_factory=dict)
    supports_time_filter: bool = False
    counter_labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    number_entries: Callable[[Sequence[LogEntry]], Sequence[LogEntry]] | None = None

"""In-memory log lists that behave like the API's: newest first, updated in place, expired by age."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]

LogRow: TypeAlias = JsonObject
"""Log in the format of the API."""

Entry: TypeAlias = tuple[float, int, LogRow]
"""Creation time, insertion number and row. The number is unique, so rows are never compared."""

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
UNDATED = -inf


def timestamp(time: float, *, whole_seconds: bool = False) -> str:
    """Return a Unix time in the format of the API, with milliseconds or in whole seconds."""
    text = datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds" if whole_seconds else "milliseconds")
    return text.removesuffix("+00:00") + "Z"


def creation_time(row: LogRow) -> float:
    """Return the row's ``createdAt`` or ``created_at`` as a Unix time, or minus infinity if it has none."""
    try:
        time = datetime.fromisoformat(row["createdAt"] if "createdAt" in row else row["created_at"])
    except (KeyError, TypeError, ValueError):
        return UNDATED
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def post_id(row: LogRow) -> str | None:
    """Return the id of the row's post. The API embeds the post in ``postId``."""
    post = row.get("postId")
    value = post.get("_id") if isinstance(post, dict) else post
    return value if isinstance(value, str) else None


def log_status(row: LogRow) -> Any:
    """Return the status of a row. That of a connection log follows from its event."""
    event = row.get("eventType")
    if not isinstance(event, str):
        return row.get("status")
    return "failed" if event.endswith("_failed") else "success"


class LogList:
    """Log list.

    Rows may lack a usable ``_id`` or ``createdAt``. Rows without a time sort last, match every time range and never
    expire.
    """

    def __init__(self, rows: Sequence[LogRow] = ()) -> None:
        self._entries: list[Entry] = []  # oldest first, so that a new row is appended
        self._by_id: dict[str, Entry] = {}
        self._insert_count = 0
        for row in rows:
            self.insert(row)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def rows(self) -> Sequence[LogRow]:
        """Rows, newest first."""
        return [row for _, _, row in reversed(self._entries)]

    def get(self, log_id: str) -> LogRow | None:
        return self._by_id[log_id][2] if log_id in self._by_id else None

    def rows_of_post(self, wanted_id: str) -> list[LogRow]:
        """Return the rows of a post, newest first."""
        return [row for row in self.rows if post_id(row) == wanted_id]

    def insert(self, row: LogRow) -> None:
        """Insert a row by its time, ahead of rows with the same time."""
        self._insert_count += 1
        entry = creation_time(row), self._insert_count, row
        insort(self._entries, entry)
        self._by_id[str(row.get("_id"))] = entry

    def update(self, log_id: str, **changes: Any) -> bool:
        """Update fields of a row in place. Return False if there is no such row."""
        row = self.get(log_id)
        if row is not None:
            row.update(changes)
        return row is not None

    def delete(self, log_id: str) -> bool:
        """Delete a row. Return False if there is no such row."""
        entry = self._by_id.pop(log_id, None)
        if entry is not None:
            del self._entries[bisect_left(self._entries, entry)]
        return entry is not None

    def expire(self, before: float) -> int:
        """Delete the rows created before a Unix time, like a TTL index. Return their number."""
        oldest = slice(bisect_left(self._entries, (UNDATED, inf)), bisect_left(self._entries, (before,)))
        expired = self._entries[oldest]
        del self._entries[oldest]
        for _, _, row in expired:
            self._by_id.pop(str(row.get("_id")), None)
        return len(expired)

    def page(
        self,
        skip: int,
        limit: int,
        predicate: Callable[[LogRow], bool] | None = None,
        *,
        since: float = UNDATED,
        until: float = inf,
    ) -> tuple[list[LogRow], int]:
        """Return a page of the matching rows, newest first, and the number of all matching rows.

        ``since`` and ``until`` are the Unix times of the oldest and newest matching rows.
        """
        entries, first_dated = self._entries, bisect_left(self._entries, (UNDATED, inf))
        dated = slice(max(first_dated, bisect_left(entries, (since,))), bisect_left(entries, (until, inf)))
        matches = [*entries[:first_dated], *entries[dated]][::-1]
        if predicate is not None:
            matches = [entry for entry in matches if predicate(entry[2])]
        return [row for _, _, row in matches[skip : skip + limit]], len(matches)


class StaticLogs:
    """Source of logs, whose lists change only by their own methods; a world is one whose processes change them.

    ``activity`` has the lists of the types that only generation ``zernio`` has.
    """

    def __init__(self, publishing: LogList | None = None, connections: LogList | None = None) -> None:
        self.publishing = LogList() if publishing is None else publishing
        self.connections = LogList() if connections is None else connections
        self.activity: Mapping[str, LogList] = {}

    def advance(self, now: float) -> None:
        """Advance to a Unix time."""

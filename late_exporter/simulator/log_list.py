"""In-memory log lists that behave like the API's: newest first, updated in place."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from math import inf
from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]

LogRow: TypeAlias = JsonObject
"""Log in the format of the API."""

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
UNDATED = -inf


def timestamp(time: float) -> str:
    """Return a Unix time in the format of the API."""
    text = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def parse_time(text: str) -> float:
    """Return a time of the API, or of a request, as a Unix time."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def creation_time(row: LogRow) -> float:
    """Return the creation of a row as a Unix time; minus infinity if it has none."""
    try:
        return parse_time(row["createdAt"] if "createdAt" in row else row["created_at"])
    except (KeyError, TypeError, ValueError):
        return UNDATED


def post_id(row: LogRow) -> str | None:
    """Return the id of the row's post. The API embeds the post in ``postId``."""
    post = row.get("postId")
    value = post.get("_id") if isinstance(post, dict) else post
    return value if isinstance(value, str) else None


class LogList:
    """Log list.

    Rows may lack a usable ``_id`` or ``createdAt``. Rows without a time sort last and match every
    time range.
    """

    def __init__(self, rows: Sequence[LogRow] = ()) -> None:
        # Creation time, unique insertion number and row of each; the oldest first, so that a new
        # row is appended.
        self._entries: list[tuple[float, int, LogRow]] = []
        self._numbers = count()
        for row in rows:
            self.insert(row)

    @property
    def rows(self) -> Sequence[LogRow]:
        """Rows, newest first."""
        return [row for _, _, row in reversed(self._entries)]

    def insert(self, row: LogRow) -> None:
        """Insert a row by its time, ahead of rows with the same time."""
        insort(self._entries, (creation_time(row), next(self._numbers), row))

    def delete(self, *log_ids: str) -> None:
        """Delete the rows with these ids."""
        self._entries = [entry for entry in self._entries if entry[2].get("_id") not in log_ids]

    def select(
        self, since: float, until: float = inf, predicate: Callable[[LogRow], bool] | None = None
    ) -> Sequence[LogRow]:
        """Return the matching rows created between two Unix times, both included, newest first."""
        first_dated = bisect_left(self._entries, (UNDATED, inf))
        first = max(first_dated, bisect_left(self._entries, (since,)))
        end = bisect_left(self._entries, (until, inf))
        selected = [*self._entries[:first_dated], *self._entries[first:end]]
        rows = [row for _, _, row in reversed(selected)]
        return rows if predicate is None else list(filter(predicate, rows))


class StaticLogs:
    """Source of logs, whose lists change only by their own methods.

    A world is a source whose processes change them. ``lists`` has the list of each log type, of
    which all but two exist in generation ``zernio`` only.
    """

    def __init__(self, **lists: LogList) -> None:
        self.lists = {"publishing": LogList(), "connections": LogList(), **lists}
        self.publishing = self.lists["publishing"]
        self.connections = self.lists["connections"]

    def advance(self, now: float) -> None:
        """Advance to a Unix time."""

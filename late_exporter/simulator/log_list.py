"""A log list as the API keeps it: newest first, changed in place, swept from its far end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from math import inf
from typing import Any, TypeAlias

__all__ = ["Archive", "Row", "creation", "listed", "post_id"]

Row: TypeAlias = dict[str, Any]
"""A log as the API serves it."""

Key: TypeAlias = tuple[float, int]
"""Creation time and number of insertion: unique, so that every list breaks ties the same way."""

UNDATED = -inf


def creation(row: Row) -> float:
    """The row's ``createdAt``, or ``created_at``, as a Unix time, minus infinity where it has none."""
    try:
        moment = datetime.fromisoformat(row["createdAt"] if "createdAt" in row else row["created_at"])
    except (KeyError, TypeError, ValueError):
        return UNDATED
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def post_id(row: Row) -> str | None:
    """The id of the row's post, which the list serves populated."""
    post = row.get("postId")
    found = post.get("_id") if isinstance(post, dict) else post
    return found if isinstance(found, str) else None


def listed(rows: Sequence[Row], total: int, *, limit: int, skip: int) -> Row:
    """A page of rows as the API wraps it."""
    more = skip + limit < total
    pagination = {"total": total, "limit": limit, "skip": skip, "pages": -(-total // limit), "hasMore": more}
    return {"logs": rows, "pagination": pagination}


class _Line:
    """Rows in order of their keys, oldest first: the newest row is appended."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.rows: list[Row] = []

    def insert(self, key: Key, row: Row) -> None:
        at = bisect_left(self.keys, key)
        self.keys.insert(at, key)
        self.rows.insert(at, row)

    def remove(self, key: Key) -> None:
        at = bisect_left(self.keys, key)
        del self.keys[at], self.rows[at]

    def cut(self, before: float) -> list[Row]:
        """Drop the dated rows created before a time."""
        stale = slice(self._undated(), self._first(before))
        rows = self.rows[stale]
        del self.keys[stale], self.rows[stale]
        return rows

    def places(self, since: float, until: float) -> tuple[range, range]:
        """Where the rows created between two times stand, newest first, and then those that have no time."""
        undated = self._undated()
        beyond = bisect_left(self.keys, (until, inf))
        return range(beyond - 1, self._first(since) - 1, -1), range(undated - 1, -1, -1)

    def _undated(self) -> int:
        return bisect_left(self.keys, (UNDATED, inf))

    def _first(self, since: float) -> int:
        return max(self._undated(), bisect_left(self.keys, (since, -inf)))


class Archive:
    """One stored log list.

    Rows need neither a usable ``_id`` nor a usable ``createdAt``: those without a time sort last, are in every window
    and never expire.
    """

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self._all = _Line()
        self._indexes: dict[tuple[str, str], _Line] = {}
        self._found: dict[str, tuple[Key, Row]] = {}
        self._inserted = 0
        for row in rows:
            self.insert(row)

    def __len__(self) -> int:
        return len(self._all.rows)

    @property
    def rows(self) -> Sequence[Row]:
        """Every row, newest first."""
        return self._all.rows[::-1]

    def insert(self, row: Row) -> None:
        """Store a row at the place its ``createdAt`` says, before rows of the same time."""
        self._inserted += 1
        key = creation(row), self._inserted
        self._all.insert(key, row)
        self._index(key, row)
        if isinstance(row.get("_id"), str):
            self._found[row["_id"]] = key, row

    def find(self, log_id: str) -> Row | None:
        """The row of an id."""
        _, row = self._found.get(log_id, (None, None))
        return row

    def of_post(self, post: str) -> list[Row]:
        """The rows of a post, newest first."""
        line = self._indexes.get(("post", post))
        return line.rows[::-1] if line else []

    def update(self, log_id: str, **changes: Any) -> bool:
        """Change fields of a row where it stands; false where there is no such row."""
        if log_id not in self._found:
            return False
        key, row = self._found[log_id]
        self._unindex(key, row)
        row.update(changes)
        self._index(key, row)
        return True

    def delete(self, log_id: str) -> bool:
        """Remove a row; false where there is no such row."""
        if log_id not in self._found:
            return False
        key, row = self._found.pop(log_id)
        self._all.remove(key)
        self._unindex(key, row)
        return True

    def expire(self, before: float) -> int:
        """Drop the rows created before a Unix time, as a TTL index does; returns how many."""
        rows = self._all.cut(before)
        for name in {name for row in rows for name in _names(row)}:
            self._indexes[name].cut(before)
            self._forget_empty(name)
        for row in rows:
            if isinstance(row.get("_id"), str):
                self._found.pop(row["_id"], None)
        return len(rows)

    def page(
        self,
        skip: int,
        limit: int,
        keep: Callable[[Row], bool] | None = None,
        *,
        since: float = UNDATED,
        until: float = inf,
        status: str | None = None,
    ) -> tuple[list[Row], int]:
        """A page of the rows that match, newest first, and how many match.

        Args:
            skip: How many matching rows to leave out.
            limit: How many rows to give at most.
            keep: Says whether a row matches; None takes all.
            since: Unix time from which on rows match.
            until: Unix time up to which rows match.
            status: The status in which rows match; it has an index.
        """
        line = self._all if status is None else self._indexes.get(("status", status), _Line())
        dated, undated = line.places(since, until)
        if keep is not None:
            matches = [row for place in chain(dated, undated) if keep(row := line.rows[place])]
            return matches[skip : skip + limit], len(matches)
        first, last = (max(0, place - len(dated)) for place in (skip, skip + limit))
        places = chain(dated[skip : skip + limit], undated[first:last])
        return [line.rows[place] for place in places], len(dated) + len(undated)

    def _index(self, key: Key, row: Row) -> None:
        for name in _names(row):
            self._indexes.setdefault(name, _Line()).insert(key, row)

    def _unindex(self, key: Key, row: Row) -> None:
        for name in _names(row):
            self._indexes[name].remove(key)
            self._forget_empty(name)

    def _forget_empty(self, name: tuple[str, str]) -> None:
        if not self._indexes[name].rows:
            del self._indexes[name]


def _names(row: Row) -> Iterator[tuple[str, str]]:
    if isinstance(status := row.get("status"), str):
        yield "status", status
    if post := post_id(row):
        yield "post", post

"""In-memory log list that behaves like the API's: newest first, updated in place, expired by age."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from math import inf
from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]

LogRow: TypeAlias = JsonObject
"""Log in the format of the API."""

SortKey: TypeAlias = tuple[float, int]
"""Creation time and insertion number. The number makes the order of equal times the same in every index."""

UNDATED = -inf


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


def nested_object(row: LogRow, name: str) -> LogRow:
    """Return an object in a row, empty if it is absent or something else."""
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def page_document(rows: Sequence[LogRow], total: int, *, limit: int, skip: int) -> JsonObject:
    """Return the response document of a page of rows."""
    has_more = skip + limit < total
    pagination = {"total": total, "limit": limit, "skip": skip, "pages": -(-total // limit), "hasMore": has_more}
    return {"logs": rows, "pagination": pagination}


class SortedRows:
    """Rows in ascending order of their keys, so that a new row is appended."""

    def __init__(self) -> None:
        self.keys: list[SortKey] = []
        self.rows: list[LogRow] = []

    def insert(self, key: SortKey, row: LogRow) -> None:
        is_newest = not self.keys or self.keys[-1] < key
        position = len(self.keys) if is_newest else bisect_left(self.keys, key)
        self.keys.insert(position, key)
        self.rows.insert(position, row)

    def remove(self, key: SortKey) -> None:
        position = bisect_left(self.keys, key)
        del self.keys[position], self.rows[position]

    def remove_before(self, before: float) -> list[LogRow]:
        """Remove and return the dated rows created before a Unix time."""
        expired = slice(self._undated_count(), self._first_since(before))
        rows = self.rows[expired]
        del self.keys[expired], self.rows[expired]
        return rows

    def ranges(self, since: float, until: float) -> tuple[range, range]:
        """Return the positions of the rows between two times, newest first, and of the rows without a time."""
        undated_count = self._undated_count()
        end = bisect_left(self.keys, (until, inf))
        return range(end - 1, self._first_since(since) - 1, -1), range(undated_count - 1, -1, -1)

    def _undated_count(self) -> int:
        return bisect_left(self.keys, (UNDATED, inf))

    def _first_since(self, since: float) -> int:
        return max(self._undated_count(), bisect_left(self.keys, (since, -inf)))


class LogList:
    """Log list with indexes by id, post and status.

    Rows may lack a usable ``_id`` or ``createdAt``. Rows without a time sort last, match every time range and never
    expire.
    """

    def __init__(self, rows: Sequence[LogRow] = ()) -> None:
        self._sorted_rows = SortedRows()
        self._indexes: dict[tuple[str, str], SortedRows] = {}
        self._by_id: dict[str, tuple[SortKey, LogRow]] = {}
        self._insert_count = 0
        for row in rows:
            self.insert(row)

    def __len__(self) -> int:
        return len(self._sorted_rows.rows)

    @property
    def rows(self) -> Sequence[LogRow]:
        """Rows, newest first."""
        return self._sorted_rows.rows[::-1]

    def insert(self, row: LogRow) -> None:
        """Insert a row by its ``createdAt``, ahead of rows with the same time."""
        self._insert_count += 1
        key = creation_time(row), self._insert_count
        self._sorted_rows.insert(key, row)
        self._index(key, row)
        if isinstance(row.get("_id"), str):
            self._by_id[row["_id"]] = key, row

    def get(self, log_id: str) -> LogRow | None:
        _, row = self._by_id.get(log_id, (None, None))
        return row

    def rows_of_post(self, post_id: str) -> list[LogRow]:
        """Return the rows of a post, newest first."""
        index = self._indexes.get(("post", post_id))
        return index.rows[::-1] if index else []

    def update(self, log_id: str, **changes: Any) -> bool:
        """Update fields of a row in place. Return False if there is no such row."""
        if log_id not in self._by_id:
            return False
        key, row = self._by_id[log_id]
        self._unindex(key, row)
        row.update(changes)
        self._index(key, row)
        return True

    def delete(self, log_id: str) -> bool:
        """Delete a row. Return False if there is no such row."""
        if log_id not in self._by_id:
            return False
        key, row = self._by_id.pop(log_id)
        self._sorted_rows.remove(key)
        self._unindex(key, row)
        return True

    def expire(self, before: float) -> int:
        """Delete the rows created before a Unix time, like a TTL index. Return their number."""
        rows = self._sorted_rows.remove_before(before)
        for name in {name for row in rows for name in _index_names(row)}:
            self._indexes[name].remove_before(before)
            self._drop_empty_index(name)
        for row in rows:
            if isinstance(row.get("_id"), str):
                self._by_id.pop(row["_id"], None)
        return len(rows)

    def page(
        self,
        skip: int,
        limit: int,
        predicate: Callable[[LogRow], bool] | None = None,
        *,
        since: float = UNDATED,
        until: float = inf,
        status: str | None = None,
    ) -> tuple[list[LogRow], int]:
        """Return a page of the matching rows, newest first, and the number of all matching rows.

        ``since`` and ``until`` are the Unix times of the oldest and newest matching rows. ``status`` is looked up in an
        index, which costs less than a predicate.
        """
        index = self._sorted_rows if status is None else self._indexes.get(("status", status), SortedRows())
        dated, undated = index.ranges(since, until)
        if predicate is not None:
            matches = [row for place in chain(dated, undated) if predicate(row := index.rows[place])]
            return matches[skip : skip + limit], len(matches)
        first, last = (max(0, place - len(dated)) for place in (skip, skip + limit))
        positions = chain(dated[skip : skip + limit], undated[first:last])
        return [index.rows[place] for place in positions], len(dated) + len(undated)

    def _index(self, key: SortKey, row: LogRow) -> None:
        for name in _index_names(row):
            if name not in self._indexes:
                self._indexes[name] = SortedRows()
            self._indexes[name].insert(key, row)

    def _unindex(self, key: SortKey, row: LogRow) -> None:
        for name in _index_names(row):
            self._indexes[name].remove(key)
            self._drop_empty_index(name)

    def _drop_empty_index(self, name: tuple[str, str]) -> None:
        if not self._indexes[name].rows:
            del self._indexes[name]


def _index_names(row: LogRow) -> Iterator[tuple[str, str]]:
    if isinstance(status := row.get("status"), str):
        yield "status", status
    if post := post_id(row):
        yield "post", post

"""The observations of one feed in a SQLite state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from sqlite3 import Connection
from typing import NamedTuple

import msgspec

from late_exporter.store import queries

# CROSS JOIN keeps the order: a search in the table for each prefix.
ROWS_AT = (
    "SELECT o.key, o.status FROM json_each(?2) AS prefix CROSS JOIN observation o"
    " WHERE o.scope = ?1 AND o.key >= prefix.value AND o.key < prefix.value || '~'"
)


class SqliteRows(NamedTuple):
    """The observations of one feed."""

    connection: Connection
    scope_id: int

    def stored_statuses(self, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        return queries.stored_statuses(self.connection, self.scope_id, keys)

    def rows_at(self, prefixes: AbstractSet[str]) -> Iterator[tuple[str, str]]:
        yield from self.connection.execute(ROWS_AT, (self.scope_id, msgspec.json.encode(sorted(prefixes)).decode()))

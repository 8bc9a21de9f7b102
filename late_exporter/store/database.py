"""The common part of both databases: transactions, in which the same statements run.

A statement has ``?`` for each parameter. Only types and the end of a table definition differ
between the databases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

SECONDS = 5.0
"""Longest time of a transaction; a process that is stopped waits for it."""

LONG_SECONDS = 600.0
"""Longest time of a transaction that reads everything."""

VALUES_PER_STATEMENT = 100
"""Values in a list of a statement.

There are always as many, because databases and drivers keep each different statement.
"""


class Result(Protocol):
    """The result of a statement."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Queries(Protocol):
    """A transaction that reads."""

    def execute(self, statement: str, parameters: Sequence[Any] = ..., /) -> Result: ...


class Transaction(Queries, Protocol):
    """A transaction; PostgreSQL gets what does not wait for a result in one round trip."""

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> object: ...


class Database(Protocol):
    """One database.

    Attributes:
        name: Path of the file, or URL without password, for messages.
        types: The words of the schema that differ between databases.
    """

    name: str
    types: Mapping[str, str]

    def connect(self) -> None:
        """Open the state for an exporter.

        Raises:
            StoreInUse: Another process has the file open.
            StoreError: The database cannot be used.
        """

    def lock_state(self, *, is_shared: bool = False) -> None:
        """Exclude other processes, or those that do not share the state; raise StoreInUse."""

    def end_other_sessions(self, transaction: Transaction) -> None:
        """End the sessions that share the state.

        No other can begin before the transaction has ended.
        """

    def attach(self) -> None:
        """Open the state beside an exporter that may be running."""

    def transaction(self, *, seconds: float | None = None) -> AbstractContextManager[Transaction]:
        """Begin a transaction, which the end of the block commits durably; raise StoreError."""

    def reading(self, *, seconds: float | None = None) -> AbstractContextManager[Queries]:
        """Run queries, each of which sees what is committed."""

    def snapshot(self) -> AbstractContextManager[Queries]:
        """Begin a read-only transaction of its own that sees one state.

        Rows are read as they are needed.
        """

    def has_state(self, queries: Queries) -> bool:
        """Return whether the tables exist; raise StoreError if the database cannot have them."""

    def size(self, queries: Queries) -> int:
        """Return the size of the state in bytes."""

    def damage(self, queries: Queries) -> Iterator[str]:
        """Yield what the database itself finds damaged."""

    def is_in_use(self) -> bool:
        """Return whether an exporter has the state open."""

    def backup(self, target: Path) -> int:
        """Copy the state to a new file; return its size in bytes."""

    def close(self) -> None: ...


def select_in(
    queries: Queries, statement: str, values: Sequence[Any], *parameters: Any
) -> Iterator[Any]:
    """Run a query that contains ``IN {values}`` for all values.

    Return the rows, which are not read yet.
    """
    text = statement.replace("{values}", f"({', '.join('?' * VALUES_PER_STATEMENT)})")
    cursors = []
    for start in range(0, len(values), VALUES_PER_STATEMENT):
        part = values[start : start + VALUES_PER_STATEMENT]
        padding = [None] * (VALUES_PER_STATEMENT - len(part))  # equals nothing
        cursors.append(queries.execute(text, [*parameters, *part, *padding]))
    return chain.from_iterable(cursors)

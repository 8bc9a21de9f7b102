"""Copy workspaces from one state to another, as a stream of rows, in one transaction of the target."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec

from late_exporter.errors import StoreError
from late_exporter.series import Labels

Row: TypeAlias = Sequence[Any]


class Table(NamedTuple):
    """A table, which every backend has under a name of its own, perhaps with further columns."""

    columns: Sequence[str]
    order: str


TABLES: Mapping[str, Table] = {
    "scope": Table(
        (
            *("id", "workspace", "feed", "coverage", "progress", "logs", "observations", "pruned", "commits"),
            "restored",
        ),
        order="id",
    ),
    "observation": Table(("scope", "key", "status", "created"), order="scope, key, status"),
    "pending": Table(("scope", "key", "created", "platform", "action", "post_id"), order="scope, key"),
    "series": Table(("family", "labels", "value", "created"), order="family, labels"),
    "event": Table(("id", "scope", "queued", "body"), order="id"),
}


class RowSource(Protocol):
    """A state whose rows can be read."""

    @property
    def name(self) -> str:
        """Path of the file, or URL of the database without its password."""

    @property
    def workspaces(self) -> Sequence[str]:
        """Names of the workspaces in the state, in order."""

    def rows(self, table: str, workspaces: Collection[str] | None = None) -> Iterator[Row]:
        """Yield the rows of a table, or those of some workspaces, in its order: texts, numbers, and bytes of JSON."""


class RowTarget(RowSource, Protocol):
    """A state within a transaction that writes to it."""

    def last_id(self, table: str) -> int:
        """Return the largest id of a table, 0 if it has no rows."""

    def insert(self, table: str, rows: Iterable[Row]) -> None:
        """Insert rows in the order of the table."""


def copy_rows(source: RowSource, target: RowTarget, workspace: str | None = None, new_name: str | None = None) -> int:
    """Copy all workspaces, or one, and compare the copy row by row; return the number of rows.

    Args:
        source: State to read.
        target: State that must have none of the workspaces.
        workspace: Name of the only workspace to copy.
        new_name: Name that it gets in the target.

    Raises:
        StoreError: A workspace is missing in the source or exists in the target, or a row of the copy differs. The
            transaction of the target must be rolled back.
    """
    names = source.workspaces
    if workspace is not None:
        if workspace not in names:
            raise StoreError(
                f"{source.name}: there is no workspace {workspace}; there are {', '.join(names) or 'none'}"
            )
        names = [workspace]
    new_names = names if new_name is None else [new_name]
    for name in sorted({*new_names} & {*target.workspaces}):
        raise StoreError(
            f"{target.name}: there is a workspace {name} already, and nothing was copied; copy one with --workspace"
            " and --as, or into another state"
        )
    convert = _converter(target.last_id("scope"), target.last_id("event"), new_name)
    for table in TABLES:
        target.insert(table, (convert(table, row) for row in source.rows(table, names)))
    count = 0
    for table in TABLES:
        expected_rows = (convert(table, row) for row in source.rows(table, names))
        for expected, actual in zip_longest(expected_rows, target.rows(table, new_names)):
            if expected != actual:
                raise StoreError(f"{target.name}: the copy of {table} differs from {source.name}; nothing was copied")
            count += 1
    return count


def _converter(last_scope: int, last_event: int, new_name: str | None) -> Callable[[str, Row], Row]:
    """Return a function that gives a row the ids, and the name of the workspace, that it has in the target."""

    def convert(table: str, row: Row) -> Row:
        if table == "scope":
            scope_id, workspace, *rest = row
            return (scope_id + last_scope, new_name or workspace, *rest)
        if table == "event":
            event_id, scope_id, *rest = row
            return (event_id + last_event, scope_id + last_scope, *rest)
        if table == "series":
            family, labels, *rest = row
            return (family, labels if new_name is None else _rename(labels, new_name), *rest)
        scope_id, *rest = row
        return (scope_id + last_scope, *rest)

    return convert


def _rename(labels: str, workspace: str) -> str:
    return msgspec.json.encode((workspace, *msgspec.json.decode(labels, type=Labels)[1:])).decode()

"""The format of an exported state: lines of JSON, the same for every backend.

The rows are those of the tables of the SQLite state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from late_exporter.errors import InvalidExport, StoreError

FORMAT = "late-exporter state"

END = json.dumps({"end": True})

TEXT_COLUMNS = ("workspace", "feed", "family", "key", "status", "platform", "action", "value", "body")
OPTIONAL_COLUMNS = ("coverage", "progress", "post_id")
NUMBER_COLUMNS = ("created", "minute", "queued", "logs")
MAX_INTEGER = 2**62
"""Bound of integers: ids are added to those of the state, and the sum must be less than 2**63."""


def head(version: int) -> str:
    """Return the first line, with the schema version of the rows."""
    return json.dumps({"format": FORMAT, "schema": version})


def line(table: str, columns: Iterable[str], row: Sequence[Any]) -> str:
    values = [value.decode() if isinstance(value, bytes) else value for value in row]
    return json.dumps({"table": table, **dict(zip(columns, values, strict=True))}, ensure_ascii=False)


def read_version(lines: Iterator[str], newest: int) -> int:
    """Read the first line and return the schema version of the rows; raise InvalidExport if it is not supported."""
    row = _parse(next(lines, ""), 1)
    version = row.get("schema")
    if row.get("format") != FORMAT or not isinstance(version, int) or not 1 <= version <= newest:
        raise InvalidExport(f"line 1: not an export of this or an earlier version of late-exporter: {row}")
    return version


def read_rows(lines: Iterator[str], columns: Mapping[str, AbstractSet[str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the table and the columns of each row; raise InvalidExport if a line is no row or the end is missing."""
    count, is_complete = 0, False
    for number, text in enumerate(lines, 2):
        row = _parse(text, number)
        if is_complete or row.get("end") is True:
            is_complete = True
            continue
        table = row.pop("table", None)
        if not isinstance(table, str) or table not in columns or row.keys() != columns[table] or not _is_usable(row):
            raise InvalidExport(f"line {number}: not a row of a state")
        count += 1
        yield table, row
    if not is_complete:
        raise InvalidExport(f"the export is truncated after {count:,} rows")


def _is_usable(row: Mapping[str, Any]) -> bool:
    """Return whether a state can store the values, names are texts, ids are numbers, and labels can be decoded."""
    try:
        msgspec.json.decode(row.get("labels", "[]"), type=list[str])
    except (TypeError, ValueError):
        return False
    return (
        all(map(_is_storable, row.values()))
        and all(isinstance(row.get(name, ""), str) for name in TEXT_COLUMNS)
        and all(isinstance(row.get(name), str | None) for name in OPTIONAL_COLUMNS)
        and all(isinstance(row.get(name, 0), int) for name in ("id", "scope", "commits"))
        and all(isinstance(row.get(name), int | float | None) for name in NUMBER_COLUMNS)
    )


def _is_storable(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) < MAX_INTEGER
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)  # UTF-8 has no surrogates
    return value is None or isinstance(value, float)


class Digest:
    """A digest of rows that depends neither on their order, nor on that of their columns, nor on ids.

    Args:
        schema: Schema version of the rows.

    Attributes:
        workspaces: Names of the workspaces of the rows.
        row_count: Number of rows.
    """

    def __init__(self, schema: int) -> None:
        self.schema = schema
        self.workspaces: set[str] = set()
        self.row_count = 0
        self._sum = 0
        self._scopes: dict[int, Sequence[str]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and (self._sum, self.row_count) == (other._sum, other.row_count)

    __hash__ = None  # type: ignore[assignment] # it changes

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Add a row; that of a scope comes before those that refer to it."""
        if table == "scope":
            self._scopes[row["id"]] = row["workspace"], row["feed"]
            self.workspaces.add(row["workspace"])
            row = {**row, "id": None}
        elif "scope" in row:
            row = {**row, "scope": self._scopes.get(row["scope"]), "id": None}
        else:
            self.workspaces.add(workspace_of(row["labels"]))
        canonical = json.dumps([table, row], sort_keys=True).encode()
        self._sum += int.from_bytes(hashlib.blake2b(canonical, digest_size=16).digest())
        self.row_count += 1


def read_digest(lines: Iterable[str]) -> Digest:
    """Return the digest of an export of this version."""
    rows = map(json.loads, lines)
    digest = Digest(next(rows)["schema"])
    for row in rows:
        if "table" in row:
            digest.add(row.pop("table"), row)
    return digest


def workspace_of(labels: str) -> str:
    """Return the workspace of a series from its encoded labels; empty if it has none."""
    values = json.loads(labels)
    return str(values[0]) if values else ""


def require_new(workspace: str, existing: AbstractSet[str]) -> None:
    """Raise StoreError if a workspace to import exists already."""
    if workspace in existing:
        raise StoreError(
            f"there is a workspace {workspace} already, and nothing was imported; rename or drop it before"
        )


def _parse(text: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise InvalidExport(f"line {number}: not a JSON object")
    return row

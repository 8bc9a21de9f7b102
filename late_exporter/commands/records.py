"""Print logs, posts and counts in the format that was asked for."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from late_exporter.commands.output import json_line, write_line
from late_exporter.commands.tables import Row, Table, clean

FORMULA = re.compile(r"[=+-]|@(?![\w.-]*$)")
"""Beginning of a text that a spreadsheet would run; an @ before a name, as in @acme.corp, is only a text."""

RecordT = TypeVar("RecordT")


def print_records(
    records: Iterable[RecordT],
    format: str,  # noqa: A002 - the name of the flag
    table: Table,
    row: Callable[[RecordT], Row],
    fields: Callable[[RecordT], Mapping[str, Any]],
    *,
    is_first: bool = True,
) -> None:
    """Print records as rows of a table, or their fields, which are the same for all records, as lines of CSV or JSON.

    ``is_first`` is whether no record was printed before, so that CSV needs a heading; the table
    knows that itself.
    """
    if format == "csv":
        rows = [*map(fields, records)]
        lines = [*rows[: int(is_first)], *(each.values() for each in rows)]
        csv.writer(sys.stdout, lineterminator="\n").writerows(
            map(_csv_cell, line) for line in lines
        )
        return
    for line in (
        table.lines(map(row, records))
        if format == "table"
        else map(json_line, map(fields, records))
    ):
        write_line(line)


def _csv_cell(value: object) -> object:
    """Return a value for CSV; texts have no secrets, no control characters, and nothing to run."""
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if FORMULA.match(text) else text

"""Print logs, posts and counts in the format that was asked for."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from late_exporter.commands.output import json_line, write_line
from late_exporter.commands.tables import Row, Table, clean

FORMULA = re.compile(r"[=+-]|@(?![\w.-]*$)")
"""Beginning of a text that a spreadsheet would run; an @ before a name, as in @acme.corp, is only a text."""

RecordT = TypeVar("RecordT")


class RecordPrinter(Generic[RecordT]):
    """Prints records as the rows of a table, or as lines of CSV or JSON.

    Args:
        format: ``table``, ``csv``, or a format that has a JSON object per line.
        table: The table, which keeps its columns from batch to batch.
        row: Return the row of a record in the table.
        fields: Return the fields of a record in CSV or JSON, which are the same for all records.
    """

    def __init__(
        self,
        format: str,  # noqa: A002 - the name of the flag
        table: Table,
        row: Callable[[RecordT], Row],
        fields: Callable[[RecordT], Mapping[str, Any]],
    ) -> None:
        self._format = format
        self._table, self._row, self._fields = table, row, fields
        self._has_heading = False

    def print(self, records: Iterable[RecordT]) -> None:
        for line in self._lines(records):
            write_line(line)

    def _lines(self, records: Iterable[RecordT]) -> Iterator[str]:
        if self._format == "table":
            yield from self._table.lines(map(self._row, records))
            return
        for fields in map(self._fields, records):
            if self._format == "csv":
                if not self._has_heading:
                    yield csv_line(fields)
                yield csv_line(fields.values())
            else:
                yield json_line(fields)
            self._has_heading = True


def csv_line(values: Iterable[object]) -> str:
    """Return values as a line of CSV; texts have no secrets, no control characters, and nothing to run."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(map(_csv_cell, values))
    return line.getvalue()


def _csv_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if FORMULA.match(text) else text

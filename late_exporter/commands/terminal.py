"""Format logs as tables, CSV and JSON lines; text from the API never controls the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, Self, TextIO
from unicodedata import combining, east_asian_width

from late_exporter.feeds.feed import LogView
from late_exporter.log import escape, redact

MAX_DEPTH = 64  # levels of a log that JSON output shows; Python's own limit is not far above
MAX_COLUMN_WIDTH = 40  # a longer cell is shown whole, but does not widen its column in other rows
INDENT = 4
MIN_WIDTH = 20

RESET, BOLD, RED, GREEN, YELLOW, BLUE, DIM = (f"\x1b[{number}m" for number in (0, 1, 31, 32, 33, 34, 2))
STATUS_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "success": GREEN,
        "published": GREEN,
        "failed": RED,
        "pending": YELLOW,
        "paused": YELLOW,
        "skipped": DIM,
        "cancelled": DIM,
    }
)

TONE_COLOURS: Mapping[str, str] = MappingProxyType({"bad": RED, "warn": YELLOW, "busy": BLUE, "idle": DIM})
"""Colours of the tones of the status page; what is well has none."""

JOINERS = ("\u200c", "\u200d")
"""Invisible characters that emoji and scripts need, and that control nothing."""

FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20", *JOINERS)
"""First characters that make a spreadsheet read a cell as a formula, full-width forms and invisible ones included."""


class Terminal(NamedTuple):
    """Width and colours of the output; no width for a file or a pipe."""

    width: int | None = None
    colour: bool = False

    @classmethod
    def detect(cls, stream: TextIO, environ: Mapping[str, str]) -> Self:
        """Return what a stream supports; NO_COLOR and a dumb terminal switch colours off."""
        if not stream.isatty():
            return cls()
        colour = not environ.get("NO_COLOR") and environ.get("TERM") not in (None, "", "dumb")
        return cls(shutil.get_terminal_size().columns, colour)

    def coloured(self, text: str, status: str) -> str:
        colour = STATUS_COLOURS.get(status, "")
        return f"{colour}{text}{RESET}" if self.colour and colour else text

    def toned(self, text: str, tone: str) -> str:
        colour = TONE_COLOURS.get(tone, "")
        return f"{colour}{text}{RESET}" if self.colour and colour else text

    def bold(self, text: str) -> str:
        return f"{BOLD}{text}{RESET}" if self.colour else text


class Column(NamedTuple):
    """A column of a table.

    Args:
        value: Callback that returns the cell of a log.
        is_status: Whether cells have the colour of the log's status.
    """

    title: str
    value: Callable[[LogView], str]
    align_right: bool = False
    is_status: bool = False


class LogFormatter(Protocol):
    """Formats logs as lines, batch by batch."""

    def lines(self, logs: Iterable[LogView]) -> Iterator[str]:
        """Yield the lines of some logs, with a heading before the first of all."""


class TableFormatter:
    """Formats logs in aligned columns, of which the last may be long; folds rows if the terminal is too narrow."""

    def __init__(self, columns: Sequence[Column], terminal: Terminal) -> None:
        self._columns = columns
        self._terminal = terminal
        self._widths = [len(column.title) for column in columns]
        self._has_heading = False

    def lines(self, logs: Iterable[LogView]) -> Iterator[str]:
        """Yield the lines of some logs; columns widen with later logs."""
        rows = [(log, [clean(column.value(log)) or "-" for column in self._columns]) for log in logs]
        for _, cells in rows:
            widths = (min(_display_width(cell), MAX_COLUMN_WIDTH) for cell in cells)
            self._widths = list(map(max, self._widths, widths))
        folds = self._folds()
        if rows and not self._has_heading:
            self._has_heading = True
            yield self._terminal.bold(self._line([column.title for column in self._columns], folds[0]))
        for log, cells in rows:
            yield self._line(cells, folds[0], log.status)
            yield from self._continuation(cells, folds[1:], log.status)

    def _folds(self) -> list[list[int]]:
        """Return the indexes of the columns in the first line of a row, and in its further lines."""
        width, indexes = self._terminal.width, list(range(len(self._columns)))
        if width is None or sum(self._widths) + 2 * (len(indexes) - 1) <= width:
            return [indexes]
        folds: list[list[int]] = [[]]
        line_width = 0
        for index in indexes[:-1]:
            if folds[-1] and line_width + self._widths[index] > width:
                folds.append([])
                line_width = INDENT
            folds[-1].append(index)
            line_width += self._widths[index] + 2
        return [*folds, indexes[-1:]]

    def _line(self, cells: Sequence[str], indexes: Sequence[int], status: str = "") -> str:
        return "  ".join(self._cell(cells[index], index, status) for index in indexes).rstrip()

    def _cell(self, cell: str, index: int, status: str) -> str:
        column, padding = self._columns[index], " " * (self._widths[index] - _display_width(cell))
        text = self._terminal.coloured(cell, status) if column.is_status else cell
        return padding + text if column.align_right else text + padding

    def _continuation(self, cells: Sequence[str], folds: Sequence[Sequence[int]], status: str) -> Iterator[str]:
        for indexes in folds[:-1]:
            yield " " * INDENT + self._line(cells, indexes, status)
        width = max((self._terminal.width or 0) - INDENT, MIN_WIDTH)
        for (index,) in folds[-1:]:
            text = "" if cells[index] == "-" else cells[index]
            for line in textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False):
                yield " " * INDENT + line


def format_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], terminal: Terminal, *, tones: Sequence[str] = ()
) -> Iterator[str]:
    """Yield rows of texts in columns below their titles; columns whose title ends with a > are aligned right.

    ``tones`` are the colours of the rows, as names of TONE_COLOURS.
    """
    cells = [[title.rstrip(">") for title in titles], *([clean(cell) for cell in row] for row in rows)]
    widths = [max(map(_display_width, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        padded = []
        for title, cell, width in zip(titles, row, widths, strict=True):
            padding = " " * (width - _display_width(cell))
            padded.append(padding + cell if title.endswith(">") else cell + padding)
        line = "  ".join(padded).rstrip()
        if number:
            yield terminal.toned(line, tones[number - 1] if tones else "")
        else:
            yield terminal.bold(line)


class CsvFormatter:
    """Formats logs as comma-separated values for spreadsheets; an apostrophe defuses formulas."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._has_heading = False

    def lines(self, logs: Iterable[LogView]) -> Iterator[str]:
        for log in logs:
            if not self._has_heading:
                self._has_heading = True
                yield csv_line(column.title for column in self._columns)
            yield csv_line(escape_formula(clean(column.value(log))) for column in self._columns)


class JsonFormatter:
    """Formats each log as one line of JSON, with all that the API sent."""

    def lines(self, logs: Iterable[LogView]) -> Iterator[str]:
        return (json_line(log.row) for log in logs)


def json_line(value: object) -> str:
    """Return a value as one line of JSON without secrets; control characters are escaped."""
    return escape(json.dumps(_serializable(value), ensure_ascii=False, allow_nan=False))


def _serializable(value: object, depth: int = 0) -> Any:
    if depth == MAX_DEPTH:
        return None
    match value:
        case str():
            return redact(value)
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {redact(str(name)): _serializable(member, depth + 1) for name, member in value.items()}
        case list() | tuple():
            return [_serializable(member, depth + 1) for member in value]
        case _:
            return value


def clean(text: str) -> str:
    """Return a text from the API as one printable line without secrets; joiners of emoji and scripts are kept."""
    parts = re.split(f"([{''.join(JOINERS)}])", redact(" ".join(text.split())))
    return "".join(part if part in JOINERS else escape(part) for part in parts)


def _display_width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) or char in JOINERS else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def escape_formula(cell: str) -> str:
    """Return a cell of CSV that no spreadsheet reads as a formula."""
    return f"'{cell}" if cell.startswith(FORMULA_PREFIXES) else cell


def csv_line(cells: Iterable[str]) -> str:
    """Return cells as one line of CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()

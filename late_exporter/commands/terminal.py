"""Logs written for terminals, files and programs; what strangers wrote steers none of them."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, Self, TextIO
from unicodedata import combining, east_asian_width

from late_exporter.commands.logview import LogView
from late_exporter.log import escape, redact

__all__ = [
    "Column",
    "CsvFormatter",
    "JsonFormatter",
    "LogFormatter",
    "TableFormatter",
    "Terminal",
    "clean",
    "duration",
    "explanation",
    "json_line",
]

MAX_DEPTH = 64
"""Levels of a row that JSON shows; Python's own limits are not far above."""

MAX_COLUMN_WIDTH = 40
"""A longer one is shown whole, but does not push the next columns of other rows aside."""

INDENT = 4
MIN_WIDTH = 20

RESET, BOLD, RED, GREEN, YELLOW, DIM = (f"\x1b[{number}m" for number in (0, 1, 31, 32, 33, 2))
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

FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet take a cell for a formula, in full width too."""


class Terminal(NamedTuple):
    """Where text goes to: a terminal of some width, or None for a file or a pipe."""

    width: int | None = None
    colour: bool = False

    @classmethod
    def detect(cls, stream: TextIO, environ: Mapping[str, str]) -> Self:
        """What a stream is; colours are for terminals that have them and people who want them."""
        if not stream.isatty():
            return cls()
        colour = not environ.get("NO_COLOR") and environ.get("TERM") not in (None, "", "dumb")
        return cls(shutil.get_terminal_size().columns, colour)

    def coloured(self, text: str, status: str) -> str:
        """The text in the colour of a status, where there are colours."""
        tone = STATUS_COLOURS.get(status, "")
        return f"{tone}{text}{RESET}" if self.colour and tone else text

    def bold(self, text: str) -> str:
        """The text in bold letters, where there are any."""
        return f"{BOLD}{text}{RESET}" if self.colour else text


class Column(NamedTuple):
    """A column of a table."""

    title: str
    value: Callable[[LogView], str]
    align_right: bool = False
    is_status: bool = False


class LogFormatter(Protocol):
    """Writes logs as lines, as they come."""

    def lines(self, logs: Iterable[LogView]) -> Iterator[str]:
        """The lines of some logs, with a head before the first of all."""


class TableFormatter:
    """Aligned columns; a row takes several lines where a terminal is too narrow for it.

    Args:
        columns: The last one may be long.
        screen: Where it is shown.
    """

    def __init__(self, columns: Sequence[Column], screen: Terminal) -> None:
        self._columns = columns
        self._screen = screen
        self._widths = [len(column.title) for column in columns]
        self._begun = False

    def lines(self, logs: Iterable[LogView]) -> Iterator[str]:
        """The lines of some logs; columns grow as wider cells come."""
        rows = [(log, [clean(column.value(log)) or "-" for column in self._columns]) for log in logs]
        for _, cells in rows:
            widths = (min(_width(cell), MAX_COLUMN_WIDTH) for cell in cells)
            self._widths = list(map(max, self._widths, widths))
        folds = self._folds()
        if rows and not self._begun:
            self._begun = True
            yield self._screen.bold(self._line([column.title for column in self._columns], folds[0]))
        for log, cells in rows:
            yield self._line(cells, folds[0], log.status)
            yield from self._rest(cells, folds[1:], log.status)

    def _folds(self) -> list[list[int]]:
        """Which columns stand in a row's first line, and which in the next ones."""
        width, numbers = self._screen.width, list(range(len(self._columns)))
        if width is None or sum(self._widths) + 2 * (len(numbers) - 1) <= width:
            return [numbers]
        folds: list[list[int]] = [[]]
        taken = 0
        for number in numbers[:-1]:
            if folds[-1] and taken + self._widths[number] > width:
                folds.append([])
                taken = INDENT
            folds[-1].append(number)
            taken += self._widths[number] + 2
        return [*folds, numbers[-1:]]

    def _line(self, cells: Sequence[str], numbers: Sequence[int], status: str = "") -> str:
        return "  ".join(self._cell(cells[number], number, status) for number in numbers).rstrip()

    def _cell(self, cell: str, number: int, status: str) -> str:
        column, space = self._columns[number], " " * (self._widths[number] - _width(cell))
        painted = self._screen.coloured(cell, status) if column.is_status else cell
        return space + painted if column.align_right else painted + space

    def _rest(self, cells: Sequence[str], folds: Sequence[Sequence[int]], status: str) -> Iterator[str]:
        for numbers in folds[:-1]:
            yield " " * INDENT + self._line(cells, numbers, status)
        width = max((self._screen.width or 0) - INDENT, MIN_WIDTH)
        for (number,) in folds[-1:]:
            told = "" if cells[number] == "-" else cells[number]
            for line in textwrap.wrap(told, width, break_long_words=False, break_on_hyphens=False):
                yield " " * INDENT + line


class CsvFormatter:
    """Comma-separated values for spreadsheets: a cell that would be a formula gets an apostrophe before it."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._begun = False

    def lines(self, logs: Iterable[LogView]) -> Iterator[str]:
        """The lines of some logs."""
        for log in logs:
            if not self._begun:
                self._begun = True
                yield _csv_line(column.title for column in self._columns)
            yield _csv_line(_escape_formula(clean(column.value(log))) for column in self._columns)


class JsonFormatter:
    """One object a line: the logs as the API sent them."""

    def lines(self, logs: Iterable[LogView]) -> Iterator[str]:
        """The lines of some logs."""
        return (json_line(log.row) for log in logs)


def json_line(value: object) -> str:
    """JSON in one line, the same values and no secret; what could steer a terminal is written as escapes."""
    return escape(json.dumps(_writable(value), ensure_ascii=False, allow_nan=False))


def _writable(value: object, depth: int = 0) -> Any:
    """The value without secrets, and without what JSON has no word for."""
    if depth == MAX_DEPTH:
        return None
    match value:
        case str():
            return redact(value)
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {redact(str(name)): _writable(item, depth + 1) for name, item in value.items()}
        case list() | tuple():
            return [_writable(item, depth + 1) for item in value]
        case _:
            return value


def clean(text: str) -> str:
    """A stranger's text as one harmless line without secrets."""
    return escape(redact(" ".join(text.split())))


def duration(log: LogView) -> str:
    """How long it took, in a few characters."""
    if log.duration is None:
        return ""
    seconds = log.duration / 1_000_000
    if seconds < 1:
        return f"{log.duration / 1000:.0f}ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f}s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"


def explanation(log: LogView) -> str:
    """Why it failed, or where what was published is."""
    return ": ".join(filter(None, (log.error_code, log.error))) or log.url


def _width(text: str) -> int:
    """Columns that a terminal gives to a text."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def _escape_formula(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_PREFIXES) else cell


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()

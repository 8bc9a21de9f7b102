"""Tables; text from the API never controls the terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar
from unicodedata import combining, east_asian_width

from late_exporter.commands.output import json_line, write_line
from late_exporter.log import escape, redact

MAX_CELL_WIDTH = 40

RESET = "\x1b[0m"
BOLD = "\x1b[1m"
TONES = {
    "good": "\x1b[32m",
    "bad": "\x1b[31m",
    "warn": "\x1b[33m",
    "busy": "\x1b[34m",
    "idle": "\x1b[2m",
}
"""Colours, by the tones of the status page."""

JOINERS = ("\u200c", "\u200d")
"""Invisible characters that emoji and scripts need, and that control nothing."""

RecordT = TypeVar("RecordT")


class Terminal(NamedTuple):
    """Width and colours of the output; no width for a file or a pipe."""

    width: int | None = None
    colour: bool = False

    @classmethod
    def detect(cls) -> Self:
        """Return what standard output supports; NO_COLOR and a dumb terminal switch colours off."""
        if not sys.stdout.isatty():
            return cls()
        colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in (None, "", "dumb")
        return cls(shutil.get_terminal_size().columns, colour)

    def toned(self, text: str, tone: str) -> str:
        return f"{TONES[tone]}{text}{RESET}" if self.colour and tone in TONES else text

    def bold(self, text: str) -> str:
        return f"{BOLD}{text}{RESET}" if self.colour else text

    def fold(self, text: str, indent: int, beginning: str = "") -> list[str]:
        """Return the lines of a text: the first one after its beginning, the others indented."""
        wrapper = textwrap.TextWrapper(max(self.width or sys.maxsize, 1), beginning, " " * indent)
        wrapper.break_long_words = False
        wrapper.break_on_hyphens = False
        return wrapper.wrap(text)


class Row(NamedTuple):
    """Texts of a row by the titles of the columns, and the tone of its status."""

    cells: Mapping[str, str]
    tone: str = ""


class Table:
    """Rows in aligned columns.

    Args:
        terminal: Where it is printed.
        columns: Titles of the columns, by default those of the first row; those that end with > are
            aligned right. The last one may be long.
        toned: Title of the column that has the tone of its row.
    """

    def __init__(
        self, terminal: Terminal, columns: Sequence[str] = (), *, toned: str = "STATUS"
    ) -> None:
        self._terminal = terminal
        self._columns = columns
        self._toned = toned
        self._widths: dict[str, int] = {}

    def lines(self, rows: Iterable[Row]) -> Iterator[str]:
        """Yield the lines of some rows, before the first of all a heading.

        Rows may come in batches; columns widen with later ones.
        """
        batch = list(rows)
        if not batch:
            return
        self._columns = self._columns or list(batch[0].cells)
        is_first = not self._widths
        for title in self._columns:
            widths = [_display_width(_cell(row.cells[title])) for row in batch]
            known = self._widths.get(title, len(title.rstrip(">")))
            self._widths[title] = max(known, *widths)
        if is_first:
            heading = {title: title.rstrip(">") for title in self._columns}
            yield self._terminal.bold(self._line(heading))
        for row in batch:
            yield self._line(row.cells, row.tone)

    def _line(self, cells: Mapping[str, str], tone: str = "") -> str:
        aligned = []
        *titles, last = self._columns
        for title in titles:
            cell = _cell(cells[title])
            padding = " " * (self._widths[title] - _display_width(cell))
            text = self._terminal.toned(cell, tone) if title == self._toned else cell
            aligned.append(padding + text if title.endswith(">") else text + padding)
        return "  ".join([*aligned, clean(cells[last])]).rstrip()


def print_records(
    records: Sequence[RecordT],
    format: str,  # noqa: A002 - the name of the flag
    table: Table,
    row: Callable[[RecordT], Row],
    fields: Callable[[RecordT], Mapping[str, Any]],
) -> None:
    """Print records as rows of a table, or their fields as lines of JSON."""
    lines: Iterable[str] = table.lines(map(row, records))
    if format == "json":
        lines = (json_line(fields(record)) for record in records)
    for line in lines:
        write_line(line)


def clean(text: str) -> str:
    """Return a text from the API as one printable line without secrets.

    Joiners of emoji and scripts are kept.
    """
    parts = re.split(f"([{''.join(JOINERS)}])", redact(" ".join(text.split())))
    return "".join(part if part in JOINERS else escape(part) for part in parts)


def shorten(text: str, length: int) -> str:
    """Return a text from the API as ``clean`` does, with at most that many characters."""
    text = clean(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _cell(text: str) -> str:
    return shorten(text, MAX_CELL_WIDTH) or "-"


def _display_width(text: str) -> int:
    if text.isascii():
        return len(text)
    width = 0
    for char in text:
        if combining(char) or char in JOINERS:
            continue
        width += 2 if east_asian_width(char) in "WF" else 1
    return width

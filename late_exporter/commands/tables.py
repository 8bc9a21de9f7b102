"""Tables on a terminal or in a file; text from the API never controls the terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple, Self
from unicodedata import combining, east_asian_width

from late_exporter.log import escape, redact

MAX_CELL_WIDTH = 40
INDENT = 4

RESET, BOLD = "\x1b[0m", "\x1b[1m"
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
        wrapper.break_long_words = wrapper.break_on_hyphens = False
        return wrapper.wrap(text)


class Row(NamedTuple):
    """Texts of a row by the titles of the columns, and the tone of its status."""

    cells: Mapping[str, str]
    tone: str = ""


class Table:
    """Rows in aligned columns, batch by batch; columns that do not fit the terminal follow below the others.

    Args:
        columns: Titles of the columns, by default those of the first row; those that end with > are
            aligned right. The last one may be long.
        toned: Title of the column that has the tone of its row.
    """

    def __init__(
        self, terminal: Terminal, columns: Sequence[str] = (), *, toned: str = "STATUS"
    ) -> None:
        self._terminal = terminal
        self._columns, self._toned = columns, toned
        self._titles: Sequence[str] = ()
        self._widths: list[int] = []

    def lines(self, rows: Iterable[Row]) -> Iterator[str]:
        """Yield the lines of some rows, with a heading before the first of all; columns widen with later rows."""
        batch = list(rows)
        if not batch:
            return
        if is_first := not self._titles:
            self._choose_titles(batch)
        self._widths = list(map(max, _widths(self._titles, batch), self._widths or repeat(0)))
        if is_first:
            yield from map(
                self._terminal.bold,
                self._row_lines({title: title.rstrip(">") for title in self._columns}),
            )
        for row in batch:
            yield from self._row_lines(row.cells, row.tone)

    def _choose_titles(self, rows: Sequence[Row]) -> None:
        """Choose as many columns as fit the terminal beside each other, but not the last one."""
        self._columns = self._columns or list(rows[0].cells)
        widths = _widths(self._columns, rows)
        count = next(
            (count for count in range(len(widths) - 1, 1, -1) if self._fits(widths[:count])), 1
        )
        self._titles = self._columns[:count]

    def _fits(self, widths: Sequence[int]) -> bool:
        return (
            self._terminal.width is None
            or sum(widths) + 2 * (len(widths) - 1) <= self._terminal.width
        )

    def _row_lines(self, cells: Mapping[str, str], tone: str = "") -> Iterator[str]:
        line = "  ".join(self._aligned(cells, tone))
        rest = "  ".join(
            filter(None, (clean(cells[title]) for title in self._columns[len(self._titles) :]))
        )
        if self._fits([*self._widths, _display_width(rest)]):
            yield f"{line}  {rest}".rstrip()
        else:
            yield line.rstrip()
            yield from self._terminal.fold(rest, INDENT, " " * INDENT)

    def _aligned(self, cells: Mapping[str, str], tone: str) -> Iterator[str]:
        """Yield the padded cells of the line."""
        for title, width in zip(self._titles, self._widths, strict=True):
            cell = _cell(cells[title])
            padding = " " * (width - _display_width(cell))
            text = self._terminal.toned(cell, tone if title == self._toned else "")
            yield padding + text if title.endswith(">") else text + padding


def clean(text: str) -> str:
    """Return a text from the API as one printable line without secrets; joiners of emoji and scripts are kept."""
    parts = re.split(f"([{''.join(JOINERS)}])", redact(" ".join(text.split())))
    return "".join(part if part in JOINERS else escape(part) for part in parts)


def shorten(text: str, length: int) -> str:
    """Return a text from the API as ``clean`` does, with at most that many characters."""
    text = clean(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _cell(text: str) -> str:
    return shorten(text, MAX_CELL_WIDTH) or "-"


def _widths(titles: Sequence[str], rows: Sequence[Row]) -> list[int]:
    return [
        max(len(title.rstrip(">")), *(_display_width(_cell(row.cells[title])) for row in rows))
        for title in titles
    ]


def _display_width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if combining(char) or char in JOINERS else 2 if east_asian_width(char) in "WF" else 1
        for char in text
    )

"""Tables on a terminal or in a file; text from the API never controls the terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self
from unicodedata import combining, east_asian_width

from late_exporter.log import escape, redact

MAX_CELL_WIDTH = 40
INDENT = 4

RESET, BOLD = "\x1b[0m", "\x1b[1m"
TONES = {"good": "\x1b[32m", "bad": "\x1b[31m", "warn": "\x1b[33m", "busy": "\x1b[34m", "idle": "\x1b[2m"}
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


class Row(NamedTuple):
    """Texts of a row by the titles of the columns, and the tone of its status."""

    cells: Mapping[str, str]
    tone: str = ""


class Table:
    """Rows in aligned columns, batch by batch; the narrow set of columns if the wide one does not fit the terminal.

    The last column may be long: if it does not fit behind the others, it follows below them.

    Args:
        wide: Titles of the columns, by default those of the first row; those that end with > are aligned right.
        narrow: The same for a narrow terminal; by default there is only one set.
        toned: Titles of the columns that have the tone of their row.
    """

    def __init__(
        self, terminal: Terminal, wide: Sequence[str] = (), narrow: Sequence[str] = (), *, toned: str = "STATUS"
    ) -> None:
        self._terminal = terminal
        self._wide, self._narrow, self._toned = wide, narrow, toned
        self._titles: Sequence[str] = ()
        self._widths: list[int] = []

    def lines(self, rows: Iterable[Row]) -> Iterator[str]:
        """Yield the lines of some rows, with a heading before the first of all; columns widen with later rows."""
        batch = list(rows)
        if not batch:
            return
        is_first = not self._titles
        if is_first:
            wide = self._wide or list(batch[0].cells)
            self._titles = wide if not self._narrow or self._fits(_widths(wide, batch)) else self._narrow
        widths = _widths(self._titles, batch)[:-1]
        self._widths = list(map(max, widths, self._widths or widths))
        if is_first:
            yield self._terminal.bold("  ".join([*self._aligned({}), self._titles[-1]]))
        for row in batch:
            yield from self._row_lines(self._aligned(row.cells, row.tone), clean(row.cells[self._titles[-1]]))

    def _fits(self, widths: Sequence[int]) -> bool:
        return self._terminal.width is None or sum(widths) + 2 * (len(widths) - 1) <= self._terminal.width

    def _aligned(self, cells: Mapping[str, str], tone: str = "") -> Iterator[str]:
        """Yield the padded cells before the last one; without cells, the titles."""
        for title, width in zip(self._titles, self._widths, strict=False):
            cell = _cell(cells[title]) if cells else title.rstrip(">")
            padding = " " * (width - _display_width(cell))
            text = self._terminal.toned(cell, tone if title == self._toned else "")
            yield padding + text if title.endswith(">") else text + padding

    def _row_lines(self, cells: Iterable[str], detail: str) -> Iterator[str]:
        line, width = "  ".join(cells), self._terminal.width
        if width is None or self._fits([*self._widths, _display_width(detail)]):
            yield f"{line}  {detail}".rstrip()
            return
        yield line.rstrip()
        width = max(width - INDENT, INDENT)
        for part in textwrap.wrap(detail, width, break_long_words=False, break_on_hyphens=False):
            yield " " * INDENT + part


def clean(text: str) -> str:
    """Return a text from the API as one printable line without secrets; joiners of emoji and scripts are kept."""
    parts = re.split(f"([{''.join(JOINERS)}])", redact(" ".join(text.split())))
    return "".join(part if part in JOINERS else escape(part) for part in parts)


def _cell(text: str) -> str:
    text = clean(text) or "-"
    return text if len(text) <= MAX_CELL_WIDTH else f"{text[: MAX_CELL_WIDTH - 1]}…"


def _widths(titles: Sequence[str], rows: Sequence[Row]) -> list[int]:
    return [max(len(title.rstrip(">")), *(_display_width(_cell(row.cells[title])) for row in rows)) for title in titles]


def _display_width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) or char in JOINERS else 2 if east_asian_width(char) in "WF" else 1 for char in text)

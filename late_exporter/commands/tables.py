"""Tables; text from the API never controls the terminal."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar
from unicodedata import combining, east_asian_width

from late_exporter.commands.output import json_line, warn, write_line
from late_exporter.config.sections import CommandFlags
from late_exporter.format import plural
from late_exporter.log import escape, redact

MAX_CELL_WIDTH = 40

JOINERS = ("\u200c", "\u200d")
"""Invisible characters that emoji and scripts need, and that control nothing."""

Row: TypeAlias = Mapping[str, str]  # texts by the titles of the columns
RecordT = TypeVar("RecordT")


class Table:
    """Rows in aligned columns.

    Args:
        columns: Titles; columns whose title ends with > are aligned right. The last one may have
            long texts.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._widths = [0] * len(columns)

    def lines(self, rows: Iterable[Row]) -> Iterator[str]:
        """Yield the lines of some rows, before the first of all a heading.

        Rows may come in batches; columns widen with later ones.
        """
        lines = []
        for row in rows:
            *cells, last = [row[title] for title in self._columns]
            lines.append([*map(_cell, cells), clean(last)])
        if lines and not any(self._widths):
            lines.insert(0, [title.rstrip(">") for title in self._columns])

        for cells in lines:
            self._widths = [*map(max, self._widths, map(_display_width, cells))]
        for cells in lines:
            yield self._aligned(cells)

    def _aligned(self, cells: Sequence[str]) -> str:
        aligned = []
        for title, cell, width in zip(self._columns, cells, self._widths, strict=True):
            padding = " " * (width - _display_width(cell))
            aligned.append(padding + cell if title.endswith(">") else cell + padding)
        return "  ".join(aligned).rstrip()


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


def print_selection(
    records: Sequence[RecordT],
    noun: str,
    flags: CommandFlags,
    columns: Sequence[str],
    row: Callable[[RecordT], Row],
    fields: Callable[[RecordT], Mapping[str, Any]],
    unread: Sequence[str] = (),
) -> None:
    """Print records up to ``--limit``, and say if that leaves out any, or if there are none.

    ``unread`` are the workspaces that could not be read.
    """
    selection = records[: flags.limit or None]
    print_records(selection, flags.format, Table(columns), row, fields)
    if not records:
        warn(no_match(noun, unread))
    elif len(selection) < len(records):
        warn(f"stopped at --limit {len(selection)} of {len(records):,}; --limit 0 shows all")


def no_match(noun: str, unread: Sequence[str]) -> str:
    """Return the message that nothing was found, which says if not all workspaces were read."""
    if unread:
        return f"no {noun} matches, but {plural(len(unread), 'workspace')} could not be read"
    return f"no {noun} matches"


def fold(beginning: str, text: str) -> Sequence[str]:
    """Return a text after its beginning; what does not fit the terminal is indented below it."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    indent = " " * _display_width(beginning)
    lines: list[str] = []
    line = beginning
    is_empty = True  # but for its beginning
    for word in text.split():
        for part, separator in _parts(word, width - len(indent)):
            space = "" if is_empty else separator
            if not is_empty and _display_width(line + space + part) > width:
                lines.append(line)
                line = indent
                space = ""
            line += space + part
            is_empty = False
    return [*lines, line.rstrip()]


def _parts(word: str, width: int) -> Iterator[tuple[str, str]]:
    """Yield the parts of a word between which a line may end, with what precedes each on a line.

    Only a word that does not fit a line, and only before its wide characters: scripts that have
    these write without spaces.
    """
    if _display_width(word) <= width:
        yield word, " "
        return
    start = 0
    for at in range(1, len(word)):
        if east_asian_width(word[at]) in "WF":
            yield word[start:at], " " if start == 0 else ""
            start = at
    yield word[start:], " " if start == 0 else ""


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

"""The ``metrics`` command: print the catalogue of metrics."""

from __future__ import annotations

import json
import shutil
import sys
from textwrap import TextWrapper

import msgspec

from late_exporter.exposition.family import Family
from late_exporter.metrics.catalogue import CATALOGUE

INDENT = " " * 4


def format_catalogue(format: str) -> str:  # noqa: A002 - the name of the flag
    if format == "json":
        return json.dumps([msgspec.to_builtins(family) for family in CATALOGUE.values()], indent=2)
    return _table()


def _table() -> str:
    """Return one line per family, for grep and less, or an entry per family if the terminal is too narrow for that."""
    rows = [("NAME", "TYPE", "LABELS", "MEANING"), *(_cells(family) for family in CATALOGUE.values())]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(map(str.ljust, row, widths)), row[3]]) for row in rows]
    columns = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and columns < max(map(len, lines)):
        wrap = TextWrapper(columns, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False).wrap
        lines = []
        for name, kind, labels, meaning in rows[1:]:
            lines += [f"{name} ({kind})", *wrap(meaning), *wrap(labels)]
    return "\n".join(lines)


def _cells(family: Family) -> tuple[str, str, str, str]:
    return family.name, family.kind, ", ".join(family.labels) or "-", family.help

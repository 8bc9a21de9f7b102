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
    """Return JSON, one line per family for grep and less, or an entry per family if the terminal is too narrow."""
    if format == "json":
        return json.dumps([msgspec.to_builtins(family) for family in CATALOGUE.values()], indent=2)
    rows = [
        ("NAME", "TYPE", "STABILITY", "LABELS", "MEANING"),
        *(_cells(family) for family in CATALOGUE.values()),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(map(str.ljust, row, widths)), row[4]]) for row in rows]
    columns = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and columns < max(map(len, lines)):
        wrap = TextWrapper(
            columns, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False
        ).wrap
        lines = []
        for name, kind, stability, labels, meaning in rows[1:]:
            lines += [f"{name} ({kind}, {stability})", *wrap(meaning), *wrap(labels)]
    return "\n".join(lines)


def _cells(family: Family) -> tuple[str, str, str, str, str]:
    stability = ("experimental" if family.is_experimental else "stable") + (
        ", off" if family.is_optional else ""
    )
    return family.name, family.kind, stability, ", ".join(family.labels) or "-", family.help

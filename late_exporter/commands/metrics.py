"""The command ``metrics``: print the catalogue of metrics."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from textwrap import TextWrapper

import msgspec

from late_exporter.commands.output import write_lines
from late_exporter.config.settings import CommandContext
from late_exporter.exposition.family import Family
from late_exporter.metrics.catalogue import CATALOGUE

HEAD = ("NAME", "TYPE", "STABILITY", "LABELS", "MEANING")
INDENT = " " * 4


def metrics(context: CommandContext) -> int:
    """Print JSON, or a table; in a terminal that is too narrow for it an entry per family."""
    if context.flags.format == "json":
        families = [msgspec.to_builtins(family) for family in CATALOGUE.values()]
        return write_lines([json.dumps(families, indent=2)])
    rows = [_cells(family) for family in CATALOGUE.values()]
    lines = _table([HEAD, *rows])
    width = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and width < max(map(len, lines)):
        lines = _entries(rows, width)
    return write_lines(lines)


def _cells(family: Family) -> tuple[str, ...]:
    stability = "experimental" if family.is_experimental else "stable"
    if family.is_optional:
        stability += ", off"
    return family.name, family.kind, stability, ", ".join(family.labels) or "-", family.help


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a line per row, for grep and less."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return ["  ".join(map(str.ljust, row, widths)) for row in rows]


def _entries(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    wrapper = TextWrapper(
        width, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False
    )
    lines = []
    for name, kind, stability, labels, meaning in rows:
        lines.append(f"{name} ({kind}, {stability})")
        lines += wrapper.wrap(meaning)
        lines += wrapper.wrap(labels)
    return lines

"""The command ``metrics``: print the catalogue of metrics."""

from __future__ import annotations

from late_exporter.commands.output import write_lines
from late_exporter.config.settings import CommandContext
from late_exporter.exposition.family import Family
from late_exporter.metrics.catalogue import CATALOGUE

HEAD = ("NAME", "TYPE", "STABILITY", "LABELS", "MEANING")


def metrics(_: CommandContext) -> int:
    """Print a line per family, for grep and less."""
    rows = [HEAD, *map(_cells, CATALOGUE.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return write_lines("  ".join(map(str.ljust, row, widths)) for row in rows)


def _cells(family: Family) -> tuple[str, ...]:
    stability = "experimental" if family.is_experimental else "stable"
    if family.is_optional:
        stability += ", off"
    return family.name, family.kind, stability, ", ".join(family.labels) or "-", family.help

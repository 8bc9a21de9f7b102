"""The command ``metrics``: print the catalogue of metrics."""

from __future__ import annotations

import json

import msgspec

from late_exporter.commands.output import write_lines
from late_exporter.config.settings import CommandContext
from late_exporter.exposition.family import Family
from late_exporter.metrics.catalogue import CATALOGUE

HEAD = ("NAME", "TYPE", "STABILITY", "LABELS", "MEANING")


def metrics(context: CommandContext) -> int:
    """Print JSON, or a line per family, for grep and less."""
    if context.flags.format == "json":
        families = [msgspec.to_builtins(family) for family in CATALOGUE.values()]
        return write_lines([json.dumps(families, indent=2)])
    rows = [HEAD, *map(_cells, CATALOGUE.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return write_lines("  ".join(map(str.ljust, row, widths)) for row in rows)


def _cells(family: Family) -> tuple[str, ...]:
    stability = "experimental" if family.is_experimental else "stable"
    if family.is_optional:
        stability += ", off"
    return family.name, family.kind, stability, ", ".join(family.labels) or "-", family.help

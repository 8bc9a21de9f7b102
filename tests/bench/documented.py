"""Documented ratios of a quick run, and their comparison with a run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.bench.report import BenchReport

__all__ = ["DOCUMENT", "read_ratios", "too_low_ratios"]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
TOLERANCE = 0.5
"""Part of a documented ratio that a run must reach; a shared machine is never quiet."""

_ROW = re.compile(r"^\| \(([a-z])\) ([^|]+?) \| ([0-9.]+)x \|$", re.MULTILINE)


def read_ratios(document: str) -> dict[tuple[str, str], float]:
    """Return the documented ratios by the letter of the section and the name of the measurement."""
    return {(letter, name): float(ratio) for letter, name, ratio in _ROW.findall(document)}


def too_low_ratios(report: BenchReport, document: str) -> Iterator[str]:
    """Yield a message for each documented ratio that a report falls short of by half, or does not have."""
    ratios = {
        (section[1], measurement.name): measurement.ratio
        for section, measurements in report.sections.items()
        for measurement in measurements
    }
    for (letter, name), documented in read_ratios(document).items():
        ratio = ratios.get((letter, name))
        if ratio is None:
            yield f"({letter}) {name}: documented, but not measured"
        elif ratio < documented * TOLERANCE:
            yield f"({letter}) {name}: {ratio:.2f}x, less than half of the documented {documented:g}x"

"""Results of a bench as text, and their comparison with the documented ratios."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "development" / "performance.md"
TOLERANCE = 0.5
"""Part of a documented ratio that a run must reach; a shared machine is never quiet."""

_ROW = re.compile(r"^\| \(([a-z])\) ([^|]+?) \| ([0-9.]+)x \|$", re.MULTILINE)


class Measurement(NamedTuple):
    """One line of the report; the baseline is None if there is nothing to compare with."""

    name: str
    exporter: float
    unit: str
    baseline: float | None = None

    @property
    def ratio(self) -> float | None:
        """Return how many times less the exporter costs than the baseline."""
        return None if self.baseline is None else self.baseline / self.exporter

    def __str__(self) -> str:
        line = f"  {self.name:40} {self.exporter:12,.3f} {self.unit:4}"
        return line if self.baseline is None else f"{line} {self.baseline:12,.3f} {self.unit:4} {self.ratio:8.2f}x"


@dataclass
class BenchReport:
    """All measurements, by section, whose name begins with a letter in parentheses."""

    sections: dict[str, list[Measurement]] = field(default_factory=dict)

    def add(self, section: str, *measurements: Measurement) -> None:
        """Add measurements to a section."""
        self.sections.setdefault(section, []).extend(measurements)

    def text(self) -> str:
        """Return the value of the exporter, that of the baseline, and the ratio, line by line."""
        return "\n".join("\n".join([name, *map(str, lines), ""]) for name, lines in self.sections.items())


def too_low_ratios(report: BenchReport) -> Iterator[str]:
    """Yield a message for each documented ratio that a report falls short of by half, or does not have."""
    ratios = {(name[1], one.name): one.ratio for name, lines in report.sections.items() for one in lines}
    rows = _ROW.findall(DOCUMENT.read_text("utf-8"))
    assert rows, "no ratios are documented"
    for letter, name, documented in rows:
        ratio = ratios.get((letter, name))
        if ratio is None:
            yield f"({letter}) {name}: documented, but not measured"
        elif ratio < float(documented) * TOLERANCE:
            yield f"({letter}) {name}: {ratio:.2f}x, less than half of the documented {documented}x"

"""Results of a bench as tables of docs/development/performance.md, and their comparison with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "development" / "performance.md"
TOLERANCE = 2.0
"""Multiple of a documented cost that a run may reach; a shared machine is never quiet."""

_ROW = re.compile(r"^\| ([^|]+?) \|[^|]*\|[^|]*\| ([0-9.]+)x \|$", re.MULTILINE)


class Cost(NamedTuple):
    """Cost of the exporter beside that of a baseline."""

    name: str
    exporter: float
    baseline: float
    unit: str

    @property
    def ratio(self) -> float:
        """Return what the exporter costs for each 1 of the baseline."""
        return self.exporter / self.baseline

    def __str__(self) -> str:
        exporter, baseline = (_quantity(value, self.unit) for value in (self.exporter, self.baseline))
        return f"| {self.name} | {exporter} | {baseline} | {self.ratio:.2g}x |"


def _quantity(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{digits} {unit}".strip()


def cost_table(costs: Iterable[Cost]) -> str:
    """Return costs as a table."""
    return "\n".join(["| cost | exporter | baseline | ratio |", "|---|---|---|---|", *map(str, costs)])


def find_risen(costs: Iterable[Cost]) -> Iterator[str]:
    """Yield a message for each cost that is a multiple of the documented one, or not documented."""
    documented = {name: float(ratio) for name, ratio in _ROW.findall(DOCUMENT.read_text("utf-8"))}
    for cost in costs:
        if cost.name not in documented:
            yield f"{cost.name}: not documented"
        elif cost.ratio > documented[cost.name] * TOLERANCE:
            yield f"{cost.name}: {cost.ratio:.2f}x, more than twice the documented {documented[cost.name]}x"

"""Results of a bench, as text and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

__all__ = ["BenchReport", "Goal", "Measurement"]

WIDTHS = (42, 13, 13, 9, 14)


class Goal(NamedTuple):
    """Condition of a goal, and whether it is met."""

    condition: str
    is_met: bool

    def __str__(self) -> str:
        return f"{self.condition} {'met' if self.is_met else 'MISSED'}"


@dataclass(frozen=True)
class Measurement:
    """One line of the report.

    Args:
        name: Name of the measured value.
        exporter: Value of the exporter.
        unit: Unit of both values.
        script: Value of the script; None if it has none.
        goal: Goal of the exporter's value; None if there is none.
        is_rate: Whether more is better.
    """

    name: str
    exporter: float
    unit: str
    script: float | None = None
    goal: Goal | None = None
    is_rate: bool = False

    @property
    def ratio(self) -> float | None:
        """Return how many times better the exporter is, or None without a value of the script."""
        if self.script is None:
            return None
        return self.exporter / self.script if self.is_rate else self.script / self.exporter


@dataclass
class BenchReport:
    """All measurements, by section."""

    header_lines: list[str] = field(default_factory=list)
    sections: dict[str, list[Measurement]] = field(default_factory=dict)

    def add(self, section: str, *figures: Measurement) -> None:
        """Add measurements to a section."""
        self.sections.setdefault(section, []).extend(figures)

    def json(self) -> str:
        """Return the report as JSON."""
        figures = {
            name: [asdict(figure) | {"ratio": figure.ratio} for figure in figures]
            for name, figures in self.sections.items()
        }
        return json.dumps({"about": self.header_lines, "figures": figures}, indent=2)

    def text(self) -> str:
        """Return the report as text of at most 100 columns."""
        return "\n".join([*self.header_lines, "", *self._lines(), "", *self._summary()])

    def _lines(self) -> Iterator[str]:
        yield _line("", "exporter", "baseline", "ratio", "goal")
        for name, figures in sorted(self.sections.items(), key=lambda section: section[0][:3]):
            yield ""
            yield name
            for figure in figures:
                script = "" if figure.script is None else f"{_number(figure.script)} {figure.unit}"
                ratio = "" if figure.ratio is None else f"{_number(figure.ratio)}x"
                yield _line(
                    f"  {figure.name}",
                    f"{_number(figure.exporter)} {figure.unit}",
                    script,
                    ratio,
                    str(figure.goal or ""),
                )

    def _summary(self) -> Iterator[str]:
        goals = [figure.goal for figures in self.sections.values() for figure in figures if figure.goal]
        yield f"{sum(goal.is_met for goal in goals)} of {len(goals)} goals met"


def _line(name: str, exporter: str, script: str, ratio: str, goal: str) -> str:
    cells = (exporter, script, ratio)
    numbers = "".join(f"{cell.strip():>{width}}" for cell, width in zip(cells, WIDTHS[1:], strict=False))
    return f"{name:{WIDTHS[0]}}{numbers}  {goal}".rstrip()


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"

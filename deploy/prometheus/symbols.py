"""Numbers that are written as formulas, to generate templates of the rules and of the dashboards.

If the thresholds are symbols when the rules are imported, every text with a threshold has a marker with its formula
instead of a number. So the templates follow from the source of the rules, and no rule is written twice.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Self, SupportsIndex

from deploy.prometheus import thresholds

__all__ = ["Symbol", "has_formula", "marker", "replace_thresholds", "split_template"]

OPENING, CLOSING = "⟦", "⟧"
MARKER = re.compile(f"{OPENING}([^{CLOSING}]*){CLOSING}")
NO_THRESHOLDS = {"MINUTE", "HOUR", "DAY", "ERROR_BUDGET", "SUCCESS_OBJECTIVE"}
"""Units, what is derived, and the objective, which has a place of its own in the configuration."""


class Symbol(float):
    """A number with a formula in Jsonnet, as which it is formatted."""

    formula: str

    def __new__(cls, value: float, formula: str) -> Self:
        """Return a number with a formula."""
        self = super().__new__(cls, value)
        self.formula = formula
        return self

    def __add__(self, other: float) -> Symbol:
        """Add a number."""
        return Symbol(float(self) + other, f"({self.formula} + {_formula(other)})")

    def __sub__(self, other: float) -> Symbol:
        """Subtract a number."""
        return Symbol(float(self) - other, f"({self.formula} - {_formula(other)})")

    def __rsub__(self, other: float) -> Symbol:
        """Subtract from a number."""
        return Symbol(other - float(self), f"({_formula(other)} - {self.formula})")

    def __mul__(self, other: float) -> Symbol:
        """Multiply by a number."""
        return Symbol(float(self) * other, f"({self.formula} * {_formula(other)})")

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Symbol:
        """Divide by a number."""
        return Symbol(float(self) / other, f"({self.formula} / {_formula(other)})")

    def __rtruediv__(self, other: float) -> Symbol:
        """Divide a number by this one."""
        return Symbol(other / float(self), f"({_formula(other)} / {self.formula})")

    def __floordiv__(self, other: float) -> Symbol:
        """Divide by a number and round down."""
        return Symbol(float(self) // other, f"std.floor({self.formula} / {_formula(other)})")

    def __round__(self, ndigits: SupportsIndex | None = None) -> Symbol:  # type: ignore[override]
        """Round to a number of decimals."""
        decimals = 0 if ndigits is None else int(ndigits)
        return Symbol(round(float(self), decimals), f"round({self.formula}, {decimals})")

    def __format__(self, _: str) -> str:
        """Return the marker of the formula, in which every format is the same."""
        return marker(f"num({self.formula})")

    __str__ = __repr__ = format


def marker(formula: str) -> str:
    """Return the place of a formula in a text."""
    return f"{OPENING}{formula}{CLOSING}"


def split_template(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a text, each with whether it is a formula."""
    for number, part in enumerate(MARKER.split(text)):
        if part:
            yield part, number % 2 == 1


def has_formula(value: object) -> bool:
    """Return whether a value depends on a threshold: a symbol, or a text with a marker."""
    return isinstance(value, Symbol) or (isinstance(value, str) and MARKER.search(value) is not None)


def replace_thresholds() -> Mapping[str, float]:
    """Make every threshold a symbol, for the rest of the process; return the numbers by name in the configuration.

    Raises:
        RuntimeError: The rules were imported before, with numbers.
    """
    if "deploy.prometheus.rules" in sys.modules:
        raise RuntimeError("the rules have been imported with numbers instead of symbols")
    defaults = {}
    for name, value in list(vars(thresholds).items()):
        if name.isupper() and isinstance(value, int | float) and name not in NO_THRESHOLDS:
            first, *others = name.lower().split("_")
            key = first + "".join(word.capitalize() for word in others)
            defaults[key] = value
            setattr(thresholds, name, Symbol(value, f"c.thresholds.{key}"))
    objective = Symbol(thresholds.SUCCESS_OBJECTIVE, "c.objective")
    thresholds.SUCCESS_OBJECTIVE, thresholds.ERROR_BUDGET = objective, round(1 - objective, 10)
    return defaults


def _formula(number: float) -> str:
    return number.formula if isinstance(number, Symbol) else f"{number:g}"

"""Numbers of examples and parameters that follow the Hypothesis profile."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import pytest

T = TypeVar("T")

FAST_DIVISOR = 4


def example_count(default: int, *, thorough: int) -> int:
    """Return the number of examples of a test: a quarter of ``default`` in the fast profile."""
    counts = {"thorough": thorough, "fast": max(1, default // FAST_DIVISOR)}
    return counts.get(os.environ.get("HYPOTHESIS_PROFILE", ""), default)


def spread(values: Iterable[T]) -> list[T]:
    """Return all values, or only the first, the middle and the last one in the fast profile."""
    every = list(values)
    is_fast = os.environ.get("HYPOTHESIS_PROFILE") == "fast"
    return [every[0], every[len(every) // 2], every[-1]] if is_fast and len(every) > 3 else every


def exhaustive(*values: object) -> list[object]:
    """Return parameters of tests that are not unit tests; a tuple holds the values of several names."""
    parameters = (value if isinstance(value, tuple) else (value,) for value in values)
    return [pytest.param(*each, marks=pytest.mark.exhaustive) for each in parameters]

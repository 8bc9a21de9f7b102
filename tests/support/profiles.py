"""Numbers of examples that follow the Hypothesis profile."""

from __future__ import annotations

import os

FAST_DIVISOR = 4


def is_thorough() -> bool:
    """Return whether HYPOTHESIS_PROFILE names the thorough profile, which tries new examples in every run."""
    return os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def example_count(default: int, *, thorough: int) -> int:
    """Return the number of examples of a test: a quarter of ``default`` in the fast profile."""
    if is_thorough():
        return thorough
    return max(1, default // FAST_DIVISOR) if os.environ.get("HYPOTHESIS_PROFILE") == "fast" else default

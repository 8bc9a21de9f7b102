"""Numbers of examples that follow the Hypothesis profile."""

from __future__ import annotations

import os

FAST_DIVISOR = 4


def is_thorough() -> bool:
    """Return whether HYPOTHESIS_PROFILE names the thorough profile, which tries new examples in every run."""
    return os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def example_count(default: int, *, thorough: int) -> int:
    """Return the number of examples of a test in the profile that HYPOTHESIS_PROFILE names.

    Args:
        default: Number of examples in the default profile; a quarter of it in the fast profile.
        thorough: Number of examples in the thorough profile.
    """
    if is_thorough():
        return thorough
    return max(1, default // FAST_DIVISOR) if os.environ.get("HYPOTHESIS_PROFILE") == "fast" else default

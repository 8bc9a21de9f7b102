"""The same rules for a world in which time runs faster, to see in a minute what takes an hour."""

from __future__ import annotations

import re

__all__ = ["faster", "sooner"]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DURATION = re.compile(r"(?<=[\[:])\d+[smhdw](?=[\]:])|(?<=\boffset )\d+[smhdw]\b")
SECONDS = re.compile(r'(?<![\w."])\d{3,}\b(?!\.)')
"""Numbers of three digits and more are times: counts and shares are smaller."""

POSTS = "late_publishing_oldest_pending_timestamp_seconds"
"""How long a post takes is up to its platform: what is compared with that stays."""


def sooner(duration: str, factor: int) -> str:
    """A duration, so many times shorter."""
    milliseconds = int(duration[:-1]) * UNITS[duration[-1]] * 1000 // factor
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def faster(expr: str, factor: int) -> str:
    """An expression whose windows, offsets and ages are so many times shorter; the names of series stay."""
    shorter = DURATION.sub(lambda match: sooner(match[0], factor), expr)
    return "".join(
        line if POSTS in line else SECONDS.sub(lambda match: f"{int(match[0]) / factor:g}", line)
        for line in shorter.splitlines(keepends=True)
    )

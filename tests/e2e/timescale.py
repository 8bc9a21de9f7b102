"""Rules for compressed time, so that tests see in a minute what takes an hour."""

from __future__ import annotations

import re

__all__ = ["scale_duration", "scale_expr"]

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DURATION = re.compile(r"(?<=[\[:])\d+[smhdw](?=[\]:])|(?<=\boffset )\d+[smhdw]\b")
LONG_NUMBER = re.compile(r'(?<![\w."])\d{3,}\b(?!\.| \*)')
"""Numbers with three or more digits are ages in seconds; counts and ratios are smaller, and 100 * makes percent."""

UNSCALED_METRICS = re.compile("late_publishing_oldest_pending_timestamp_seconds|late_posts_oldest_")
"""Publishing takes as long as in real time, so ages that come from these metrics are not scaled."""


def scale_duration(duration: str, factor: int) -> str:
    """Return a duration divided by a factor."""
    milliseconds = int(duration[:-1]) * UNIT_SECONDS[duration[-1]] * 1000 // factor
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def scale_expr(expr: str, factor: int) -> str:
    """Return an expression with its windows, offsets and ages divided by a factor; series names do not change."""
    shorter = DURATION.sub(lambda match: scale_duration(match[0], factor), expr)
    if UNSCALED_METRICS.search(shorter):
        return shorter
    return LONG_NUMBER.sub(lambda match: f"{int(match[0]) / factor:g}", shorter)

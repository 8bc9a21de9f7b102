"""Format times, counts and durations for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def iso_time(millis: float, *, precise: bool = False) -> str:
    """Return milliseconds since the Unix epoch as ISO 8601 in UTC.

    Empty if the calendar ends before that.
    """
    try:
        time = EPOCH + timedelta(milliseconds=millis)
    except (ValueError, OverflowError):
        return ""
    return time.isoformat(timespec="milliseconds" if precise else "seconds").replace("+00:00", "Z")


def plural(count: int, singular: str) -> str:
    """Return a count with its noun, as in ``1 log`` and ``1,234 logs``."""
    return f"{count:,} {singular if count == 1 else singular + 's'}"


def human_duration(seconds: float, *, rough: bool = False) -> str:
    """Return a duration in its two largest units, or only the largest.

    Examples are ``84 ms``, ``2.3 s`` and ``1 h 6 min``.
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for (size, unit), (next_size, next_unit) in pairwise(UNITS):
        if seconds >= size:
            rest = 0 if rough else seconds % size // next_size
            return f"{seconds // size:,.0f} {unit}" + (f" {rest:.0f} {next_unit}" if rest else "")
    return f"{seconds:.2g} s"

"""Find the logs of one list at other times in another one.

A list may report its times in another time zone, or with another precision. Then none of its logs has the time of a
counted log. See docs/design/generation-matching.md.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

MAX_SHIFT = 14 * 3_600_000
"""Largest difference in milliseconds between a time zone and UTC."""

SHIFT_UNIT = 15 * 60_000
"""Milliseconds of which the difference between two time zones is a multiple."""

MIN_SHARE = 0.5
"""Share of the logs that a shift has to explain; the others may be new or deleted."""

SECOND = 1000
ROUNDING = 2
"""Milliseconds by which a time may differ because of its precision, if neither list has whole seconds only."""


def find_shift(stored: Sequence[int], listed: Sequence[int], *, min_count: int) -> int | None:
    """Return the time shift in milliseconds by which one list has the logs of another one; None if it does not.

    A shift of 0 means that the times are the same except for their precision.

    Args:
        stored: Creation times of logs that are missing in the list.
        listed: Creation times of logs of the list that are not stored.
        min_count: Minimum number of logs that a shift has to explain.
    """
    tolerance = SECOND if _is_whole(stored) != _is_whole(listed) else ROUNDING
    stored_times: dict[int, set[int]] = {}
    listed_times: dict[int, set[int]] = {}
    for stored_time, listed_time, shift in _pairs(set(stored), set(listed), tolerance):
        stored_times.setdefault(shift, set()).add(stored_time)
        listed_times.setdefault(shift, set()).add(listed_time)
    stored_counts, listed_counts = Counter(stored), Counter(listed)
    counts = {
        shift: min(_count(stored_times[shift], stored_counts), _count(listed_times[shift], listed_counts))
        for shift in stored_times
    }
    best = max(counts, key=lambda shift: (counts[shift], -abs(shift)), default=None)
    if best is None or counts[best] < max(min_count, MIN_SHARE * min(len(stored), len(listed))):
        return None
    return best


def _pairs(stored: Iterable[int], listed: Iterable[int], tolerance: int) -> Iterator[tuple[int, int, int]]:
    """Yield each pair of a stored and a listed time with a possible shift, and that shift."""
    # Times that differ by a multiple of the unit have the same remainder, so few pairs have to be compared.
    turns = (-SHIFT_UNIT, 0, SHIFT_UNIT)
    remainders = sorted((time % SHIFT_UNIT + turn, time) for time in stored for turn in turns)
    for listed_time in listed:
        remainder = listed_time % SHIFT_UNIT
        first = bisect_left(remainders, remainder - tolerance, key=itemgetter(0))
        last = bisect_right(remainders, remainder + tolerance, key=itemgetter(0))
        for _, stored_time in remainders[first:last]:
            shift = round((listed_time - stored_time) / SHIFT_UNIT) * SHIFT_UNIT
            if abs(shift) <= MAX_SHIFT:
                yield stored_time, listed_time, shift


def _count(times: Iterable[int], counts: Mapping[int, int]) -> int:
    return sum(counts[time] for time in times)


def _is_whole(times: Iterable[int]) -> bool:
    return all(time % SECOND == 0 for time in times)

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from late_exporter.ingest.time_shift import MAX_SHIFT, SHIFT_UNIT, find_shift

START = 1_700_000_000_123
MINUTE = 60_000


def random_times(count: int, *, seed: int, span: int = 40 * MINUTE) -> list[int]:
    """Return random creation times of a time span."""
    chance = random.Random(seed)
    return [START + chance.randrange(span) for _ in range(count)]


@pytest.mark.parametrize("shift", [-MAX_SHIFT, -23 * SHIFT_UNIT, 0, SHIFT_UNIT, MAX_SHIFT])
@pytest.mark.parametrize(
    "change",
    [lambda time: time, lambda time: time + time % 2, lambda time: time // 1000 * 1000],
    ids=["exact", "1 ms", "whole seconds"],
)
@pytest.mark.parametrize("swaps_lists", [True, False])
def test_a_shift_is_found_among_other_logs(shift: int, change: Callable[[int], int], *, swaps_lists: bool) -> None:
    """Half of the logs of the shorter list are enough, in either direction, whichever list is less precise."""
    times = random_times(60, seed=1)
    others = [change(time) for time in random_times(200, seed=2)]
    stored, listed = [*times, *random_times(60, seed=3)], [*(change(time + shift) for time in times), *others]
    if swaps_lists:
        stored, listed, shift = listed, stored, -shift
    assert shift == find_shift(stored, listed, min_count=3)


@pytest.mark.parametrize(
    ("stored", "listed", "min_count"),
    [
        ([], [START], 1),
        ([START], [], 1),
        ([START], [START + SHIFT_UNIT + 3], 1),
        ([START], [START + 7 * MINUTE], 1),
        ([START], [START + MAX_SHIFT + SHIFT_UNIT], 1),
        ([START, START + 5000], [START + SHIFT_UNIT, START + SHIFT_UNIT + 5000], 3),
        (random_times(500, seed=4), random_times(500, seed=5, span=20 * 60 * MINUTE), 3),
        (random_times(500, seed=4), random_times(3, seed=6), 3),
    ],
    ids=["nothing missing", "empty list", "3 ms", "7 minutes", "15 hours", "too few", "other logs", "three new logs"],
)
def test_other_logs_are_no_shift(stored: Sequence[int], listed: Sequence[int], min_count: int) -> None:
    """Times that do not agree to the millisecond, or not by a time zone, belong to other logs."""
    assert find_shift(stored, listed, min_count=min_count) is None


def test_alike_times_count_as_often_as_both_lists_have_them() -> None:
    """A single log explains no more than one of the other list."""
    moment = [START] * 40
    assert find_shift(moment, [START + SHIFT_UNIT] * 40, min_count=3) == SHIFT_UNIT
    assert find_shift(moment, [START + SHIFT_UNIT, *random_times(60, seed=7)], min_count=3) is None

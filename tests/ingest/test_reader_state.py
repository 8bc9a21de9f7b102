"""State of the reader between two polls."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from late_exporter.ingest.reader_state import SurplusDetector


@given(st.lists(st.tuples(st.integers(0, 90_000), st.integers(-5, 5), st.integers(0, 5)), max_size=30))
def test_a_surplus_above_those_of_the_last_minutes_is_missing(polls: list[tuple[int, int, int]]) -> None:
    """Logs are missing by as much as the lowest surplus is above the highest one of the last three minutes."""
    detector, earlier = SurplusDetector(), list[tuple[int, int]]()
    times = accumulate(pause for pause, _, _ in polls)
    for now, (_, lowest, uncertainty) in zip(times, polls, strict=True):
        recent = [surplus for time, surplus in earlier if time >= now - SurplusDetector.WINDOW] or [
            surplus for _, surplus in earlier[-1:]
        ]
        expected = max(0, lowest - max(recent, default=lowest))
        assert expected == detector.missing_count(now, lowest, lowest + uncertainty)
        earlier.append((now, lowest + uncertainty))

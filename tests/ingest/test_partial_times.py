"""Distinguish the times of which a page has all logs from those of which it may lack some."""

from __future__ import annotations

import pytest

from late_exporter.ingest.partial_times import find_partial_times, ignores_time_filter
from late_exporter.ingest.steps import FetchPage, FetchPost
from late_exporter.model import PAGE_SIZE, LogEntry, LogPage


def page(*times: int | None, has_more: bool = True) -> LogPage:
    """Return a page of logs created at some times."""
    entries = tuple(LogEntry(key=f"{number}", status="success", created=at) for number, at in enumerate(times))
    return LogPage(entries, has_more=has_more)


@pytest.mark.parametrize(
    ("step", "times", "has_more", "expected"),
    [
        (FetchPage(), (9, 8, 7), True, {7}),
        (FetchPage(), (9, 8, 7), False, set()),
        (FetchPage(skip=3), (9, 8, 7), True, {9, 7}),
        (FetchPage(skip=3), (9, 8, 7), False, {9}),
        (FetchPage(skip=3), (9, 9), True, {9}),
        (FetchPage(skip=3), (9, 8, None), True, {9}),
        (FetchPage(created_before=10), (9, 8), True, {8}),
        (FetchPage(status="pending"), (9, 8, None), False, {9, 8}),
        (FetchPost("p"), (9, 8), False, {9, 8}),
        (FetchPage(), tuple(range(PAGE_SIZE, 0, -1)), False, {1}),
        (FetchPage(skip=3), (), False, set()),
    ],
)
def test_partial_times(
    step: FetchPage | FetchPost, times: tuple[int | None, ...], *, has_more: bool, expected: set[int]
) -> None:
    """Only the times at which a page is cut are partial, and all times of a filtered page."""
    assert expected == find_partial_times(step, page(*times, has_more=has_more))


def test_a_time_filter_that_is_ignored() -> None:
    """Logs within a second of the bounds are no sign that the filter is ignored."""
    step = FetchPage(created_after=10_000, created_before=20_000)
    assert not ignores_time_filter(step, page(21_000, None, 9_000))
    assert ignores_time_filter(step, page(21_001))
    assert ignores_time_filter(step, page(8_999))

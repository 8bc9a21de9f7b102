"""A page is read in parts that leave out only the rows that fail."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter.errors import ApiError, ApiUnavailable, BadPayload
from late_exporter.ingest.unreadable_rows import MAX_FAILURES, PartialPage, read_around_rows
from late_exporter.model import PAGE_SIZE, LogEntry, LogPage
from tests.support.steps import drive


class Rows:
    """Rows of a list from the start of a page on, some of which fail every request that includes them."""

    def __init__(self, count: int, unreadable: Collection[int] = (), *, has_more: bool | None = None) -> None:
        self.keys = [f"k{number}" for number in range(count)]
        self.unreadable = {f"k{number}" for number in unreadable}
        self.has_more = has_more
        self.max_limit = PAGE_SIZE
        self.total: int | None = count
        self.requests: list[tuple[int, int]] = []
        self.on_request: Callable[[], object] = list

    async def fetch(self, offset: int, limit: int) -> LogPage:
        """Return some rows."""
        self.requests.append((offset, limit))
        self.on_request()
        limit = min(limit, self.max_limit)
        keys = self.keys[offset : offset + limit]
        if not self.unreadable.isdisjoint(keys):
            raise ApiUnavailable("500: cannot render", status=500)
        entries = tuple(LogEntry(key=key, status="success") for key in keys)
        has_more = offset + limit < len(self.keys) if self.has_more is None else self.has_more
        return LogPage(entries, self.total, has_more)


def read(rows: Rows) -> PartialPage:
    """Read a page of the rows in parts."""
    return drive(read_around_rows(rows.fetch))


@given(st.integers(1, 250), st.sets(st.integers(0, 99), max_size=8))
def test_only_rows_that_fail_alone_are_left_out(count: int, unreadable: set[int]) -> None:
    """All other rows are returned in their order, in a bounded number of requests."""
    rows = Rows(count, unreadable)
    failing = {number for number in unreadable if number < min(count, PAGE_SIZE)}
    readable = [number for number in range(min(count, PAGE_SIZE)) if number not in failing]
    if len(failing) > len(readable) or {0, min(count, PAGE_SIZE) - 1} <= failing:
        return
    page = read(rows)
    assert [f"k{number}" for number in readable] == [entry.key for entry in page.page.entries]
    assert (count > PAGE_SIZE) <= bool(page.page.has_more)
    assert bool(failing) == page.has_unreadable
    below = {number: sum(other < number for other in failing) for number in readable}
    assert (max(below.values()) if below else 0) == sum(page.skipped.values())
    assert len(rows.requests) <= 4 + 21 * max(1, len(failing))


def test_a_single_row_costs_few_requests() -> None:
    """The rows are halved seven times, with a request before, and one for each part after."""
    rows = Rows(500, [61])
    page = read(rows)
    assert {"k62": 1} == page.skipped
    assert len(rows.requests) <= 22


@pytest.mark.parametrize("max_limit", [3, 10, 25, 40])
@pytest.mark.parametrize("count", [30, 100, 230])
def test_an_api_that_returns_fewer_rows_than_requested(max_limit: int, count: int) -> None:
    """No row between two parts is left out."""
    rows = Rows(count, [5])
    rows.max_limit = max_limit
    page = read(rows)
    assert [f"k{n}" for n in range(min(count, PAGE_SIZE)) if n != 5] == [entry.key for entry in page.page.entries]
    assert (count > PAGE_SIZE) <= bool(page.page.has_more)


def test_rows_at_the_end_are_not_skipped() -> None:
    """The next page begins above them; more rows follow, whatever the API says."""
    page = read(Rows(500, [98, 99], has_more=False))
    assert ({}, True, True, 98) == (page.skipped, page.page.has_more, page.has_unreadable, len(page.page.entries))


@pytest.mark.parametrize("unreadable", [range(100), [0, 99], range(1, 60), range(0, 100, 2)])
def test_the_api_is_at_fault_if_most_rows_fail(unreadable: Collection[int]) -> None:
    """Nothing is skipped, and the requests are bounded."""
    rows = Rows(500, unreadable)
    with pytest.raises(ApiError, match="500: cannot render"):
        read(rows)
    assert len(rows.requests) <= 2 * MAX_FAILURES


@pytest.mark.parametrize("total", [None, 1_000_000])
@pytest.mark.parametrize("change", ["delete", "insert"])
@pytest.mark.parametrize("request_number", range(3, 17))
def test_a_list_that_moves(change: str, request_number: int, total: int | None) -> None:
    """A row that is inserted or deleted above or between the parts is noticed, whatever total the API reports."""
    rows = Rows(500, [61])
    rows.total = total

    def move() -> None:
        if len(rows.requests) == request_number:
            if change == "delete":
                del rows.keys[30]
            else:
                rows.keys.insert(0, "new")

    rows.on_request = move
    with pytest.raises(BadPayload, match="moved while"):
        read(rows)

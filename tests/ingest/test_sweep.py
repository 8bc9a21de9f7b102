"""A sweep reads every row of a list once more or less, whatever the list does between two requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from late_exporter.errors import ApiUnavailable, BadPayload, BadRequest
from late_exporter.ingest.sweep import Cursor, FetchPage, Place, Sweep, TimeFilter, second_above, second_below
from late_exporter.model import PAGE_SIZE, LogEntry, LogPage

NOW = 1_800_000_000_000
MINUTE = 60_000


class Page(NamedTuple):
    """Result of a request."""

    page: LogPage


def rows(count: int, *, every: int = MINUTE) -> list[LogEntry]:
    """Return rows, newest first."""
    return [LogEntry(key=f"k{count - n}", status="success", created=NOW - n * every) for n in range(count)]


class List:
    """A list that answers requests.

    Attributes:
        bound: How it reads ``to``: the newest time that it shows.
        max_skip: Largest number of rows that it skips; None for any.
        on_request: Called before each request.
    """

    def __init__(self, entries: Sequence[LogEntry], *, without_ids: bool = False) -> None:
        self.entries = list(entries)
        self.without_ids = without_ids
        self.bound: Callable[[int], int] = lambda before: before
        self.max_skip: int | None = None
        self.on_request: Callable[[], object] = list
        self.requests: list[FetchPage] = []

    def fetch(self, request: FetchPage) -> Page:
        """Answer a request."""
        self.on_request()
        self.requests.append(request)
        place = request.place
        if self.max_skip is not None and place.skip > self.max_skip:
            raise BadRequest(f"400: skip must be <= {self.max_skip}", status=400)
        newest = NOW * 2 if place.before is None else self.bound(place.before)
        shown = [entry for entry in self.entries if (entry.created or 0) <= newest]
        part = tuple(shown[place.skip : place.skip + PAGE_SIZE])
        has_more = place.skip + PAGE_SIZE < len(shown)
        return Page(LogPage(part, len(shown), has_more, without_ids=self.without_ids))


def read(sweep: Sweep[Page], source: List) -> Page:
    """Read one page."""
    steps = sweep.read()
    step = next(steps)
    while True:
        try:
            answer = source.fetch(step)
        except (ApiUnavailable, BadPayload) as exc:
            step = steps.throw(exc)
            continue
        try:
            step = steps.send(answer)
        except StopIteration as done:
            page: Page = done.value
            return page


def read_all(sweep: Sweep[Page], source: List) -> list[str]:
    """Read all pages; return the distinct keys in the order in which they were read."""
    keys: dict[str, None] = {}
    while not sweep.is_complete:
        keys |= dict.fromkeys(entry.key for entry in read(sweep, source).page.entries)
    return list(keys)


def start(*, by_time: bool, upper: Cursor | None = None, lower: int = 0) -> Sweep[Page]:
    """Return a sweep."""
    return Sweep(TimeFilter(is_supported=by_time), upper, lower)


BOUNDS: dict[str, Callable[[int], int]] = {
    "inclusive": lambda before: before,
    "exclusive": lambda before: before - 1,
    "whole seconds": lambda before: before // 1000 * 1000,
    "exclusive whole seconds": lambda before: before // 1000 * 1000 - 1,
    "ignored": lambda _: NOW * 2,
    "hours": lambda before: before // 3_600_000 * 3_600_000,
}
"""Ways in which an API may read a bound."""


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(("count", "every"), [(0, 1), (1, 1), (99, 1), (100, 1), (101, 400), (350, 7), (350, MINUTE)])
def test_each_way_to_read_a_bound(bound: str, count: int, every: int) -> None:
    """All rows are read in about a request per page."""
    source = List(rows(count, every=every))
    source.bound = BOUNDS[bound]
    assert [entry.key for entry in source.entries] == read_all(start(by_time=True), source)
    assert len(source.requests) <= count // 98 + 18


@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize(("inserted", "deleted"), [(1, 0), (250, 0), (0, 1), (0, 60), (30, 90)])
def test_a_list_that_moves(inserted: int, deleted: int, number: int, *, by_time: bool) -> None:
    """No row that stays in the list is skipped, whatever is inserted or deleted above a page that is read."""
    source = List(rows(400))
    stays = [entry.key for entry in source.entries[deleted:]]

    def move() -> None:
        if len(source.requests) == number:
            new = [LogEntry(key=f"n{n}", status="success", created=NOW + MINUTE) for n in range(inserted)]
            source.entries[:deleted] = new

    source.on_request = move
    assert set(stays) <= set(read_all(start(by_time=by_time), source))


def test_an_empty_page_below_a_list_that_has_shrunk_is_not_its_end() -> None:
    """The sweep goes up until a page connects."""
    source = List(rows(400))
    sweep = start(by_time=False)
    for _ in range(3):
        read(sweep, source)
    del source.entries[:200]
    assert {"k1", "k50", "k106"} <= set(read_all(sweep, source))


@pytest.mark.parametrize("by_time", [False, True])
def test_a_lower_bound_ends_a_sweep(*, by_time: bool) -> None:
    """It ends with the page that crosses the bound; one row with a wrong time crosses none."""
    source = List(rows(1000))
    source.entries[20] = LogEntry(key="wrong", status="success", created=NOW - 900 * MINUTE)
    keys = read_all(start(by_time=by_time, lower=NOW - 250 * MINUTE), source)
    assert 294 <= len(keys) <= 300


def test_a_second_that_fills_pages_is_read_by_offset_below_the_bound() -> None:
    """More rows of one second than a page are all read."""
    same = [LogEntry(key=f"s{n}", status="success", created=NOW - n) for n in range(350)]
    source = List([*same, *[LogEntry(key=f"o{n}", status="success", created=NOW - MINUTE - n) for n in range(50)]])
    assert 400 == len(read_all(start(by_time=True), source))


def test_a_cursor_continues_where_a_sweep_has_ended() -> None:
    """As after a restart: from the time of the last row, or from its depth."""
    for by_time in (False, True):
        source = List(rows(400))
        first = start(by_time=by_time)
        keys = [entry.key for _ in range(2) for entry in read(first, source).page.entries]
        source.entries[:0] = [LogEntry(key=f"n{n}", status="success", created=NOW + MINUTE) for n in range(30)]
        keys += read_all(start(by_time=by_time, upper=first.cursor), source)
        assert {f"k{n}" for n in range(1, 401)} <= set(keys)


def test_rows_that_neither_offset_nor_time_leads_to() -> None:
    """The error says what to do."""
    source = List(rows(400))
    source.bound, source.max_skip = BOUNDS["ignored"], 150
    with pytest.raises(BadRequest, match="400: skip must be <= 150; logs below the newest 196 cannot be read"):
        read_all(start(by_time=True), source)


@pytest.mark.parametrize("left", [0, 150])
@pytest.mark.parametrize("pause", [None, 1, 60, 3 * 24 * 60])
def test_rows_that_are_gone_need_no_offset(left: int, pause: int | None) -> None:
    """If all rows above the place are gone, or all below it, the sweep goes on from a row however much newer."""
    source = List(rows(400))
    source.max_skip = 0
    sweep = start(by_time=True)
    for _ in range(2):
        read(sweep, source)
    source.entries = source.entries[400 - left :]
    if pause is not None:
        source.entries.insert(0, LogEntry(key="new", status="success", created=NOW + pause * MINUTE))
    if source.entries:
        assert {entry.key for entry in source.entries[-left:]} <= set(read_all(sweep, source))


def test_a_list_that_ignores_the_offset() -> None:
    """The same page again and again is an error; rows without ids of one time look so for a while."""
    source = List(rows(400))
    fetch = source.fetch
    source.fetch = lambda _: fetch(FetchPage())  # type: ignore[method-assign, assignment]
    with pytest.raises(BadPayload, match="repeats the same page"):
        read_all(start(by_time=False), source)
    same = tuple(LogEntry(key=f"a.{n}", status="success", created=NOW) for n in range(PAGE_SIZE))
    source.fetch = lambda _: Page(LogPage(same, None, has_more=True, without_ids=True))  # type: ignore[method-assign, assignment]
    sweep = start(by_time=False)
    for _ in range(50):
        read(sweep, source)
    with pytest.raises(BadPayload, match="repeats the same page"):
        read_all(sweep, source)


@pytest.mark.parametrize(("failure_count", "in_parts"), [(0, False), (1, False), (2, True), (9, True)])
def test_a_page_that_has_failed_often_is_read_in_parts(failure_count: int, *, in_parts: bool) -> None:
    """The third failure of its first page makes a sweep ask for the rows that the API can deliver."""
    requests = List([]).requests
    steps = Sweep[Page](TimeFilter(is_supported=False), failure_count=failure_count).read()
    requests.append(next(steps))
    error = ApiUnavailable("500", status=500)
    if not in_parts:
        with pytest.raises(ApiUnavailable):
            steps.throw(error)
        return
    requests.append(steps.throw(error))
    assert [False, True] == [request.in_parts for request in requests]
    with pytest.raises(ApiUnavailable, match="500"):
        steps.throw(BadPayload("the list has moved"))


@pytest.mark.parametrize(
    ("created", "above", "below"),
    [(NOW, NOW + 1000, NOW - 1000), (NOW + 1, NOW + 1000, NOW - 1000), (999, 1000, -1000)],
)
def test_bounds_of_a_time(created: int, above: int, below: int) -> None:
    """Both leave room for bounds that are exclusive or cut to seconds."""
    assert (above, below) == (second_above(created), second_below(created))
    assert Cursor(Place(0, above)).connects(LogPage(()))

"""An API that behaves as no document says fails the poll with an error that names it, and nothing is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest

from late_exporter.errors import ApiError, ApiUnavailable, ResponseTooLarge
from tests.ingest.conftest import OpenExporter
from tests.support.client import ClientRequest
from tests.support.clock import DAY
from tests.support.late_api import Document, FakeLateApi, ListQuirks, zernio_row
from tests.support.world import World

ROW_COUNT = 350
SHORT_ROW_COUNT = 40
"""Logs of a list of which more than half can be tried one by one before a page is given up."""

MAX_REPEATS = 100
"""Requests after which a list that repeats itself should have been noticed."""

Oddity: TypeAlias = Callable[[FakeLateApi], None]
"""Makes an API odd in one way."""


def change_page(transform: Callable[[Document], Document]) -> Oddity:
    """Return an oddity that sends another page in place of the right one."""

    def make_odd(api: FakeLateApi) -> None:
        api.quirks = ListQuirks(transform=transform)

    return make_odd


def with_rows(change: Callable[[list[Document]], list[Document]]) -> Oddity:
    """Return an oddity that sends other rows."""
    return change_page(lambda page: {**page, "logs": change(page["logs"])})


def with_fields(**fields: object) -> Oddity:
    """Return an oddity that sends each row with other fields."""
    return with_rows(lambda rows: [{**row, **fields} for row in rows])


def name_other_profile(api: FakeLateApi) -> None:
    """Show the logs of another profile than that of the workspace."""
    api.profile_id = "mine"
    with_fields(profile_id="other")(api)


def repeat_first_page(api: FakeLateApi) -> None:
    """Show the first page for ever."""
    pages: list[Document] = []

    def repeat(page: Document) -> Document:
        pages.append(page)
        assert len(pages) <= MAX_REPEATS, "the list is read for ever"
        return pages[0]

    api.quirks = ListQuirks(transform=repeat)


def refuse_most_rows(api: FakeLateApi) -> None:
    """Fail every request that includes one of most rows of a short list."""

    def refuse(request: ClientRequest, _: bytes) -> ApiError | None:
        is_readable = request.skip >= SHORT_ROW_COUNT * 2 // 3 or request.skip + int(request.params["limit"]) == 1
        return None if is_readable else ApiUnavailable("500: oops", status=500)

    api.refuse = refuse


def refuse_whole_pages(api: FakeLateApi) -> None:
    """Fail requests for a whole page, as a response that is too large does, of a list that grows."""

    def refuse(request: ClientRequest, _: bytes) -> ApiError | None:
        api.world.publish(1)
        return ResponseTooLarge("the response is larger than 2 MiB") if request.params["limit"] == 100 else None

    api.refuse = refuse


ODDITIES: Mapping[str, tuple[str, Oddity, str]] = {
    "check_order": ("zernio", with_rows(lambda rows: rows[::-1]), "the list is not sorted from new to old"),
    "check_profile": ("zernio", name_other_profile, "it returned a log of profile other, but profile_id is mine"),
    "check_ids": ("late", with_rows(lambda rows: [zernio_row(row) for row in rows]), "the logs have no _id"),
    "check_dated": ("zernio", with_fields(created_at=None), "none of the newest logs has a readable creation time"),
    "check_repeats": ("late", repeat_first_page, "the log list repeats the same page"),
    "check_readable": ("zernio", refuse_most_rows, "500: oops"),
    "check_unmoved": ("zernio", refuse_whole_pages, "the list has moved while a page was read in parts"),
    "check_not_emptied": ("late", with_rows(lambda _: []), "the list is empty"),
}
"""By the check of ``api.plausibility`` that notices it: generation, oddity and error."""
CASES = [(oddity, True) for oddity in ODDITIES] + [
    (oddity, False)
    for oddity in ODDITIES
    if oddity != "check_not_emptied"  # a list may be empty at first
]


@pytest.mark.parametrize(("oddity", "is_synced"), CASES)
def test_an_odd_list_fails_the_poll(oddity: str, *, is_synced: bool, world: World, open_exporter: OpenExporter) -> None:
    """The error says what is wrong, late_up is 0, and once the list is right again, all logs are counted."""
    generation, make_odd, message = ODDITIES[oddity]
    api = FakeLateApi(world, generation=generation)
    exporter = open_exporter(api)
    if is_synced:
        world.publish(1)
        exporter.poll()
        world.clock.advance(DAY)
    make_odd(api)
    before = exporter.scrape().sum("late_publishing_logs_total")
    world.publish(SHORT_ROW_COUNT if oddity == "check_readable" else ROW_COUNT, over=DAY)
    for _ in range(3):
        result = exporter.poll()
        assert message in (result.error or "")
        world.clock.advance(30)
    assert exporter.scrape().sum("late_up", feed="publishing") == 0
    if not is_synced:
        assert exporter.scrape().sum("late_publishing_logs_total") == before
    api.quirks = ListQuirks()
    api.refuse = lambda *_: None
    exporter.poll_repeatedly(2)
    assert exporter.scrape().sum("late_publishing_logs_total") == len(world.rows)
    assert len(exporter.counted) == len(world.rows)
    assert exporter.scrape().sum("late_up", feed="publishing") == 1

"""An API that behaves as no document says fails the poll with an error that names it, and nothing is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from late_exporter.api.responses import ApiResponse
from late_exporter.errors import ApiUnavailable, ResponseTooLarge
from tests.ingest.conftest import OpenExporter
from tests.support.client import QueryParams
from tests.support.clock import DAY
from tests.support.late_api import FakeLateApi, ListQuirks, zernio_row
from tests.support.world import World

ROW_COUNT = 350
SHORT_ROW_COUNT = 40
"""Logs of a list of which more than half can be tried one by one before a page is given up."""


class OddApi(FakeLateApi):
    """An API whose lists are odd in one way while ``is_odd`` is true.

    Args:
        change_query: Returns the query that the API reads in place of that of a request; may raise an error.
        change_page: Returns the page that the API sends in place of the right one.
        profile_id: Profile to which the workspace is limited.
        moves: Whether a log appears with each request.
    """

    def __init__(
        self,
        world: World,
        *,
        change_query: Callable[[dict[str, Any]], QueryParams] = dict,
        change_page: Callable[[dict[str, Any]], Mapping[str, Any]] = dict,
        profile_id: str | None = None,
        moves: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(world, **options)
        self.is_odd = True
        self.profile_id = profile_id
        self._moves = moves
        self._change_query = change_query
        self._change_page = change_page

    def _list_logs(self, path: str, params: QueryParams) -> ApiResponse | None:
        if self._moves and self.is_odd:
            self.world.publish(1)
        response = super()._list_logs(path, self._change_query(dict(params)) if self.is_odd else params)
        if response is None or not self.is_odd:
            return response
        page = self._change_page(msgspec.json.decode(response.body))
        return response._replace(body=msgspec.json.encode(page))


def ignore_skip(query: dict[str, Any]) -> QueryParams:
    """Show the first page for ever."""
    return {**query, "skip": 0}


def ignore_bound(query: dict[str, Any]) -> QueryParams:
    """Ignore ``to``."""
    return {name: value for name, value in query.items() if name != "to"}


def reverse_rows(page: dict[str, Any]) -> Mapping[str, Any]:
    return {**page, "logs": page["logs"][::-1]}


def write_total_as_text(page: dict[str, Any]) -> Mapping[str, Any]:
    return {**page, "pagination": {**page["pagination"], "total": str(page["pagination"]["total"])}}


def name_other_profile(page: dict[str, Any]) -> Mapping[str, Any]:
    return {**page, "logs": [{**row, "profile_id": "other"} for row in page["logs"]]}


def drop_times(page: dict[str, Any]) -> Mapping[str, Any]:
    return {**page, "logs": [{**row, "created_at": None} for row in page["logs"]]}


def drop_rows(page: dict[str, Any]) -> Mapping[str, Any]:
    return {**page, "logs": []}


def show_zernio_rows(page: dict[str, Any]) -> Mapping[str, Any]:
    """Show the rows of the other generation, which have no ids."""
    return {**page, "logs": [zernio_row(row) for row in page["logs"]]}


def refuse_most_rows(query: dict[str, Any]) -> QueryParams:
    """Fail every request that includes one of most rows of a short list."""
    if query["skip"] < SHORT_ROW_COUNT * 2 // 3 and query["skip"] + query["limit"] > 1:
        raise ApiUnavailable("500: oops", status=500)
    return query


def refuse_whole_pages(query: dict[str, Any]) -> QueryParams:
    """Fail requests for a whole page, as a response that is too large does."""
    if query["limit"] == 100:
        raise ResponseTooLarge("the response is larger than 2 MiB")
    return query


ODDITIES: Mapping[str, tuple[Mapping[str, Any], str, str]] = {
    "check_order": ({"change_page": reverse_rows}, "bad_payload", "the list is not sorted from new to old"),
    "check_profile": (
        {"change_page": name_other_profile, "profile_id": "mine"},
        "bad_payload",
        "it returned a log of profile other, but profile_id is mine",
    ),
    "check_ids": ({"change_page": show_zernio_rows, "generation": "late"}, "bad_payload", "the logs have no _id"),
    "check_dated": ({"change_page": drop_times}, "bad_payload", "none of the newest logs has a readable creation time"),
    "check_repeats": (
        {"change_query": ignore_skip, "generation": "late"},
        "bad_payload",
        "the log list repeats the same page",
    ),
    "check_readable": ({"change_query": refuse_most_rows}, "unavailable", "500: oops"),
    "check_unmoved": (
        {"change_query": refuse_whole_pages, "moves": True},
        "bad_payload",
        "the list has moved while a page was read in parts",
    ),
    "check_not_emptied": ({"change_page": drop_rows, "generation": "late"}, "bad_payload", "the list is empty"),
    "a total that is text": ({"change_page": write_total_as_text}, "bad_payload", "pagination.total is text"),
    "skip is limited, and to is ignored": (
        {"change_query": ignore_bound, "quirks": ListQuirks(max_skip=200)},
        "unavailable",
        "400: skip must be <= 200; logs below the newest",
    ),
}
"""By the check of ``api.plausibility`` that notices it, or what it is: the oddity, the outcome of a poll, its error."""

CASES = [(oddity, True) for oddity in ODDITIES] + [
    (oddity, False)
    for oddity in ODDITIES
    if oddity != "check_not_emptied"  # a list may be empty at first
]


@pytest.mark.parametrize(("oddity", "is_synced"), CASES)
def test_an_odd_list_fails_the_poll(oddity: str, *, is_synced: bool, world: World, open_exporter: OpenExporter) -> None:
    """The error says what is wrong, late_up is 0, and once the list is right again, all logs are counted."""
    options, outcome, message = ODDITIES[oddity]
    api = OddApi(world, **{"generation": "zernio", **options})
    exporter = open_exporter(api)
    if is_synced:
        api.is_odd = False
        world.publish(1)
        exporter.poll()
        world.clock.advance(DAY)
        api.is_odd = True
    before = exporter.scrape().sum("late_publishing_logs_total")
    world.publish(SHORT_ROW_COUNT if oddity == "check_readable" else ROW_COUNT, over=DAY)
    for _ in range(3):
        result = exporter.poll()
        assert result.outcome == outcome
        assert message in (result.error or "")
        world.clock.advance(30)
    assert exporter.scrape().sum("late_up", feed="publishing") == 0
    if not is_synced:
        assert exporter.scrape().sum("late_publishing_logs_total") == before
    api.is_odd = False
    exporter.poll_repeatedly(2)
    assert exporter.scrape().sum("late_publishing_logs_total") == len(world.rows)
    assert len(exporter.counted) == len(world.rows)
    assert exporter.scrape().sum("late_up", feed="publishing") == 1

"""An API that behaves as no document says fails the poll with an error that names it, and nothing is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from late_exporter.protocols import ApiResponse
from tests.ingest.conftest import OpenExporter
from tests.support.client import QueryParams
from tests.support.clock import DAY
from tests.support.late_api import FakeLateApi, ListQuirks
from tests.support.world import World

ROW_COUNT = 350


class OddApi(FakeLateApi):
    """An API whose lists are odd in one way while ``is_odd`` is true.

    Args:
        change_query: Returns the query that the API reads in place of that of a request.
        change_page: Returns the page that the API sends in place of the right one.
    """

    def __init__(
        self,
        world: World,
        *,
        change_query: Callable[[dict[str, Any]], QueryParams] = dict,
        change_page: Callable[[dict[str, Any]], Mapping[str, Any]] = dict,
        **options: Any,
    ) -> None:
        super().__init__(world, **options)
        self.is_odd = True
        self._change_query = change_query
        self._change_page = change_page

    def _list_logs(self, path: str, params: QueryParams) -> ApiResponse | None:
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


ODDITIES: Mapping[str, tuple[Mapping[str, Any], str, str]] = {
    "oldest first": ({"change_page": reverse_rows}, "bad_payload", "the list is not sorted from new to old"),
    "a total that is text": ({"change_page": write_total_as_text}, "bad_payload", "pagination.total is text"),
    "the first page for ever": (
        {"change_query": ignore_skip, "generation": "late"},
        "bad_payload",
        "the log list repeats the same page",
    ),
    "skip is limited, and to is ignored": (
        {"change_query": ignore_bound, "quirks": ListQuirks(max_skip=200)},
        "unavailable",
        "400: skip must be <= 200; logs below the newest",
    ),
}
"""What is odd, the outcome of a poll, and the beginning of its error."""


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("is_synced", [False, True], ids=["first sync", "catch-up"])
def test_an_odd_list_fails_the_poll(oddity: str, *, is_synced: bool, world: World, open_exporter: OpenExporter) -> None:
    """The error says what is wrong, late_up is 0, and once the list is right again, all logs are counted."""
    options, outcome, message = ODDITIES[oddity]
    api = OddApi(world, **{"generation": "zernio", **options})
    exporter = open_exporter(api)
    if is_synced:
        api.is_odd = False
        exporter.poll()
        world.clock.advance(DAY)
        api.is_odd = True
    before = exporter.scrape().sum("late_publishing_logs_total")
    world.publish(ROW_COUNT, over=DAY)
    for _ in range(3):
        result = exporter.poll()
        assert outcome == result.outcome
        assert message in (result.error or "")
        world.clock.advance(30)
    assert exporter.scrape().sum("late_up", feed="publishing") == 0
    if not is_synced:
        assert 0 == exporter.scrape().sum("late_publishing_logs_total") == before
    api.is_odd = False
    exporter.poll_repeatedly(2)
    assert ROW_COUNT == len(exporter.counted) == exporter.scrape().sum("late_publishing_logs_total")
    assert exporter.scrape().sum("late_up", feed="publishing") == 1

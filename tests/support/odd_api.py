"""An API whose lists behave as no document says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from late_exporter.protocols import ApiResponse
from tests.support.client import QueryParams
from tests.support.late_api import FakeLateApi
from tests.support.world import World


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

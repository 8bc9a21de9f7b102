"""Requests of the exporter itself, which the API logs as ``api_request``, count nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from late_exporter.api.responses import ApiResponse
from late_exporter.feeds import GENERATIONS
from tests.ingest.conftest import OpenExporter
from tests.support.client import QueryParams
from tests.support.clock import MINUTE, VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import Document, FakeLateApi
from tests.support.world import World, iso_time

LOGS = "late_activity_logs_total"
OWN = "late-exporter/1.2.3"


class RequestLogApi(FakeLateApi):
    """An API that logs every request to it.

    Attributes:
        rows: Logs of requests, newest first.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world, generation="zernio")
        self.rows: list[Document] = []

    def log(self, user_agent: str | None, **fields: Any) -> None:
        """Add the log of a request that is made now."""
        row = {
            "type": "api_request",
            "action": "GET /v1/logs",
            "status": "success",
            "created_at": iso_time(self.world.clock.now),
            "method": "GET",
            "path": "/v1/logs",
            "ip_address": "203.0.113.77",
            "user_agent": user_agent,
            **fields,
        }
        self.rows.insert(0, row)

    async def get(self, path: str, params: QueryParams, *, path_template: str) -> ApiResponse:
        """Answer a request and log it."""
        response = await super().get(path, params, path_template=path_template)
        self.log(OWN)
        return response

    def _zernio_page(self, query: QueryParams) -> Document:
        until = str(query.get("to", "9"))
        rows = [row for row in self.rows if "status" not in query or query["status"] == row["status"]]
        rows = [row for row in rows if row["created_at"] <= until]
        skip, limit = int(query["skip"]), int(query["limit"])
        pagination = {"total": len(rows), "limit": limit, "skip": skip, "hasMore": skip + limit < len(rows)}
        return {"logs": rows[skip : skip + limit], "pagination": pagination}


@pytest.fixture
def api() -> RequestLogApi:
    """Return an API with the logs of 1,000 requests of the exporter and 10 of the customer."""
    api = RequestLogApi(World(VirtualClock()))
    for number in range(1010):
        api.world.clock.advance(MINUTE)
        api.log("curl/8" if number % 101 == 50 else OWN, request_id=f"r{number}")
    return api


@pytest.fixture
def exporter(api: RequestLogApi, open_exporter: OpenExporter) -> ExporterHarness:
    """Return an exporter that has completed its first sync."""
    exporter = open_exporter(api, feeds=("api_request",))
    assert exporter.poll().outcome == "success"
    return exporter


def count(exporter: ExporterHarness) -> float:
    """Return the exposed number of logs."""
    return exporter.scrape().sum(LOGS, type="api_request")


def test_only_requests_of_the_customer_count(exporter: ExporterHarness, api: RequestLogApi) -> None:
    """First sync, restart and catch-up count each once, and polls stay short, although most requests are own ones."""
    assert 10 == count(exporter) == len(exporter.counted)
    api.world.clock.advance(30)
    api.log("curl/8")
    exporter.poll()
    assert count(exporter) == 11
    exporter.restart()
    for number in range(400):
        api.world.clock.advance(10)
        api.log("curl/8" if number % 100 == 7 else OWN)
    exporter.poll_repeatedly(2)
    assert 15 == count(exporter) == len(set(exporter.counted)) == len(exporter.counted)
    request_count = len(api.requests)
    exporter.poll_repeatedly(3)
    assert len(api.requests) - request_count <= 9


@pytest.mark.parametrize(
    ("feed", "user_agent", "own"),
    [
        ("api_request", "late-exporter/1.0", True),
        ("api_request", "my-late-exporter/1.0", False),
        ("webhooks", "late-exporter/1.0", False),
    ],
)
def test_own_requests_are_recognised_by_their_user_agent(feed: str, user_agent: str, *, own: bool) -> None:
    """Only logs of requests are left out, and only those with the header of this program."""
    body = f'{{"logs": [{{"action": "x", "user_agent": "{user_agent}"}}], "pagination": {{"total": 7}}}}'.encode()
    page = GENERATIONS["zernio"][feed].parse(body)
    assert [entry.is_own for entry in page.entries] == [own]
    assert (None if feed == "api_request" else 7) == page.total

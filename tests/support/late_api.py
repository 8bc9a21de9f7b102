"""A Late API without a network, whose lists move and fail as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import urlencode

import msgspec

from late_exporter.api.responses import ApiResponse, RequestRecord
from late_exporter.errors import (
    ApiError,
    ApiUnavailable,
    BadPayload,
    BadRequest,
    EndpointNotFound,
    Forbidden,
    RateLimited,
    Unauthorized,
)
from late_exporter.simulator import SimulatedApi
from late_exporter.simulator.endpoints import render_log
from late_exporter.simulator.log_list import LogRow
from tests.support.client import ClientRequest, FakeClient, QueryParams
from tests.support.steps import Checkpoint
from tests.support.world import World

KEY = "sk_" + "0" * 64

Document: TypeAlias = dict[str, Any]
Callback: TypeAlias = Callable[[], object]

Fault: TypeAlias = Callable[["FakeLateApi", bytes], bytes]
"""Replaces the body of a response, or raises an ApiError."""

Refusal: TypeAlias = Callable[[ClientRequest, bytes], ApiError | None]


TIME_FILTERS = ("inclusive", "exclusive", "seconds", "exclusive seconds", "ignored", "rejected")
"""How an API may read a bound: with or without the bound itself, truncated to seconds, or not at all."""


@dataclass(frozen=True, kw_only=True)
class ListQuirks:
    """Differences of a list from its documentation.

    Args:
        max_page_size: Maximum number of rows per page, whatever the limit of the request.
        transform: Changes a response document before it is sent.
        never_expires: Whether a list of generation zernio keeps its logs for ever.
        time_filter: How ``from`` and ``to`` are read, one of TIME_FILTERS.
        max_skip: Largest ``skip`` that is accepted; None accepts any.
    """

    max_page_size: int = 100
    transform: Callable[[Document], Document] | None = None
    never_expires: bool = False
    time_filter: str = "inclusive"
    max_skip: int | None = None


class FakeLateApi(FakeClient):
    """The API of one workspace, with events and faults before chosen requests.

    Args:
        latency: Duration of a request, in seconds.
        generation: ``late``, ``zernio`` or ``both``; may change.

    Attributes:
        vanished: How paths of generation late that are gone answer; None is 404.
        refuse: Returns the error of a request with some response, or None.
    """

    def __init__(
        self,
        world: World,
        *,
        latency: float = 0.0,
        sends_date: bool = True,
        quirks: ListQuirks | None = None,
        generation: str = "late",
    ) -> None:
        super().__init__(rate_limit=600)
        self.world = world
        self.generation = generation
        self.vanished: dict[str, Fault | None] = {}
        self.refuse: Refusal = lambda *_: None
        self.latency = latency
        self.sends_date = sends_date
        self.quirks = quirks or ListQuirks()
        self._clock = world.clock
        self._callbacks: dict[int, list[Callback]] = {}
        self._faults: dict[int, Fault] = {}
        self._service = SimulatedApi(world.archives, clock=world.clock.time, rate_limit=10**9)

    def before_request(self, number: int, callback: Callback) -> None:
        """Call back before a request, by its number counted from the next one, which is 0."""
        self._callbacks.setdefault(len(self.requests) + number, []).append(callback)

    def fail_request(self, number: int, fault: Fault) -> None:
        """Fail a request, by its number counted from the next one, which is 0."""
        self._faults[len(self.requests) + number] = fault

    def set_generation(self, generation: str) -> None:
        self.generation = generation

    def clear_events(self) -> None:
        self._callbacks.clear()
        self._faults.clear()

    async def get(self, path: str, params: QueryParams, *, path_template: str) -> ApiResponse:
        number = len(self.requests)
        for callback in self._callbacks.pop(number, ()):
            callback()
        await Checkpoint()
        if not self.quirks.never_expires:
            self.world.expire()
        self.requests.append(ClientRequest(path, params))
        self._clock.advance(self.latency)
        code = "200"
        try:
            response = self._respond(path, params)
            if response is None:
                code = "404"
            elif number in self._faults:
                response = ApiResponse(self._faults.pop(number)(self, response.body), response.date)
        except ApiError:
            code = "error"
            raise
        finally:
            self._request_log.append(RequestRecord(path_template, code, self.latency))
        await Checkpoint()
        if response is None:
            raise EndpointNotFound(f"404: the API has no {path}", status=404)
        return response

    def _respond(self, path: str, params: QueryParams) -> ApiResponse | None:
        response = self._list_logs(path, params)
        error = self.refuse(ClientRequest(path, params), response.body if response else b"")
        if error is not None:
            raise error
        if response is None or path not in self.vanished:
            return response
        fault = self.vanished[path]
        return None if fault is None else ApiResponse(fault(self, response.body), response.date)

    def _list_logs(self, path: str, params: QueryParams) -> ApiResponse | None:
        quirks, query = self.quirks, dict(params)
        if self.generation != "both" and (path == "/v1/logs") != (self.generation == "zernio"):
            return None
        if path == "/v1/logs":
            now = float(int(self._clock.now)) if self.sends_date else None
            page = self._zernio_page(query)
            return ApiResponse(msgspec.json.encode(quirks.transform(page) if quirks.transform else page), now)
        if "skip" in query:
            query["limit"] = min(int(query["limit"]), quirks.max_page_size)
        response = self._service.handle("GET", f"/api{path}", urlencode(query), {"Authorization": f"Bearer {KEY}"})
        if response.status == HTTPStatus.NOT_FOUND:
            return None
        assert response.status == HTTPStatus.OK, response.body
        body = response.body
        if "skip" in query and quirks.transform:
            body = msgspec.json.encode(quirks.transform(msgspec.json.decode(body)))
        date = parsedate_to_datetime(response.headers["Date"]).timestamp()
        return ApiResponse(body, date if self.sends_date else None)

    def _zernio_page(self, query: QueryParams) -> Document:
        """Return a page of a list of generation zernio."""
        archive = self.world.archives.publishing if query["type"] == "publishing" else self.world.archives.connections
        if self.quirks.time_filter == "rejected" and query.keys() & {"from", "to"}:
            raise BadRequest("400: Invalid filter value")
        rows = self._select(archive.rows, query)
        skip = int(query.get("skip", 0))
        if self.quirks.max_skip is not None and skip > self.quirks.max_skip:
            raise BadRequest(f"400: skip must be <= {self.quirks.max_skip}")
        limit = min(int(query["limit"]), self.quirks.max_page_size)
        pagination = {"total": len(rows), "limit": limit, "skip": skip, "hasMore": skip + limit < len(rows)}
        return {"logs": [zernio_row(row) for row in rows[skip : skip + limit]], "pagination": pagination}

    def _select(self, rows: Sequence[LogRow], query: QueryParams) -> Sequence[LogRow]:
        """Return the rows that the filters of a request select; a log without a time is between no times."""
        if "status" in query:
            rows = [row for row in rows if query["status"] == row.get("status")]
        if self.quirks.time_filter == "ignored" or not query.keys() & {"from", "to"}:
            return rows
        unit = 1000 if "seconds" in self.quirks.time_filter else 1
        margin = 1 if "exclusive" in self.quirks.time_filter else 0
        first = _millis(str(query["from"])) // unit + margin if "from" in query else 0
        last = _millis(str(query["to"])) // unit - margin if "to" in query else 2**60
        return [row for row in rows if row["createdAt"] and first <= _millis(row["createdAt"]) // unit <= last]


def zernio_row(row: LogRow) -> LogRow:
    """Return a log as generation zernio shows it; the request id tells equal logs apart."""
    log_type = "connections" if "eventType" in row else "publishing"
    request_id = row.get("requestId", row["_id"])
    return {**render_log(log_type, row), "request_id": request_id, **row.get("zernio", {})}


@lru_cache(maxsize=50_000)
def _millis(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def refusal(error: ApiError) -> Fault:
    """Return a fault that raises an error."""

    def raise_error(_api: FakeLateApi, _body: bytes) -> bytes:
        raise error

    return raise_error


def replacement(body: bytes) -> Fault:
    """Return a fault that responds with 200 and another body."""
    return lambda _api, _body: body


unavailable = refusal(ApiUnavailable("no response within 30 s"))
unauthorized = refusal(Unauthorized("401: the API key was rejected"))
bad_gateway = refusal(BadPayload("the answer is not JSON: it begins with '<html>'"))
empty = replacement(b"")
no_logs = replacement(b'{"logs": null}')
empty_list = replacement(b'{"logs": [], "pagination": {"total": 0, "hasMore": false}}')


def rate_limited(api: FakeLateApi, body: bytes) -> bytes:
    """Reject the request until the quota is reset."""
    raise RateLimited(f"429: {len(body)} bytes", until=api.world.clock.elapsed + 30)


def cut_off(_: FakeLateApi, body: bytes) -> bytes:
    """Respond with half of the body."""
    return body[: len(body) // 2]


def zernio_shape(_api: FakeLateApi, body: bytes) -> bytes:
    """Respond with the same rows in the shape of generation zernio."""
    document = msgspec.json.decode(body)
    return msgspec.json.encode({**document, "logs": list(map(zernio_row, document["logs"]))})


VANISHED: Mapping[str, Fault | None] = {
    "404": None,
    "400": refusal(BadRequest("400: Invalid post ID", status=400)),
    "403": refusal(Forbidden("403: a restricted API key cannot use this path", code="unclassified_resource")),
    "500": refusal(ApiUnavailable("500: oops", status=500)),
    "html": replacement(b"<html>Not found</html>"),
    "empty": empty_list,
    "new shape": zernio_shape,
}
"""Answers of a list of generation late that the API does not provide any more."""

"""An API client without a network, whose responses are up to a test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeAlias

from late_exporter.api.client import LateClient
from late_exporter.api.responses import ApiResponse, RequestRecord
from late_exporter.errors import EndpointNotFound
from late_exporter.health import Quota

QueryParams: TypeAlias = Mapping[str, str | int]
Handler: TypeAlias = Callable[[str, QueryParams], ApiResponse | Awaitable[ApiResponse | None] | None]


class ClientRequest(NamedTuple):
    """A request to the API."""

    path: str
    params: QueryParams

    @property
    def skip(self) -> int:
        return int(self.params.get("skip", 0))

    @property
    def status(self) -> str | None:
        status = self.params.get("status")
        return None if status is None else str(status)


class FakeClient(LateClient):
    """Client that answers requests by a handler.

    Attributes:
        wait_seconds: Seconds that requests waited for the rate limiter since the last report.
    """

    rate_limit = 60
    base_url = "http://127.0.0.1/api"
    key = "sk_fake"

    def __init__(self, handler: Handler | None = None, *, rate_limit: int = 60, seconds: float = 0.25) -> None:
        self.handler = handler
        self.quota: Quota | None = None
        self.rate_limit = rate_limit
        self.profile_id: str | None = None
        self.configured_generation = "late"
        self.wait_seconds = 0.0
        self.requests: list[ClientRequest] = []
        self._seconds = seconds
        self._request_log: list[RequestRecord] = []

    def pop_request_log(self) -> tuple[list[RequestRecord], float]:
        records, self._request_log = self._request_log, []
        wait_seconds, self.wait_seconds = self.wait_seconds, 0.0
        return records, wait_seconds

    def quota_wait(self, requests: int = 1) -> float:
        return 60.0 * (requests - 1) / self.rate_limit

    async def get(self, path: str, params: QueryParams, *, path_template: str) -> ApiResponse:
        self.requests.append(ClientRequest(path, params))
        code = "error"
        try:
            await asyncio.sleep(0)
            assert self.handler is not None
            response = self.handler(path, params)
            if isinstance(response, Awaitable):
                response = await response
            code = "200" if response else "404"
        finally:
            self._request_log.append(RequestRecord(path_template, code, self._seconds))
        if response is None:
            raise EndpointNotFound(f"404: the API has no {path}", status=404)
        return response

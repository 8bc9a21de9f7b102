"""Request handling of the simulated API, with and without an HTTP server."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from math import ceil
from typing import Any
from uuid import uuid4

import msgspec

from late_exporter.simulator import admin, log_endpoints, status_endpoints
from late_exporter.simulator.accounts import hashed_id
from late_exporter.simulator.activity import CUSTOMER, new_row
from late_exporter.simulator.log_list import JsonObject, StaticLogs
from late_exporter.simulator.quota import WINDOW_SECONDS, KeyQuota
from late_exporter.simulator.request import Request, RequestRejected

KEY_PATTERN = re.compile(r"(?:sk|zrk)_[0-9a-f]{64}")
HEALTHY_TEXT = b"late-exporter is healthy\n"  # which late-exporter healthcheck expects
QUOTA_EXCEEDED = "Rate limit exceeded. Please try again later."


class Route(msgspec.Struct, frozen=True):
    """Endpoint.

    Args:
        method: HTTP method.
        path: Regular expression of the path.
        handler: Return the response document of a request and the groups of its path, or raise
            RequestRejected.
        generation: API generation that has it, or ``both``.
    """

    method: str
    path: str
    handler: Callable[..., JsonObject]
    generation: str = "both"


ROUTES = (
    Route("GET", "/v1/logs", log_endpoints.list_zernio_logs, "zernio"),
    Route("GET", "/v1/posts/logs", partial(log_endpoints.list_late_logs, "publishing"), "late"),
    Route(
        "GET", "/v1/connections/logs", partial(log_endpoints.list_late_logs, "connections"), "late"
    ),
    Route("GET", "/v1/posts/([^/]+)/logs", log_endpoints.list_post_logs, "late"),
    Route("GET", "/v1/posts", status_endpoints.list_posts),
    Route("GET", "/v1/accounts", status_endpoints.list_accounts),
    Route("GET", "/v1/accounts/health", status_endpoints.check_accounts),
    Route("GET", "/v1/webhooks/settings", status_endpoints.list_webhooks),
    Route("GET", "/v1/billing", status_endpoints.show_billing),
    Route("GET", "/v1/usage", status_endpoints.show_usage),
    Route("GET", admin.ADMIN_PATH, admin.show_overview),
    Route("POST", f"{admin.ADMIN_PATH}/incidents/(.+)", admin.start_incident),
    Route("DELETE", f"{admin.ADMIN_PATH}/incidents/(.+)", admin.stop_incident),
)


class SimulatorResponse(msgspec.Struct, frozen=True):
    """Response of the simulated API."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(kw_only=True, eq=False)
class SimulatedApi:
    """Endpoints of the API, with authentication and rate limit; also an ASGI application.

    The status endpoints need a SimulatedWorld as source. Requests are logged if the source has a
    list ``api_request``.

    Args:
        source: Source of the logs.
        clock: Clock that returns the API's Unix time.
        keys: Accepted API keys; None for every well-formed key.
        rate_limit: Allowed requests per key in any 60 seconds; may change.
        customer_rate: Calls per minute of the customer's own software with each key that a client
            uses, from the client's first request on.
        generation: API generation whose log lists exist: ``late``, ``zernio`` or ``both``; may
            change.
        quotas: Quotas by key.
    """

    source: StaticLogs = field(kw_only=False)
    clock: Callable[[], float]
    keys: Collection[str] | None = None
    rate_limit: int = 600
    customer_rate: int = 0
    generation: str = "late"
    quotas: dict[str, KeyQuota] = field(default_factory=dict)

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        """Answer an HTTP request. Date follows the clock of the API."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        response = self.handle(
            scope["method"], scope["path"], scope["query_string"].decode("latin-1"), headers
        )
        fields = {**response.headers, "Content-Length": str(len(response.body))}
        encoded = [
            (name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()
        ]
        await send({"type": "http.response.start", "status": response.status, "headers": encoded})
        await send({"type": "http.response.body", "body": response.body})

    def handle(
        self, method: str, path: str, query: str, headers: Mapping[str, str]
    ) -> SimulatorResponse:
        """Return the response to a request; paths may begin with ``/api``, and need a key then."""
        now = self.clock()
        fields = {name.lower(): value for name, value in headers.items()}
        self.source.advance(now)
        if path == "/-/healthy":
            return SimulatorResponse(HTTPStatus.OK, {"Content-Type": "text/plain"}, HEALTHY_TEXT)
        path = path.removeprefix("/api")
        request_id = f"req_{uuid4().hex}"
        is_admin = path.startswith(admin.ADMIN_PATH)
        key = self._authenticate(fields.get("authorization", ""))
        request = Request(self.source, query, now)
        quota = KeyQuota(now) if key is None else self.quotas.setdefault(key, KeyQuota(now))
        self._make_customer_calls(now)
        try:
            if not is_admin:
                self._admit(key, quota, now)
            status = HTTPStatus.OK
            document = self._answer(request, method, path)
        except RequestRejected as rejection:
            status = rejection.status
            document = rejection.document
        if key is not None and not is_admin:
            client = {"userAgent": fields.get("user-agent", ""), "requestId": request_id}
            self._log_call(key, f"{method} {path}", status, now, **client)
        response_headers = {
            "Content-Type": "application/json",
            **quota.headers(self.rate_limit, now),
        }
        response_headers |= {"Date": formatdate(now, usegmt=True), "X-Request-Id": request_id}
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            response_headers["Retry-After"] = str(ceil(quota.reset(self.rate_limit, now) - now))
        return SimulatorResponse(status, response_headers, msgspec.json.encode(document))

    def _authenticate(self, authorization: str) -> str | None:
        """Return the key of an Authorization header, or None if it is not accepted."""
        scheme, _, key = authorization.partition(" ")
        is_accepted = bool(KEY_PATTERN.fullmatch(key)) if self.keys is None else key in self.keys
        return key if scheme == "Bearer" and is_accepted else None

    def _admit(self, key: str | None, quota: KeyQuota, now: float) -> None:
        """Raise RequestRejected if a key is missing or has no request left."""
        if key is None:
            raise RequestRejected(HTTPStatus.UNAUTHORIZED)
        if not quota.take_slot(self.rate_limit, now):
            raise RequestRejected(
                HTTPStatus.TOO_MANY_REQUESTS, QUOTA_EXCEEDED, code="rate_limit_exceeded"
            )

    def _answer(self, request: Request, method: str, path: str) -> JsonObject:
        """Return the document that answers a request, or raise RequestRejected."""
        status = HTTPStatus.NOT_FOUND
        for route in ROUTES:
            match = re.fullmatch(route.path, path)
            if match and (
                self.generation == route.generation or "both" in {self.generation, route.generation}
            ):
                if route.method == method:
                    return route.handler(request, *match.groups())
                status = HTTPStatus.METHOD_NOT_ALLOWED
        raise RequestRejected(status)

    def _make_customer_calls(self, now: float) -> None:
        """Make the calls of the customer's software that are due."""
        for key, quota in self.quotas.items():
            while self.customer_rate and quota.next_call <= now:
                time = quota.next_call
                quota.next_call = quota.next_call + WINDOW_SECONDS / self.customer_rate
                status = (
                    HTTPStatus.OK
                    if quota.take_slot(self.rate_limit, time)
                    else HTTPStatus.TOO_MANY_REQUESTS
                )
                self._log_call(key, "GET /v1/posts", status, time, **CUSTOMER)

    def _log_call(
        self, key: str, action: str, status: HTTPStatus, time: float, **fields: str
    ) -> None:
        if "api_request" in self.source.lists:
            error = status.phrase if status >= HTTPStatus.BAD_REQUEST else None
            row = new_row("api_request", action, status, error, time)
            row |= {"apiKeyId": hashed_id(key), "requestId": f"req_{uuid4().hex}", **fields}
            self.source.lists["api_request"].insert(row)

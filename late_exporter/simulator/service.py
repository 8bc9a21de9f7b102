"""Request handling of the simulated API, with and without an HTTP server."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from math import ceil
from typing import Any, NoReturn
from uuid import uuid4

import msgspec

from late_exporter.simulator import endpoints
from late_exporter.simulator.accounts import hashed_id
from late_exporter.simulator.log_list import JsonObject, StaticLogs
from late_exporter.simulator.request import WINDOW_SECONDS, KeyQuota, Request, RequestRejected
from late_exporter.simulator.world import CUSTOMER, request_row

KEY_PATTERN = re.compile(r"(?:sk|zrk)_[0-9a-f]{64}")
HEALTHY_TEXT = b"late-exporter is healthy\n"  # which late-exporter healthcheck expects
DOCS_URL = "https://docs.zernio.com"
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
    Route("GET", "/v1/logs", endpoints.list_zernio_logs, "zernio"),
    Route("GET", "/v1/posts/logs", partial(endpoints.list_late_logs, "publishing"), "late"),
    Route("GET", "/v1/connections/logs", partial(endpoints.list_late_logs, "connections"), "late"),
    Route("GET", "/v1/posts/([^/]+)/logs", endpoints.list_post_logs, "late"),
    Route("GET", "/v1/posts", endpoints.list_posts),
    Route("GET", "/v1/accounts", endpoints.list_accounts),
    Route("GET", "/v1/accounts/health", endpoints.check_accounts),
    Route("GET", "/v1/webhooks/settings", endpoints.list_webhooks),
    Route("GET", "/v1/billing", endpoints.show_billing),
    Route("GET", "/v1/usage", endpoints.show_usage),
)


class SimulatorResponse(msgspec.Struct, frozen=True):
    """Response of the simulated API."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(kw_only=True, eq=False)
class SimulatedApi:
    """Endpoints of the API for logs and status, with authentication and rate limit.

    It is an ASGI application.

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
        """Return the response to a request. The path may begin with ``/api``."""
        now = self.clock()
        self.source.advance(now)
        if path == "/-/healthy":
            return SimulatorResponse(HTTPStatus.OK, {"Content-Type": "text/plain"}, HEALTHY_TEXT)

        path = path.removeprefix("/api")
        fields = {name.lower(): value for name, value in headers.items()}
        request_id = f"req_{uuid4().hex}"
        key = self._find_key(fields.get("authorization", ""))
        quota = KeyQuota(now) if key is None else self.quotas.setdefault(key, KeyQuota(now))
        self._make_customer_calls(now)
        status = HTTPStatus.OK
        try:
            if key is None:
                _reject_key(fields)
            self._take_slot(quota, now)
            document = self._answer(Request(self.source, query, now), method, path)
        except RequestRejected as rejection:
            status = rejection.status
            document = rejection.document

        if key is not None:
            user_agent = fields.get("user-agent", "")
            self._log_call(key, f"{method} {path}", status, now, user_agent, request_id)
        response_headers = {
            "Content-Type": "application/json",
            "Date": formatdate(now, usegmt=True),
            "X-Request-Id": request_id,
            **quota.headers(self.rate_limit, now),
        }
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            response_headers["Retry-After"] = str(ceil(quota.reset(self.rate_limit, now) - now))
        return SimulatorResponse(status, response_headers, msgspec.json.encode(document))

    def _take_slot(self, quota: KeyQuota, now: float) -> None:
        """Count a request of a key, or reject it if no slot is free."""
        if not quota.take_slot(self.rate_limit, now):
            status = HTTPStatus.TOO_MANY_REQUESTS
            raise RequestRejected(status, QUOTA_EXCEEDED, code="rate_limit_exceeded")

    def _find_key(self, authorization: str) -> str | None:
        """Return the key of an Authorization header, or None if it is not accepted."""
        scheme, _, key = authorization.partition(" ")
        is_accepted = bool(KEY_PATTERN.fullmatch(key)) if self.keys is None else key in self.keys
        return key if scheme == "Bearer" and is_accepted else None

    def _answer(self, request: Request, method: str, path: str) -> JsonObject:
        """Return the document that answers a request, or raise RequestRejected."""
        status = HTTPStatus.NOT_FOUND
        for route in ROUTES:
            exists = "both" in {self.generation, route.generation}
            exists = exists or self.generation == route.generation
            match = re.fullmatch(route.path, path)
            if match and exists:
                if route.method == method:
                    return route.handler(request, *match.groups())
                status = HTTPStatus.METHOD_NOT_ALLOWED
        raise RequestRejected(status)

    def _make_customer_calls(self, now: float) -> None:
        """Make the calls of the customer's software that are due."""
        if not self.customer_rate:
            return
        for key, quota in self.quotas.items():
            while quota.next_call <= now:
                time = quota.next_call
                quota.next_call += WINDOW_SECONDS / self.customer_rate
                is_admitted = quota.take_slot(self.rate_limit, time)
                status = HTTPStatus.OK if is_admitted else HTTPStatus.TOO_MANY_REQUESTS
                self._log_call(key, "GET /v1/posts", status, time, CUSTOMER, f"req_{uuid4().hex}")

    def _log_call(
        self,
        key: str,
        action: str,
        status: HTTPStatus,
        time: float,
        user_agent: str,
        request_id: str,
    ) -> None:
        if "api_request" in self.source.lists:
            error = status.phrase if status >= HTTPStatus.BAD_REQUEST else None
            row = request_row(action, status, error, time)
            row |= {"apiKeyId": hashed_id(key), "requestId": request_id, "userAgent": user_agent}
            self.source.lists["api_request"].insert(row)


def _reject_key(fields: Mapping[str, str]) -> NoReturn:
    """Reject a request without an accepted key."""
    code = "invalid_credentials"
    error = "Invalid API key."
    if not fields.get("authorization"):
        code = "missing_credentials"
        error = "Missing API key. Send it as Authorization: Bearer <your API key>."
    raise RequestRejected(
        HTTPStatus.UNAUTHORIZED, error, code=code, type="authentication_error", docUrl=DOCS_URL
    )

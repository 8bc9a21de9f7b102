"""Request handling of the simulated API, with and without an HTTP server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from email.utils import formatdate
from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec

from late_exporter.simulator import admin, log_endpoints, status_endpoints
from late_exporter.simulator.accounts import hashed_id
from late_exporter.simulator.activity import CUSTOMER, request_log
from late_exporter.simulator.log_list import JsonObject, LogRow, StaticLogs
from late_exporter.simulator.quota import WINDOW_SECONDS, KeyQuota
from late_exporter.simulator.request import Request, RequestRejected

KEY_PATTERN = re.compile(r"(?:sk|zrk)_[0-9a-f]{64}")
HEALTHY_TEXT = "late-exporter is healthy\n"  # which late-exporter healthcheck expects
QUOTA_EXCEEDED = "Rate limit exceeded. Please try again later."


class Route(msgspec.Struct, frozen=True):
    """Endpoint.

    Args:
        method: HTTP method.
        path: Regular expression of the path; its group is the argument of the request.
        handler: Return the response document of a request, or raise RequestRejected.
        generations: API generations that have it.
    """

    method: str
    path: str
    handler: Callable[[Request], JsonObject]
    generations: tuple[str, ...] = ("late", "zernio", "both")


ROUTES = (
    Route("GET", "/v1/logs", log_endpoints.list_logs, ("zernio", "both")),
    Route("GET", "/v1/posts/logs", log_endpoints.list_publishing, ("late", "both")),
    Route("GET", "/v1/connections/logs", log_endpoints.list_connections, ("late", "both")),
    Route("GET", "/v1/posts/([^/]+)/logs", log_endpoints.list_post_logs, ("late", "both")),
    Route("GET", "/v1/posts", status_endpoints.list_posts),
    Route("GET", "/v1/accounts", status_endpoints.list_accounts),
    Route("GET", "/v1/accounts/health", status_endpoints.check_accounts),
    Route("GET", "/v1/webhooks/settings", status_endpoints.list_webhooks),
    Route("GET", "/v1/billing", status_endpoints.show_billing),
    Route("GET", admin.ADMIN_PATH, admin.show_overview),
    Route("POST", f"{admin.ADMIN_PATH}/incidents/(.+)", admin.start_incident),
    Route("DELETE", f"{admin.ADMIN_PATH}/incidents/(.+)", admin.stop_incident),
)


class SimulatorResponse(msgspec.Struct, frozen=True):
    """Response of the simulated API."""

    status: int
    headers: dict[str, str]
    body: bytes


class SimulatedApi:
    """Endpoints of the API for logs and status, with authentication and rate limit; also an ASGI application.

    The status endpoints need a SimulatedWorld as source. Requests are logged if the source has a list ``api_request``.

    Args:
        source: Source of the logs.
        clock: Clock that returns the API's Unix time.
        keys: Accepted API keys; None for every well-formed key.
        rate_limit: Allowed requests per key in any 60 seconds; may change.
        customer_rate: Calls per minute of the customer's own software with each key that a client uses, from a minute
            before the client's first request on, but not before the start.
        generation: API generation whose log lists exist: ``late``, ``zernio`` or ``both``; may change.

    Attributes:
        customer_calls: Number of the customer's calls, by whether they were accepted.
    """

    def __init__(
        self,
        source: StaticLogs,
        *,
        clock: Callable[[], float],
        keys: Collection[str] | None = None,
        rate_limit: int = 600,
        customer_rate: int = 0,
        generation: str = "late",
    ) -> None:
        self.source = source
        self.rate_limit = rate_limit
        self.customer_rate = customer_rate
        self.customer_calls = Counter[bool]()
        self.generation = generation
        self._clock = clock
        self._keys = keys
        self._start = clock()
        self._quotas: dict[str, KeyQuota] = {}
        self._request_count = 0

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        """Answer an HTTP request. Date follows the clock of the API."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        address = (scope.get("client") or ("127.0.0.1", 0))[0]  # none on a Unix socket
        response = self.handle(
            scope["method"], scope["path"], scope["query_string"].decode("latin-1"), headers, address
        )
        fields = {**response.headers, "Content-Length": str(len(response.body))}
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": response.status, "headers": encoded})
        await send({"type": "http.response.body", "body": response.body})

    def handle(
        self, method: str, path: str, query: str, headers: Mapping[str, str], address: str = "127.0.0.1"
    ) -> SimulatorResponse:
        """Return the response to a request. The path may begin with ``/api``."""
        now = self._clock()
        self.source.advance(now)
        path = path.removeprefix("/api") if path.startswith("/api/") else path
        fields = {name.lower(): value for name, value in headers.items()}
        response_headers = {"Date": formatdate(now, usegmt=True), "X-Request-Id": self._next_request_id()}
        if path in ("/", "/-/healthy"):
            text = admin.WELCOME_TEXT.replace("HOST", fields.get("host", "localhost")) if path == "/" else HEALTHY_TEXT
            response_headers["Content-Type"] = "text/plain; charset=utf-8"
            return SimulatorResponse(HTTPStatus.OK, response_headers, text.encode())
        is_admin = path.startswith(admin.ADMIN_PATH)
        key, request = self._authenticate(fields.get("authorization", "")), Request(self, query, now)
        quota = KeyQuota(now) if key is None else self._quotas.setdefault(key, KeyQuota(max(self._start, now - 60)))
        self._make_customer_calls(now)
        try:
            if not is_admin:
                self._admit(key, quota, now)
            handler, request.argument = self._find_handler(method, path)
            status, document = HTTPStatus.OK, handler(request)
        except RequestRejected as rejection:
            status, document = rejection.status, rejection.document
        response_headers |= {"Content-Type": "application/json", **quota.headers(self.rate_limit, now)}
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            response_headers["Retry-After"] = str(ceil(quota.reset(self.rate_limit, now) - now))
        if key is not None and not is_admin:
            row = request_log(key, f"{method} {path}", status, document.get("error"), now)
            row |= {"ipAddress": address, "userAgent": fields.get("user-agent", "")}
            row |= {"requestId": response_headers["X-Request-Id"], "profileId": request.text("profileId")}
            self._log_request(row)
        return SimulatorResponse(status, response_headers, msgspec.json.encode(document))

    def _authenticate(self, authorization: str) -> str | None:
        """Return the key of an Authorization header, or None if it is not accepted."""
        scheme, _, key = authorization.partition(" ")
        is_accepted = bool(KEY_PATTERN.fullmatch(key)) if self._keys is None else key in self._keys
        return key if scheme == "Bearer" and is_accepted else None

    def _admit(self, key: str | None, quota: KeyQuota, now: float) -> None:
        """Raise RequestRejected if a key is missing or has no request left."""
        if key is None:
            raise RequestRejected(HTTPStatus.UNAUTHORIZED)
        if not quota.take_slot(self.rate_limit, now):
            raise RequestRejected(HTTPStatus.TOO_MANY_REQUESTS, QUOTA_EXCEEDED, code="rate_limit_exceeded")

    def _find_handler(self, method: str, path: str) -> tuple[Callable[[Request], JsonObject], str]:
        """Return the handler of a request and the argument in its path, or raise RequestRejected."""
        status = HTTPStatus.NOT_FOUND
        for route in ROUTES:
            match = re.fullmatch(route.path, path)
            if match and self.generation in route.generations:
                if route.method == method:
                    return route.handler, "".join(match.groups())
                status = HTTPStatus.METHOD_NOT_ALLOWED
        raise RequestRejected(status)

    def _make_customer_calls(self, now: float) -> None:
        """Make the calls of the customer's software that are due."""
        for key, quota in self._quotas.items():
            while self.customer_rate and quota.next_call <= now:
                time, quota.next_call = quota.next_call, quota.next_call + WINDOW_SECONDS / self.customer_rate
                is_accepted = quota.take_slot(self.rate_limit, time)
                self.customer_calls[is_accepted] += 1
                status, error = (HTTPStatus.OK, None) if is_accepted else (HTTPStatus.TOO_MANY_REQUESTS, QUOTA_EXCEEDED)
                row = request_log(key, "GET /v1/posts", status, error, time)
                self._log_request({**row, **CUSTOMER, "requestId": self._next_request_id()})

    def _log_request(self, row: LogRow) -> None:
        if "api_request" in self.source.activity:
            self.source.activity["api_request"].insert(row)

    def _next_request_id(self) -> str:
        self._request_count += 1
        return "req_" + hashed_id(f"request {self._start} {self._request_count}")

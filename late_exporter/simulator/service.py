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

from late_exporter.simulator import endpoints
from late_exporter.simulator.log_list import JsonObject, StaticLogs
from late_exporter.simulator.request import KeyQuota, Request, RequestRejected

KEY_PATTERN = re.compile(r"(?:sk|zrk)_[0-9a-f]{64}")
HEALTHY_TEXT = b"late-exporter is healthy\n"  # which late-exporter healthcheck expects
DOCS_URL = "https://docs.zernio.com"


class Route(msgspec.Struct, frozen=True):
    """Endpoint.

    Args:
        path: Regular expression of the path.
        handler: Return the response document of a request and the groups of its path, or raise
            RequestRejected.
        generations: Generations of a SimulatedApi that have it.
    """

    path: str
    handler: Callable[..., JsonObject]
    generations: tuple[str, ...] = ("late", "zernio", "both")


LATE = ("late", "both")
ROUTES = (
    Route("/v1/logs", endpoints.list_zernio_logs, ("zernio", "both")),
    Route("/v1/posts/logs", partial(endpoints.list_late_logs, "publishing"), LATE),
    Route("/v1/connections/logs", partial(endpoints.list_late_logs, "connections"), LATE),
    Route("/v1/posts/([^/]+)/logs", endpoints.list_post_logs, LATE),
    Route("/v1/posts", endpoints.list_posts),
    Route("/v1/accounts", endpoints.list_accounts),
    Route("/v1/accounts/health", endpoints.check_accounts),
    Route("/v1/webhooks/settings", endpoints.list_webhooks),
    Route("/v1/billing", endpoints.show_billing),
    Route("/v1/usage", endpoints.show_usage),
)
"""Endpoints, all of which answer to GET only."""


class SimulatorResponse(msgspec.Struct, frozen=True):
    """Response of the simulated API."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(kw_only=True, eq=False)
class SimulatedApi:
    """Endpoints of the API for logs and status, with authentication and rate limit.

    It is an ASGI application.

    The status endpoints need a SimulatedWorld as source.

    Args:
        source: Source of the logs.
        clock: Clock that returns the API's Unix time.
        keys: Accepted API keys; None for every well-formed key.
        rate_limit: Allowed requests per key in any 60 seconds; may change.
        customer_rate: Calls per minute of the customer's own software, which use the quota of each
            key.
        generation: API generation whose log lists exist: ``late``, ``zernio`` or ``both``; may
            change.
    """

    source: StaticLogs = field(kw_only=False)
    clock: Callable[[], float]
    keys: Collection[str] | None = None
    rate_limit: int = 600
    customer_rate: int = 0
    generation: str = "late"
    _quotas: dict[str, KeyQuota] = field(default_factory=dict, init=False)

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

        fields = {name.lower(): value for name, value in headers.items()}
        authorization = fields.get("authorization", "")
        quota = self._quotas.setdefault(authorization, KeyQuota())
        limit = self.rate_limit - self.customer_rate
        status = HTTPStatus.OK
        try:
            self._check_key(authorization)
            quota.take_slot(limit, now)
            request = Request(self.source, query, now)
            document = self._answer(request, method, path.removeprefix("/api"))
        except RequestRejected as rejection:
            status = rejection.status
            document = rejection.document

        reset = quota.reset(limit, now)
        response_headers = {
            "Content-Type": "application/json",
            "Date": formatdate(now, usegmt=True),
            "X-Request-Id": f"req_{uuid4().hex}",
            "X-RateLimit-Limit": str(self.rate_limit),
            "X-RateLimit-Remaining": str(quota.remaining(limit, now)),
            "X-RateLimit-Reset": str(ceil(reset)),
        }
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            response_headers["Retry-After"] = str(ceil(reset - now))
        return SimulatorResponse(status, response_headers, msgspec.json.encode(document))

    def _check_key(self, authorization: str) -> None:
        """Reject a request without an accepted key."""
        scheme, _, key = authorization.partition(" ")
        is_accepted = bool(KEY_PATTERN.fullmatch(key)) if self.keys is None else key in self.keys
        if scheme == "Bearer" and is_accepted:
            return

        code = "invalid_credentials"
        error = "Invalid API key."
        if not authorization:
            code = "missing_credentials"
            error = "Missing API key. Send it as Authorization: Bearer <your API key>."
        raise RequestRejected(
            HTTPStatus.UNAUTHORIZED, error, code=code, type="authentication_error", docUrl=DOCS_URL
        )

    def _answer(self, request: Request, method: str, path: str) -> JsonObject:
        """Return the document that answers a request, or raise RequestRejected."""
        for route in ROUTES:
            match = re.fullmatch(route.path, path)
            if match and self.generation in route.generations:
                if method != "GET":
                    raise RequestRejected(HTTPStatus.METHOD_NOT_ALLOWED)
                return route.handler(request, *match.groups())
        raise RequestRejected(HTTPStatus.NOT_FOUND)

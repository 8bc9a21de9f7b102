"""Request handling of the simulated API, independent of any HTTP server."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from email.utils import formatdate
from http import HTTPStatus

import msgspec

from late_exporter.simulator.access import AccessControl
from late_exporter.simulator.accounts import hashed_id
from late_exporter.simulator.admin import ADMIN_PATH, AdminEndpoints, LogSource, welcome_page
from late_exporter.simulator.customer import CustomerTraffic
from late_exporter.simulator.late_lists import list_connections, list_post_logs, list_publishing
from late_exporter.simulator.log_list import JsonObject, LogList
from late_exporter.simulator.query import QueryParameters, RequestRejected
from late_exporter.simulator.rate_limit import RateLimits, SlidingWindow
from late_exporter.simulator.request_log import CUSTOMER_ADDRESS, CUSTOMER_AGENT, ApiRequest, request_row
from late_exporter.simulator.status_endpoints import STATUS_ENDPOINTS
from late_exporter.simulator.world import SimulatedWorld
from late_exporter.simulator.zernio_list import list_logs

ZERNIO_PATH = "/v1/logs"
LATE_LISTS = {"/v1/posts/logs": list_publishing, "/v1/connections/logs": list_connections}
POST_LOGS_PATH = re.compile(r"/v1/posts/([^/]+)/logs")
CUSTOMER_PATH = "/v1/posts"
HEALTHY_TEXT = b"late-exporter is healthy\n"  # which late-exporter healthcheck expects
QUOTA_EXCEEDED = "Rate limit exceeded. Please try again later."


class SimulatorResponse(msgspec.Struct, frozen=True):
    """Response of the simulated API."""

    status: int
    headers: dict[str, str]
    body: bytes


class StaticLogs:
    """Log lists that change only by their own methods.

    Requests are logged if ``activity`` has a list ``api_request``.
    """

    def __init__(
        self,
        publishing: LogList | None = None,
        connections: LogList | None = None,
        activity: Mapping[str, LogList] | None = None,
    ) -> None:
        self.publishing = LogList() if publishing is None else publishing
        self.connections = LogList() if connections is None else connections
        self.activity: Mapping[str, LogList] = {} if activity is None else activity

    def advance(self, now: float) -> None:
        pass


class SimulatedApi:
    """Endpoints of the API for logs and status, with authentication and rate limit.

    The status endpoints need a SimulatedWorld as source. Requests are logged in the source's list ``api_request``.

    Args:
        source: Source of the logs, a SimulatedWorld or StaticLogs.
        clock: Clock that returns the API's Unix time.
        keys: Accepted API keys; None for every well-formed key.
        resource_groups: Resource groups that keys beginning with ``zrk_`` may use; None for all.
        rate_limit: Allowed requests per key in any 60 seconds.
        customer_rate: Calls per minute of the customer's own software, which uses the same key.
        max_skip: Greatest accepted ``skip`` of the log lists; None for no maximum.
        generation: API generation whose log lists exist, one of GENERATIONS.
    """

    def __init__(
        self,
        source: LogSource,
        *,
        clock: Callable[[], float],
        keys: Collection[str] | None = None,
        resource_groups: Collection[str] | None = None,
        rate_limit: int = 600,
        customer_rate: int = 0,
        max_skip: int | None = None,
        generation: str = "late",
    ) -> None:
        self._source = source
        self._clock = clock
        self._access = AccessControl(keys, resource_groups)
        self._rate_limits = RateLimits(rate_limit)
        self._start = clock()
        self._customer = CustomerTraffic(customer_rate, self._start, self._make_customer_call)
        self._max_skip = max_skip
        self._admin = AdminEndpoints(source, generation, self._customer)
        self._request_count = 0

    @property
    def generation(self) -> str:
        """API generation whose log lists exist. Setting an unknown one raises ConfigError."""
        return self._admin.generation

    @generation.setter
    def generation(self, name: str) -> None:
        self._admin.set_generation(name)

    @property
    def rate_limit(self) -> int:
        """Allowed requests per key in any 60 seconds; may change."""
        return self._rate_limits.limit

    @rate_limit.setter
    def rate_limit(self, limit: int) -> None:
        self._rate_limits.limit = limit

    @property
    def customer_calls(self) -> int:
        """Number of the customer's calls until now."""
        self._customer.run_until(self._clock())
        return self._customer.call_count

    @property
    def customer_refusals(self) -> int:
        """Number of the customer's calls until now that were refused with 429."""
        self._customer.run_until(self._clock())
        return self._customer.refusal_count

    def handle(
        self, method: str, path: str, query: str, headers: Mapping[str, str], *, ip_address: str = "127.0.0.1"
    ) -> SimulatorResponse:
        """Return the response to a request.

        The path may begin with ``/api``.
        """
        now = self._clock()
        self._source.advance(now)
        self._customer.run_until(now)
        route = path.removeprefix("/api") if path.startswith("/api/") else path
        response_headers = {
            "Content-Type": "application/json",
            "Date": formatdate(now, usegmt=True),
            "X-Request-Id": self._next_request_id(),
            **self._rate_limits.unused_window().headers(now),
        }
        if route in ("/", "/-/healthy"):
            response_headers["Content-Type"] = "text/plain; charset=utf-8"
            text = welcome_page(_header(headers, "host")) if route == "/" else HEALTHY_TEXT
            return SimulatorResponse(HTTPStatus.OK, response_headers, text)
        parameters = QueryParameters(query)
        if route.startswith(ADMIN_PATH):
            status, document = _answer(lambda: self._admin.handle(method, route, parameters))
            return SimulatorResponse(status, response_headers, msgspec.json.encode(document))
        try:
            key = self._access.authenticate(_header(headers, "authorization"))
        except RequestRejected as rejection:
            return SimulatorResponse(rejection.status, response_headers, msgspec.json.encode(rejection.document))
        request = ApiRequest(
            key=key,
            method=method,
            path=route,
            request_id=response_headers["X-Request-Id"],
            ip_address=ip_address,
            user_agent=_header(headers, "user-agent"),
            profile_id=parameters.text("profileId") or None,
        )
        self._customer.add_key(key, now)
        window = self._rate_limits.window(key, now)
        status, document = _answer(lambda: self._handle_api(request, parameters, window, now))
        response_headers |= window.headers(now)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            response_headers["Retry-After"] = str(window.retry_after(now))
        self._log_request(request, status, document, now)
        return SimulatorResponse(status, response_headers, msgspec.json.encode(document))

    def _handle_api(
        self, request: ApiRequest, parameters: QueryParameters, window: SlidingWindow, now: float
    ) -> JsonObject:
        if not window.take_slot(now):
            raise RequestRejected(HTTPStatus.TOO_MANY_REQUESTS, QUOTA_EXCEEDED, code="rate_limit_exceeded")
        self._access.authorize(request.key, request.path)
        endpoint = self._find_endpoint(request.path)
        if endpoint is None:
            raise RequestRejected(HTTPStatus.NOT_FOUND)
        if request.method != "GET":
            raise RequestRejected(HTTPStatus.METHOD_NOT_ALLOWED)
        return endpoint(parameters, now)

    def _find_endpoint(self, route: str) -> Callable[[QueryParameters, float], JsonObject] | None:
        """Return the function that answers a path, None if the generation has no such path."""
        source, max_skip = self._source, self._max_skip
        if route == ZERNIO_PATH and self.generation != "late":
            return lambda parameters, now: list_logs(source, parameters, now, max_skip)
        if isinstance(source, SimulatedWorld) and (show_status := STATUS_ENDPOINTS.get(route)):
            return lambda parameters, now: show_status(source, parameters, now)
        if self.generation == "zernio":
            return None
        if show_list := LATE_LISTS.get(route):
            return lambda parameters, now: show_list(source, parameters, now, max_skip)
        if post_match := POST_LOGS_PATH.fullmatch(route):
            return lambda parameters, _: list_post_logs(source, post_match[1], parameters)
        return None

    def _make_customer_call(self, key: str, time: float) -> bool:
        """Make a call of the customer's software with a key; return False if it is refused."""
        is_accepted = self._rate_limits.window(key, time).take_slot(time)
        request = ApiRequest(
            key=key,
            method="GET",
            path=CUSTOMER_PATH,
            request_id=self._next_request_id(),
            ip_address=CUSTOMER_ADDRESS,
            user_agent=CUSTOMER_AGENT,
        )
        status = HTTPStatus.OK if is_accepted else HTTPStatus.TOO_MANY_REQUESTS
        self._log_request(request, status, {} if is_accepted else {"error": QUOTA_EXCEEDED}, time)
        return is_accepted

    def _log_request(self, request: ApiRequest, status: HTTPStatus, document: JsonObject, time: float) -> None:
        request_logs = self._source.activity.get("api_request")
        if request_logs is not None:
            error = document["error"] if status >= HTTPStatus.BAD_REQUEST else None
            request_logs.insert(request_row(request, status, error, time))

    def _next_request_id(self) -> str:
        self._request_count += 1
        return "req_" + hashed_id(f"request {self._start} {self._request_count}")


def _answer(handle: Callable[[], JsonObject]) -> tuple[HTTPStatus, JsonObject]:
    """Return status and document of the response of a handler."""
    try:
        return HTTPStatus.OK, handle()
    except RequestRejected as rejection:
        return rejection.status, rejection.document


def _header(headers: Mapping[str, str], header_name: str) -> str:
    return next((value for name, value in headers.items() if name.lower() == header_name), "")

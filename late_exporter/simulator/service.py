"""Request handling of the simulated API, independent of any HTTP server."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import msgspec

from late_exporter.simulator.admin import AdminEndpoints, LogSource, welcome_page
from late_exporter.simulator.events import DAY
from late_exporter.simulator.log_list import JsonObject, LogList, LogRow, nested_object, page_document, post_id
from late_exporter.simulator.platforms import PLATFORMS
from late_exporter.simulator.query import QueryParameters, RequestRejected
from late_exporter.simulator.zernio_list import STATUSES, list_logs

PUBLISHING_ACTIONS = ("publish", "retry", "media_upload", "rate_limit_pause", "token_refresh", "cancelled")
CONNECTION_EVENTS = ("connect_success", "connect_failed", "disconnect", "reconnect_success", "reconnect_failed")
CONNECTION_RESULTS = ("success", "failed")
MAX_DAYS = 7
MAX_LIMIT = 100
WINDOW_SECONDS = 60

ZERNIO_PATH = "/v1/logs"
LIST_PATHS = ("/v1/posts/logs", "/v1/connections/logs", ZERNIO_PATH)
POST_LOGS_PATH = re.compile(r"/v1/posts/([^/]+)/logs")
BEARER_HEADER = re.compile(r"Bearer (\S+)")
KEY_PATTERN = re.compile(r"sk_[0-9a-f]{64}")


class SimulatorResponse(msgspec.Struct, frozen=True):
    """Response of the simulated API."""

    status: int
    headers: dict[str, str]
    body: bytes


class StaticLogs:
    """Log lists that change only by their own methods."""

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
    """Log endpoints of the API, with authentication and rate limit.

    Args:
        source: Source of the logs, a SimulatedWorld or StaticLogs.
        clock: Clock that returns the API's Unix time.
        keys: Accepted API keys; None for every well-formed key.
        rate_limit: Allowed requests per key and minute.
        generation: API generation whose endpoints exist, one of GENERATIONS.
    """

    def __init__(
        self,
        source: LogSource,
        *,
        clock: Callable[[], float],
        keys: Collection[str] | None = None,
        rate_limit: int = 600,
        generation: str = "late",
    ) -> None:
        self._source = source
        self._admin = AdminEndpoints(source, generation)
        self._clock = clock
        self._keys = keys
        self._rate_limit = rate_limit
        self._window_number = 0
        self._request_counts: dict[str, int] = {}

    @property
    def generation(self) -> str:
        """API generation whose endpoints exist. Setting an unknown one raises ConfigError."""
        return self._admin.generation

    @generation.setter
    def generation(self, name: str) -> None:
        self._admin.set_generation(name)

    def handle(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> SimulatorResponse:
        """Return the response to a request.

        The path may begin with ``/api``.
        """
        now = self._clock()
        self._source.advance(now)
        self._update_window(now)
        route = path.removeprefix("/api") if path.startswith("/api/") else path
        response_headers = {"Content-Type": "application/json", "Date": formatdate(now, usegmt=True)}
        if route in ("/", "/-/healthy"):
            response_headers["Content-Type"] = "text/plain; charset=utf-8"
            return SimulatorResponse(HTTPStatus.OK, response_headers, welcome_page(_header(headers, "host")))
        status, key = HTTPStatus.OK, _bearer_key(headers)
        try:
            if route.startswith("/_simulator"):
                document = self._admin.handle(method, route, QueryParameters(query))
            else:
                self._authorize(key)
                document = self._handle_api(method, route, QueryParameters(query), now)
        except RequestRejected as rejection:
            status, document = rejection.status, rejection.document
        response_headers |= self._rate_limit_headers(key)
        return SimulatorResponse(status, response_headers, msgspec.json.encode(document))

    def _update_window(self, now: float) -> None:
        window = int(now // WINDOW_SECONDS)
        if self._window_number != window:
            self._window_number, self._request_counts = window, {}

    def _authorize(self, key: str) -> None:
        if not (KEY_PATTERN.fullmatch(key) if self._keys is None else key in self._keys):
            raise RequestRejected(HTTPStatus.UNAUTHORIZED)
        if self._request_counts.get(key, 0) >= self._rate_limit:
            raise RequestRejected(HTTPStatus.TOO_MANY_REQUESTS, "Rate limit exceeded. Please try again later.")
        self._request_counts[key] = self._request_counts.get(key, 0) + 1

    def _handle_api(self, method: str, route: str, parameters: QueryParameters, now: float) -> JsonObject:
        post_match = POST_LOGS_PATH.fullmatch(route)
        other_generation = "late" if route == ZERNIO_PATH else "zernio"
        if self.generation == other_generation or not (post_match or route in LIST_PATHS):
            raise RequestRejected(HTTPStatus.NOT_FOUND)
        if method != "GET":
            raise RequestRejected(HTTPStatus.METHOD_NOT_ALLOWED)
        if post_match:
            return self._list_post_logs(post_match[1], parameters)
        if route == ZERNIO_PATH:
            return list_logs(self._source, parameters, now)
        if route == "/v1/posts/logs":
            return self._list_publishing(parameters, now)
        return self._list_connections(parameters, now)

    def _list_publishing(self, parameters: QueryParameters, now: float) -> JsonObject:
        status = parameters.choice("status", STATUSES)
        fields = parameters.filters(platform=PLATFORMS, action=PUBLISHING_ACTIONS)
        search = parameters.text("search").casefold()

        def matches(row: LogRow) -> bool:
            return fields.items() <= row.items() and (not search or search in _search_text(row))

        predicate = matches if fields or search else None
        return _list_page(self._source.publishing, parameters, now, predicate, status)

    def _list_connections(self, parameters: QueryParameters, now: float) -> JsonObject:
        result = parameters.choice("status", CONNECTION_RESULTS)
        fields = parameters.filters(platform=PLATFORMS, eventType=CONNECTION_EVENTS)

        def matches(row: LogRow) -> bool:
            row_result = str(row.get("eventType")).rpartition("_")[2]
            return result in {None, row_result} and fields.items() <= row.items()

        return _list_page(self._source.connections, parameters, now, matches if fields or result else None)

    def _list_post_logs(self, requested_id: str, parameters: QueryParameters) -> JsonObject:
        limit = parameters.integer("limit", 50, 1, MAX_LIMIT)
        parameters.raise_errors()
        rows = self._source.publishing.rows_of_post(requested_id)[:limit]
        if not rows:
            raise RequestRejected(HTTPStatus.NOT_FOUND)
        return {"logs": [{**row, "postId": post_id(row)} for row in rows], "count": len(rows), "postId": requested_id}

    def _rate_limit_headers(self, key: str) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self._rate_limit),
            "X-RateLimit-Remaining": str(self._rate_limit - self._request_counts.get(key, 0)),
            "X-RateLimit-Reset": str((self._window_number + 1) * WINDOW_SECONDS),
        }


def _bearer_key(headers: Mapping[str, str]) -> str:
    bearer = BEARER_HEADER.fullmatch(_header(headers, "authorization"))
    return bearer[1] if bearer else ""


def _header(headers: Mapping[str, str], header_name: str) -> str:
    return next((value for name, value in headers.items() if name.lower() == header_name), "")


def _list_page(
    log_list: LogList,
    parameters: QueryParameters,
    now: float,
    predicate: Callable[[LogRow], bool] | None,
    status: str | None = None,
) -> JsonObject:
    limit = parameters.integer("limit", 50, 1, MAX_LIMIT)
    skip = parameters.integer("skip", 0, 0)
    since = now - DAY * parameters.integer("days", MAX_DAYS, 1, MAX_DAYS)
    parameters.raise_errors()
    rows, total = log_list.page(skip, limit, predicate, since=since, status=status)
    return page_document(rows, total, limit=limit, skip=skip)


def _search_text(row: LogRow) -> str:
    """Return the text that ``search`` looks for matches in: post, account, and response of the platform."""
    post, request, response = (nested_object(row, name) for name in ("postId", "request", "response"))
    texts: Sequence[Any] = (
        post_id(row),
        post.get("content"),
        row.get("accountUsername"),
        request.get("contentPreview"),
        response.get("errorMessage"),
        response.get("errorCode"),
        response.get("platformPostId"),
    )
    return "\n".join(text for text in texts if isinstance(text, str)).casefold()

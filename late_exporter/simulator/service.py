"""The HTTP face of the simulated API, without a network: a request in, an answer out."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import msgspec

from late_exporter.errors import ConfigError
from late_exporter.simulator.admin import Console, Source, welcome
from late_exporter.simulator.events import DAY
from late_exporter.simulator.log_list import Archive, Row, listed, post_id
from late_exporter.simulator.platforms import PLATFORMS
from late_exporter.simulator.query import Parameters, Refusal
from late_exporter.simulator.zernio_list import STATUSES, unified

__all__ = ["GENERATIONS", "Answer", "Archives", "Service"]

ACTIONS = ("publish", "retry", "media_upload", "rate_limit_pause", "token_refresh", "cancelled")
EVENTS = ("connect_success", "connect_failed", "disconnect", "reconnect_success", "reconnect_failed")
RESULTS = ("success", "failed")
MAX_DAYS = 7
MAX_LIMIT = 100
WINDOW = 60

GENERATIONS = ("late", "zernio", "both")
UNIFIED = "/v1/logs"
ENDPOINTS = ("/v1/posts/logs", "/v1/connections/logs", UNIFIED)
POST_LOGS = re.compile(r"/v1/posts/([^/]+)/logs")
BEARER = re.compile(r"Bearer (\S+)")
WELL_FORMED = re.compile(r"sk_[0-9a-f]{64}")


class Answer(msgspec.Struct, frozen=True):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Archives:
    """Archives in which nothing happens by itself."""

    def __init__(
        self,
        publishing: Archive | None = None,
        connections: Archive | None = None,
        activity: Mapping[str, Archive] | None = None,
    ) -> None:
        self.publishing = Archive() if publishing is None else publishing
        self.connections = Archive() if connections is None else connections
        self.activity: Mapping[str, Archive] = {} if activity is None else activity

    def advance(self, now: float) -> None:
        """Do nothing."""


class Service:
    """The log endpoints of the API, with their keys and limits.

    Args:
        source: A World or Archives.
        clock: The API's time, in Unix seconds.
        keys: The keys that are let in; None lets in every well-formed one.
        rate_limit: Requests a key and minute.
        generation: Which endpoints there are: one of GENERATIONS.
    """

    def __init__(
        self,
        source: Source,
        *,
        clock: Callable[[], float],
        keys: Collection[str] | None = None,
        rate_limit: int = 600,
        generation: str = "late",
    ) -> None:
        self._source = source
        self._console = Console(source, self)
        self._clock = clock
        self._keys = keys
        self._rate_limit = rate_limit
        self._window = 0
        self._used: dict[str, int] = {}
        self.generation = generation

    @property
    def generation(self) -> str:
        """Which endpoints there are; another one than those of GENERATIONS raises ConfigError."""
        return self._generation

    @generation.setter
    def generation(self, name: str) -> None:
        if name not in GENERATIONS:
            raise ConfigError(f"unknown generation {name!r}: use one of {', '.join(GENERATIONS)}")
        self._generation = name

    def answer(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> Answer:
        """Answer a request.

        Args:
            method: In capitals.
            path: Without the query string, with or without a leading ``/api``.
            query: Without its question mark.
            headers: Their names in any case.
        """
        now = self._clock()
        self._source.advance(now)
        self._turn_window(now)
        route = path.removeprefix("/api") if path.startswith("/api/") else path
        answered = {"Content-Type": "application/json", "Date": formatdate(now, usegmt=True)}
        if route in ("/", "/-/healthy"):
            text = {"Content-Type": "text/plain; charset=utf-8"}
            return Answer(HTTPStatus.OK, answered | text, welcome(_header(headers, "host")))
        status, key = HTTPStatus.OK, _bearer(headers)
        try:
            if route.startswith("/_simulator"):
                document = self._console.document(method, route, Parameters(query))
            else:
                self._admit(key)
                document = self._document(method, route, Parameters(query), now)
        except Refusal as refusal:
            status, document = refusal.status, refusal.document
        return Answer(status, answered | self._quota(key), msgspec.json.encode(document))

    def _turn_window(self, now: float) -> None:
        window = int(now // WINDOW)
        if self._window != window:
            self._window, self._used = window, {}

    def _admit(self, key: str) -> None:
        if not (WELL_FORMED.fullmatch(key) if self._keys is None else key in self._keys):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "Unauthorized")
        if self._used.get(key, 0) >= self._rate_limit:
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "Rate limit exceeded. Please try again later.")
        self._used[key] = self._used.get(key, 0) + 1

    def _document(self, method: str, route: str, parameters: Parameters, now: float) -> Row:
        post = POST_LOGS.fullmatch(route)
        if self._generation == _retired(route) or not (post or route in ENDPOINTS):
            raise Refusal(HTTPStatus.NOT_FOUND, "Not found")
        if method != "GET":
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")
        if post:
            return self._post(post[1], parameters)
        if route == UNIFIED:
            return unified(self._source, parameters, now)
        return self._publishing(parameters, now) if route == "/v1/posts/logs" else self._connections(parameters, now)

    def _publishing(self, parameters: Parameters, now: float) -> Row:
        status = parameters.choice("status", STATUSES)
        wanted = {"platform": parameters.choice("platform", PLATFORMS), "action": parameters.choice("action", ACTIONS)}
        search = parameters.text("search").casefold()
        fields = {name: value for name, value in wanted.items() if value is not None}

        def keep(row: Row) -> bool:
            return fields.items() <= row.items() and (not search or search in _searchable(row))

        matching = keep if fields or search else None
        return _page(self._source.publishing, parameters, now, matching, status)

    def _connections(self, parameters: Parameters, now: float) -> Row:
        result = parameters.choice("status", RESULTS)
        wanted = {
            "platform": parameters.choice("platform", PLATFORMS),
            "eventType": parameters.choice("eventType", EVENTS),
        }
        fields = {name: value for name, value in wanted.items() if value is not None}

        def keep(row: Row) -> bool:
            ending = str(row.get("eventType")).rpartition("_")[2]
            return result in {None, ending} and fields.items() <= row.items()

        return _page(self._source.connections, parameters, now, keep if fields or result else None)

    def _post(self, post: str, parameters: Parameters) -> Row:
        limit = parameters.number("limit", 50, 1, MAX_LIMIT)
        parameters.check()
        rows = self._source.publishing.of_post(post)[:limit]
        if not rows:
            raise Refusal(HTTPStatus.NOT_FOUND, "Not found")
        return {"logs": [{**row, "postId": post_id(row)} for row in rows], "count": len(rows), "postId": post}

    def _quota(self, key: str) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self._rate_limit),
            "X-RateLimit-Remaining": str(self._rate_limit - self._used.get(key, 0)),
            "X-RateLimit-Reset": str((self._window + 1) * WINDOW),
        }


def _retired(route: str) -> str:
    """The generation that lacks an endpoint of the other."""
    return "late" if route == UNIFIED else "zernio"


def _bearer(headers: Mapping[str, str]) -> str:
    bearer = BEARER.fullmatch(_header(headers, "authorization"))
    return bearer[1] if bearer else ""


def _header(headers: Mapping[str, str], wanted: str) -> str:
    return next((value for name, value in headers.items() if name.lower() == wanted), "")


def _page(
    archive: Archive,
    parameters: Parameters,
    now: float,
    keep: Callable[[Row], bool] | None,
    status: str | None = None,
) -> Row:
    limit = parameters.number("limit", 50, 1, MAX_LIMIT)
    skip = parameters.number("skip", 0, 0)
    since = now - DAY * parameters.number("days", MAX_DAYS, 1, MAX_DAYS)
    parameters.check()
    rows, total = archive.page(skip, limit, keep, since=since, status=status)
    return listed(rows, total, limit=limit, skip=skip)


def _searchable(row: Row) -> str:
    """What ``search`` looks through: the post, the account, and what the platform said."""
    post, request, response = (_object(row, name) for name in ("postId", "request", "response"))
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


def _object(row: Row, name: str) -> Row:
    found = row.get(name)
    return found if isinstance(found, dict) else {}

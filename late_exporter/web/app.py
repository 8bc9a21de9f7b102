"""ASGI application of metrics, status page, health and life cycle; it only reads memory."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import TypeAlias
from urllib.parse import parse_qs

import msgspec

from late_exporter.errors import ExporterStopping, LateError
from late_exporter.exposition.exposition import BodyRequest, Exposition
from late_exporter.health import ClusterHealth, Failure, FeedHealth, SyncProgress, WorkspaceHealth
from late_exporter.web.findings import StatusDocument
from late_exporter.web.replies import (
    AccessError,
    Headers,
    Message,
    Receive,
    Reply,
    Send,
    SharedReplies,
    get_header,
    send_reply,
    text_reply,
)
from late_exporter.web.status_page import (
    REFRESH_SECONDS,
    STYLE,
    render_failures,
    render_page,
    render_runbook,
)
from late_exporter.web.thread import call_in_loop
from late_exporter.web.verdicts import polling_state, progress_text, single_line

READ_METHODS = ("GET", "HEAD")
LIFECYCLE_METHODS = ("POST", "PUT")
BROWSER_HEADERS = (b"origin", b"referer", b"sec-fetch-site")
JSON_TYPE = "application/json"
HTML_TYPE = "text/html"

MAX_REASONS = 50
"""Maximum number of feeds that are listed as not ready."""

MAX_PAGE_BYTES = 2 << 20
MAX_WORKSPACES = 100
"""Maximum number of workspaces on a page; fewer if it were larger than MAX_PAGE_BYTES."""

PAGE_SECONDS = 3.0
"""Seconds for which a page is given to further requests: many slow readers share few copies."""

MAX_WAITING_PAGES = 10
MAX_WAITING_BODIES = 50
"""Bodies of the metrics of single workspaces that may wait to be made."""

STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REFRESH_HEADER = ("refresh", str(REFRESH_SECONDS))
"""Reload of a page, unless its address says ``refresh=off``.

A header works without a script, which the policy of the pages does not allow.
"""

PAGE_HEADERS: Headers = (
    ("content-type", "text/html; charset=utf-8"),
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
)

Handler: TypeAlias = Callable[[Message], Awaitable[Reply]]


class HealthSource(msgspec.Struct, frozen=True, kw_only=True):
    """Callbacks that report the health and the configuration of the exporter.

    Args:
        workspaces: Returns what the status page shows. Other tasks run between two workspaces.
        failures: Returns the last failures of each workspace, with its name.
        unsynced_feeds: Returns the feeds that are not ready, each with the name of its workspace.
        configuration: Returns the configuration in force as YAML, without secrets.
        reload_error: Returns why the last reload failed; empty if it did not.
        cluster: Returns the replicas that share the state; None if it is not shared.
        unready_reason: Returns why the process as a whole is not ready; empty if it is.
        names: Returns the names of all workspaces; called from any thread.
        visible_workspaces: Returns those of them whose series may be shown now; called from any
            thread for each scrape. None shows all.
    """

    workspaces: Callable[[], Iterable[WorkspaceHealth]] = tuple
    failures: Callable[[], Iterable[tuple[str, Sequence[Failure]]]] = tuple
    unsynced_feeds: Callable[[], Iterable[tuple[str, FeedHealth]]] = tuple
    configuration: Callable[[], str] = str
    reload_error: Callable[[], str] = str
    cluster: Callable[[], ClusterHealth | None] = lambda: None
    unready_reason: Callable[[], str] = str
    names: Callable[[], Collection[str]] = tuple
    visible_workspaces: Callable[[], Awaitable[AbstractSet[str]]] | None = None


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True):
    """Callbacks of ``/-/reload``, which may raise LateError, and of ``/-/quit``."""

    reload: Callable[[], Awaitable[None]]
    quit: Callable[[], None]


class ExporterApp:
    """The application, for the event loop of the web server.

    It asks for the health on the loop on which it was created, that of the exporter; the metrics
    need not wait for that loop.

    Args:
        exposition: The series.
        clock: Returns the Unix time.
        lifecycle: The life cycle API rejects all requests without it.
        runbooks: Returns the runbooks by the name of their alert.
    """

    def __init__(
        self,
        health: HealthSource,
        exposition: Exposition,
        *,
        version: str,
        telemetry_path: str = "/metrics",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        lifecycle: Lifecycle | None = None,
        runbooks: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._exporter_loop = asyncio.get_running_loop()
        self._health = health
        self._exposition = exposition
        self._version = version
        self._clock = clock
        self._lifecycle = lifecycle
        self._runbooks = runbooks
        self._paths = (telemetry_path, "/config", "/-/healthy", "/-/ready")
        self._pages = SharedReplies(
            max_waiting=MAX_WAITING_PAGES, seconds=PAGE_SECONDS, monotonic=monotonic
        )
        # Bodies of single workspaces are made apart, so that none of them delays a whole scrape.
        self._whole_bodies = SharedReplies(max_waiting=MAX_WAITING_BODIES)
        self._part_bodies = SharedReplies(max_waiting=MAX_WAITING_BODIES)

        call = partial(partial, call_in_loop, self._exporter_loop)
        self._routes: dict[str, tuple[Sequence[str], Handler]] = {
            "/": (READ_METHODS, self._status_page),
            "/config": (READ_METHODS, call(self._configuration)),
            "/-/healthy": (READ_METHODS, call(self._liveness)),
            "/-/ready": (READ_METHODS, call(self._readiness)),
            "/-/reload": (LIFECYCLE_METHODS, call(self._reload)),
            "/-/quit": (LIFECYCLE_METHODS, call(self._quit)),
            telemetry_path: (READ_METHODS, self._metrics),
        }

    async def __call__(self, scope: Message, _: Receive, send: Send) -> None:
        try:
            handle = self._find_handler(scope)
            reply = await handle(scope)
        except AccessError as exc:
            reply = exc.reply()
        await send_reply(reply, scope, send)

    def _find_handler(self, scope: Message) -> Handler:
        """Return the handler of a request; raise AccessError if there is none."""
        path = scope["path"]
        methods: Sequence[str] = READ_METHODS
        handle: Handler
        if path in self._routes:
            methods, handle = self._routes[path]
        elif path.startswith(("/platforms/", "/accounts/")):
            handle = self._failure_page
        elif path.startswith("/runbooks/"):
            handle = self._runbook
        else:
            raise AccessError(HTTPStatus.NOT_FOUND)
        if scope["method"] not in methods:
            allowed = ("allow", ", ".join(methods))
            raise AccessError(HTTPStatus.METHOD_NOT_ALLOWED, "", allowed)
        return handle

    async def _metrics(self, scope: Message) -> Reply:
        selected = self._select_workspaces(scope)
        visible = None
        if self._health.visible_workspaces is not None:
            visible = await self._health.visible_workspaces()
        accept = get_header(scope, b"accept")
        encoding = get_header(scope, b"accept-encoding")
        request = BodyRequest.of(accept, encoding, selected, visible)

        async def make() -> Reply:
            return _metrics_reply(
                request, await asyncio.to_thread(self._exposition.get_body, request)
            )

        body = self._exposition.find_body(request)
        if body is not None:
            return _metrics_reply(request, body)
        bodies = self._whole_bodies if request.is_whole else self._part_bodies
        return await bodies.get(request, make)

    def _select_workspaces(self, scope: Message) -> AbstractSet[str] | None:
        """Return the workspaces that a query asks for, or None if it asks for everything.

        Raises:
            AccessError: One of them does not exist.
        """
        query = scope.get("query_string", b"").decode("latin-1")
        selected = parse_qs(query, keep_blank_values=True).get("workspace")
        if selected is None:
            return None
        if not {*selected} <= {*self._health.names()}:
            raise AccessError(HTTPStatus.NOT_FOUND, "unknown workspace")
        return {*selected}

    async def _status_page(self, scope: Message) -> Reply:
        accept = get_header(scope, b"accept").lower()
        as_json = JSON_TYPE in accept and HTML_TYPE not in accept
        if as_json:
            return await self._pages.get(("/", "json"), partial(self._make_status_page, None))
        reloads = _is_reloading(scope)
        return await self._pages.get(("/", reloads), partial(self._make_status_page, reloads))

    async def _make_status_page(self, reloads: bool | None) -> Reply:  # noqa: FBT001 - half of the key
        """Return the page, which reloads itself or not, or None for the same as JSON."""

        async def gather() -> tuple[StatusDocument, AbstractSet[str]]:
            workspaces: list[WorkspaceHealth] = []
            for workspace in self._health.workspaces():
                workspaces.append(workspace)
                await asyncio.sleep(0)
            subjects: set[str] = set()
            for _, failures in self._health.failures():
                subjects.update(f"platforms/{each.platform}" for each in failures)
                subjects.update(f"accounts/{each.account_id}" for each in failures)
                await asyncio.sleep(0)
            document = StatusDocument.of(
                workspaces,
                version=self._version,
                now=self._clock(),
                cluster=self._health.cluster(),
                reload_error=self._health.reload_error(),
            )
            return document, subjects

        document, subjects = await call_in_loop(self._exporter_loop, gather)

        def render() -> Reply:
            count = MAX_WORKSPACES
            while True:
                shown = document.shorten(count)
                if reloads is None:
                    body = shown.to_json()
                else:
                    html = render_page(shown, subjects, self._paths, reloads=reloads)
                    body = html.encode("utf-8", "replace")
                if len(body) <= MAX_PAGE_BYTES or not count:
                    break
                count //= 2
            if reloads is None:
                return Reply(body=body, headers=(("content-type", JSON_TYPE),))
            return _page_reply(body, reloads=reloads)

        return await asyncio.to_thread(render)

    async def _failure_page(self, scope: Message) -> Reply:
        """Reply with the last failures of a platform or an account."""
        kind, _, name = scope["path"][1:].partition("/")

        async def find() -> Sequence[tuple[str, Failure]]:
            found: list[tuple[str, Failure]] = []
            for workspace, failures in self._health.failures():
                for each in failures:
                    subject = each.platform if kind == "platforms" else each.account_id
                    if subject == name:
                        found.append((workspace, each))
                await asyncio.sleep(0)
            return found

        failures = await call_in_loop(self._exporter_loop, find)
        if not name or not failures:
            raise AccessError(HTTPStatus.NOT_FOUND)

        reloads = _is_reloading(scope)

        async def make() -> Reply:
            html = await asyncio.to_thread(
                render_failures,
                kind,
                failures,
                now=self._clock(),
                version=self._version,
                paths=self._paths,
                reloads=reloads,
            )
            return _page_reply(html.encode("utf-8", "replace"), reloads=reloads)

        return await self._pages.get((kind, name, reloads), make)

    async def _runbook(self, scope: Message) -> Reply:
        texts = await asyncio.to_thread(self._runbooks)
        name = scope["path"].removeprefix("/runbooks/").removesuffix(".md")
        if name not in texts:
            raise AccessError(HTTPStatus.NOT_FOUND, "there is no such runbook")
        if HTML_TYPE not in get_header(scope, b"accept").lower():
            return text_reply(texts[name])

        async def make() -> Reply:
            html = await asyncio.to_thread(
                render_runbook,
                name,
                texts,
                now=self._clock(),
                version=self._version,
                paths=self._paths,
            )
            return _page_reply(html.encode("utf-8", "replace"), reloads=False)

        return await self._pages.get(("runbooks", name), make)

    async def _configuration(self, _: Message) -> Reply:
        return Reply(body=self._health.configuration().encode())

    async def _liveness(self, _: Message) -> Reply:
        return text_reply("late-exporter is healthy")

    async def _readiness(self, _: Message) -> Reply:
        if reason := self._health.unready_reason():
            return text_reply(reason, HTTPStatus.SERVICE_UNAVAILABLE)
        reasons = [*islice(_unsynced_reasons(self._health), MAX_REASONS)]
        if reasons:
            return text_reply("\n".join(reasons), HTTPStatus.SERVICE_UNAVAILABLE)
        return text_reply("late-exporter is ready")

    def _require_lifecycle(self, scope: Message) -> Lifecycle:
        """Return the life cycle, which a request may control; raise AccessError if it may not."""
        if self._lifecycle is None:
            raise AccessError(
                HTTPStatus.FORBIDDEN, "lifecycle API is disabled; start with --web.enable-lifecycle"
            )
        # Browsers send these with a POST: a web page must not control the exporter of someone who
        # looks at it.
        if any(name.lower() in BROWSER_HEADERS for name, _ in scope["headers"]):
            raise AccessError(HTTPStatus.FORBIDDEN, "requests from web pages are not allowed")
        return self._lifecycle

    async def _reload(self, scope: Message) -> Reply:
        try:
            await self._require_lifecycle(scope).reload()
        except ExporterStopping as exc:
            return text_reply(str(exc), HTTPStatus.SERVICE_UNAVAILABLE)
        except AccessError:
            raise
        except LateError as exc:
            text = f"reload failed, keeping the current configuration:\n{exc}"
            return text_reply(text, HTTPStatus.INTERNAL_SERVER_ERROR)
        return text_reply("reloaded")

    async def _quit(self, scope: Message) -> Reply:
        self._require_lifecycle(scope).quit()  # responses in progress are completed
        return text_reply("stopping")


def _is_reloading(scope: Message) -> bool:
    """Return whether a page may reload itself, which a person can switch off in its address."""
    query = scope.get("query_string", b"").decode("latin-1")
    return parse_qs(query).get("refresh") != ["off"]


def _page_reply(body: bytes, *, reloads: bool) -> Reply:
    headers = (*PAGE_HEADERS, REFRESH_HEADER) if reloads else PAGE_HEADERS
    return Reply(body=body, headers=headers)


def _metrics_reply(request: BodyRequest, body: bytes) -> Reply:
    headers: Headers = (
        ("content-type", request.content_type),
        ("vary", "Accept, Accept-Encoding"),
    )
    if request.is_compressed:
        headers += (("content-encoding", "gzip"),)
    return Reply(body=body, headers=headers)


def _unsynced_reasons(health: HealthSource) -> Iterator[str]:
    for workspace, feed in health.unsynced_feeds():
        state = polling_state(feed).label.lower()
        progress = feed.progress or SyncProgress(feed.logs)
        detail = single_line(feed.error) or progress_text(progress)
        yield f"{single_line(workspace)}/{single_line(feed.name)}: {state}: {detail}"

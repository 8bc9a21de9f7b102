"""ASGI application of the status page, health and life cycle. A request only reads memory."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from itertools import islice

import msgspec

from late_exporter.errors import ExporterStopping, LateError
from late_exporter.health import ClusterHealth, FeedHealth, SyncProgress, WorkspaceHealth
from late_exporter.web.access import AccessError
from late_exporter.web.asgi import App, Message, Receive, Send
from late_exporter.web.findings import StatusDocument
from late_exporter.web.reply import (
    READ_METHODS,
    Headers,
    Reply,
    Route,
    get_header,
    respond,
    text_reply,
)
from late_exporter.web.status_page import STYLE, failures_by_subject, render_page
from late_exporter.web.verdicts import polling_state, progress_text, single_line

JSON_TYPE = "application/json"
LIFECYCLE_METHODS = ("POST", "PUT")
BROWSER_HEADERS = (b"origin", b"referer", b"sec-fetch-site")
SUBJECT_PATHS = ("/platforms/", "/accounts/")
RUNBOOK_PATH = "/runbooks/"
MAX_REASONS = 50
"""Maximum number of feeds that are listed as not ready."""

STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Headers = (
    ("content-type", "text/html; charset=utf-8"),
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
)


class HealthSource(msgspec.Struct, frozen=True, kw_only=True):
    """Callbacks that report the health and the configuration of the exporter.

    Args:
        workspaces: Returns what the status page shows. Other tasks run between two workspaces.
        unsynced_feeds: Returns the feeds that are not ready, each with the name of its workspace.
        configuration: Returns the configuration in force as YAML, without secrets.
        cluster: Returns the replicas that share the state; None if it is not shared.
        unready_reason: Returns why the process as a whole is not ready; empty if it is.
    """

    workspaces: Callable[[], Iterable[WorkspaceHealth]]
    unsynced_feeds: Callable[[], Iterable[tuple[str, FeedHealth]]] = tuple
    configuration: Callable[[], str] = str
    cluster: Callable[[], ClusterHealth | None] = lambda: None
    unready_reason: Callable[[], str] = str


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True):
    """Callbacks of ``/-/reload``, which raises LateError if the new configuration is unusable, and of ``/-/quit``."""

    reload: Callable[[], Awaitable[None]]
    quit: Callable[[], None]


def create_app(
    health: HealthSource,
    *,
    version: str,
    telemetry_path: str = "/metrics",
    clock: Callable[[], float] = time.time,
    lifecycle: Lifecycle | None = None,
    runbooks: Callable[[], Mapping[str, str]] = dict,
) -> App:
    """Create the application of all paths but that of the metrics, to which the status page links.

    ``clock`` returns the Unix time. Without ``lifecycle`` the life cycle API rejects all requests.
    ``runbooks`` returns the runbooks by the name of their alert.
    """
    page_lock = asyncio.Lock()  # only one page at a time may take time from scrapes

    async def status_page(scope: Message) -> Reply:
        async with page_lock:
            workspaces: list[WorkspaceHealth] = []
            for workspace in health.workspaces():
                workspaces.append(workspace)
                await asyncio.sleep(0)
            return await asyncio.to_thread(render, scope, workspaces, health.cluster())

    def render(
        scope: Message, workspaces: Sequence[WorkspaceHealth], cluster: ClusterHealth | None
    ) -> Reply:
        subject, failures = scope["path"][1:], failures_by_subject(workspaces)
        if subject and subject not in failures:
            raise AccessError(HTTPStatus.NOT_FOUND)
        status = StatusDocument.of(workspaces, version=version, now=clock(), cluster=cluster)
        accept = get_header(scope, b"accept").lower()
        if JSON_TYPE in accept and "text/html" not in accept:
            # Not msgspec's encoder: names of the API may contain what UTF-8 cannot encode.
            text = json.dumps(msgspec.to_builtins(status))
            return Reply(body=text.encode(), headers=(("content-type", JSON_TYPE),))
        paths = (telemetry_path, "/config", "/-/healthy", "/-/ready")
        html = render_page(status, failures, paths, subject)
        return Reply(body=html.encode("utf-8", "replace"), headers=PAGE_HEADERS)

    routes: dict[str, Route] = {
        "/": (READ_METHODS, status_page),
        "/config": (READ_METHODS, partial(_configuration, health)),
        "/-/healthy": (READ_METHODS, _liveness),
        "/-/ready": (READ_METHODS, partial(_readiness, health)),
        "/-/reload": (LIFECYCLE_METHODS, partial(_reload, lifecycle)),
        "/-/quit": (LIFECYCLE_METHODS, partial(_quit, lifecycle)),
    }

    async def app(scope: Message, _: Receive, send: Send) -> None:
        route = routes.get("/" if scope["path"].startswith(SUBJECT_PATHS) else scope["path"])
        if scope["path"].startswith(RUNBOOK_PATH):
            route = (READ_METHODS, partial(_runbook, runbooks))
        await respond(route, scope, send)

    return app


async def _runbook(runbooks: Callable[[], Mapping[str, str]], scope: Message) -> Reply:
    texts, name = (
        await asyncio.to_thread(runbooks),
        scope["path"].removeprefix(RUNBOOK_PATH).removesuffix(".md"),
    )
    return (
        text_reply(texts[name])
        if name in texts
        else text_reply("there is no such runbook", HTTPStatus.NOT_FOUND)
    )


def _require_control(lifecycle: Lifecycle | None, scope: Message) -> Lifecycle:
    """Return the life cycle, which a request may control; raise AccessError if it may not."""
    if lifecycle is None:
        raise AccessError(
            HTTPStatus.FORBIDDEN, "lifecycle API is disabled; start with --web.enable-lifecycle"
        )
    # Browsers send these with a POST: a web page must not control the exporter of someone who looks
    # at it.
    if any(name.lower() in BROWSER_HEADERS for name, _ in scope["headers"]):
        raise AccessError(HTTPStatus.FORBIDDEN, "requests from web pages are not allowed")
    return lifecycle


async def _reload(lifecycle: Lifecycle | None, scope: Message) -> Reply:
    reload = _require_control(lifecycle, scope).reload
    try:
        await reload()
    except ExporterStopping as exc:
        return text_reply(str(exc), 503)
    except LateError as exc:
        return text_reply(f"reload failed, keeping the current configuration:\n{exc}", 500)
    return text_reply("reloaded")


async def _quit(lifecycle: Lifecycle | None, scope: Message) -> Reply:
    _require_control(lifecycle, scope).quit()  # responses in progress are completed
    return text_reply("stopping")


async def _configuration(health: HealthSource, _: Message) -> Reply:
    return Reply(body=health.configuration().encode())


async def _liveness(_: Message) -> Reply:
    return text_reply("late-exporter is healthy")


async def _readiness(health: HealthSource, _: Message) -> Reply:
    if reason := health.unready_reason():
        return text_reply(reason, 503)
    reasons = [*islice(_unsynced_reasons(health), MAX_REASONS)]
    return text_reply("\n".join(reasons), 503) if reasons else text_reply("late-exporter is ready")


def _unsynced_reasons(health: HealthSource) -> Iterator[str]:
    for workspace, feed in health.unsynced_feeds():
        detail = single_line(feed.error) or progress_text(feed.progress or SyncProgress(feed.logs))
        yield f"{single_line(workspace)}/{single_line(feed.name)}: {polling_state(feed).label.lower()}: {detail}"

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from typing import Any

import msgspec
import pytest

from late_exporter.exposition.exposition import OPENMETRICS, BodyRequest, Exposition
from late_exporter.exposition.family import Family
from late_exporter.health import (
    ClusterHealth,
    Condition,
    Failure,
    FeedHealth,
    MemberHealth,
    SyncProgress,
    WorkspaceHealth,
    WorkspaceStatus,
)
from late_exporter.web import app as web_app
from late_exporter.web.app import MAX_REASONS, PAGE_SECONDS, ExporterApp, HealthSource
from late_exporter.web.findings import StatusDocument
from tests.support.clock import VirtualClock
from tests.web.requests import Response, call

SYNCED = FeedHealth(name="publishing", is_synced=True, outcome="success")
UP = b'late_up{workspace="acme"} 1.0\n'


def build_exposition(*workspaces: str) -> Exposition:
    """Return an exposition with a series of each workspace."""
    exposition = Exposition({"late_up": Family("late_up", "gauge", "Up.", ("workspace",))})
    for name in workspaces:
        exposition.put("late_up", (name,), 1)
    return exposition


def application(*feeds: FeedHealth, telemetry_path: str = "/metrics") -> ExporterApp:
    """Create the application with one workspace of the given feeds, by default one synced feed."""
    workspace = WorkspaceHealth(name="acme", base_url="https://getlate.dev/api", feeds=feeds or (SYNCED,))
    return ExporterApp(
        HealthSource(
            workspaces=lambda: [workspace],
            configuration=lambda: "poll:\n  interval: 30s\n",
            unsynced_feeds=lambda: ((workspace.name, feed) for feed in workspace.feeds if not feed.is_synced),
        ),
        build_exposition("acme"),
        telemetry_path=telemetry_path,
        version="1.2.3",
        clock=lambda: 0.0,
    )


def application_of(**callbacks: Any) -> ExporterApp:
    """Create the application of some callbacks, without metrics."""
    return ExporterApp(HealthSource(**callbacks), build_exposition(), version="1.2.3", clock=lambda: 0.0)


@pytest.mark.parametrize(
    ("status", "content_type", "start", "path"),
    [
        (200, "text/html; charset=utf-8", "<!doctype html>", "/"),
        (200, "text/plain; version=0.0.4; charset=utf-8", "# HELP late_up Up.\n", "/metrics"),
        (200, "text/plain; charset=utf-8", "poll:\n  interval: 30s\n", "/config"),
        (200, "text/plain; charset=utf-8", "late-exporter is healthy\n", "/-/healthy"),
        (200, "text/plain; charset=utf-8", "late-exporter is ready\n", "/-/ready"),
        (404, "text/plain; charset=utf-8", "not found\n", "/favicon.ico"),
        (404, "text/plain; charset=utf-8", "not found\n", "/\udcff"),
    ],
)
async def test_routes(status: int, content_type: str, start: str, path: str) -> None:
    """Known paths are served and others not found; a query changes nothing, and HEAD is GET without the body.

    No response may be cached, or be interpreted as another content type.
    """
    response = await call(application(), path, query=b"a=%ff&name[]=x")
    head = await call(application(), path, "HEAD")
    assert (status, content_type) == (response.status, response.headers["content-type"])
    assert response.text.startswith(start)
    assert response.headers["content-length"] == str(len(response.body))
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert (head.status, head.headers, head.body) == (status, response.headers, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", ""])
async def test_wrong_method(method: str) -> None:
    """Other methods are rejected with the allowed ones, without reading the body."""
    response = await call(application(), "/metrics", method)
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
    assert (await call(application(), "/nowhere", method)).status == 404


async def test_telemetry_path() -> None:
    """The metrics move to the telemetry path, even to the root."""
    assert UP in (await call(application(telemetry_path="/late"), "/late")).body
    assert (await call(application(telemetry_path="/late"), "/metrics")).status == 404
    assert b'href="./late"' in (await call(application(telemetry_path="/late"))).body
    assert UP in (await call(application(telemetry_path="/"))).body


async def test_negotiation() -> None:
    """Format and encoding are those of the two headers, whatever their bytes, and the response says so."""
    accepted = [(b"accept", b"a\xff"), (b"accept", b"application/openmetrics-text"), (b"Accept-Encoding", b"gzip")]
    headers = (await call(application(), "/metrics", headers=accepted)).headers
    assert (headers["content-type"], headers["content-encoding"]) == (OPENMETRICS, "gzip")
    assert headers["vary"] == "Accept, Accept-Encoding"
    assert "content-encoding" not in (await call(application(), "/metrics")).headers


@pytest.mark.parametrize(
    ("reason", "feed"),
    [
        ("first sync: 1,234 logs read", FeedHealth(name="f", logs=1234)),
        ("waiting for first poll: 0 logs read", FeedHealth(name="f")),
        ("failing: two lines?", FeedHealth(name="f", outcome="store_error", error="two\r\nlines\ud800")),
    ],
)
async def test_not_ready(reason: str, feed: FeedHealth) -> None:
    """Every feed whose first sync is not complete is reported with the reason."""
    response = await call(application(SYNCED, feed), "/-/ready")
    assert (503, f"acme/f: {reason}\n") == (response.status, response.text)


async def test_a_feed_that_fails_stays_ready() -> None:
    """It was synced once; the page has its error, in which what UTF-8 cannot encode is replaced."""
    app = application(SYNCED, FeedHealth(name="f", is_synced=True, outcome="unavailable", error="timeout \ud800"))
    assert (await call(app, "/-/ready")).status == 200
    assert "timeout ?" in (await call(app)).text


async def test_page_policy() -> None:
    """The page may use its own style, by hash, and its icon: no script, frame, form or referrer."""
    response = await call(application())
    style = re.search(r"<style>(.*?)</style>", response.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ) == response.headers["content-security-policy"]
    assert (response.headers["referrer-policy"], response.headers["x-frame-options"]) == ("no-referrer", "DENY")


async def test_readiness_of_many_workspaces_is_short() -> None:
    """With many feeds that are not ready, only the first are listed, and the others are not examined."""
    unsynced = ((f"w{number}", FeedHealth(name="publishing")) for number in range(2000))
    app = application_of(unsynced_feeds=lambda: unsynced)
    lines = (await call(app, "/-/ready")).text.splitlines()
    assert (len(lines), lines[0]) == (MAX_REASONS, "w0/publishing: waiting for first poll: 0 logs read")
    assert next(unsynced)[0] == f"w{MAX_REASONS}"


async def test_a_page_of_many_workspaces_lets_others_run() -> None:
    """Between two workspaces of the status page other tasks have a turn."""
    turns = 0
    turns_before: list[int] = []

    def workspaces() -> Iterator[WorkspaceHealth]:
        for number in range(5):
            turns_before.append(turns)
            yield WorkspaceHealth(name=f"w{number}", base_url="", feeds=(SYNCED,))

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    assert "w4" in (await call(application_of(workspaces=workspaces))).text
    counting.cancel()
    assert len({*turns_before}) == 5


async def test_workspaces_that_may_not_be_shown() -> None:
    """Each scrape asks which workspaces may be shown, and has no others."""
    answers: list[AbstractSet[str]] = [frozenset({"a", "b"}), frozenset({"b"}), frozenset()]

    async def visible() -> AbstractSet[str]:
        return answers.pop(0)

    exposition = build_exposition("a", "b")
    app = ExporterApp(HealthSource(visible_workspaces=visible), exposition, version="1")
    texts = [(await call(app, "/metrics")).text for _ in range(3)]
    assert [re.findall(r'workspace="(\w)"', text) for text in texts] == [["a", "b"], ["b"], []]


async def test_a_scrape_does_not_wait_for_bodies_of_workspaces() -> None:
    """However many clients ask for workspaces, their bodies are made one by one in a thread; a scrape passes them."""
    exposition = build_exposition()
    get_body, may_end = exposition.get_body, threading.Event()
    requests = list[BodyRequest]()

    def make_body(request: BodyRequest) -> bytes:
        requests.append(request)
        assert request.workspaces is None or may_end.wait(10)
        return get_body(request)

    exposition.get_body = make_body  # type: ignore[method-assign]
    names = [f"w{number}" for number in range(9)]
    app = ExporterApp(HealthSource(names=lambda: names), exposition, version="1")
    strangers = [asyncio.ensure_future(call(app, "/metrics", query=f"workspace={name}".encode())) for name in names]
    while not requests:  # noqa: ASYNC110 - for some turns of the event loop
        await asyncio.sleep(0)
    assert (await call(app, "/metrics")).status == HTTPStatus.OK
    assert [request.workspaces is not None for request in requests] == [True, False]
    may_end.set()
    assert {response.status for response in await asyncio.gather(*strangers)} == {HTTPStatus.OK}


async def test_the_page_as_json() -> None:
    """Clients that accept JSON, and no HTML, get the status as JSON, also with names that UTF-8 cannot encode."""
    feed = FeedHealth(name="f\ud800", outcome="unavailable", error="gone", progress=SyncProgress(log_count=1))
    response = await call(application(feed), headers=[(b"accept", b"Application/JSON, */*;q=0.5")])
    assert response.headers["content-type"] == "application/json"
    document = msgspec.json.decode(response.body, type=StatusDocument)
    (shown,) = document.workspaces[0].feeds
    assert (document.version, document.now, shown.name) == ("1.2.3", 0.0, "f?")
    assert SyncProgress(log_count=1) == shown.progress
    assert [finding.text for finding in document.findings] == ["gone"]
    html = await call(application(feed), headers=[(b"accept", b"text/html,application/json;q=0.9")])
    assert html.text.startswith("<!doctype html>")


async def test_a_replica() -> None:
    """Page and JSON say which replica owns what, also if this one owns nothing."""
    members = (MemberHealth(name="a", is_self=True), MemberHealth(name="b", is_self=False, workspaces=("acme",)))
    cluster = ClusterHealth(members=members, unowned_workspaces=("beta",))
    app = application_of(cluster=lambda: cluster)
    page = (await call(app, "/")).text
    assert "<b><bdi>a</bdi></b> (this one) owns 0 workspaces" in page
    assert "<b><bdi>b</bdi></b> owns 1 workspace: <bdi>acme</bdi>" in page
    assert "1 workspace without a replica: <bdi>beta</bdi>" in page
    answer = await call(app, "/", headers=[(b"accept", b"application/json")])
    assert cluster == msgspec.json.decode(answer.body, type=StatusDocument).cluster


async def test_runbooks_are_served_as_text() -> None:
    """The exporter serves the runbook of an alert, so that a message can link to it; others are not found."""
    runbooks = {"LatePollStale": "# <b>"}
    app = ExporterApp(HealthSource(), build_exposition(), version="1", runbooks=lambda: runbooks)
    found, missing = await call(app, "/runbooks/LatePollStale.md"), await call(app, "/runbooks/../late.key")
    assert (found.status, found.text) == (200, "# <b>\n")
    assert found.headers["content-type"] == "text/plain; charset=utf-8"
    assert (missing.status, missing.text) == (404, "there is no such runbook\n")


async def test_browsers_get_runbooks_as_html() -> None:
    """Headings, code and links are elements; a link that leads nowhere is text."""
    text = (
        "# LateA\n\nSee [the\nother](LateB.md), [none](LateC.md), `a<b`.\n\n"
        "```sh\nlate-exporter <x>\n```\n\n- one\n  line\n- [docs](https://e.example/)\n"
    )
    runbooks = {"LateA": text, "LateB": "# LateB"}
    app = ExporterApp(HealthSource(), build_exposition(), version="1", runbooks=lambda: runbooks)
    response = await call(app, "/runbooks/LateA", headers=[(b"accept", b"text/html,*/*")])
    content = response.text.partition('<article class="runbook">')[2].partition("</article>")[0]
    assert content.split("\n") == [
        "",
        "<h2>LateA</h2>",
        '<p>See <a href="LateB">the other</a>, none, <code>a&lt;b</code>.</p>',
        "<pre><code>late-exporter &lt;x&gt;</code></pre>",
        '<ul><li>one line</li><li><a href="https://e.example/">docs</a></li></ul>',
        "",
    ]


async def test_a_person_can_stop_the_reload() -> None:
    """A page reloads itself by a header, unless its address says that it should not."""
    app = application()
    page = await call(app)
    still = await call(app, query=b"refresh=off")
    assert page.headers["refresh"] == "15"
    assert 'href="?refresh=off"' in page.text
    assert "refresh" not in still.headers
    assert 'href="?refresh=on"' in still.text
    assert "http-equiv" not in page.text


NAMES = ("brand-a", "brand-b", "brand-c")


async def scrape(query: str) -> Response:
    """Request the metrics of an exporter with three workspaces."""
    app = ExporterApp(HealthSource(names=lambda: NAMES), build_exposition(*NAMES), version="1")
    return await call(app, "/metrics", query=query.encode())


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("", [*NAMES]),
        ("workspace=brand-b", ["brand-b"]),
        ("workspace=brand%2Da", ["brand-a"]),
        ("workspace=brand-c&workspace=brand-a&workspace=brand-c", ["brand-a", "brand-c"]),
    ],
)
async def test_workspaces_of_a_query(query: str, seen: list[str]) -> None:
    """The metrics are those of the workspaces that are asked for, or of all."""
    response = await scrape(query)
    assert response.status == HTTPStatus.OK
    assert re.findall(r'late_up{workspace="(.*?)"}', response.text) == seen


@pytest.mark.parametrize("query", ["workspace=", "workspace=elsewhere", "workspace=brand-a&workspace=elsewhere"])
async def test_unknown_workspace(query: str) -> None:
    """An unknown workspace is not found, beside known ones, too."""
    response = await scrape(query)
    assert (response.status, response.text) == (404, "unknown workspace\n")


async def test_an_unknown_page_costs_no_health() -> None:
    """A platform or account without failures is not found without a look at the health of any workspace."""

    def no_health() -> Iterator[WorkspaceHealth]:
        raise AssertionError

    failures = [Failure(key="k", time=0.0, platform="x", account_id="")]
    app = application_of(workspaces=no_health, failures=lambda: [("acme", failures)])
    assert [(await call(app, path)).status for path in ("/platforms/y", "/accounts/x", "/accounts/")] == [404] * 3
    assert (await call(app, "/platforms/x")).status == HTTPStatus.OK


async def test_readers_of_a_page_share_it() -> None:
    """Requests for a page within some seconds get the same one, however slowly each of them is read."""
    clock, made = VirtualClock(), list[float]()

    def workspaces() -> Iterator[WorkspaceHealth]:
        made.append(clock.monotonic())
        yield WorkspaceHealth(name="acme", base_url="", feeds=(SYNCED,))

    source = HealthSource(workspaces=workspaces)
    app = ExporterApp(source, build_exposition(), version="1", monotonic=clock.monotonic)
    for _ in range(4):
        assert (await call(app)).status == HTTPStatus.OK
        clock.advance(PAGE_SECONDS / 2)
    assert made == [0.0, PAGE_SECONDS]


@pytest.mark.parametrize("accept", [b"text/html", b"application/json"])
async def test_no_page_is_larger_than_two_mebibytes(monkeypatch: pytest.MonkeyPatch, accept: bytes) -> None:
    """If the page of all workspaces is too large, the worst of them are shown."""
    monkeypatch.setattr(web_app, "MAX_PAGE_BYTES", 100_000)
    conditions = tuple(Condition("blocked", f"n{number}", text="🔥" * 50) for number in range(20))
    failing = FeedHealth(name="publishing", outcome="unavailable", error="no connection")
    workspaces = [
        WorkspaceHealth(
            name=f"w{number}",
            base_url="",
            feeds=(failing if number == 70 else SYNCED,),
            status=WorkspaceStatus(conditions=conditions),
        )
        for number in range(80)
    ]
    response = await call(application_of(workspaces=lambda: workspaces), headers=[(b"accept", accept)])
    assert 20_000 < len(response.body) <= 100_000
    assert "w70" in response.text
    assert "w60" not in response.text

"""What users who are bound to workspaces see, on every path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import pytest

from late_exporter.config.web import WebConfig
from late_exporter.exposition.exposition import Exposition
from late_exporter.exposition.family import Family
from late_exporter.health import Failure, FeedHealth, WorkspaceHealth
from late_exporter.store.cluster import ClusterHealth, MemberHealth
from late_exporter.web.app import HealthSource, Lifecycle, create_app
from late_exporter.web.auth import AuthMiddleware
from late_exporter.web.metrics import create_metrics_app
from late_exporter.web.passwords import PasswordVerifier
from tests.support.loggers import RecordingLogger
from tests.web.requests import Response, basic_auth, call

HASH = b"$2y$10$" + b"a" * 53
USERS = dict.fromkeys(("ops", "customer-a", "customer-ab"), HASH)
BOUND = {"customer-a": frozenset({"brand-a"}), "customer-ab": frozenset({"brand-a", "brand-b"})}
NAMES = ("brand-a", "brand-b", "brand-c")
CLUSTER = ClusterHealth(members=(MemberHealth(name="late-0", workspaces=NAMES),), unowned_workspaces=())
SECRET = "s3cr3t"
PATHS = (
    "/",
    "/metrics",
    "/config",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "/-/quit",
    "/hook/brand-a",
    "/nowhere",
    "/platforms/x",
    "/accounts/brand-b",
)


def build_exposition() -> Exposition:
    """Return an exposition with a series of each workspace and one without."""
    up, build = Family("up", "gauge", "Up.", ("workspace",)), Family("build_info", "gauge", "Build.", ("version",))
    exposition = Exposition({"up": up, "build_info": build})
    for name in NAMES:
        exposition.put("up", (name,), 1)
    exposition.put("build_info", ("1",), 1)
    return exposition


class AccessHarness:
    """The application behind its middleware."""

    def __init__(
        self,
        *,
        users: Mapping[str, bytes] = USERS,
        unauthenticated_paths: Sequence[str] = (),
        is_synced: bool = True,
        unready_reason: str = "",
    ) -> None:
        self.calls: list[str] = []
        self.exposition = build_exposition()
        feed = FeedHealth(name="publishing", is_synced=is_synced, outcome="success")
        workspaces = [
            WorkspaceHealth(
                name=name,
                base_url="https://zernio.com/api",
                feeds=(feed,),
                failures=(Failure(key="k", time=0.0, platform="x", account_id=f"of-{name}"),),
            )
            for name in NAMES
        ]
        health = HealthSource(
            workspaces=lambda: workspaces,
            configuration=lambda: f"workspaces: {NAMES}",
            unsynced_feeds=lambda: ((name, feed) for name in NAMES if not is_synced),
            cluster=lambda: CLUSTER,
            unready_reason=lambda: unready_reason,
        )

        async def reload() -> None:
            self.calls.append("reload")

        lifecycle = Lifecycle(reload=reload, quit=lambda: self.calls.append("quit"))
        app = create_app(health, version="1", lifecycle=lifecycle)
        app = create_metrics_app("/metrics", self.exposition, lambda: NAMES, other_app=app)
        self.app = AuthMiddleware(
            app,
            lambda: WebConfig(users=users, user_workspaces=BOUND),
            passwords=PasswordVerifier(check_password=lambda password, _: password == b"right"),
            log=RecordingLogger(),
            needs_password=lambda path: path not in unauthenticated_paths,
        )

    async def request(
        self, user: str | None, path: str = "/metrics", query: str = "", *, method: str = "GET", accept: str = ""
    ) -> Response:
        """Send a request, with a password if there is a user."""
        headers = [(b"accept", accept.encode()), *([] if user is None else [basic_auth(user, "right")])]
        return await call(self.app, path, method, headers=headers, query=query.encode(), body=b"")


@pytest.mark.parametrize(
    ("user", "query", "seen"),
    [
        ("ops", "", NAMES),
        ("ops", "workspace=brand-b", ["brand-b"]),
        ("ops", "workspace=brand-c&workspace=brand-a&workspace=brand-c", ["brand-a", "brand-c"]),
        ("customer-a", "", ["brand-a"]),
        ("customer-a", "workspace=brand%2Da", ["brand-a"]),
        ("customer-ab", "workspace=brand-b", ["brand-b"]),
    ],
)
async def test_metrics(user: str, query: str, seen: Sequence[str]) -> None:
    """The metrics are those of the workspaces that are asked for, or else of those that the user may see."""
    response = await AccessHarness().request(user, query=query)
    assert HTTPStatus.OK == response.status
    lines = [line for line in response.text.splitlines() if line.startswith("up{")]
    assert [f'up{{workspace="{name}"}} 1.0' for name in seen] == lines
    assert ("build_info" in response.text) == (user == "ops" and len(lines) == len(NAMES))


@pytest.mark.parametrize("query", ["workspace=brand-b", "workspace=nowhere", "workspace=brand-a&workspace=brand-b"])
async def test_another_workspace(query: str) -> None:
    """A bound user gets the same response for the name of another workspace, whether or not it exists."""
    response = await AccessHarness().request("customer-a", query=query)
    assert (403, "not allowed for a user who is bound to workspaces\n") == (response.status, response.text)


async def test_unknown_workspace() -> None:
    """An unknown workspace is not found, beside known ones, too."""
    response = await AccessHarness().request("ops", query="workspace=brand-a&workspace=elsewhere")
    assert (404, "unknown workspace\n") == (response.status, response.text)


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
async def test_status_page(accept: str) -> None:
    """The status page of a bound user shows their workspaces only, no replicas, and no link to the configuration."""
    harness = AccessHarness()
    bound, everything = [await harness.request(user, "/", accept=accept) for user in ("customer-a", "ops")]
    assert [True, False, False] == [name in bound.text for name in NAMES]
    assert all(name in everything.text for name in NAMES)
    assert "/config" not in bound.text
    assert [False, True] == ["late-0" in response.text for response in (bound, everything)]
    assert (accept == "text/html") == ("/config" in everything.text)


async def test_failures() -> None:
    """A bound user sees the failures of their workspaces only; what has none is not found, for anyone."""
    harness = AccessHarness()
    bound, everything = [await harness.request(user, "/platforms/x") for user in ("customer-a", "ops")]
    assert [True, False, False] == [f"of-{name}" in bound.text for name in NAMES]
    assert all(f"of-{name}" in everything.text for name in NAMES)
    paths = ("/accounts/of-brand-a", "/accounts/of-brand-b", "/accounts/", "/platforms/tiktok")
    assert [200, 404, 404, 404] == [(await harness.request("customer-a", path)).status for path in paths]
    assert HTTPStatus.OK == (await harness.request("ops", "/accounts/of-brand-b")).status
    assert "of-brand-a" not in (await harness.request("ops", "/", accept="application/json")).text


@pytest.mark.parametrize(("path", "method"), [("/config", "GET"), ("/-/reload", "POST"), ("/-/quit", "POST")])
async def test_paths_of_operators(path: str, method: str) -> None:
    """A bound user neither sees the configuration nor reloads or stops the exporter."""
    harness = AccessHarness()
    assert HTTPStatus.FORBIDDEN == (await harness.request("customer-ab", path, method=method)).status
    assert [] == harness.calls
    assert HTTPStatus.OK == (await harness.request("ops", path, method=method)).status


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("query", ["", "workspace=brand-b", "workspace=brand-zzz"])
async def test_no_path_names_another_workspace(path: str, method: str, query: str) -> None:
    """Whatever a bound user requests, no response contains the name of another workspace."""
    for is_synced in (True, False):
        response = await AccessHarness(is_synced=is_synced).request("customer-a", path, query, method=method)
        text = f"{response.text} {response.headers}"
        assert not any(name in text for name in ("brand-b", "brand-c", "brand-zzz"))


async def test_readiness() -> None:
    """A bound user sees which of their own feeds are not ready; a probe without a password sees no names."""
    harness = AccessHarness(is_synced=False, unauthenticated_paths=["/-/ready", "/-/healthy"])
    bound, probe = await harness.request("customer-a", "/-/ready"), await harness.request(None, "/-/ready")
    assert (503, "first sync is not complete\n") == (probe.status, probe.text)
    assert (503, probe.text) == (bound.status, bound.text)
    bound = await AccessHarness(is_synced=False).request("customer-a", "/-/ready")
    assert (503, True) == (bound.status, bound.text.startswith("brand-a/publishing: "))
    ready = AccessHarness(unauthenticated_paths=["/-/ready"])
    for user in (None, "customer-a"):
        response = await ready.request(user, "/-/ready")
        assert (200, "late-exporter is ready\n") == (response.status, response.text)


async def test_readiness_of_the_process() -> None:
    """Why the process is not ready may name the database, which bound users do not see."""
    harness = AccessHarness(unready_reason="no session: postgresql://late@db/late: refused")
    bound, everything = await harness.request("customer-a", "/-/ready"), await harness.request("ops", "/-/ready")
    assert (503, "this process is not ready\n") == (bound.status, bound.text)
    assert (503, "no session: postgresql://late@db/late: refused\n") == (everything.status, everything.text)


@pytest.mark.parametrize("path", ["/metrics", "/", "/config"])
async def test_a_path_without_a_password_shows_nothing(path: str) -> None:
    """Even if such a path were configured without a password, it would show no workspace."""
    response = await AccessHarness(unauthenticated_paths=[path]).request(None, path)
    assert not any(name in response.text for name in NAMES)


@pytest.mark.parametrize("path", PATHS[:3])
async def test_bound_users_without_passwords(path: str) -> None:
    """If there are no passwords although users are bound, no one gets in."""
    harness = AccessHarness(users={})
    assert [401, 401] == [(await harness.request(user, path)).status for user in (None, "customer-a")]

"""Tests of the simulated API of generation ``zernio`` with the newest client of the vendor, over HTTP."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from late_exporter.simulator import INCIDENTS, SimulatedApi, SimulatedWorld, simulate_world
from late_exporter.simulator.accounts import ACCOUNTS
from late_exporter.simulator.endpoints import render_log
from tests.conftest import skip
from tests.e2e.program import run_command

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SDK = ROOT / ".cache" / "zernio-sdk"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
KEY = "sk_" + "0123456789abcdef" * 4
NEWER_FIELDS = {"spendableCents"}
"""Fields that the API has, but not yet a model of the client."""


@contextmanager
def serve_api(api: SimulatedApi) -> Iterator[str]:
    """Serve an API on a free port and yield its base URL. The socket listens before the server runs."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(api, log_level="warning", date_header=False, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="module", autouse=True)
def sdk() -> None:
    """Skip the tests if the client is missing, or fail them if CI=true."""
    if not (SDK / "late").is_dir():
        skip(f"zernio-sdk is not in {SDK}; .ci/venv zernio installs it")


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    """Return a world with a history of ten days, more than generation late shows, that does not advance."""
    return simulate_world(1, NOW, history=10 * DAY, logs_per_day=500)


@pytest.fixture(scope="module")
def url(world: SimulatedWorld) -> Iterator[str]:
    """Return the base URL of the world's API."""
    with serve_api(SimulatedApi(world, clock=lambda: NOW, generation="zernio")) as base_url:
        yield base_url


def list_logs(url: str, *queries: dict[str, Any], key: str = KEY) -> list[dict[str, Any]]:
    """Return the results of the client's calls that list logs."""
    return call_client(url, *(("logs.list_logs", query) for query in queries), key=key)


def call_client(url: str, *calls: tuple[str, dict[str, Any]], key: str = KEY) -> list[dict[str, Any]]:
    """Return the results of the client's calls, each a method and its keywords."""
    command = (sys.executable, "-P", ROOT / "tests" / "support" / "zernio_client.py", url, key)
    environ = {**os.environ, "PYTHONPATH": str(SDK)}
    output = json.loads(run_command(*command, input=json.dumps(calls), env=environ))
    pins = (ROOT / ".requirements" / "zernio.txt").read_text("utf-8")
    assert f"\nzernio-sdk=={output['version']} " in pins
    outcomes: list[dict[str, Any]] = output["outcomes"]
    return outcomes


def test_both_feeds(url: str, world: SimulatedWorld) -> None:
    """The client reads every publishing and connection log of ten days, page by page."""
    total = len(world.publishing.rows)
    *pages, connections = list_logs(
        url, *({"limit": 100, "skip": skip} for skip in range(0, total, 100)), {"type": "connections", "limit": 100}
    )
    assert [render_log("publishing", row) for row in world.publishing.rows] == [
        log for page in pages for log in page["answer"]["logs"]
    ]
    assert {page["answer"]["pagination"]["total"] for page in pages} == {total}
    assert [page["answer"]["pagination"]["hasMore"] for page in pages][-1:] == [False]
    assert [render_log("connections", row) for row in world.connections.rows[:100]] == connections["answer"]["logs"]


def test_rejections(url: str, world: SimulatedWorld) -> None:
    """The client raises its own errors, also for an API without the list."""
    (wrong_key,) = list_logs(url, {}, key="sk_wrong")
    (out_of_bounds,) = list_logs(url, {"days": 91})
    with serve_api(SimulatedApi(world, clock=lambda: NOW)) as late:
        (absent,) = list_logs(late, {})
    expected = ("LateAuthenticationError", "[401] Invalid API key. (code: invalid_credentials)")
    assert expected == (wrong_key["raised"], wrong_key["text"])
    expected = ("LateAPIError", "[400] Invalid query (field: days; code: VALIDATION_ERROR)")
    assert expected == (out_of_bounds["raised"], out_of_bounds["text"])
    assert absent["raised"] == "LateNotFoundError"


def test_status(url: str) -> None:
    """The client reads what all status endpoints answer, and its models keep every field that it knows."""
    calls: list[tuple[str, tuple[str, dict[str, Any]]]] = [
        ("/v1/posts", ("posts.list_posts", {"status": "scheduled", "sort_by": "scheduled-asc", "limit": 1})),
        ("/v1/accounts", ("accounts.list_accounts", {"limit": 100})),
        ("/v1/accounts/health", ("accounts.get_all_accounts_health", {})),
        ("/v1/webhooks/settings", ("webhooks.get_webhook_settings", {})),
        ("/v1/billing", ("usage.get_billing", {})),
        ("/v1/usage", ("usage.get_usage", {})),
    ]
    results = call_client(url, *(call for _, call in calls))
    answers = [result["answer"] for result in results]
    headers = {"Authorization": f"Bearer {KEY}"}
    for (path, (_, query)), answer in zip(calls, answers, strict=True):
        parameters = {"sortBy" if name == "sort_by" else name: value for name, value in query.items()}
        document = httpx.get(url + path, params=parameters, headers=headers).json()
        assert _comparable(document) == _comparable(answer), path
    (post,) = answers[0]["posts"]
    assert datetime.fromisoformat(post["scheduledFor"]).timestamp() > NOW - 1
    assert len(ACCOUNTS) == len(answers[1]["accounts"]) == len(answers[2]["accounts"])


def test_every_incident() -> None:
    """The client's models accept what the status endpoints answer during each incident."""
    reads: list[tuple[str, dict[str, Any]]] = [
        ("posts.list_posts", {"status": "pending_approval", "limit": 500}),
        ("posts.list_posts", {"status": "draft", "limit": 500}),
        ("accounts.list_accounts", {"limit": 100}),
        ("webhooks.get_webhook_settings", {}),
        ("usage.get_billing", {}),
        ("usage.get_usage", {}),
    ]
    world = simulate_world(1, NOW, history=DAY, logs_per_day=2000)
    times = count(NOW, 30)
    statuses: set[str] = set()
    with serve_api(SimulatedApi(world, clock=times.__next__, generation="zernio")) as url:
        # All posts are drafts in the second round, so that none waits for approval.
        for names in (INCIDENTS.keys() - {"empty-schedule"}, {"empty-schedule"}):
            for name in names:
                world.start_incident(name, duration=DAY)
            for result in call_client(url, *reads):
                statuses.update(post["status"] for post in result["answer"].get("posts", ()))
            world.incidents = ()
    assert statuses == {"pending_approval", "draft"}


def test_posts_of_every_status(url: str) -> None:
    """The client's models accept the posts of every status."""
    statuses = ("scheduled", "publishing", "published", "partial", "failed", "cancelled")
    results = call_client(url, *(("posts.list_posts", {"status": status, "limit": 500}) for status in statuses))
    found = {
        status: {post["status"] for post in result["answer"]["posts"]}
        for status, result in zip(statuses, results, strict=True)
    }
    assert all(values <= {status} for status, values in found.items())
    assert {"scheduled", "published", "partial", "failed"} <= set().union(*found.values()), "the others are rare"


def _comparable(value: Any) -> Any:
    """Return a document with its times as Unix times, which the models write in another way."""
    if isinstance(value, dict):
        return {name: _comparable(item) for name, item in value.items() if name not in NEWER_FIELDS}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\S+", value):
        return datetime.fromisoformat(value).timestamp()
    return value

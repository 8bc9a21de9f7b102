"""Tests of the simulated API of generation ``zernio`` with the newest client of the vendor, over HTTP."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from late_exporter.simulator import ZERNIO_RETENTION, SimulatedApi, SimulatedWorld
from late_exporter.simulator.zernio_rows import connection_row, publishing_row
from tests.simulator.test_clients import serve_api

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SDK = ROOT / ".cache" / "zernio-sdk"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
KEY = "sk_" + "0123456789abcdef" * 4


@pytest.fixture(scope="module", autouse=True)
def sdk() -> None:
    """Skip the tests if the client is missing, or fail them if CI=true."""
    if not (SDK / "late").is_dir():
        missing = f"zernio-sdk is not in {SDK}; .ci/venv zernio installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and CI=true says that nothing is skipped")
        pytest.skip(missing)


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    """Return a world with a history of ten days, more than generation late shows, that does not advance."""
    return SimulatedWorld(1, NOW, history=10 * DAY, logs_per_day=500, retention=ZERNIO_RETENTION, with_activity=True)


@pytest.fixture(scope="module")
def url(world: SimulatedWorld) -> Iterator[str]:
    """Return the base URL of the world's API."""
    with serve_api(SimulatedApi(world, clock=lambda: NOW, generation="zernio")) as base_url:
        yield base_url


def call_client(url: str, *calls: dict[str, Any], key: str = KEY) -> list[dict[str, Any]]:
    """Return the results of the client's calls."""
    command = [sys.executable, "-P", str(ROOT / "tests" / "support" / "zernio_client.py"), url, key]
    environ = {**os.environ, "PYTHONPATH": str(SDK)}
    result = subprocess.run(command, input=json.dumps(calls), capture_output=True, text=True, check=False, env=environ)
    assert 0 == result.returncode, result.stderr
    output = json.loads(result.stdout)
    assert pinned() == output["version"]
    outcomes: list[dict[str, Any]] = output["outcomes"]
    return outcomes


def pinned() -> str:
    """Return the pinned version of the client."""
    (version,) = re.findall(r"^zernio-sdk==(\S+)", (ROOT / ".requirements" / "zernio.txt").read_text(), re.MULTILINE)
    return str(version)


def test_both_feeds(url: str, world: SimulatedWorld) -> None:
    """The client reads every publishing and connection log of ten days, page by page."""
    total = len(world.publishing)
    *pages, connections = call_client(
        url, *({"limit": 100, "skip": skip} for skip in range(0, total, 100)), {"type": "connections", "limit": 100}
    )
    assert [publishing_row(row) for row in world.publishing.rows] == [
        log for page in pages for log in page["answer"]["logs"]
    ]
    assert {total} == {page["answer"]["pagination"]["total"] for page in pages}
    assert [False] == [page["answer"]["pagination"]["hasMore"] for page in pages][-1:]
    assert [connection_row(row) for row in world.connections.rows[:100]] == connections["answer"]["logs"]


def test_filters(url: str) -> None:
    """The API supports the client's filters."""
    failed, revoked, window, everything = call_client(
        url,
        {"status": "failed", "platform": "instagram", "action": "post.failed", "search": "unavailable"},
        {"type": "connections", "action": "account.disconnected", "days": 7},
        {"from_": "2026-11-23T10:00:00Z", "to": "2026-11-23T12:00:00Z"},
        {"type": "all", "limit": 100},
    )
    assert {("instagram", "failed", 503)} == {
        (log["platform"], log["status"], log["status_code"]) for log in failed["answer"]["logs"]
    }
    assert {"account.disconnected"} == {log["action"] for log in revoked["answer"]["logs"]}
    assert ["2026-11-23T1"] == sorted({log["created_at"][:12] for log in window["answer"]["logs"]})
    assert {"publishing", "connections", "messaging", "api_request"} <= {
        log["type"] for log in everything["answer"]["logs"]
    }


def test_rejections(url: str, world: SimulatedWorld) -> None:
    """The client raises its own errors, also for an API without the list."""
    (wrong_key,) = call_client(url, {}, key="sk_wrong")
    (out_of_bounds,) = call_client(url, {"days": 91})
    with serve_api(SimulatedApi(world, clock=lambda: NOW)) as late:
        (absent,) = call_client(late, {})
    assert ("LateAuthenticationError", "[401] Unauthorized") == (wrong_key["raised"], wrong_key["text"])
    assert ("LateAPIError", True) == (out_of_bounds["raised"], "Invalid query" in out_of_bounds["text"])
    assert "LateNotFoundError" == absent["raised"]


def test_rate_limit(world: SimulatedWorld) -> None:
    """The client reads the quota from the headers and raises an error when it is used up."""
    with serve_api(SimulatedApi(world, clock=lambda: NOW, generation="zernio", rate_limit=1)) as limited:
        first, second = call_client(limited, {"limit": 1}, {"limit": 1})
    assert 1 == len(first["answer"]["logs"])
    assert (1, 0) == (first["quota"]["limit"], first["quota"]["remaining"])
    assert "LateRateLimitError" == second["raised"]

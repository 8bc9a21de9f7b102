"""Tests of keys, quotas and routes of the simulated API, without a network."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from late_exporter.simulator import LogList, SimulatedApi, StaticLogs
from late_exporter.simulator.service import SimulatorResponse
from tests.support.clock import VirtualClock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
KEY, OTHER_KEY = "sk_" + "0123456789abcdef" * 4, "zrk_" + "1" * 64


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that stands at noon until it is set."""
    return VirtualClock(NOON)


@pytest.fixture
def logs() -> StaticLogs:
    """Return a log of one post."""
    rows = [{"_id": "1", "postId": "p1", "createdAt": "2026-11-24T11:00:00Z"}]
    return StaticLogs(publishing=LogList(rows))


@pytest.fixture
def api(logs: StaticLogs, clock: VirtualClock) -> SimulatedApi:
    """Return an API of generation late."""
    return SimulatedApi(logs, clock=clock.time)


def get(api: SimulatedApi, path: str, key: str = KEY) -> SimulatorResponse:
    """Send a request with a key."""
    return api.handle("GET", path, "", {"Authorization": f"Bearer {key}"})


def body(response: SimulatorResponse) -> Any:
    """Return the document of a response."""
    return msgspec.json.decode(response.body)


@pytest.mark.parametrize("path", ["/v1/posts/none/logs", "/v1/posts/a/b/logs", "/api", "/v2/posts/logs"])
def test_not_found(api: SimulatedApi, path: str) -> None:
    """An unknown path or post is answered as documented."""
    response = get(api, path)
    assert (response.status, body(response)) == (404, {"error": "Not found", "code": "not_found"})


@pytest.mark.parametrize("authorization", ["", KEY, "Bearer sk_short", f"Bearer {KEY.upper()}"])
def test_unauthorized(api: SimulatedApi, authorization: str) -> None:
    """Without a well-formed key a request is rejected as documented, and uses no quota."""
    response = api.handle("GET", "/v1/posts/logs", "", {"authorization": authorization})
    document = body(response)
    code = "invalid_credentials" if authorization else "missing_credentials"
    assert (response.status, document["code"], document["type"]) == (401, code, "authentication_error")
    assert response.headers["X-RateLimit-Remaining"] == "600"


def test_rate_limit(logs: StaticLogs, clock: VirtualClock) -> None:
    """Each request takes a slot of its key for 60 seconds; without a free one the answer is 429 until one frees."""
    api = SimulatedApi(logs, clock=clock.time, rate_limit=2)
    answers = []
    for seconds in (45.5, 10, 10):
        clock.advance(seconds)
        answers.append(get(api, "/v1/posts/logs"))
    assert [(response.status, response.headers["X-RateLimit-Remaining"]) for response in answers] == [
        (200, "1"),
        (200, "0"),
        (429, "0"),
    ]
    assert body(answers[2]) == {"error": "Rate limit exceeded. Please try again later.", "code": "rate_limit_exceeded"}
    assert [response.headers["Retry-After"] for response in answers if "Retry-After" in response.headers] == ["40"]
    reset = int(answers[2].headers["X-RateLimit-Reset"])
    assert reset == NOON + 106, "the first slot frees, not the whole window"
    assert get(api, "/v1/posts/logs", key=OTHER_KEY).status == 200
    clock.now = NOON + 105.4
    assert get(api, "/v1/posts/logs").status == 429
    clock.now = reset
    assert [get(api, "/v1/posts/logs").status for _ in range(2)] == [200, 429]

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
    """Return a log of one post, and an empty list of API requests."""
    rows = [{"_id": "1", "postId": "p1", "createdAt": "2026-11-24T11:00:00Z"}]
    return StaticLogs(publishing=LogList(rows), api_request=LogList())


@pytest.fixture
def api(logs: StaticLogs, clock: VirtualClock) -> SimulatedApi:
    """Return an API of generation late."""
    return SimulatedApi(logs, clock=clock.time)


def get(api: SimulatedApi, path: str, query: str = "", key: str = KEY, method: str = "GET") -> SimulatorResponse:
    """Send a request with a key."""
    return api.handle(method, path, query, {"Authorization": f"Bearer {key}", "User-Agent": "tests"})


def body(response: SimulatorResponse) -> Any:
    """Return the document of a response."""
    return msgspec.json.decode(response.body)


@pytest.mark.parametrize("path", ["/v1/posts/none/logs", "/v1/posts/a/b/logs", "/api", "/v2/posts/logs"])
def test_not_found(api: SimulatedApi, path: str) -> None:
    """An unknown path or post is answered as documented."""
    response = get(api, path)
    assert (response.status, body(response)) == (404, {"error": "Not found", "code": "not_found"})


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "authorization", ["", KEY, "Bearer sk_short", f"Bearer {KEY.upper()}", f"Bearer rk_{KEY}", f"Bearer  {KEY}"]
)
def test_unauthorized(api: SimulatedApi, authorization: str, method: str) -> None:
    """Without a well-formed key a request is rejected as documented, and uses no quota."""
    response = api.handle(method, "/v1/posts/logs", "", {"authorization": authorization})
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


def test_requests_are_logged(logs: StaticLogs, clock: VirtualClock) -> None:
    """Every request with a valid key has a log of type api_request, also a refused one; others have none."""
    api = SimulatedApi(logs, clock=clock.time, rate_limit=4, generation="zernio")
    requests = (("GET", ""), ("GET", "limit=101"), ("POST", ""), ("GET", ""), ("GET", ""))
    ids = [get(api, "/api/v1/logs", query, method=method).headers["X-Request-Id"] for method, query in requests]
    get(api, "/v1/logs", key="sk_wrong")
    rows = body(get(api, "/v1/logs", "type=api_request", key=OTHER_KEY))["logs"][::-1]
    assert ids == [row["request_id"] for row in rows]
    assert [row["status_code"] for row in rows] == [200, 400, 405, 200, 429]
    assert [row["status"] for row in rows] == ["success", "failed", "failed", "success", "failed"]
    assert len({row["api_key_id"] for row in rows}) == 1
    assert KEY not in str(rows), "the id of a key is not the key"
    expected = ("GET /v1/logs", "tests", "2026-11-24T12:00:00.000Z")
    assert expected == tuple(rows[0][name] for name in ("action", "user_agent", "created_at"))

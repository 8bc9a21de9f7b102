"""Tests of the logs of API requests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from late_exporter.simulator import ZERNIO_RETENTION, LogList, SimulatedApi, SimulatedWorld, StaticLogs
from late_exporter.simulator.zernio_rows import FIELDS, REQUEST_FIELDS
from tests.support.clock import VirtualClock

NOW = 1_795_521_600.0
KEY, OTHER_KEY = "sk_" + "0" * 64, "sk_" + "1" * 64
AGENT = "late-exporter/1.2.3"


def get(api: SimulatedApi, path: str, query: str = "", key: str = KEY, method: str = "GET") -> tuple[Any, str]:
    """Send a request and return the document and the request id of its response."""
    headers = {"Authorization": f"Bearer {key}", "User-Agent": AGENT}
    response = api.handle(method, path, query, headers, ip_address="198.51.100.7")
    return msgspec.json.decode(response.body), response.headers["X-Request-Id"]


def request_logs(api: SimulatedApi, query: str = "") -> list[dict[str, Any]]:
    """Return the logs of API requests, oldest first, by another key."""
    logs: list[dict[str, Any]] = get(api, "/v1/logs", f"type=api_request&{query}", OTHER_KEY)[0]["logs"]
    return logs[::-1]


def build_api() -> SimulatedApi:
    """Return an API of generation zernio without logs that logs its requests."""
    logs = StaticLogs(activity={"api_request": LogList()})
    return SimulatedApi(logs, clock=lambda: NOW, rate_limit=6, generation="zernio")


def test_every_answer_is_logged() -> None:
    """Every request with a valid key has a log with the documented fields, also a refused one."""
    api = build_api()
    _, first_id = get(api, "/api/v1/logs", "profileId=f1&limit=5")
    ids = [first_id] + [
        get(api, path, query, method=method)[1]
        for method, path, query in (
            ("GET", "/v1/logs", "limit=101"),
            ("GET", "/v1/posts/logs", ""),
            ("POST", "/v1/logs", ""),
            ("GET", "/v1/logs", ""),
            ("GET", "/v1/logs", ""),
            ("GET", "/v1/logs", ""),
        )
    ]
    get(api, "/v1/logs", key="sk_wrong")
    logs = request_logs(api)
    assert ids == [log["request_id"] for log in logs]
    assert [200, 400, 404, 405, 200, 200, 429] == [log["status_code"] for log in logs]
    assert ["success", "failed", "failed", "failed", "success", "success", "failed"] == [log["status"] for log in logs]
    assert [*FIELDS, *REQUEST_FIELDS] == list(logs[0])
    (key_id,) = {log["api_key_id"] for log in logs}
    assert {
        "type": "api_request",
        "action": "GET /v1/logs",
        "method": "GET",
        "path": "/v1/logs",
        "endpoint": "/v1/logs",
        "ip_address": "198.51.100.7",
        "user_agent": AGENT,
        "created_at": "2026-11-24T12:00:00.000Z",
        "error_message": None,
        "metadata": '{"profileId":"f1"}',
    }.items() <= logs[0].items()
    assert "Invalid query" == logs[1]["error_message"]
    assert KEY not in str(logs), "the id of a key is not the key"
    assert key_id


def test_filters() -> None:
    """The logs are filtered by key, request, status code and the profile that the request named."""
    api = build_api()
    get(api, "/v1/logs", "profileId=f1")
    _, second_id = get(api, "/v1/nowhere")
    assert ["/v1/nowhere"] == [log["path"] for log in request_logs(api, f"requestId={second_id}")]
    assert ["/v1/nowhere"] == [log["path"] for log in request_logs(api, "statusCode=404")]
    assert ["/v1/logs"] == [log["path"] for log in request_logs(api, "profileId=f1")]
    key_id = request_logs(api)[0]["api_key_id"]
    assert 2 == len(request_logs(api, f"apiKeyId={key_id}"))
    assert [] == request_logs(api, "apiKeyId=other")


def test_only_lists_of_requests_are_written() -> None:
    """Without a list of API requests no request is logged, and admin requests never are."""
    logs = StaticLogs()
    api = SimulatedApi(logs, clock=lambda: NOW, generation="zernio")
    get(api, "/v1/logs")
    assert {} == logs.activity
    logging_api = build_api()
    get(logging_api, "/_simulator")
    assert [] == request_logs(logging_api)


@pytest.mark.exhaustive
def test_a_world_logs_and_expires_requests() -> None:
    """The logs of requests to a world are deleted at the end of their retention."""
    clock = VirtualClock(NOW)
    world = SimulatedWorld(1, NOW, history=0, logs_per_day=10, retention=ZERNIO_RETENTION, with_activity=True)
    api = SimulatedApi(world, clock=clock.time, generation="zernio")
    get(api, "/v1/logs")
    clock.advance(60)
    assert AGENT in {log["user_agent"] for log in request_logs(api, "limit=100")}
    clock.advance(ZERNIO_RETENTION + 61)
    api.handle("GET", "/", "", {})
    assert AGENT not in {row["user_agent"] for row in world.activity["api_request"].rows}

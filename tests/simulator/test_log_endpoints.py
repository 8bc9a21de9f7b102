"""Tests of the log lists of both generations, which are views of the same rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from late_exporter.simulator import LogList, SimulatedApi, StaticLogs
from late_exporter.simulator.endpoints import render_log

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOW = NOON.timestamp()
KEY = "sk_" + "0123456789abcdef" * 4


@pytest.fixture
def logs() -> StaticLogs:
    """Return twelve publishing logs of twelve hours and three connection logs."""
    statuses = {11: "pending", 3: "failed"}
    posts = [
        {
            "_id": f"{number:024x}",
            "postId": {"_id": f"p{number % 5}", "content": f"Brötchen {number}"},
            "profileId": f"f{2 - number % 2}",
            "platform": ("twitter", "tiktok")[number % 2],
            "accountId": f"a{number % 3}",
            "action": "retry" if number == 3 else "publish",
            "status": statuses.get(number, "success"),
            "request": {"contentPreview": f"Brötchen {number}"},
            "response": {"errorMessage": "Rate limit exceeded"} if number == 3 else None,
            "durationMs": number,
            "createdAt": (NOON - timedelta(hours=12 * (12 - number))).isoformat().replace("+00:00", "Z"),
        }
        for number in range(12)
    ]
    events = [
        {
            "profileId": "f1",
            "platform": "twitter",
            "eventType": event,
            "durationMs": 100 + number,
            "createdAt": f"2026-11-24T0{number}:00:00Z",
        }
        for number, event in enumerate(("connect_success", "disconnect", "reconnect_failed"))
    ]
    return StaticLogs(publishing=LogList(posts), connections=LogList(events))


def get(logs: StaticLogs, path: str, query: str = "") -> Any:
    """Return the document of a response of an API of both generations."""
    api = SimulatedApi(logs, clock=lambda: NOW, generation="both")
    return msgspec.json.decode(api.handle("GET", path, query, {"Authorization": f"Bearer {KEY}"}).body)


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/v1/posts/logs", "", [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("/v1/posts/logs", "platform=tiktok&status=failed", [3]),
        ("/v1/posts/logs", "days=2&platform=twitter", [10, 8]),
        ("/v1/posts/logs", "limit=2&skip=3&unknown=1", [8, 7]),
        ("/v1/posts/p1/logs", "", [11, 6, 1]),
        ("/v1/connections/logs", "eventType=disconnect", [101]),
    ],
)
def test_filters_of_late(logs: StaticLogs, path: str, query: str, expected: list[int]) -> None:
    """Every documented filter of generation late works, newest first."""
    assert expected == [log["durationMs"] for log in get(logs, path, query)["logs"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("status=failed&platform=tiktok&search=Rate+limit", [3]),
        ("type=connections&action=account.disconnected", [101]),
        ("days=1", [11, 10]),
        ("from=2026-11-23T12:00:00.001Z", [11]),
        ("from=2026-11-19T00:00:00%2B00:00&to=2026-11-20+00:00:00&limit=2&skip=1", [2, 1]),
        ("profileId=f2&accountId=a1&limit=1", [10]),
        ("status=all&platform=all&unknown=1&limit=1", [11]),
    ],
)
def test_filters_of_zernio(logs: StaticLogs, query: str, expected: list[int]) -> None:
    """The filters that the exporter and its commands use work in generation zernio, newest first."""
    assert expected == [log["duration_ms"] for log in get(logs, "/v1/logs", query)["logs"]]


@pytest.mark.parametrize(
    ("path", "query", "wrong"),
    [
        ("/v1/posts/logs", "skip=-1", {"skip": "must be an integer between 0 and 999999999"}),
        ("/v1/logs", "from=yesterday", {"from": "must be a time such as 2026-11-20T08:00:00Z"}),
        ("/v1/logs", "status=nope", {"status": "must be one of success, failed, pending, skipped, all"}),
    ],
)
def test_validation(logs: StaticLogs, path: str, query: str, wrong: dict[str, str]) -> None:
    """A parameter out of bounds is rejected by name, as the API does."""
    error = {"error": "Invalid query", "code": "VALIDATION_ERROR"}
    assert get(logs, path, query) == {**error, "param": next(iter(wrong)), "details": wrong}


def test_zernio_names_of_a_published_post() -> None:
    """The post is named by the id of its request and in the metadata, its link in the response."""
    row = {"postId": "p1", "response": {"platformPostId": "7", "platformPostUrl": "https://x.com/7"}}
    log = render_log("publishing", {**row, "action": "publish", "status": "success", "attemptNumber": 1})
    assert (log["request_id"], log["response_body"]) == ("req_p1", '{"id":"7","url":"https://x.com/7"}')
    assert log["metadata"] == '{"attemptNumber":1,"postId":"p1"}'

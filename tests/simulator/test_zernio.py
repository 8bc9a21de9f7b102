"""Tests of the list and the log format of generation ``zernio``."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from late_exporter.simulator import ZERNIO_RETENTION, LogList, SimulatedApi, SimulatedWorld, StaticLogs
from late_exporter.simulator.accounts import ACCOUNTS
from late_exporter.simulator.log_list import creation_time
from late_exporter.simulator.zernio_rows import FIELDS, activity_row, connection_row, publishing_row

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOW = NOON.timestamp()
DAY = 86_400.0
KEY = "sk_" + "0123456789abcdef" * 4

PUBLISHED = {
    "_id": "65f1c0a9e2b5af0012ab34cd",
    "postId": {"_id": "p1", "content": "Brötchen", "status": "published"},
    "userId": "u1",
    "profileId": "f1",
    "platform": "twitter",
    "accountId": "a1",
    "accountUsername": "@baeckerei",
    "action": "publish",
    "status": "success",
    "statusCode": 200,
    "endpoint": "api.x.com/2/tweets",
    "request": {"contentPreview": "Brötchen"},
    "response": {"platformPostId": "7", "platformPostUrl": "https://x.com/i/status/7"},
    "durationMs": 700,
    "attemptNumber": 1,
    "createdAt": "2026-11-24T11:00:00.250Z",
}
CONNECTED = {
    "_id": "65f1c0a9e2b5af0012ab34ce",
    "userId": "u1",
    "profileId": "f1",
    "platform": "twitter",
    "accountId": "a1",
    "eventType": "connect_success",
    "connectionMethod": "oauth",
    "success": {"displayName": "Bäckerei", "username": "@baeckerei", "tokenExpiresAt": "2027-01-23T11:00:00.000Z"},
    "durationMs": 1800,
    "createdAt": "2026-11-24T11:00:00Z",
}


def test_publishing_log() -> None:
    """A publishing log has every field of the new format, without an id."""
    log = publishing_row(PUBLISHED)

    assert {
        "type": "publishing",
        "action": "post.published",
        "user_id": "u1",
        "platform": "twitter",
        "account_id": "a1",
        "status": "success",
        "status_code": 200,
        "error_message": None,
        "error_code": None,
        "duration_ms": 700,
        "endpoint": "api.x.com/2/tweets",
        "request_body": '{"contentPreview":"Brötchen"}',
        "response_body": '{"platformPostId":"7","platformPostUrl":"https://x.com/i/status/7"}',
        "created_at": "2026-11-24T11:00:00.250Z",
        "request_id": "req_p1",
    } == {name: value for name, value in log.items() if name != "metadata"}
    assert {
        "postId": "p1",
        "profileId": "f1",
        "accountUsername": "@baeckerei",
        "attemptNumber": 1,
        "platformPostUrl": "https://x.com/i/status/7",
    } == json.loads(log["metadata"])


def test_connection_log() -> None:
    """A connection log has the same format."""
    log = connection_row(CONNECTED)

    assert ("connections", "account.connected", "success", None) == (
        log["type"],
        log["action"],
        log["status"],
        log["request_id"],
    )
    assert (1800, "2026-11-24T11:00:00Z") == (log["duration_ms"], log["created_at"])
    assert {
        "profileId": "f1",
        "accountUsername": "@baeckerei",
        "connectionMethod": "oauth",
        "tokenExpiresAt": "2027-01-23T11:00:00.000Z",
        "displayName": "Bäckerei",
    } == json.loads(log["metadata"])


@pytest.mark.parametrize("name", ["message", "code"])
def test_errors(name: str) -> None:
    """Errors have the same fields in the logs of both feeds."""
    failed_log = publishing_row({**PUBLISHED, "response": {"errorMessage": "message", "errorCode": "code"}})
    denied = connection_row(
        {**CONNECTED, "eventType": "connect_failed", "error": {"message": "message", "code": "code"}}
    )

    assert [name, name] == [failed_log[f"error_{name}"], denied[f"error_{name}"]]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("publish", ["post.published", "post.failed", "post.publishing", "post.skipped"]),
        ("retry", ["post.retried", "post.retry_failed", "post.retrying", "post.skipped"]),
        ("media_upload", ["media.uploaded", "media.failed", "media.uploading", "media_upload"]),
        ("rate_limit_pause", ["post.rate_limited"] * 4),
        ("token_refresh", ["token.refreshed", "token.refresh_failed", "token.refreshing", "token_refresh"]),
        ("cancelled", ["post.cancelled"] * 4),
        ("boost", ["boost"] * 4),
    ],
)
def test_publishing_actions(action: str, expected: list[str]) -> None:
    """Action and status give the new action; an unknown action keeps its name."""
    statuses = ("success", "failed", "pending", "skipped")

    assert expected == [publishing_row({"action": action, "status": status})["action"] for status in statuses]


@pytest.mark.parametrize(
    ("event", "action", "status"),
    [
        ("connect_success", "account.connected", "success"),
        ("connect_failed", "account.connect_failed", "failed"),
        ("disconnect", "account.disconnected", "success"),
        ("reconnect_success", "account.reconnected", "success"),
        ("reconnect_failed", "account.reconnect_failed", "failed"),
        ("transfer", "transfer", "success"),
    ],
)
def test_connection_actions(event: str, action: str, status: str) -> None:
    """An event gives action and status."""
    log = connection_row({"eventType": event})

    assert (action, status) == (log["action"], log["status"])


@pytest.mark.parametrize(("row_number", "number"), [({"attemptNumber": 4}, 4), ({}, 2)])
def test_retries_have_a_number(row_number: dict[str, int], number: int) -> None:
    """A retry has attempt number 2 if the row has none."""
    log = publishing_row({"action": "retry", "status": "skipped", **row_number})

    assert {"attemptNumber": number} == json.loads(log["metadata"])


def test_bodies_are_cut() -> None:
    """Bodies are cut at a number of characters, which may not leave valid JSON."""
    log = publishing_row({"request": {"rawBody": "ü" * 6000}, "response": {"rawBody": "ü" * 20_000}})

    assert ('{"rawBody":"' + "ü" * 4988, 10_000) == (log["request_body"], len(log["response_body"]))


@pytest.mark.parametrize("render", [publishing_row, connection_row])
def test_what_is_not_set_is_null(render: Any) -> None:
    """Every log has all fields, even if its row has none or odd ones."""
    odd = {
        "postId": 7,
        "action": {"a": 1},
        "status": ["success"],
        "eventType": 5,
        "response": "text",
        "error": [],
        "success": "",
    }

    assert list(FIELDS) == list(render({})) == list(render(odd))
    assert {None, render({})["type"], render({})["status"]} == set(render({}).values())


def static_logs() -> StaticLogs:
    """Return twelve publishing logs of twelve hours, three connection logs, and one webhook delivery."""
    statuses = {11: "pending", 3: "failed"}
    posts = [
        {
            "_id": f"{number}",
            "postId": f"p{number}",
            "profileId": f"f{2 - number % 2}",
            "platform": ("twitter", "tiktok")[number % 2],
            "accountId": f"a{number % 3}",
            "action": "retry" if number == 3 else "publish",
            "status": statuses.get(number, "success"),
            "request": {"contentPreview": f"Brötchen {number}"},
            "durationMs": number,
            "createdAt": _text(NOON - timedelta(hours=12 * (12 - number))),
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
    delivery = {
        "type": "webhooks",
        "action": "webhook.delivered",
        "status": "success",
        "status_code": 200,
        "duration_ms": 200,
        "created_at": "2026-11-24T01:00:00Z",
        "event": "post.published",
    }
    return StaticLogs(LogList(posts), LogList(events), {"webhooks": LogList([delivery])})


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def request(source: Any, query: str) -> Any:
    """Return the document of a response."""
    api = SimulatedApi(source, clock=lambda: NOW, generation="zernio")
    answer = api.handle("GET", "/v1/logs", query, {"Authorization": f"Bearer {KEY}"})
    return msgspec.json.decode(answer.body)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("type=publishing&status=all&platform=all", [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("status=pending", [11]),
        ("status=failed&platform=tiktok", [3]),
        ("status=skipped", []),
        ("platform=tiktok&limit=3", [11, 9, 7]),
        ("platform=whatsapp", []),
        ("action=post.retry_failed", [3]),
        ("action=post.unheard_of", []),
        ("accountId=a2", [11, 8, 5, 2]),
        ("account_id=a2&status=pending", [11]),
        ("requestId=req_p7", [7]),
        ("request_id=req_p7", [7]),
        ("search=BR%C3%96TCHEN%201", [11, 10, 1]),
        ("event=post.published", []),
        ("days=1", [11, 10]),
        ("from=2026-11-23T12:00:00Z", [11, 10]),
        ("from=2026-11-23T12:00:00.001Z", [11]),
        ("to=2026-11-19T00:00:00Z&limit=1", [1]),
        ("from=2026-11-19T00:00:00%2B00:00&to=2026-11-20+00:00:00&limit=2&skip=1", [2, 1]),
        ("from=2026-11-19&days=1", [11, 10]),
        ("from=2026-11-24&to=2026-11-23", []),
        ("profileId=f2", [10, 8, 6, 4, 2, 0]),
        ("profileId=f2&status=success&limit=1", [10]),
        ("profileId=f3", []),
        ("type=webhooks&profileId=f2", []),
        ("type=all&profileId=f1&limit=2", [102, 101]),
        ("type=webhooks&apiKeyId=k1", []),
        ("limit=2&skip=3", [8, 7]),
        ("type=connections", [102, 101, 100]),
        ("type=connections&status=success", [101, 100]),
        ("type=connections&status=failed&action=account.reconnect_failed", [102]),
        ("type=webhooks", [200]),
        ("type=webhooks&event=post.published&statusCode=200", [200]),
        ("type=webhooks&event=post.failed", []),
        ("type=webhooks&search=DELIVERED", [200]),
        ("type=messaging", []),
        ("type=all&limit=6", [102, 101, 200, 11, 100, 10]),
        ("type=all&limit=2&skip=2", [200, 11]),
        ("type=all&status=failed", [102, 3]),
        ("unknown=1&limit=1", [11]),
    ],
)
def test_filters(query: str, expected: list[int]) -> None:
    """Every filter works, newest first."""
    assert expected == [log["duration_ms"] for log in request(static_logs(), query)["logs"]]


def test_pagination() -> None:
    """The pagination of all types together is consistent."""
    assert {"total": 12, "limit": 5, "skip": 5, "pages": 3, "hasMore": True} == request(
        static_logs(), "limit=5&skip=5"
    )["pagination"]
    assert {"total": 16, "limit": 8, "skip": 8, "pages": 2, "hasMore": False} == request(
        static_logs(), "type=all&limit=8&skip=8"
    )["pagination"]


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("type=posts", "type"),
        ("status=done", "status"),
        ("platform=myspace", "platform"),
        ("days=91", "days"),
        ("days=0", "days"),
        ("limit=101", "limit"),
        ("skip=-1", "skip"),
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
    ],
)
def test_validation(query: str, wrong: str) -> None:
    """A parameter out of bounds is rejected by name."""
    answer = request(static_logs(), query)

    assert ("VALIDATION_ERROR", [wrong]) == (answer["code"], list(answer["details"]))


@pytest.mark.parametrize("path", ["/v1/logs", "/v1/posts/logs", "/v1/connections/logs"])
def test_greatest_skip(path: str) -> None:
    """A skip above the maximum is rejected by name, and there is a page at the maximum; by default there is none."""
    capped, unlimited = (
        SimulatedApi(static_logs(), clock=lambda: NOW, generation="both", max_skip=max_skip) for max_skip in (10, None)
    )
    headers = {"Authorization": f"Bearer {KEY}"}
    assert 200 == capped.handle("GET", path, "skip=10", headers).status
    assert 200 == unlimited.handle("GET", path, "skip=11", headers).status
    refused = capped.handle("GET", path, "skip=11", headers)
    assert (400, "skip") == (refused.status, msgspec.json.decode(refused.body)["param"])


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    """Return a world with a history of ten days, for reading only."""
    return SimulatedWorld(1, NOW, history=10 * DAY, logs_per_day=1000, retention=ZERNIO_RETENTION, with_activity=True)


@pytest.mark.exhaustive
def test_both_generations_show_the_same(world: SimulatedWorld) -> None:
    """Pages of both generations have the same logs in the same order, also among equal times."""
    lists = StaticLogs(world.publishing, world.connections)
    api = SimulatedApi(lists, clock=lambda: NOW, generation="both")
    for old, new in (("/v1/posts/logs", "publishing"), ("/v1/connections/logs", "connections")):
        pages = [
            msgspec.json.decode(api.handle("GET", path, query, {"Authorization": f"Bearer {KEY}"}).body)
            for path, query in ((old, "limit=100&days=7"), ("/v1/logs", f"type={new}&limit=100&days=7"))
        ]
        render = publishing_row if new == "publishing" else connection_row
        assert [render(row) for row in pages[0]["logs"]] == pages[1]["logs"]
        assert pages[0]["pagination"] == pages[1]["pagination"]


@pytest.mark.exhaustive
def test_ninety_days_are_kept(world: SimulatedWorld) -> None:
    """Logs of more than seven days ago are shown, and deleted at the end of their retention."""
    assert NOW - 10 * DAY < creation_time(world.publishing.rows[-1]) < NOW - 9.9 * DAY
    brief = SimulatedWorld(1, NOW, history=DAY, logs_per_day=100, retention=DAY / 2, with_activity=True)
    assert all(
        creation_time(row) >= NOW - DAY / 2 - 60
        for archive in (brief.publishing, brief.connections, *brief.activity.values())
        for row in archive.rows
    )


@pytest.mark.exhaustive
def test_activity_changes_nothing(world: SimulatedWorld) -> None:
    """The logs of posts and connections are the same with and without activity."""
    late = SimulatedWorld(1, NOW, history=10 * DAY, logs_per_day=1000, retention=ZERNIO_RETENTION)
    assert late.publishing.rows == world.publishing.rows
    assert late.connections.rows == world.connections.rows
    assert {} == late.activity


def test_activity(world: SimulatedWorld) -> None:
    """Every activity type has its actions and all fields, newest first."""
    logs_by_type = {kind: [activity_row(row) for row in archive.rows] for kind, archive in world.activity.items()}
    assert {
        "webhooks": {"webhook.delivered", "webhook.failed"},
        "messaging": {"message.sent", "message.received"},
        "workflow_event": {"workflow.completed", "workflow.failed"},
        "api_request": {"GET /v1/posts", "POST /v1/posts", "GET /v1/accounts", "GET /v1/analytics"},
    } == {kind: {log["action"] for log in logs} for kind, logs in logs_by_type.items()}
    assert {"instagram", "facebook", "whatsapp"} == {log["platform"] for log in logs_by_type["messaging"]}
    for kind, logs in logs_by_type.items():
        assert {kind} == {log["type"] for log in logs}
        assert sorted((creation_time(log) for log in logs), reverse=True) == [creation_time(log) for log in logs]
        assert {"success", "failed"} >= {log["status"] for log in logs} > set()


def test_webhooks_tell_of_posts(world: SimulatedWorld) -> None:
    """Every webhook delivery is of a published or failed post."""
    posts = {row["postId"]["_id"] for row in world.publishing.rows if "postId" in row}
    deliveries = [json.loads(row["metadata"]) for row in world.activity["webhooks"].rows]
    assert {"post.published", "post.failed"} == {metadata["event"] for metadata in deliveries}
    assert len({metadata["postId"] for metadata in deliveries} - posts) < 0.05 * len(deliveries)  # these were deleted


def test_activity_in_any_steps() -> None:
    """The activity does not depend on the number of calls of advance."""
    at_once, sliced = (SimulatedWorld(3, NOW, history=0, logs_per_day=5000, with_activity=True) for _ in range(2))
    at_once.advance(NOW + DAY / 4)
    for step in range(77):
        sliced.advance(NOW + DAY / 4 * (step + 1) / 77)
    assert [archive.rows for archive in at_once.activity.values()] == [
        archive.rows for archive in sliced.activity.values()
    ]


def test_no_messages_without_a_messenger() -> None:
    """Without an account that can receive messages there are none."""
    tweeting = [account for account in ACCOUNTS if account.platform.name == "twitter"]
    world = SimulatedWorld(1, NOW, history=DAY, accounts=tweeting, with_activity=True)
    assert 0 == len(world.activity["messaging"]) < len(world.activity["webhooks"])

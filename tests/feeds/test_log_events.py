"""Log events: what a line says about a log."""

from __future__ import annotations

import json
from typing import Any

from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.decoder import raw_rows
from late_exporter.feeds.log_events import encode_event, read_detail
from late_exporter.model import Scope
from tests.feeds.test_feeds import CONNECTION, PUBLISHED
from tests.feeds.test_zernio import LOG

FAILED_ROW: dict[str, Any] = {
    **PUBLISHED,
    "postId": {"_id": "post1", "content": "Frische\nBrezeln 🥨"},
    "request": None,
    "status": "failed",
    "statusCode": 400,
    "response": {"errorCode": "MEDIA_TOO_LARGE", "errorMessage": 'The video has 2\u2028 "GB"\n'},
    "attemptNumber": 2,
    "createdAt": "2026-11-20T08:00:00.123Z",
}


def event_of(row: dict[str, Any], feed: str = "publishing", generation: str = "late", *, captions: bool = False) -> Any:
    """Return the event of a row, which must be one line of JSON."""
    body = json.dumps({"logs": [row]}).encode()
    definition = GENERATIONS[generation][feed]
    (entry,) = definition.parse(body).entries
    view = definition.view(raw_rows(body)[0], entry)
    line = encode_event(Scope("acme", feed), entry, read_detail(view, captions=captions))
    assert 1 == len(line.decode().splitlines())
    assert line.startswith(b'{"id":"')
    return json.loads(line)


def test_a_failed_attempt() -> None:
    """An event has what identifies the log, what failed and why, and the caption only if it is wanted."""
    assert {
        "id": "acme/publishing/675f1c0a9e2b5af0012ab34cd/failed",
        "time": "2026-11-20T08:00:00.123Z",
        "workspace": "acme",
        "feed": "publishing",
        "platform": "instagram",
        "action": "publish",
        "status": "failed",
        "category": "user_content",
        "status_code": 400,
        "error_code": "MEDIA_TOO_LARGE",
        "error": 'The video has 2� "GB"\n',
        "log_id": "675f1c0a9e2b5af0012ab34cd",
        "post_id": "post1",
        "account_id": "64e1f0a9e2b5af0012ab34ef",
        "username": "@acmecorp",
        "attempt": 2,
        "duration_seconds": 2.34,
    } == event_of(FAILED_ROW)
    assert "Frische\nBrezeln 🥨" == event_of(FAILED_ROW, captions=True)["caption"]


def test_fields_without_a_value_are_left_out() -> None:
    """A log with little in it has a short event."""
    names = {"id", "time", "workspace", "feed", "platform", "action", "status", "log_id"}
    assert names == event_of({"_id": "a", "createdAt": FAILED_ROW["createdAt"]}).keys()


def test_keys_are_masked() -> None:
    """An API that repeats the key in a message does not get it into an event."""
    key = "sk_" + "0123456789abcdef" * 4
    row = {**FAILED_ROW, "response": {"errorMessage": f"invalid key {key}"}}
    assert "invalid key ***" == event_of(row)["error"]


def test_a_failed_connection() -> None:
    """The name of a connection event says whether it failed."""
    event = event_of(CONNECTION, "connections")
    assert ("connect_failed", "failed", "oauth_denied", "OAuth error: access_denied", "oauth") == tuple(
        event[name] for name in ("action", "status", "error_code", "error", "method")
    )
    assert "acme/connections/675f1c0a9e2b5af0012ab34ce/connect_failed" == event["id"]


def test_a_log_of_generation_zernio() -> None:
    """A log without an id is identified by its key; what is in its texts is found."""
    error = {"status_code": 503, "error_code": "platform_error", "error_message": "Try again"}
    event = event_of({**LOG, "action": "post.failed", "status": "failed", **error}, generation="zernio")
    assert ("platform_error", "Try again", "p1", "@acme", 1) == tuple(
        event[name] for name in ("category", "error", "post_id", "username", "attempt")
    )
    assert event["id"].startswith("acme/publishing/1730")

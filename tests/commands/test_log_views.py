from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from late_exporter.commands.log_views import chronological
from late_exporter.commands.post import mentions
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed, LogView
from tests.commands.views import parse_rows

PUBLISHING: dict[str, Any] = {
    "_id": "log1",
    "postId": {"_id": "post1", "content": "Frische Brezeln"},
    "platform": "instagram",
    "accountId": "acc1",
    "accountUsername": "@baeckerei",
    "action": "retry",
    "status": "failed",
    "statusCode": 429,
    "endpoint": "graph.facebook.com/me/media_publish",
    "response": {"errorMessage": "Slow down", "errorCode": "RATE_LIMITED", "platformPostUrl": "https://example.org/1"},
    "durationMs": 1234.5,
    "attemptNumber": 3,
    "createdAt": "2026-11-24T10:00:03.250Z",
}
CONNECTION: dict[str, Any] = {
    "_id": "log2",
    "platform": "twitter",
    "eventType": "connect_failed",
    "connectionMethod": "oauth",
    "error": {"code": "oauth_denied", "message": "access_denied"},
    "createdAt": "2026-11-24T10:00:03Z",
}

ZERNIO: dict[str, Any] = {
    "type": "publishing",
    "action": "post.retry_failed",
    "user_id": "user1",
    "platform": "instagram",
    "account_id": "acc1",
    "status": "failed",
    "status_code": 429,
    "error_message": "Slow down",
    "error_code": "RATE_LIMITED",
    "duration_ms": 1234.5,
    "endpoint": "graph.facebook.com/me/media_publish",
    "request_body": '{"contentPreview": "Frische \\"Brezeln\\""}',
    "response_body": '{"platformPostUrl": "https://example.org/1"}',
    "created_at": "2026-11-24T10:00:03.250Z",
    "metadata": '{"postId": "post1", "accountUsername": "@baeckerei", "attemptNumber": 3}',
    "request_id": "req1",
}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
hostile = anything | st.fixed_dictionaries(
    {}, optional={name: anything | st.just(value) for name, value in (PUBLISHING | CONNECTION | ZERNIO).items()}
)


ALL_FEEDS = [feed for feeds in GENERATIONS.values() for feed in feeds.values()]


def one(row: object, feed: str = "publishing", generation: str = "late") -> LogView:
    """Return the log of a row."""
    (log,) = parse_rows(GENERATIONS[generation][feed], row)
    return log


def test_a_publishing_log_has_all_fields() -> None:
    """Everything that helps to understand an attempt is shown."""
    assert one(PUBLISHING) == LogView(
        key="log1/failed",
        row=PUBLISHING,
        platform="instagram",
        action="retry",
        status="failed",
        log_id="log1",
        post_id="post1",
        created=1_795_514_403_250,
        time="2026-11-24T10:00:03Z",
        account_id="acc1",
        username="@baeckerei",
        attempt=3,
        duration=1_234_500,
        status_code="429",
        error_code="RATE_LIMITED",
        error="Slow down",
        url="https://example.org/1",
        endpoint="graph.facebook.com/me/media_publish",
        caption="Frische Brezeln",
    )


def test_a_log_of_zernio_has_the_same_fields() -> None:
    """It has the actions of generation late, the members of its JSON texts, and a key without an id."""
    log = one(ZERNIO, generation="zernio")
    late = one(PUBLISHING)

    assert log.key.startswith("1795514403250-")
    shared_fields = ("platform", "action", "status", "post_id", "created", "time", "account_id", "username", "attempt")
    for name in (*shared_fields, "duration", "status_code", "error_code", "error", "url", "endpoint"):
        assert getattr(late, name) == getattr(log, name), name
    assert ('Frische "Brezeln"', "", "") == (log.caption, log.log_id, log.method)
    assert "id1" == one({**ZERNIO, "_id": "id1"}, generation="zernio").log_id


def test_truncated_json_texts_of_zernio_are_searched() -> None:
    """Complete members of a truncated JSON text are shown, and so are members of an object."""
    cut = {"metadata": ZERNIO["metadata"][:-2], "response_body": '{"a": [{"platformPostUrl": "https://x/1"}, {"b'}
    log = one({**ZERNIO, **cut, "request_body": '{"contentPreview": "Fris'}, generation="zernio")
    assert ("post1", "@baeckerei", "https://x/1", "") == (log.post_id, log.username, log.url, log.caption)
    other = {
        "metadata": None,
        "request_body": '{"postId": "p2", "content": "Hi"}',
        "response_body": {"platformPostUrl": 5},
    }
    log = one({**ZERNIO, **other}, generation="zernio")
    assert ("p2", "Hi", "5", "", None) == (log.post_id, log.caption, log.url, log.username, log.attempt)
    odd = one(
        {**ZERNIO, "metadata": '{"postId": "a\\ud83d", "platformPostUrl": "\\x"}', "response_body": None},
        generation="zernio",
    )
    assert ("a\ufffd", "") == (odd.post_id, odd.url)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"metadata": '{"postId": "p1"}'}, True),
        ({"metadata": '{"postId": "p12"}', "request_body": "p1"}, False),
        ({"request_id": "req_p1"}, True),
        ({"request_body": '{"post": "p1'}, True),
        ({"error_message": "p1"}, False),
    ],
    ids=str,
)
def test_a_log_without_a_post_id_may_mention_the_post(fields: dict[str, Any], *, expected: bool) -> None:
    """A log with the id of a post belongs to that post only; otherwise its texts are searched."""
    assert expected == mentions(one(fields, generation="zernio"), "p1")


def test_a_connection_log_has_all_fields() -> None:
    """The status follows from the name of the event."""
    log = one(CONNECTION, "connections")

    assert ("connect_failed", "failed", "oauth") == (log.action, log.status, log.method)
    assert ("oauth_denied", "access_denied", "") == (log.error_code, log.error, log.username)
    assert "success" == one({"eventType": "reconnect_success"}, "connections").status
    assert "" == one({"eventType": "disconnect"}, "connections").status


@given(rows=st.lists(hostile, max_size=5), index=st.integers(0, 5), feed=st.sampled_from(ALL_FEEDS))
def test_a_bad_row_does_not_affect_others(rows: list[object], index: int, feed: Feed) -> None:
    """A good log is read whatever rows surround it, and so is every other object."""
    good = ZERNIO if feed.generation == "zernio" else PUBLISHING if feed.name == "publishing" else CONNECTION
    mixed = [*rows[:index], good, *rows[index:]]
    logs = parse_rows(feed, *mixed)

    expected = one(good, feed.name, feed.generation)
    assert expected in [replace(log, key=expected.key) for log in logs]  # an alike row may have the first ordinal
    assert sum(isinstance(row, dict) for row in mixed) == len(logs)
    for log in logs:
        assert all(len(text) <= 1000 for text in (log.error, log.username, log.platform, log.action, log.log_id))
        assert log.key


def test_logs_are_ordered_by_time() -> None:
    """Equal times keep the order of the list."""
    rows = [("e", "10:00:05"), ("c", "10:00:03"), ("b", "10:00:04"), ("a", "10:00:03")]
    logs = [one({"_id": name, "createdAt": f"2026-11-24T{time}Z"}) for name, time in rows]
    assert ["a", "c", "b", "e"] == [log.log_id for log in chronological(logs)]

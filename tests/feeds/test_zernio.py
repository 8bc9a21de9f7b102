from __future__ import annotations

import json

import msgspec
import pytest

from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.model import IncCounter, LogEntry, ObserveHistogram, SetLatest
from tests.feeds.test_feeds import CONNECTED_ENTRY, PUBLISHED_ENTRY, TEN, Document
from tests.support.projection import project_log

ZERNIO = GENERATIONS["zernio"]
PUBLISHING, CONNECTIONS = ZERNIO["publishing"], ZERNIO["connections"]

LOG: Document = {
    "type": "publishing",
    "action": "post.published",
    "user_id": "u1",
    "platform": "instagram",
    "account_id": "a1",
    "status": "success",
    "status_code": 200,
    "error_message": None,
    "error_code": None,
    "duration_ms": 2340,
    "endpoint": "graph.facebook.com/me/media_publish",
    "request_body": '{"contentPreview":"Check out',
    "response_body": "{}",
    "created_at": "2024-11-01T10:00:00.000Z",
    "metadata": '{"postId":"p1","accountUsername":"@acme","attemptNumber":1}',
    "request_id": "req_p1",
}
EVENT: Document = {
    "type": "connections",
    "action": "account.connected",
    "platform": "twitter",
    "account_id": "a1",
    "status": "success",
    "duration_ms": 12,
    "created_at": "2024-11-01T10:00:00Z",
    "metadata": '{"connectionMethod":"oauth","accountUsername":"@acme","tokenExpiresAt":"2024-11-01T10:00:00Z"}',
}


def parse(*rows: object, feed: Feed = PUBLISHING) -> tuple[LogEntry, ...]:
    """Return the entries of a response."""
    return feed.parse(json.dumps({"logs": rows}).encode()).entries


def keys(*rows: object) -> list[str]:
    """Return the keys of the entries of a response."""
    return [entry.key for entry in parse(*rows)]


def test_publishing_log() -> None:
    """A log is decoded like in the other generation, except for its key."""
    (entry,) = parse(LOG)
    names = {"post_id": "p1", "account_id": "a1", "username": "@acme", "has_link": None}
    assert msgspec.structs.replace(PUBLISHED_ENTRY, key=entry.key, created=TEN, **names) == entry
    assert entry.key.startswith(f"{TEN:013d}-")


def test_connection_log() -> None:
    """An action becomes an event."""
    (entry,) = parse(EVENT, feed=CONNECTIONS)
    assert msgspec.structs.replace(CONNECTED_ENTRY, key=entry.key, created=TEN, profile_id=None) == entry


def test_an_attempt_after_the_first_one_is_a_retry() -> None:
    """It is one in its labels and for its account, although the API calls it as any attempt."""
    failed = {**LOG, "action": "post.platform.failed", "status": "failed", "error_code": "USER_CONTENT"}
    (entry,) = parse({**failed, "metadata": '{"attemptNumber": 2}'})
    increments = {increment.family: increment.labels for increment in project_log(PUBLISHING, "acme", entry)}
    assert increments["late_publishing_logs_total"] == ("acme", "instagram", "retry", "failed")
    assert increments["late_publishing_failures_total"] == ("acme", "instagram", "retry", "user_content", "200")
    assert increments["late_account_logs_total"] == ("acme", "instagram", "a1", "failed")
    assert "late_publishing_consecutive_failures" not in increments

    (entry,) = parse({**failed, "metadata": '{"attemptNumber": 1}'})
    families = {increment.family for increment in project_log(PUBLISHING, "acme", entry)}
    assert "late_publishing_consecutive_failures" in families


@pytest.mark.parametrize("name", ["post.platform.deleted", "story.publish.error"])
def test_other_actions_are_no_attempts(name: str) -> None:
    """An action that is no attempt, or not known, keeps its name, and says nothing about its account."""
    (entry,) = parse({**LOG, "action": name, "status": None})
    families = {increment.family for increment in project_log(PUBLISHING, "acme", entry)}
    assert (name, "unknown") == (entry.action, entry.status)
    assert not any(family.startswith("late_account") for family in families)


def test_connection_events_depend_on_the_status() -> None:
    """A failure counts as one, and an action that is not known keeps its name."""
    entries = parse(
        {**EVENT, "action": "account.sync_error"},
        {**EVENT, "action": "reconnect_failed"},
        {**EVENT, "status": "failed"},
        {**EVENT, "action": "account.sync", "status": "failed"},
        {**EVENT, "action": "account.disconnected"},
        feed=CONNECTIONS,
    )
    expected = ["account.sync_error", "reconnect_failed", "connect_failed", "account.sync_failed", "disconnect"]
    assert expected == [entry.action for entry in entries]
    failures = [
        any(one.family == "late_connection_failures_total" for one in project_log(CONNECTIONS, "acme", entry))
        for entry in entries
    ]
    assert failures == [False, True, True, True, False]


@pytest.mark.parametrize(
    "metadata",
    [
        '{"postId":"p1","attemptNumber":' + "9" * 5000 + ',"x',
        '{"postId":"p1","attemptNumber":"01"}',
        '{"postId":"p1","attemptNumber":"' + "9" * 5000 + '"}',
        '{"postId":"p1","accountUsername":"\ud800","x":1}',
        '{"postId":"p1","accountUsername":"@acme","x":"\\ud8',
        7,
    ],
)
def test_metadata_that_is_cut_or_odd(metadata: object) -> None:
    """The fields that can be read are used, and the log counts."""
    (entry,) = parse({**LOG, "metadata": metadata})
    assert (entry.action, entry.status) == ("publish", "success")
    assert ("p1" if isinstance(metadata, str) and "p1" in metadata else None) == entry.post_id


def test_the_beginning_of_a_long_text_is_searched() -> None:
    """Members of truncated JSON are read from the first 64 KiB of a text, by the decoder and for display."""
    for length, post_id in ((60_000, "p1"), (70_000, "")):
        row = {**LOG, "metadata": '{"x":"%s","postId":"p1","contentPreview":"' % ("x" * length)}
        (entry,) = parse(row)
        assert (post_id or None, post_id) == (entry.post_id, PUBLISHING.view(row, entry).post_id)


def test_identical_logs_are_numbered_per_status() -> None:
    """Two identical logs in one status are two logs, in any order."""
    pending = {**LOG, "status": "pending", "duration_ms": None}
    first, second, third = keys(LOG, LOG, pending)
    assert [name[-2:] for name in (first, second, third)] == [".0", ".1", ".0"]
    assert sorted((first, second, third)) == sorted(keys(pending, LOG, LOG))


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ("1730455200000-5cc5bb44f00a.0", {}),
        ("1730455200000-624fffaae5e1.0", {"user_id": None, "request_id": None}),
    ],
)
def test_keys_stay_the_same(expected: str, changes: Document) -> None:
    """The key of a row is the same in all versions of this program, or each visible log would count again."""
    assert [expected] == keys({**LOG, **changes})


@pytest.mark.parametrize("field", ["created_at", "platform", "account_id", "request_id", "request_body", "user_id"])
def test_key_depends_on_immutable_fields(field: str) -> None:
    """Logs that differ in an immutable field have different keys."""
    other = "2024-11-01T10:00:00.001Z" if field == "created_at" else "other"
    assert len({*keys(LOG, {**LOG, field: other})}) == 2


@pytest.mark.parametrize("name", ["webhooks", "messaging", "workflow_event", "api_request"])
def test_activity(name: str) -> None:
    """A log of a further type counts once per status, by type and HTTP status, and its duration is observed."""
    feed = ZERNIO[name]
    (entry,) = parse({**LOG, "type": name, "action": "webhook.delivered"}, feed=feed)
    labels = ("acme", name, "instagram", "webhook.delivered")
    assert list(project_log(feed, "acme", entry)) == [
        IncCounter("late_activity_logs_total", (*labels, "success", "200")),
        ObserveHistogram("late_activity_duration_seconds", labels, micros=(2_340_000,)),
    ]
    assert feed.query == {"type": name}


@pytest.mark.parametrize(
    ("has_link", "texts"),
    [
        (True, {"response_body": '{"id":"1","url":"https://x.com/1"}'}),
        (False, {"response_body": '{"id":"1","url":null}'}),
        (True, {"metadata": '{"platformPostUrl":"https://x.com/1"}', "response_body": '{"url":""}'}),
        (None, {"response_body": '{"id":"1"}'}),
        (None, {"response_body": '{"url":"cut'}),
        (None, {"response_body": None}),
    ],
)
def test_links_of_published_posts(has_link: bool | None, texts: Document) -> None:  # noqa: FBT001 - a parameter
    """A log says whether its post has a link if one of its texts has a field for it."""
    (entry,) = parse({**LOG, **texts})
    assert entry.has_link is has_link


def test_the_profile_of_a_log() -> None:
    """A row names its profile, which is a label of its account."""
    (entry,) = parse({**LOG, "profile_id": "brand1"})
    names = [one.value for one in project_log(PUBLISHING, "acme", entry) if isinstance(one, SetLatest)]
    assert ("@acme", "brand1") in names

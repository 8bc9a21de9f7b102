from __future__ import annotations

import json
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter.errors import BadPayload
from late_exporter.feeds import FEEDS, GENERATIONS
from late_exporter.feeds.zernio import ACTIONS, EVENTS
from late_exporter.model import Feed, IncCounter, LogEntry, LogPage, ObserveHistogram

Document: TypeAlias = dict[str, Any]

ZERNIO = GENERATIONS["zernio"]
PUBLISHING, CONNECTIONS = ZERNIO["publishing"], ZERNIO["connections"]
TEN = 1_730_455_200_000  # 2024-11-01T10:00:00Z

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
    """The entries of an answer."""
    return feed.parse(json.dumps({"logs": rows}).encode()).entries


def keys(*rows: object, feed: Feed = PUBLISHING) -> list[str]:
    """The keys of the entries of an answer."""
    return [entry.key for entry in parse(*rows, feed=feed)]


def test_a_publishing_log() -> None:
    """A log is read as what the other generation would have said of it, but for its key."""
    (entry,) = parse(LOG)
    assert msgspec.structs.replace(entry, status_fingerprint="") == LogEntry(
        key=entry.key,
        status="success",
        created=TEN,
        platform="instagram",
        action="publish",
        post_id="p1",
        account_id="a1",
        username="@acme",
        status_code=200,
        duration=2_340_000,
        attempt=1_000_000,
    )
    assert entry.key.startswith(f"{TEN:013d}-")


def test_a_connection_log() -> None:
    """An action becomes an event."""
    (entry,) = parse(EVENT, feed=CONNECTIONS)
    assert entry == LogEntry(
        key=entry.key,
        status="connect_success",
        created=TEN,
        platform="twitter",
        action="connect_success",
        method="oauth",
        account_id="a1",
        username="@acme",
        error_code="unknown",
        duration=12_000,
        expires_at=TEN,
    )


@pytest.mark.parametrize(("action", "expected"), ACTIONS.items())
def test_actions(action: str, expected: tuple[str, str]) -> None:
    """Every action of the table is one of the vocabulary; its status counts where the row has none."""
    (entry,) = parse({**LOG, "action": action, "status": None})
    assert expected == (entry.action, entry.status)
    (entry,) = parse({**LOG, "action": action, "status": "failed"})
    assert (expected[0], "failed") == (entry.action, entry.status)


@pytest.mark.parametrize(("action", "expected"), EVENTS.items())
def test_events(action: str, expected: str) -> None:
    """Every action of the table is an event."""
    (entry,) = parse({**EVENT, "action": action}, feed=CONNECTIONS)
    assert (expected, expected) == (entry.action, entry.status)


def test_what_is_not_in_the_tables_stays_visible() -> None:
    """An action that nobody knows keeps its own name."""
    assert "post.teleported" == parse({**LOG, "action": "post.teleported"})[0].action
    assert "account.merged" == parse({**EVENT, "action": "account.merged"}, feed=CONNECTIONS)[0].action


def test_a_connection_that_failed() -> None:
    """The status says that it failed, and metadata that it was one before."""
    failed = {**EVENT, "status": "failed", "error_code": "oauth_denied"}
    again = {**failed, "metadata": {"isReconnection": True}}
    entries = parse(failed, again, feed=CONNECTIONS)
    assert ["connect_failed", "reconnect_failed"] == [entry.action for entry in entries]
    assert {"oauth_denied"} == {entry.error_code for entry in entries}


def test_a_later_attempt_is_a_retry() -> None:
    """The number of the attempt tells a retry where the action does not."""
    assert "retry" == parse({**LOG, "metadata": '{"attemptNumber": 2}'})[0].action


@pytest.mark.parametrize(
    "metadata", [LOG["metadata"][:40], '{"postId":"p1","accountUsername":"@acme","x":"\\ud8', "[1", 7]
)
def test_metadata_that_was_cut(metadata: object) -> None:
    """Of a text that ends in the middle the whole fields are read; the log counts in any case."""
    (entry,) = parse({**LOG, "metadata": metadata})
    assert "publish" == entry.action
    assert ("p1" if isinstance(metadata, str) and "p1" in metadata else None) == entry.post_id


def test_logs_that_are_alike_are_numbered_status_by_status() -> None:
    """Two logs alike in one status are two; the order in which they come does not matter."""
    pending = {**LOG, "status": "pending", "duration_ms": None}
    first, second, third = keys(LOG, LOG, pending)
    assert [".0", ".1", ".0"] == [name[-2:] for name in (first, second, third)]
    assert sorted((first, second, third)) == sorted(keys(pending, LOG, LOG))


def test_what_changes_about_a_log_is_not_in_its_key() -> None:
    """A pending log that settles in place is the same log."""
    pending = {**LOG, "action": "post.publishing", "status": "pending", "status_code": None, "duration_ms": None}
    failed = {**LOG, "action": "post.failed", "status": "failed", "error_code": "TIMEOUT", "response_body": "x"}
    assert keys(pending) == keys(LOG) == keys(failed)


@pytest.mark.parametrize("field", ["created_at", "platform", "account_id", "request_id", "request_body", "user_id"])
def test_what_tells_logs_apart(field: str) -> None:
    """Logs that differ in what does not change are different logs."""
    other = "2024-11-01T10:00:00.001Z" if field == "created_at" else "other"
    assert 2 == len({*keys(LOG, {**LOG, field: other})})


@pytest.mark.parametrize("field", ["_id", "id"])
def test_an_id_that_comes_is_used(field: str) -> None:
    """A log with an id is known by it, however many are alike."""
    first, second = keys({**LOG, field: "x1"}, {**LOG, field: "x2"})
    assert (True, True) == (first.endswith("#x1"), second.endswith("#x2"))


def test_keys_go_by_time() -> None:
    """Keys sort as their logs were created."""
    times = ["2024-11-01T10:00:00Z", "2024-11-01T10:00:01Z", "2025-01-01T00:00:00Z"]
    found = keys(*({**LOG, "created_at": time} for time in times))
    assert sorted(found) == found


def test_both_generations_mark_a_log_alike() -> None:
    """What a log has in common with itself in both generations is in the mark of one and in the key of the other."""
    row = {"_id": "i1", "platform": "instagram", "accountId": "a1", "status": "success"}
    late = [FEEDS["publishing"].parse(json.dumps({"logs": [{**row, "action": action}]}).encode()).entries[0]
            for action in ("publish", "retry")]  # fmt: skip
    assert {keys(LOG)[0][14:26]} == {entry.fingerprint for entry in late}
    event = {"_id": "i1", "platform": "twitter", "accountId": "a1", "eventType": "reconnect_success"}
    (late_event,) = FEEDS["connections"].parse(json.dumps({"logs": [event]}).encode()).entries
    assert keys(EVENT, feed=CONNECTIONS)[0][14:26] == late_event.fingerprint


@pytest.mark.parametrize("name", ["webhooks", "messaging", "workflow_event", "api_request"])
def test_activity(name: str) -> None:
    """A log of a further type counts once in its status, under its type, and its duration is observed."""
    feed = ZERNIO[name]
    (entry,) = parse({**LOG, "type": name, "action": "webhook.delivered"}, feed=feed)
    labels = ("acme", name, "instagram", "webhook.delivered")
    assert [
        IncCounter("late_activity_logs_total", (*labels, "success")),
        ObserveHistogram("late_activity_duration_seconds", labels, micros=2_340_000),
    ] == list(feed.project("acme", entry))
    assert {"type": name} == feed.query


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*LOG, "_id", "id"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.lists(JSON | st.fixed_dictionaries({}, optional=dict.fromkeys([*LOG, "_id"], JSON)), max_size=5))
def test_whatever_a_row_holds_it_is_counted(rows: list[object]) -> None:
    """No row raises, none is lost, and no two sightings of a page are one."""
    for feed in ZERNIO.values():
        page = feed.parse(json.dumps({"logs": rows}).encode())
        assert (len(rows), True) == (len(page.entries), page.without_ids)
        named = [(entry.key, entry.status) for entry in page.entries if "=" in entry.key]
        assert len(named) == len({*named})
        for entry in page.entries:
            if not entry.rejection_reason:
                list(feed.project("acme", entry))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"logs": null}', b"<html>"])
def test_what_is_no_list(body: bytes) -> None:
    """An answer without logs is told as one of the other generation is."""
    with pytest.raises(BadPayload):
        PUBLISHING.parse(body)
    assert LogPage((), without_ids=True) == PUBLISHING.parse(b'{"logs": []}')

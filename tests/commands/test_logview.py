from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter.commands.logview import LogView, chronological, mentions, moment, parse_page, post_path
from late_exporter.errors import BadPayload
from late_exporter.feeds import FEEDS, GENERATIONS
from late_exporter.model import Feed

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


EVERY = [feed for feeds in GENERATIONS.values() for feed in feeds.values()]


def body(*rows: object, **more: object) -> bytes:
    """An answer with these rows."""
    return json.dumps({"logs": rows, **more}).encode()


def one(row: object, feed: str = "publishing", generation: str = "late") -> LogView:
    """The log that a row is."""
    (log,) = parse_page(body(row), GENERATIONS[generation][feed]).logs
    return log


def test_a_publishing_log_is_read_in_full() -> None:
    """Everything that helps to understand an attempt is there."""
    assert one(PUBLISHING) == LogView(
        key="log1",
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


def test_a_log_of_zernio_is_read_in_full() -> None:
    """It is shown in the words of generation late, with what stands in its JSON texts, and has a key without an id."""
    log = one(ZERNIO, generation="zernio")
    late = one(PUBLISHING)

    assert log.key.startswith("1795514403250-")
    known = ("platform", "action", "status", "post_id", "created", "time", "account_id", "username", "attempt")
    for name in (*known, "duration", "status_code", "error_code", "error", "url", "endpoint"):
        assert getattr(late, name) == getattr(log, name), name
    assert ('Frische "Brezeln"', "", "") == (log.caption, log.log_id, log.method)
    assert "id1" == one({**ZERNIO, "_id": "id1"}, generation="zernio").log_id


def test_texts_of_zernio_that_are_cut() -> None:
    """What is whole in a JSON text that was cut is shown, and so is what stands in an object."""
    cut = {"metadata": ZERNIO["metadata"][:-2], "response_body": '{"a": [{"platformPostUrl": "https://x/1"}, {"b'}
    log = one({**ZERNIO, **cut, "request_body": '{"contentPreview": "Fris'}, generation="zernio")
    assert ("post1", "@baeckerei", "https://x/1", "") == (log.post_id, log.username, log.url, log.caption)
    told = {
        "metadata": None,
        "request_body": '{"postId": "p2", "content": "Hi"}',
        "response_body": {"platformPostUrl": 5},
    }
    log = one({**ZERNIO, **told}, generation="zernio")
    assert ("p2", "Hi", "5", "", None) == (log.post_id, log.caption, log.url, log.username, log.attempt)
    odd = one(
        {**ZERNIO, "metadata": '{"postId": "a\\ud83d", "platformPostUrl": "\\x"}', "response_body": None},
        generation="zernio",
    )
    assert ("a\ufffd", "") == (odd.post_id, odd.url)


def test_connections_of_zernio() -> None:
    """Their actions are the events of generation late; one of no known name is told by its status."""
    row = {
        "type": "connections",
        "action": "account.connect_failed",
        "error_code": "oauth_denied",
        "metadata": '{"connectionMethod": "oauth"}',
    }
    log = one(row, "connections", "zernio")
    assert ("connect_failed", "failed", "oauth", "oauth_denied") == (log.action, log.status, log.method, log.error_code)
    odd = one({"action": "account.expired", "status": "failed"}, "connections", "zernio")
    assert ("account.expired", "failed") == (odd.action, odd.status)
    assert "" == one({"action": "account.disconnected", "status": "success"}, "connections", "zernio").status


def test_logs_of_zernio_that_are_alike() -> None:
    """Each of them has a key of its own, whatever stands beside it."""
    rows = [ZERNIO, 5, ZERNIO, {**ZERNIO, "status": "pending"}]
    keys = [log.key for log in parse_page(body(*rows), GENERATIONS["zernio"]["publishing"]).logs]

    assert 3 == len(set(keys))
    assert keys[0] == parse_page(body(ZERNIO), GENERATIONS["zernio"]["publishing"]).logs[0].key


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"metadata": '{"postId": "p1"}'}, True),
        ({"metadata": '{"postId": "p12"}', "request_body": "p1"}, False),
        ({"request_id": "req_p1"}, True),
        ({"request_body": '{"post": "p1'}, True),
        ({"error_message": "p1"}, False),
    ],
    ids=str,
)
def test_what_mentions_a_post(fields: dict[str, Any], found: bool) -> None:  # noqa: FBT001 - the expected value
    """A log that names its post is of no other; one that names none may still mention it."""
    assert found == mentions(one(fields, generation="zernio"), "p1")


def test_a_connection_log_is_read_in_full() -> None:
    """An event says by its name whether it succeeded."""
    log = one(CONNECTION, "connections")

    assert ("connect_failed", "failed", "oauth") == (log.action, log.status, log.method)
    assert ("oauth_denied", "access_denied", "") == (log.error_code, log.error, log.username)
    assert "success" == one({"eventType": "reconnect_success"}, "connections").status
    assert "" == one({"eventType": "disconnect"}, "connections").status


@given(rows=st.lists(hostile, max_size=5), place=st.integers(0, 5), feed=st.sampled_from(EVERY))
def test_a_bad_row_costs_no_other(rows: list[object], place: int, feed: Feed) -> None:
    """Whatever stands beside it, a good log is read, and so is every other object."""
    good = ZERNIO if feed.generation == "zernio" else PUBLISHING if feed.name == "publishing" else CONNECTION
    mixed = [*rows[:place], good, *rows[place:]]
    page = parse_page(body(*mixed), feed)

    assert one(good, feed.name, feed.generation) in page.logs
    assert sum(isinstance(row, dict) for row in mixed) == len(page.logs)
    assert len(mixed) == page.rows
    for log in page.logs:
        assert all(len(text) <= 1000 for text in (log.error, log.username, log.platform, log.action, log.log_id))
        assert log.key


@pytest.mark.parametrize("value", [None, True, [], {}, [{}], {"_id": None}], ids=str)
def test_a_field_of_another_type_is_empty(value: object) -> None:
    """What is no text and no number counts as missing."""
    log = one(dict.fromkeys(PUBLISHING, value))

    assert ("unknown", "unknown", "unknown") == (log.platform, log.action, log.status)
    assert ("", "", "", "", None) == (log.log_id, log.post_id, log.time, log.status_code, log.attempt)
    assert (None, None) == (log.created, log.duration)


@pytest.mark.parametrize(
    ("written", "shown"), [("yesterday", "yesterday"), ("9999-12-31T23:59:59-23:00", "9999-12-31T23:59:59-23:00")]
)
def test_a_time_that_is_none_is_shown_as_it_is(written: str, shown: str) -> None:
    """What the calendar does not have is still told."""
    assert shown == one({"createdAt": written}).time


def test_numbers_stand_for_texts() -> None:
    """An id or a code that is a number is shown as one; an absurd number harms nothing."""
    log = one({"_id": 5, "statusCode": "429", "platform": 7, "durationMs": -1, "attemptNumber": 1e300})

    assert ("5", "429", "7", None) == (log.log_id, log.status_code, log.platform, log.duration)
    huge = (
        b'{"logs": [{"_id": "a", "durationMs": ' + b"9" * 6000 + b', "statusCode": NaN, "attemptNumber": -Infinity}]}'
    )
    (log,) = parse_page(huge, FEEDS["publishing"]).logs
    assert (None, "", None) == (log.duration, log.status_code, log.attempt)


def test_rows_without_an_id_are_told_apart() -> None:
    """Two logs without an id are one only where all of them is the same."""
    first, second, again = parse_page(body({"status": "a"}, {"status": "b"}, {"status": "a"}), FEEDS["publishing"]).logs

    assert first.key == again.key != second.key


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "the answer is not JSON"),
        (b"<html>", "the answer is not JSON"),
        (b"[" * 200_000, "the answer nests too deeply"),
        (b"[]", "the answer has no list of logs"),
        (b'{"logs": null}', "the answer has no list of logs"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_list_is_an_error(answer: bytes, words: str) -> None:
    """An answer without logs is told in a line."""
    with pytest.raises(BadPayload, match=words):
        parse_page(answer, FEEDS["publishing"])


@pytest.mark.parametrize(
    ("pagination", "total", "more"),
    [
        ({"total": 5, "hasMore": True}, 5, True),
        ({"total": -1, "hasMore": "yes"}, None, None),
        ({"total": True}, None, None),
        (None, None, None),
        ([], None, None),
    ],
    ids=str,
)
def test_what_an_answer_says_of_the_list(pagination: object, total: int | None, more: bool | None) -> None:  # noqa: FBT001 - the expected value
    """A page knows how many logs there are, where the answer does."""
    page = parse_page(body(pagination=pagination), FEEDS["publishing"])

    assert (total, more) == (page.total, page.has_more)


def test_order() -> None:
    """Oldest first; equal times keep the list's order, and a log without one stays where it was."""
    rows = [("e", "10:00:05"), ("d", ""), ("c", "10:00:03"), ("b", "10:00:04"), ("a", "10:00:03")]
    logs = [one({"_id": name, "createdAt": time and f"2026-11-24T{time}Z"}) for name, time in rows]

    assert ["a", "c", "d", "b", "e"] == [log.log_id for log in chronological(logs)]


def test_moments() -> None:
    """A time is UTC, to the second or the millisecond, and none beyond the calendar."""
    assert "1970-01-01T00:00:01Z" == moment(1999)
    assert "1970-01-01T00:00:01.999Z" == moment(1999, precise=True)
    assert "" == moment(10**18)


@pytest.mark.parametrize(
    ("post_id", "path"),
    [
        ("65f1", "/v1/posts/65f1/logs"),
        ("a/b?c#d %", "/v1/posts/a%2Fb%3Fc%23d%20%25/logs"),
        ("ä", "/v1/posts/%C3%A4/logs"),
        ("", None),
        ("..", None),
        ("a\nb", None),
        ("\udcff", None),
        ("x" * 201, None),
    ],
)
def test_paths_of_posts(post_id: str, path: str | None) -> None:
    """An id stays one step of the path, whatever it holds."""
    assert path == post_path(FEEDS["publishing"], post_id)
    assert None is post_path(FEEDS["connections"], post_id)

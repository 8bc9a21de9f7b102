from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
import pytest

from late_exporter.errors import BadPayload, ResponseTooLarge
from late_exporter.feeds import FEEDS, GENERATIONS, publishing
from late_exporter.feeds.decoder import (
    label_text,
    parse_millis,
)
from late_exporter.feeds.feed import Feed
from late_exporter.feeds.publishing import failure_category
from late_exporter.feeds.vocabulary import FAILURE_CATEGORIES
from late_exporter.model import (
    PAGE_SIZE,
    IncCounter,
    Increment,
    LogEntry,
    LogPage,
    ObserveHistogram,
    RecordAttempt,
    SetLatest,
)
from tests.support.projection import project_log

PUBLISHING, CONNECTIONS = FEEDS["publishing"], FEEDS["connections"]
MISSING = object()
Document: TypeAlias = dict[str, Any]

# Examples of the documentation.
PUBLISHED: Document = {
    "_id": "675f1c0a9e2b5af0012ab34cd",
    "postId": {"_id": "65f1c0a9e2b5af0012ab34cd", "content": "Check out our new feature!", "status": "published"},
    "userId": "64e1f0a9e2b5af0012ab34de",
    "platform": "instagram",
    "accountId": "64e1f0a9e2b5af0012ab34ef",
    "accountUsername": "@acmecorp",
    "action": "publish",
    "status": "success",
    "statusCode": 200,
    "endpoint": "graph.facebook.com/me/media_publish",
    "request": {
        "contentPreview": "Check out our new feature!",
        "mediaCount": 1,
        "mediaTypes": ["image"],
        "mediaUrls": ["https://storage.getlate.dev/abc123.jpg"],
    },
    "response": {
        "platformPostId": "17895695668004550",
        "platformPostUrl": "https://www.instagram.com/p/ABC123/",
    },
    "durationMs": 2340,
    "attemptNumber": 1,
    "createdAt": "2024-11-01T10:00:05Z",
}
CONNECTION: Document = {
    "_id": "675f1c0a9e2b5af0012ab34ce",
    "userId": "64e1f0a9e2b5af0012ab34de",
    "profileId": "64e1f0a9e2b5af0012ab34ef",
    "platform": "twitter",
    "eventType": "connect_failed",
    "connectionMethod": "oauth",
    "error": {"code": "oauth_denied", "message": "OAuth error: access_denied"},
    "context": {"hasCustomRedirectUrl": True},
    "createdAt": "2024-11-01T09:00:00Z",
}
TEN = 1_730_455_200_000  # 2024-11-01T10:00:00Z
CONNECTED: Document = {
    **CONNECTION,
    "eventType": "connect_success",
    "accountId": "a1",
    "error": None,
    "success": {"username": "@acme", "tokenExpiresAt": "2024-11-01T10:00:00Z", "permissions": ["read"]},
    "durationMs": 12,
}

PUBLISHED_ENTRY = LogEntry(
    key="675f1c0a9e2b5af0012ab34cd",
    status="success",
    created=TEN + 5000,
    platform="instagram",
    action="publish",
    post_id="65f1c0a9e2b5af0012ab34cd",
    account_id="64e1f0a9e2b5af0012ab34ef",
    username="@acmecorp",
    status_code=200,
    duration=2_340_000,
    attempt=1,
    has_link=True,
)
CONNECTED_ENTRY = LogEntry(
    key="675f1c0a9e2b5af0012ab34ce",
    status="connect_success",
    created=TEN - 3_600_000,
    platform="twitter",
    action="connect_success",
    method="oauth",
    account_id="a1",
    username="@acme",
    profile_id="64e1f0a9e2b5af0012ab34ef",
    error_code="unknown",
    duration=12_000,
    expires_at=TEN,
)


def body(*rows: object, **rest: object) -> bytes:
    """Return a response body."""
    return json.dumps({"logs": rows, **rest}).encode()


def without_deviations(page: LogPage) -> LogPage:
    """Return a page without deviations."""
    entries = tuple(msgspec.structs.replace(entry, deviations=()) for entry in page.entries)
    return msgspec.structs.replace(page, entries=entries)


def parse(*rows: object, feed: Feed = PUBLISHING) -> tuple[LogEntry, ...]:
    """Return the entries of a response, without deviations."""
    return without_deviations(feed.parse(body(*rows))).entries


def with_changes(row: Document, **changes: object) -> Document:
    """Return a row with some fields changed."""
    return {name: value for name, value in {**row, **changes}.items() if value is not MISSING}


def payload_error(payload: bytes, feed: Feed = PUBLISHING) -> str:
    """Return the error message of a response."""
    with pytest.raises(BadPayload) as caught:
        feed.parse(payload)
    return str(caught.value)


def test_documented_publishing_page() -> None:
    """The documented page of publishing logs is decoded."""
    pagination = {"total": 150, "limit": 50, "skip": 0, "pages": 3, "hasMore": True}
    page = without_deviations(PUBLISHING.parse(body(PUBLISHED, pagination=pagination)))
    assert LogPage((PUBLISHED_ENTRY,), 150, has_more=True) == page


def test_documented_connections_page() -> None:
    """The documented page of connection logs is decoded."""
    expected = LogEntry(
        key="675f1c0a9e2b5af0012ab34ce",
        status="connect_failed",
        created=TEN - 3_600_000,
        platform="twitter",
        action="connect_failed",
        method="oauth",
        username="unknown",
        profile_id="64e1f0a9e2b5af0012ab34ef",
        error_code="oauth_denied",
        error="OAuth error: access_denied",
    )
    pagination = {"total": 1, "limit": 50, "skip": 0, "pages": 1, "hasMore": False}
    page = without_deviations(CONNECTIONS.parse(body(CONNECTION, pagination=pagination)))
    assert LogPage((expected,), 1, has_more=False) == page
    assert parse(CONNECTED, feed=CONNECTIONS) == (CONNECTED_ENTRY,)


# Invalid rows.


REJECTED = [
    ("no_id", with_changes(PUBLISHED, _id=MISSING)),
    ("no_id", with_changes(PUBLISHED, _id=12)),
    ("no_id", {"a": 1, "b": 2}),
    ("not_an_object", None),
    ("not_an_object", "\ud83d"),
]


@pytest.mark.parametrize(("reason", "row"), REJECTED)
@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
def test_rows_without_an_id_are_rejected(feed: Feed, reason: str, row: object) -> None:
    """A row without a usable id is rejected with the reason and has a stable key, in any order of its fields."""
    good = {"_id": "a", "createdAt": "2024-11-01T10:00:05Z"}
    same = dict(reversed(row.items())) if isinstance(row, dict) else row
    first, _, second, other = parse(row, good, same, {"a": 1, "b": "2"}, feed=feed)

    created = TEN + 5000 if isinstance(row, dict) and "createdAt" in row else None
    assert (first.rejection_reason, first.status, first.created) == (reason, "rejected", created)
    assert first == second
    assert len({first.key, other.key}) == 2
    assert len(first.key) == 65


KINDS: dict[str, object] = {
    "missing": MISSING,
    "null": None,
    "a number": 7,
    "a text": "",
    "a list": ["x", 1],
    "an object": {"x": 1},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("field", "attribute", "default"),
    [
        ("platform", "platform", "unknown"),
        ("accountUsername", "username", "unknown"),
        ("action", "action", "unknown"),
        ("status", "status", "unknown"),
        ("response", "error_code", None),
        ("postId", "post_id", None),
        ("surprise", None, None),
    ],
)
def test_invalid_fields_of_publishing_logs(field: str, attribute: str | None, default: object, kind: str) -> None:
    """A missing, null, empty or mistyped field is unknown, and the log counts."""
    (entry,) = parse(with_changes(PUBLISHED, **{field: KINDS[kind]}))
    expected = msgspec.structs.replace(PUBLISHED_ENTRY, **({attribute: default} if attribute else {}))
    assert entry == msgspec.structs.replace(expected, has_link=entry.has_link)


@pytest.mark.parametrize(
    ("expected", "post_id"),
    [
        ("p", "p"),
        ("p", {"_id": "p"}),
        (None, 5),
        (None, {"_id": ".."}),
        ("p" * 128, "p" * 300),
    ],
)
def test_post_ids(expected: str | None, post_id: object) -> None:
    """The post id is a string, or the id of an object."""
    assert expected == parse(with_changes(PUBLISHED, postId=post_id))[0].post_id


NUMBERS = [
    # raw JSON, duration in microseconds
    ("1", 1000),
    ("0.0006", 1),
    ("1e308", 10**15),
    ("1" + "0" * 400, 10**15),
    ("1" + "0" * 5000, None),
    ("1e999", None),
    ("NaN", None),
    ("-1", None),
    ('"2340"', None),
]


@pytest.mark.parametrize(("raw", "duration"), NUMBERS)
def test_numbers(raw: str, duration: int | None) -> None:
    """Durations and attempts are finite and not negative, and capped at 31 years, whatever else is in the page."""
    fields = f'"durationMs": {raw}, "attemptNumber": {raw}, "statusCode": {raw}'
    payload = f'{{"logs": [{{"_id": "a", "createdAt": "2024-11-01T10:00:05Z", {fields}}}]}}'
    (entry,) = PUBLISHING.parse(payload.encode()).entries
    (connection,) = CONNECTIONS.parse(payload.encode()).entries
    (deviating,) = without_deviations(PUBLISHING.parse(payload.replace("{", '{"surprise": 1, ', 1).encode())).entries
    assert msgspec.structs.replace(entry, deviations=()) == deviating

    assert ("a", None, duration) == (entry.key, entry.rejection_reason, entry.duration)
    assert duration == connection.duration
    assert (duration is None) == (entry.attempt is None)
    families = [increment.family for increment in project_log(PUBLISHING, "acme", entry)]
    assert (duration is not None) == ("late_publishing_duration_seconds" in families)


@pytest.mark.parametrize(
    ("raw", "label"), [("100", "100"), ("99", "none"), ("600", "none"), ('"200"', "none"), ("200.5", "none")]
)
def test_status_codes(raw: str, label: str) -> None:
    """A status code is a valid HTTP status, or none."""
    payload = f'{{"logs": [{{"_id": "a", "createdAt": "2024-11-01T10:00:05Z", "statusCode": {raw}}}]}}'
    assert publishing.status_code_label(PUBLISHING.parse(payload.encode()).entries[0].kind) == label


TEXTS = [
    ("unknown", None),
    ("a\ufffd\t\n\ufffd", "a\x00\t\n\x7f"),
    ("\ufffd[31mé\ufffd\ufffd", "\x1b[31mé\x9b\r"),
    ("x" * 128, "x" * 129),
    ("🔥" * 128, "🔥" * 129),
    ("cut \ufffd", "cut \ud83d"),
    ("🔥", "\ud83d\udd25"),
    ("\ufffd" * 5, "\ufeff\u202e\u2066\u200b\U000e0041"),
    (
        "\U0001f468\u200d\U0001f469 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f468\u200d\U0001f469 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    ),
    ("key ***", "key sk_" + "4f1d8c6b" * 8),
    ("***", "zrk_" + "4f1d8c6b" * 8),
]


@pytest.mark.parametrize(("expected", "value"), TEXTS)
def test_texts(expected: str, value: str | None) -> None:
    """A label is valid Unicode of at most 128 characters without control characters."""
    assert expected == label_text(value)
    assert expected == parse(with_changes(PUBLISHED, platform=value))[0].platform
    assert expected == parse(with_changes(CONNECTED, eventType=value), feed=CONNECTIONS)[0].action


@pytest.mark.parametrize(
    "ids", [("x" * 129, "x" * 130), ("é" * 65, "é" * 66), ("sk_" + "4f1d8c6b" * 8, "sk_" + "5f1d8c6b" * 8)]
)
def test_ids_that_are_long_or_look_like_keys_are_digests(ids: tuple[str, str]) -> None:
    """A digest is stable, and another one for the next id; other ids are keys as they are."""
    first, same, second, plain = (parse({"_id": each})[0].key for each in (ids[0], *ids, "x" * 128))
    assert first == same != second
    assert (first[0], second[0], len(first), plain) == ("#", "#", 65, "x" * 128)


MOMENTS = [
    (TEN, "2024-11-01T10:00:00Z"),
    (TEN, "2024-11-01T04:30:00.000-0530"),
    (TEN - 36_000_000, "2024-11-01"),
    (TEN + 123, "2024-11-01T10:00:00.123999Z"),
    (None, "1999-12-31T23:59:59.999Z"),
    (None, "0001-01-01T00:00:00+14:00"),
    (None, "٢٠٢٤-11-01T10:00:00Z"),
    (None, None),
    (None, 1_730_455_200_000),
]


@pytest.mark.parametrize(("expected", "value"), MOMENTS)
def test_times(expected: int | None, value: object) -> None:
    """A time is ISO 8601 since 2000, with or without fractions, in any zone; anything else is missing."""
    assert expected == parse(with_changes(PUBLISHED, createdAt=value))[0].created
    if value is None or isinstance(value, str):
        assert expected == parse_millis(value)


# Invalid responses.

BODIES = [
    (b"", "the response is not JSON: it is empty"),
    (b"<html>\n<title>502</title>", "the response is not JSON: it begins with '<html>'"),
    (b'{"logs": [{"_id": "a"}, {"_i', 'the response is not JSON: it begins with \'{"logs": [{"_id": "a"}, {"_i\''),
    (b"{}", "the response has no list of logs: logs has the type null"),
    (b"[]", "the response is not an object, but array"),
    (b"[" * 50_000, "the response is nested too deeply"),
]


@pytest.mark.parametrize(("payload", "words"), BODIES)
@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
def test_invalid_responses(feed: Feed, payload: bytes, words: str) -> None:
    """A response that is not a log list has a stable error message."""
    assert [words] * 2 == [payload_error(payload, feed), payload_error(payload, feed)]


@pytest.mark.parametrize("field", ["a", "platform", "response"])
@pytest.mark.parametrize("feed", [PUBLISHING, GENERATIONS["zernio"]["publishing"]], ids=["late", "zernio"])
def test_deep_nesting(feed: Feed, field: str) -> None:
    """A page with a row that no parser reads is read in parts, so that only the row is left out."""
    rows = json.dumps({"logs": [{"_id": "a", "created_at": "2024-11-01T10:00:05Z", field: "@"}]})
    assert len(feed.parse(rows.replace('"@"', "[" * 90 + "]" * 90).encode()).entries) == 1
    with pytest.raises(ResponseTooLarge):
        feed.parse(rows.replace('"@"', "[" * 40_000 + "]" * 40_000).encode())


@pytest.mark.parametrize(
    "feed",
    [*FEEDS.values(), *GENERATIONS["zernio"].values()],
    ids=lambda feed: f"{feed.generation}-{feed.name}",
)
def test_rows_beyond_the_requested_page(feed: Feed) -> None:
    """Rows beyond those of the largest page are ignored, by the strict and by the lenient decoder."""
    rows = [{"_id": f"a{number}", "createdAt": "2024-11-01T10:00:05Z"} for number in range(250)]
    for extra in ({}, {"platform": 5}):
        assert len(parse({**rows[0], **extra}, *rows[1:], feed=feed)) == PAGE_SIZE


@pytest.mark.parametrize(
    ("total", "more", "pagination"),
    [
        (None, None, None),
        (0, False, {"total": 0, "hasMore": False}),
        (None, True, {"total": -1, "hasMore": True}),
        (None, None, {"total": [7], "hasMore": "yes"}),
        (7, True, {"total": 7, "skip": 5, "hasMore": False}),
        (7, False, {"total": 7, "skip": 7, "hasMore": False}),
    ],
)
def test_pagination(total: int | None, more: bool | None, pagination: object) -> None:  # noqa: FBT001 - expected
    """Valid pagination fields are used, beside valid and invalid rows."""
    for rows in ((), ({"_id": "a"},), (None,)):
        page = PUBLISHING.parse(body(*rows, pagination=pagination))
        assert (len(rows), total, more) == (len(page.entries), page.total, page.has_more)


def test_a_total_that_is_text() -> None:
    """It costs the page, because it may mean that lists are paged in another way now."""
    with pytest.raises(BadPayload, match=r"^pagination\.total is text, not a number$"):
        PUBLISHING.parse(body({"_id": "a"}, pagination={"total": "7"}))


# Increments.

CATEGORIES = [
    ("platform_rate_limit", "RATE_LIMITED", 400, "publish"),
    ("platform_rate_limit", None, 500, "rate_limit_pause"),
    ("quota_exhausted", None, 402, "publish"),
    ("auth_expired", "UPLOAD_TOKEN_EXPIRED", 401, "publish"),
    ("auth_expired", None, 400, "token_refresh"),
    ("user_content", "MEDIA_UPLOAD_FAILED", 500, "publish"),
    ("user_content", None, 422, "retry"),
    ("user_content", None, None, "media_upload"),
    ("platform_error", None, 408, "publish"),
    ("system_error", "TIMEOUT", 400, "publish"),
    ("platform_rejected", None, 404, "publish"),
    ("unknown", None, None, "publish"),
]


@pytest.mark.parametrize(("expected", "error_code", "status_code", "action"), CATEGORIES)
def test_failure_categories(expected: str, error_code: str | None, status_code: int | None, action: str) -> None:
    """The category follows from the error code, then the status code, then the action."""
    entry = LogEntry(key="a", status="failed", error_code=error_code, status_code=status_code, action=action)
    assert expected == failure_category(entry.kind)


@pytest.mark.parametrize("category", FAILURE_CATEGORIES)
@pytest.mark.parametrize(
    "write", [str, lambda name: name.title().replace("_", ""), lambda name: name.replace("_", "-")]
)
def test_an_error_code_that_is_a_category_is_taken(category: str, write: Callable[[str], str]) -> None:
    """It wins over the status code and the action, however it is written."""
    entry = LogEntry(key="a", status="failed", error_code=write(category), status_code=429, action="token_refresh")
    assert failure_category(entry.kind) == category


def connection_increments(**changes: object) -> list[Increment]:
    """Return the increments of a connection log with some fields changed."""
    (entry,) = parse(with_changes(CONNECTED, **changes), feed=CONNECTIONS)
    return list(project_log(CONNECTIONS, "acme", entry))


def test_connected_account() -> None:
    """A connection counts, has a duration, and sets name, state and token expiry of its account."""
    event, account, at = ("acme", "twitter", "connect_success"), ("acme", "twitter", "a1"), TEN - 3_600_000
    assert connection_increments() == [
        IncCounter("late_connection_events_total", (*event, "oauth")),
        ObserveHistogram("late_connection_duration_seconds", event, micros=(12_000,)),
        SetLatest("late_connection_last_event_timestamp_seconds", event, at=at, value=at / 1000),
        SetLatest("late_account_info", account, at=at, value=("@acme", "64e1f0a9e2b5af0012ab34ef")),
        SetLatest("late_account_connected", account, at=at, value=1),
        SetLatest("late_account_token_expiry_timestamp_seconds", account, at=at, value=TEN / 1000),
    ]


@pytest.mark.parametrize(
    ("event", "value", "failure"),
    [
        ("reconnect_success", 1, None),
        ("disconnect", 0, None),
        ("reconnect_failed", 0, "reconnect_failed"),
        ("connect_failed", None, "connect_failed"),
        ("paused", None, None),
        (None, None, None),
    ],
)
def test_account_state_by_event(event: str | None, value: int | None, failure: str | None) -> None:
    """The state of the account depends on the event; a failure counts by its code."""
    result = connection_increments(eventType=event, error={"code": "oauth_denied"})
    connections = [i.value for i in result if i.family == "late_account_connected" and isinstance(i, SetLatest)]
    assert ([] if value is None else [value]) == connections
    failures = [i.labels for i in result if i.family == "late_connection_failures_total"]
    assert ([] if failure is None else [("acme", "twitter", failure, "oauth_denied")]) == failures


@pytest.mark.parametrize("status", ["pending", "success", "failed"])
def test_token_refreshes(status: str) -> None:
    """A renewal of a token counts for its account, and is no attempt to publish."""
    (entry,) = parse(with_changes(PUBLISHED, action="token_refresh", status=status, accountId="a1"))
    increments = list(project_log(PUBLISHING, "acme", entry))
    expected = IncCounter("late_account_token_refreshes_total", ("acme", "instagram", "a1", status))
    assert expected in increments
    assert not any(each.family == "late_account_logs_total" for each in increments)


STREAKS = {
    "late_publishing_consecutive_failures": ("acme", "instagram"),
    "late_workspace_consecutive_failures": ("acme",),
}


@pytest.mark.parametrize(
    ("action", "status", "failed"),
    [
        ("publish", "failed", True),
        ("publish", "success", False),
        ("retry", "success", False),
        ("retry", "failed", None),
        ("publish", "pending", None),
        ("publish", "skipped", None),
        ("media_upload", "failed", None),
        ("media_upload", "success", None),
    ],
)
def test_streaks_of_platforms(action: str, status: str, failed: bool | None) -> None:  # noqa: FBT001 - a parameter
    """A failed first attempt is a further failed post, and any success ends the streak; a failed retry is neither."""
    (entry,) = parse(with_changes(PUBLISHED, action=action, status=status, accountId=None))
    created = entry.created or 0
    increments = [each for each in project_log(PUBLISHING, "acme", entry) if each.family in STREAKS]
    expected = [
        RecordAttempt(family, labels, at=created, failed=failed, spacing=300_000)
        for family, labels in STREAKS.items()
        if failed is not None
    ]
    assert increments == expected


LINK = "https://www.instagram.com/p/ABC123/"
RESPONSES: list[tuple[bool | None, object]] = [
    (True, {"platformPostUrl": LINK}),
    (False, {"platformPostUrl": ""}),
    (False, {"platformPostId": "1"}),
    (None, None),
]


@pytest.mark.parametrize(("has_link", "response"), RESPONSES)
def test_published_without_a_link(has_link: bool | None, response: object) -> None:  # noqa: FBT001 - a parameter
    """A successful attempt counts if its response has no link; one without a response does not say."""
    (entry,) = parse(with_changes(PUBLISHED, response=response))
    assert entry.has_link is has_link
    expected = IncCounter("late_publishing_without_link_total", ("acme", "instagram"))
    assert (expected in list(project_log(PUBLISHING, "acme", entry))) == (has_link is False)
    (failed,) = parse(with_changes(PUBLISHED, response=response, status="failed"))
    assert failed.has_link is None

from __future__ import annotations

from typing import Any

import pytest

from late_exporter.commands.post import mentions
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import LogView
from tests.commands.views import parse_rows
from tests.feeds.test_feeds import CONNECTION
from tests.feeds.test_zernio import EVENT, LOG


def one(row: object, feed: str = "publishing", generation: str = "late") -> LogView:
    """Return the log of a row."""
    (log,) = parse_rows(GENERATIONS[generation][feed], row)
    return log


def test_truncated_json_texts_of_zernio_are_searched() -> None:
    """Complete members of a truncated JSON text are shown, and so are members of an object."""
    cut = {"metadata": LOG["metadata"][:-2], "response_body": '{"a": [{"platformPostUrl": "https://x/1"}, {"b'}
    log = one({**LOG, **cut, "request_body": '{"contentPreview": "Fris'}, generation="zernio")
    assert (log.post_id, log.username, log.url, log.caption) == ("p1", "@acme", "https://x/1", "")
    request = '{"postId": "p2", "content": "Hi"}'
    other = {"metadata": None, "request_body": request, "response_body": {"platformPostUrl": "https://x/2"}}
    log = one({**LOG, **other}, generation="zernio")
    assert (log.post_id, log.caption, log.url, log.username, log.attempt) == ("p2", "Hi", "https://x/2", "", None)
    metadata = '{"postId": "a\\ud83d", "platformPostUrl": "\\x"}'
    odd = one({**LOG, "metadata": metadata, "response_body": None}, generation="zernio")
    assert (odd.post_id, odd.url) == ("a\ufffd", "")


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"response_body": '{"id": "1", "url": "https://x/1"}'}, "https://x/1"),
        ({"response_body": '{"url": "https://x/1", "platformPostUrl": "https://x/3"}'}, "https://x/3"),
        ({"response_body": '{"url": "https://docs/errors"}', "status": "failed"}, ""),
        ({"response_body": '{"url": "https://cdn/video"}', "action": "media.uploaded"}, ""),
    ],
    ids=repr,
)
def test_links_of_published_posts(fields: dict[str, Any], url: str) -> None:
    """The link of a post is found under each of its names, and an address in another response is none."""
    assert url == one({**LOG, **fields}, generation="zernio").url


def test_a_log_without_a_post_id_may_mention_the_post() -> None:
    """A log with the id of a post belongs to that post only; otherwise its texts are searched."""
    belonging = {"metadata": '{"postId": "p1"}'}, {"request_id": "req_p1"}, {"request_body": '{"post": "p1'}
    others = {"metadata": '{"postId": "p12"}', "request_body": "p1"}, {"error_message": "p1"}
    assert all(mentions(one(fields, generation="zernio"), "p1") for fields in belonging)
    assert not any(mentions(one(fields, generation="zernio"), "p1") for fields in others)


def test_the_status_of_a_connection_log_follows_from_its_event() -> None:
    log = one(CONNECTION, "connections")
    error = CONNECTION["error"]["message"]
    assert ("failed", "oauth", "oauth_denied", error) == (log.status, log.method, log.error_code, log.error)
    assert one(CONNECTION | {"eventType": "reconnect_success"}, "connections").status == "success"
    assert one(CONNECTION | {"eventType": "disconnect"}, "connections").status == ""
    # Generation zernio gives one to every event.
    assert one(EVENT | {"action": "account.disconnected"}, "connections", "zernio").status == "success"

from __future__ import annotations

from collections.abc import Callable

import pytest

from late_exporter.feeds.classification import (
    ACTIONS_BY_NAME,
    EVENTS_BY_NAME,
    Classification,
    classify_action,
    classify_event,
)
from late_exporter.feeds.vocabulary import ACTIONS, EVENTS, split_words

STYLES: dict[str, Callable[[list[str]], str]] = {
    "dots": ".".join,
    "underscores": "_".join,
    "hyphens": "-".join,
    "capitals": lambda words: "_".join(words).upper(),
    "camel case": lambda words: words[0] + "".join(word.title() for word in words[1:]),
    "pascal case": lambda words: "".join(word.title() for word in words),
}

ATTEMPTS = [
    ("post.platform.published", "publish", "success"),
    ("post.platform.failed", "publish", "failed"),
    ("post.platform.partial", "publish", "success"),
    ("post.platform.pending", "publish", "pending"),
    ("post.platform.publishing", "publish", "pending"),
    ("post.platform.scheduled", "publish", "pending"),
    ("post.platform.skipped", "publish", "skipped"),
    ("post.failed.permanently", "publish", "failed"),
    ("post.error", "publish", "failed"),
    ("post.publish", "publish", "unknown"),
    ("post.publish.succeeded", "publish", "success"),
    ("post.media.published", "publish", "success"),
    ("publish.failed", "publish", "failed"),
    ("tiktok.video.published", "publish", "success"),
    ("post.platform.retry", "retry", "unknown"),
    ("post.platform.retried", "retry", "success"),
    ("post.platform.retrying", "retry", "pending"),
    ("post.retry.failed", "retry", "failed"),
    ("post.reattempt", "retry", "unknown"),
    ("post.re.attempted", "retry", "unknown"),
    ("publish.retry.scheduled", "retry", "pending"),
    ("post.platform.rate.limited", "rate_limit_pause", "skipped"),
    ("account.rate.limit.reached", "rate_limit_pause", "skipped"),
    ("post.throttled", "rate_limit_pause", "skipped"),
    ("account.cooldown.started", "rate_limit_pause", "skipped"),
    ("media.upload.started", "media_upload", "pending"),
    ("upload.completed", "media_upload", "success"),
    ("post.upload.failed", "media_upload", "failed"),
    ("media.processing", "media_upload", "pending"),
    ("token.refresh", "token_refresh", "unknown"),
    ("access.token.refresh.error", "token_refresh", "failed"),
    ("account.refreshed", "token_refresh", "success"),
    ("post.platform.cancelled", "cancelled", "skipped"),
    ("post.canceled", "cancelled", "skipped"),
    ("post.cancel.failed", "cancelled", "failed"),
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("name", "action", "status"), ATTEMPTS)
def test_actions_are_classified_by_their_words(style: str, name: str, action: str, status: str) -> None:
    """An action in no table is classified by its words, in any style."""
    assert Classification(action, status, is_understood=True) == classify_action(STYLES[style](name.split(".")))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ACTIONS_BY_NAME)
def test_the_table_applies_to_any_style(style: str, name: str) -> None:
    """An action of the table is the same one if its words are separated otherwise."""
    assert ACTIONS_BY_NAME[name] == classify_action(STYLES[style](list(split_words(name))))[:2]


def test_the_patterns_agree_with_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the table, the patterns classify its actions, and those of generation late, as it does."""
    monkeypatch.setattr("late_exporter.feeds.classification._ACTIONS_BY_WORDS", {})
    expected = {**ACTIONS_BY_NAME, **{name: (name, classify_action(name).status) for name in ACTIONS}}
    assert expected == {name: classify_action.__wrapped__(name)[:2] for name in expected}


NO_ATTEMPTS = [
    ("post.deleted", "unknown", True),
    ("post.platform.deleted", "unknown", True),
    ("post.platform.delete_failed", "failed", True),
    ("post.recycled", "unknown", True),
    ("post.unpublished", "unknown", True),
    ("post.created", "unknown", True),
    ("post.tiktok.url_resolved", "unknown", True),
    ("unknown", "unknown", True),
    ("post.teleported", "unknown", False),
    ("post.pending_approval", "unknown", False),
    ("story.exploded.failed", "failed", False),
    ("story_error", "failed", False),
    ("repost", "unknown", False),
    ("mediated", "unknown", False),
]


@pytest.mark.parametrize(("name", "status", "is_understood"), NO_ATTEMPTS)
def test_other_actions_keep_their_name(name: str, status: str, is_understood: bool) -> None:  # noqa: FBT001 - expected
    """An action that is no attempt, or that nothing classifies, keeps its name; a failure stays one."""
    assert Classification(name, status, is_understood) == classify_action(name)


CONNECTIONS = [
    ("account.connect", "connect_success"),
    ("account.linked", "connect_success"),
    ("oauth.completed", "connect_success"),
    ("connection.success", "connect_success"),
    ("account.connect.error", "connect_failed"),
    ("oauth.denied", "connect_failed"),
    ("platform.connection.failed", "connect_failed"),
    ("account.connect.cancelled", "connect_failed"),
    ("account.reauthorized", "reconnect_success"),
    ("account.reauth.completed", "reconnect_success"),
    ("account.reauth.failed", "reconnect_failed"),
    ("account.reconnection.failed", "reconnect_failed"),
    ("account.unlinked", "disconnect"),
    ("account.token.expired", "disconnect"),
    ("account.expired", "disconnect"),
    ("account.access.revoked", "disconnect"),
    ("account.deauthorized", "disconnect"),
    ("account.reauth.required", "disconnect"),
    ("account.needs.reauth", "disconnect"),
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("name", "event"), CONNECTIONS)
def test_events_are_classified_by_their_words(style: str, name: str, event: str) -> None:
    """A connection event in no table is classified by its words, in any style."""
    assert Classification(event, event, is_understood=True) == classify_event(STYLES[style](name.split(".")))


def test_events_of_the_vocabulary() -> None:
    """Events of the table and of generation late are classified as themselves, and others keep their name."""
    assert [*EVENTS] == [classify_event(name).name for name in EVENTS]
    assert [*EVENTS_BY_NAME.values()] == [classify_event(name).name for name in EVENTS_BY_NAME]
    unfinished = "account.connecting"
    assert Classification(unfinished, unfinished, is_understood=True) == classify_event(unfinished)
    for name in ("account.merged", "account.disconnect_failed"):
        assert Classification(name, name, is_understood=False) == classify_event(name)

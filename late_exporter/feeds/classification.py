"""Classify the actions of generation ``zernio``, of which the vendor documents few, by tables and then by patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from late_exporter.feeds.vocabulary import CACHED_NAMES, EVENTS, split_words
from late_exporter.model import FAILED, PENDING, SUCCESS, UNKNOWN

SKIPPED = "skipped"

ACTIONS_BY_NAME: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "post.published": ("publish", SUCCESS),
        "post.failed": ("publish", FAILED),
        "post.partial": ("publish", SUCCESS),
        "post.publishing": ("publish", PENDING),
        "post.pending": ("publish", PENDING),
        "post.scheduled": ("publish", PENDING),
        "post.skipped": ("publish", SKIPPED),
        "post.retried": ("retry", SUCCESS),
        "post.retry_failed": ("retry", FAILED),
        "post.retrying": ("retry", PENDING),
        "post.retry": ("retry", UNKNOWN),
        "post.rate_limited": ("rate_limit_pause", SKIPPED),
        "post.cancelled": ("cancelled", SKIPPED),
        "media.uploaded": ("media_upload", SUCCESS),
        "media.uploading": ("media_upload", PENDING),
        "media.failed": ("media_upload", FAILED),
        "token.refreshed": ("token_refresh", SUCCESS),
        "token.refreshing": ("token_refresh", PENDING),
        "token.refresh_failed": ("token_refresh", FAILED),
    }
)
"""Action in the metrics, and default status, by action of the API."""

EVENTS_BY_NAME: Mapping[str, str] = MappingProxyType(
    {
        "account.connected": "connect_success",
        "account.connect_failed": "connect_failed",
        "account.connection_failed": "connect_failed",
        "account.disconnected": "disconnect",
        "account.reconnected": "reconnect_success",
        "account.reconnect_failed": "reconnect_failed",
    }
)
"""Event in the metrics by action of a connection log that did not fail."""

OUTCOMES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("published", "posted", "succeeded", "success", "successful", "completed", "partial"), SUCCESS),
        **dict.fromkeys(("retried", "uploaded", "refreshed"), SUCCESS),
        **dict.fromkeys(("failed", "failure", "error", "errored", "rejected", "denied", "timeout"), FAILED),
        **dict.fromkeys(("publishing", "pending", "processing", "scheduled", "queued", "started"), PENDING),
        **dict.fromkeys(("retrying", "uploading", "refreshing", "connecting", "initiated", "requested"), PENDING),
        **dict.fromkeys(("skipped", "cancelled", "canceled"), SKIPPED),
    }
)
"""Status by the last word of an action that says how it ended."""

ACTION_PATTERNS: tuple[tuple[str, str], ...] = (
    # The first matching row applies. No action: it keeps its name, because it is no attempt to publish.
    ("", "deleted?|deleting|removed|unpublish(ed)?|recycled?|(created|updated|edited|drafted|approved|resolved)$"),
    ("rate_limit_pause", "rate_?limit(s|ed|ing)?|throttl(e|ed|ing)|cool_?down"),
    ("media_upload", "uploads?|uploaded|uploading"),
    ("token_refresh", "tokens?|refresh(ed|ing)?"),
    ("retry", "retr(y|ies|ied|ying)|re_?attempt(s|ed|ing)?"),
    ("cancelled", "cancel(s|ed|led|ing|ling|lation)?"),
    ("publish", "publish(ed|ing)?|posted"),
    ("media_upload", "media"),
)
"""Action in the metrics by words of an action, joined by underscores."""

POST_WORDS = (("post",), ("posts",))
"""First words of actions that are attempts to publish if they end with an outcome."""

LOST_CONNECTION = (
    "disconnect(ed|ion)?|unlink(ed)?|revoked|lost|de_?auth[a-z]*|de_?activated|expired|deleted|removed"
    "|(re_?auth[a-z]*|re_?connect[a-z]*)_(required|needed|requested)|(needs|requires?)_re_?(auth|connect)[a-z]*"
)
RECONNECTION = "re_?(connect(ed|ion|ing)?|auth[a-z]*|link(ed|ing)?)"
CONNECTION = "connect(ed|ion|ing)?|o?auth[a-z]*|link(ed|ing)?|added"
"""Words of connection events, joined by underscores, in the order in which they are searched."""


class Classification(NamedTuple):
    """What an action of the API is in the metrics.

    Args:
        name: Action or event in the metrics; the name in the API if the action is of no documented kind.
        status: Status of a log of this action that has none of its own.
        is_understood: Whether the table or a pattern has the action.
    """

    name: str
    status: str
    is_understood: bool


@lru_cache(CACHED_NAMES)
def classify_action(name: str) -> Classification:
    """Return the classification of a publishing log's action, which must be a short text."""
    words = split_words(name)
    if entry := _ACTIONS_BY_WORDS.get(words):
        return Classification(*entry, is_understood=True)
    status = next((OUTCOMES[word] for word in reversed(words) if word in OUTCOMES), UNKNOWN)
    for action, pattern in _ACTION_PATTERNS:
        if pattern.search("_".join(words)):
            if not action:
                return Classification(name, FAILED if is_failure(name) else UNKNOWN, is_understood=True)
            has_no_result = action in ("rate_limit_pause", "cancelled") and status != FAILED
            return Classification(action, SKIPPED if has_no_result else status, is_understood=True)
    if words[:1] in POST_WORDS and (words[-1] in OUTCOMES or status == FAILED):
        return Classification("publish", status, is_understood=True)
    return Classification(name, FAILED if is_failure(name) else UNKNOWN, is_understood=name == UNKNOWN)


def is_failure(name: str) -> bool:
    """Return whether an action or event says that it failed."""
    words = split_words(name)
    return bool(words) and OUTCOMES.get(words[-1]) == FAILED


@lru_cache(CACHED_NAMES)
def classify_event(name: str) -> Classification:
    """Return the classification of a connection log's action; the status is that of the event, which is its name."""
    words = split_words(name)
    event = name if name in EVENTS else _EVENTS_BY_WORDS.get(words) or _match_event(name, words)
    return Classification(event or name, event or name, is_understood=event is not None or name == UNKNOWN)


def _match_event(name: str, words: tuple[str, ...]) -> str | None:
    joined = "_".join(words)
    outcomes = {OUTCOMES[word] for word in words if word in OUTCOMES}
    if _LOST_CONNECTION.search(joined):
        return None if FAILED in outcomes else "disconnect"
    for prefix, pattern in (("reconnect", _RECONNECTION), ("connect", _CONNECTION)):
        if pattern.search(joined):
            if outcomes & {FAILED, SKIPPED}:
                return f"{prefix}_failed"
            return name if PENDING in outcomes else f"{prefix}_success"
    return None


def actions_markdown() -> str:
    """Return the table of actions for the documentation, in Markdown."""
    rows = ["| action of zernio | in the metrics |", "|---|---|"]
    rows += [f"| `{name}` | action `{action}` |" for name, (action, _) in ACTIONS_BY_NAME.items()]
    rows += [f"| `{name}` | event `{event}` |" for name, event in EVENTS_BY_NAME.items()]
    return "\n".join(rows)


def _compile(words: str) -> re.Pattern[str]:
    return re.compile(f"(?:^|_)(?:{words})(?:_|$)")


_ACTIONS_BY_WORDS = {split_words(name): entry for name, entry in ACTIONS_BY_NAME.items()}
_EVENTS_BY_WORDS = {split_words(name): event for name, event in EVENTS_BY_NAME.items()}
_ACTION_PATTERNS = tuple((action, _compile(words)) for action, words in ACTION_PATTERNS)
_LOST_CONNECTION, _RECONNECTION, _CONNECTION = map(_compile, (LOST_CONNECTION, RECONNECTION, CONNECTION))

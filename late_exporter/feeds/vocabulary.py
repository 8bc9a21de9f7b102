"""The documented values of the API, and the actions of generation ``zernio`` in those of ``late``.

The metrics use the names of generation ``late``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from late_exporter.model import FAILED, PENDING, SUCCESS, UNKNOWN

ADS_PLATFORMS = (
    "googleads", "linkedinads", "metaads", "openaiads", "pinterestads", "redditads", "tiktokads",
    "whopads", "xads",
)  # fmt: skip
PLATFORMS = (
    "bluesky", "discord", "facebook", "googleanalytics", "googlebusiness", "hubspot", "imessage",
    "instagram", "linkedin", "phone", "pinterest", "rcs", "reddit", "shopify", "slack", "sms",
    "snapchat", "telegram", "threads", "tiktok", "twitter", "webflow", "whatsapp", "wix",
    "wordpress", "youtube",
    *ADS_PLATFORMS,
)  # fmt: skip
ACTIONS = ("publish", "retry", "media_upload", "rate_limit_pause", "token_refresh", "cancelled")
STATUSES = ("success", "failed", "pending", "skipped")
POST_STATUSES = (
    "scheduled", "publishing", "pending_approval", "failed", "published", "partial", "draft",
    "cancelled",
)  # fmt: skip
HEALTH_STATUSES = ("healthy", "warning", "error")
EVENTS = (
    "connect_success",
    "connect_failed",
    "disconnect",
    "reconnect_success",
    "reconnect_failed",
)
METHODS = ("oauth", "credentials", "invitation")
FAILURE_CATEGORIES = (
    "auth_expired", "user_content", "user_abuse", "account_issue", "platform_rejected",
    "platform_error", "platform_rate_limit", "quota_exhausted", "system_error", "unknown",
)  # fmt: skip

ACTIONS_BY_NAME: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        # Documented as actions, or as events of webhooks.
        "post.published": ("publish", SUCCESS),
        "post.partial": ("publish", SUCCESS),
        "post.platform.published": ("publish", SUCCESS),
        "post.failed": ("publish", FAILED),
        "post.platform.failed": ("publish", FAILED),
        "post.scheduled": ("publish", PENDING),
        "post.cancelled": ("cancelled", "skipped"),
        "post.recycled": ("post.recycled", UNKNOWN),
        "post.platform.deleted": ("post.platform.deleted", UNKNOWN),
        # Not documented.
        "post.reviewed": ("post.reviewed", UNKNOWN),
        "post.approved": ("post.approved", UNKNOWN),
        "post.rejected": ("post.rejected", UNKNOWN),
        "post.publishing": ("publish", PENDING),
        "post.platform.publishing": ("publish", PENDING),
        "post.skipped": ("publish", "skipped"),
        "post.retried": ("retry", SUCCESS),
        "post.retry_failed": ("retry", FAILED),
        "post.retrying": ("retry", PENDING),
        "post.rate_limited": ("rate_limit_pause", "skipped"),
        "media.uploaded": ("media_upload", SUCCESS),
        "media.uploading": ("media_upload", PENDING),
        "media.failed": ("media_upload", FAILED),
        "token.refreshed": ("token_refresh", SUCCESS),
        "token.refreshing": ("token_refresh", PENDING),
        "token.refresh_failed": ("token_refresh", FAILED),
    }
)
"""Action in the metrics, and default status, by action of generation ``zernio``."""

KNOWN_OUTCOMES = sorted(
    outcome for outcome in set(ACTIONS_BY_NAME.values()) if outcome[1] in STATUSES
)
"""Actions in the metrics with the statuses that they are known to have."""

EVENTS_BY_NAME: Mapping[str, str] = MappingProxyType(
    {
        "account.connected": "connect_success",
        "account.disconnected": "disconnect",
        # Not documented.
        "account.connect_failed": "connect_failed",
        "account.reconnected": "reconnect_success",
        "account.reconnect_failed": "reconnect_failed",
    }
)
"""Event in the metrics by action of a connection log that did not fail."""

SEPARATORS = re.compile(r"[\s._:/-]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Separators of words, and the places between two words in camel case."""

CACHED_NAMES = 1024


@lru_cache(CACHED_NAMES)
def split_words(name: str) -> tuple[str, ...]:
    """Return the words of an identifier in lower case, whatever style it is written in."""
    return tuple(word.lower() for word in SEPARATORS.split(name) if word)


def find_action(name: str) -> tuple[str, str] | None:
    """Return the action of a publishing log in the metrics, and its status if it has none itself.

    Return None if the action is unknown.
    """
    return _ACTIONS_BY_WORDS.get(split_words(name))


def find_event(name: str) -> str | None:
    """Return the event of a connection log's action; None if it is unknown."""
    return _EVENTS_BY_WORDS.get(split_words(name))


_ACTIONS_BY_WORDS = {split_words(name): (name, UNKNOWN) for name in ACTIONS} | {
    split_words(name): action for name, action in ACTIONS_BY_NAME.items()
}
_EVENTS_BY_WORDS = {split_words(name): name for name in EVENTS} | {
    split_words(name): event for name, event in EVENTS_BY_NAME.items()
}

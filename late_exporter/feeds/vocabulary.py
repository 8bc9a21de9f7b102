"""The documented values of the API: platforms, actions, statuses, events and failure categories."""

from __future__ import annotations

import re
from functools import lru_cache

PLATFORMS = (
    "bluesky", "discord", "facebook", "googleads", "googleanalytics", "googlebusiness", "hubspot",
    "instagram", "linkedin", "linkedinads", "metaads", "openaiads", "phone", "pinterest",
    "pinterestads", "rcs", "reddit", "redditads", "shopify", "slack", "sms", "snapchat", "telegram",
    "threads", "tiktok", "tiktokads", "twitter", "webflow", "whatsapp", "whopads", "wix",
    "wordpress", "xads", "youtube",
)  # fmt: skip
ACTIONS = ("publish", "retry", "media_upload", "rate_limit_pause", "token_refresh", "cancelled")
STATUSES = ("success", "failed", "pending", "skipped")
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

SEPARATORS = re.compile(r"[\s._:/-]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Separators of words, and the places between two words in camel case."""

CACHED_NAMES = 1024


@lru_cache(CACHED_NAMES)
def split_words(name: str) -> tuple[str, ...]:
    """Return the words of an identifier in lower case, whatever style it is written in."""
    return tuple(word.lower() for word in SEPARATORS.split(name) if word)

"""The documented values of the API, and the actions of generation ``zernio`` in those of ``late``.

The metrics use the names of generation ``late``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

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
STATUSES = ("success", "failed", "pending", "skipped")
ACTIONS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "publish": STATUSES,
        "retry": ("success", "failed", "pending"),
        "media_upload": ("success", "failed", "pending"),
        "rate_limit_pause": ("skipped",),
        "token_refresh": ("success", "failed", "pending"),
        "cancelled": ("skipped",),
    }
)
"""Actions of publishing logs, and the statuses that they are known to have."""

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

ACTIONS_BY_NAME: Mapping[str, str] = MappingProxyType(
    {
        **{name: name for name in (*ACTIONS, "post.recycled", "post.platform.deleted")},
        "post.published": "publish",
        "post.partial": "publish",
        "post.platform.published": "publish",
        "post.failed": "publish",
        "post.platform.failed": "publish",
        "post.scheduled": "publish",
        "post.cancelled": "cancelled",
    }
)
"""Action in the metrics by action of generation ``zernio``.

Those that are documented, as actions or as events of webhooks, and the names of ``late``.
"""

EVENTS_BY_NAME: Mapping[str, str] = MappingProxyType(
    {
        **{name: name for name in EVENTS},
        "account.connected": "connect_success",
        "account.disconnected": "disconnect",
    }
)
"""Event in the metrics by action of a connection log that did not fail."""

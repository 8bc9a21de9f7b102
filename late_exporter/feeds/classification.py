"""Translate actions of generation ``zernio`` to those of ``late``, which the metrics use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from late_exporter.feeds.vocabulary import ACTIONS, EVENTS, split_words
from late_exporter.model import FAILED, PENDING, SUCCESS, UNKNOWN

SKIPPED = "skipped"

ACTIONS_BY_NAME: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        # Documented as actions, or as events of webhooks.
        **dict.fromkeys(
            ("post.published", "post.partial", "post.platform.published"), ("publish", SUCCESS)
        ),
        **dict.fromkeys(("post.failed", "post.platform.failed"), ("publish", FAILED)),
        "post.scheduled": ("publish", PENDING),
        "post.cancelled": ("cancelled", SKIPPED),
        **{name: (name, UNKNOWN) for name in ("post.recycled", "post.platform.deleted")},
        # Not documented.
        **{name: (name, UNKNOWN) for name in ("post.reviewed", "post.approved", "post.rejected")},
        **dict.fromkeys(("post.publishing", "post.platform.publishing"), ("publish", PENDING)),
        "post.skipped": ("publish", SKIPPED),
        "post.retried": ("retry", SUCCESS),
        "post.retry_failed": ("retry", FAILED),
        "post.retrying": ("retry", PENDING),
        "post.rate_limited": ("rate_limit_pause", SKIPPED),
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
        "account.disconnected": "disconnect",
        # Not documented.
        "account.connect_failed": "connect_failed",
        "account.reconnected": "reconnect_success",
        "account.reconnect_failed": "reconnect_failed",
    }
)
"""Event in the metrics by action of a connection log that did not fail."""


def find_action(name: str) -> tuple[str, str] | None:
    """Return a publishing log's action in the metrics, and the status if the log has none."""
    return _ACTIONS_BY_WORDS.get(split_words(name))


def find_event(name: str) -> str | None:
    """Return the event of a connection log's action; None if it is unknown."""
    return _EVENTS_BY_WORDS.get(split_words(name))


_ACTIONS_BY_WORDS = {
    split_words(name): entry
    for name, entry in ({name: (name, UNKNOWN) for name in ACTIONS} | dict(ACTIONS_BY_NAME)).items()
}
_EVENTS_BY_WORDS = {split_words(name): name for name in EVENTS} | {
    split_words(name): event for name, event in EVENTS_BY_NAME.items()
}

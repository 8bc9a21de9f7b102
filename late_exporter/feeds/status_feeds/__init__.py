"""Status feeds: endpoints that report what no log does; to add one, add a module and a row here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from late_exporter.feeds.status_feeds import accounts, billing, posts, webhooks
from late_exporter.feeds.status_feeds.refresh import StatusFeed

STATUS_FEEDS: Mapping[str, StatusFeed] = MappingProxyType(
    {
        feed.name: feed
        # Accounts come before the posts, which are published to them.
        for feed in (accounts.FEED, posts.FEED, webhooks.FEED, billing.FEED)
    }
)

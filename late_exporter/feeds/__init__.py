"""The log lists that the exporter can read; a new one is a file beside these and a row in FEEDS."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from late_exporter.feeds import connections, publishing
from late_exporter.model import Feed

__all__ = ["FEEDS"]

FEEDS: Mapping[str, Feed] = MappingProxyType({feed.name: feed for feed in (publishing.FEED, connections.FEED)})

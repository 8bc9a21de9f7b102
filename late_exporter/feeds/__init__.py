"""The log lists that the exporter can read; a new one is a file beside these and a row in FEEDS."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from late_exporter.feeds import connections, publishing, zernio
from late_exporter.model import Feed

__all__ = ["FEEDS", "GENERATIONS"]

FEEDS: Mapping[str, Feed] = MappingProxyType({feed.name: feed for feed in (publishing.FEED, connections.FEED)})
"""Those of generation ``late``."""

GENERATIONS: Mapping[str, Mapping[str, Feed]] = MappingProxyType({"late": FEEDS, "zernio": zernio.FEEDS})
"""Those of each generation of the API."""

"""The supported feeds; to add one, add a module here and a row in FEEDS."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from late_exporter.feeds import connections, publishing, zernio
from late_exporter.feeds.decoder import Envelope
from late_exporter.feeds.feed import Feed
from late_exporter.feeds.schema import documented_paths
from late_exporter.model import LATE, ZERNIO

FEEDS: Mapping[str, Feed] = MappingProxyType(
    {feed.name: feed for feed in (publishing.FEED, connections.FEED)}
)
"""Feeds of generation ``late`` by name."""

GENERATIONS: Mapping[str, Mapping[str, Feed]] = MappingProxyType(
    {LATE: FEEDS, ZERNIO: zernio.FEEDS}
)
"""Feeds by API generation and name."""

DOCUMENTED_PATHS = frozenset(
    path
    for documented in (
        Envelope,
        publishing.PublishingRow,
        connections.ConnectionRow,
        zernio.ZernioRow,
    )
    for path in documented_paths(documented)
) | {"metadata.connectionMethod"}
"""The paths of all documented fields, and of a value in the JSON text of another one."""

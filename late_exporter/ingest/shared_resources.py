"""Resources that the pollers of all feeds and workspaces share."""

from __future__ import annotations

from collections import Counter
from collections.abc import MutableMapping
from weakref import WeakKeyDictionary

import msgspec

from late_exporter.ingest.schedule import Runtime
from late_exporter.metrics.label_limiter import LabelLimiter
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import Scope
from late_exporter.store.thread import StoreThread


class SharedResources(msgspec.Struct, frozen=True, kw_only=True):
    """Shared by all pollers.

    Args:
        uncommitted: Number of uncommitted logs of each feed.
        condition_counts: Number of conditions that the status feeds of each workspace report.
    """

    store_thread: StoreThread
    label_limiter: LabelLimiter
    registry: SeriesRegistry
    runtime: Runtime
    uncommitted: Counter[Scope] = msgspec.field(default_factory=Counter)
    condition_counts: MutableMapping[object, int] = msgspec.field(default_factory=WeakKeyDictionary)

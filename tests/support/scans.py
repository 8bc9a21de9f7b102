"""Time after which a reconciliation scan has read a whole list."""

from __future__ import annotations

from late_exporter.ingest.progress import DEPTH_GROWTH, SCAN_DEPTH
from tests.support.world import RETENTION

__all__ = ["whole_scan_interval"]


def whole_scan_interval(reconcile_interval: float) -> float:
    """Return the seconds between two scans that read the whole list of a world, however old its logs are."""
    period = reconcile_interval
    while period * SCAN_DEPTH < RETENTION:
        period *= DEPTH_GROWTH
    return period

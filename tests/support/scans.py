"""Time after which a sweep has read a whole list."""

from __future__ import annotations

__all__ = ["whole_scan_interval"]


def whole_scan_interval(reconcile_interval: float) -> float:
    """Return the seconds between two sweeps that read the whole list."""
    return max(reconcile_interval, 86_400.0)

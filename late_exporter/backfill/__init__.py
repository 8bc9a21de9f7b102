"""The history that the API still holds, for a Prometheus that was not there yet."""

from late_exporter.backfill.gathering import HEAD, Span, gather
from late_exporter.backfill.history import Track
from late_exporter.backfill.progress import Progress
from late_exporter.backfill.samples import Grid, write

__all__ = ["HEAD", "Grid", "Progress", "Span", "Track", "gather", "write"]

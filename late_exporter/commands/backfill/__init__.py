"""The history that the API still holds, for a Prometheus that was not there yet."""

from late_exporter.commands.backfill.collect import HEAD, Span, gather
from late_exporter.commands.backfill.history import Track
from late_exporter.commands.backfill.openmetrics import Grid, write
from late_exporter.commands.backfill.progress import Progress

__all__ = ["HEAD", "Grid", "Progress", "Span", "Track", "gather", "write"]

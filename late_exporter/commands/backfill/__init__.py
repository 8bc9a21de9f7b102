"""The history that the API still holds, for a Prometheus that was not there yet."""

from late_exporter.commands.backfill.collect import HEAD_BLOCK, Period, collect_history
from late_exporter.commands.backfill.history import SeriesHistory
from late_exporter.commands.backfill.openmetrics import SampleGrid, write_openmetrics
from late_exporter.commands.backfill.progress import ProgressBar

__all__ = ["HEAD_BLOCK", "Period", "ProgressBar", "SampleGrid", "SeriesHistory", "collect_history", "write_openmetrics"]

"""Report requests that fail without failing the poll, and rows that the API cannot deliver."""

from __future__ import annotations

from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.steps import ReportFailure
from late_exporter.protocols import Logger

FAILED_REQUESTS = "late_exporter_failed_requests_total"
UNREADABLE_ROWS = "late_exporter_unreadable_rows_total"

MAX_REPORTED = 1000
"""Places of unreadable rows that are remembered, so that they are reported once."""


class FailureReporter:
    """Counters and log messages about the requests and rows of one feed that polls do without."""

    def __init__(self, recorder: FeedRecorder, logger: Logger) -> None:
        self._recorder = recorder
        self._logger = logger
        self._last_failures: dict[str, tuple[object, ...]] = {}
        self._reported: set[str] = set()

    def report_failure(self, failure: ReportFailure) -> None:
        """Count a request that failed without failing a poll; log it unless the last one of its kind failed alike."""
        self._recorder.count(FAILED_REQUESTS, 1, failure.kind)
        # Request ids, which are in the text of an error but not in its arguments, differ in every request.
        if self._last_failures.get(failure.kind) != failure.error.args:
            self._last_failures[failure.kind] = failure.error.args
            self._logger.warning("request failed, polls go on", request=failure.kind, error=str(failure.error))

    def report_unreadable(self, key: str, row_count: int) -> None:
        """Count and log unreadable rows once, by the key of the log that follows them in the list."""
        if key in self._reported:
            return
        if len(self._reported) >= MAX_REPORTED:
            self._reported.clear()
        self._reported.add(key)
        self._recorder.count(UNREADABLE_ROWS, row_count)
        self._logger.warning("rows skipped that the API cannot deliver", rows=row_count, next_log=key)

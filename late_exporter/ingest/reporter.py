"""Report the polls of a feed and their responses.

Reports are metrics, health for the status page, and log messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from late_exporter.api.responses import RequestRecord
from late_exporter.health import FeedHealth, Quota, SyncProgress
from late_exporter.ingest.batch_builder import RECONCILED_LOGS
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.schedule import PollResult
from late_exporter.ingest.shared_resources import SharedResources
from late_exporter.ingest.steps import REQUEST_KINDS, ReportFailure
from late_exporter.log import Logger, redact
from late_exporter.metrics.catalogue import (
    CATALOGUE,
    ENTRIES_REJECTED,
    GENERATION_UNREAD,
    LOGS,
    OLDEST_PENDING,
    PENDING_LOGS,
)
from late_exporter.model import (
    ZERNIO,
    IncCounter,
    Increment,
    Labels,
    LogPage,
    ObserveHistogram,
    Series,
)

POLL_OUTCOMES = (
    "success",
    "unauthorized",
    "rate_limited",
    "unavailable",
    "bad_payload",
    "store_error",
)

POLLS = "late_exporter_polls_total"
REQUESTS = "late_exporter_api_requests_total"
REQUEST_DURATION = "late_exporter_api_request_duration_seconds"
THROTTLED = "late_exporter_api_throttled_seconds_total"
REJECTION_REASONS = ("no_id", "no_time", "not_an_object")

GENERATION = "late_exporter_api_generation_info"
CLOCK_OFFSET = "late_exporter_clock_offset_seconds"
RETENTION = "late_exporter_retention_seconds"
POLL_DURATION = "late_exporter_last_poll_duration_seconds"
QUOTA_LIMIT = "late_exporter_api_quota_limit_per_minute"
QUOTA_REMAINING = "late_exporter_api_quota_remaining"
QUOTA_RESET = "late_exporter_api_quota_reset_timestamp_seconds"
CUSTOMER_REQUESTS = "late_exporter_api_quota_customer_requests_per_minute"
FAILED_REQUESTS = "late_exporter_failed_requests_total"
UNREADABLE_ROWS = "late_exporter_unreadable_rows_total"

MAX_REPORTED = 1000
"""Deviations, unreadable rows and failed requests that are remembered, so that each is logged
once."""


class PollReporter:
    """Metrics, health and log messages about the polls and the responses of one feed.

    Attributes:
        failure_count: Number of consecutive polls that failed.
        next_poll: Unix time of the next poll, in seconds.
    """

    def __init__(self, recorder: FeedRecorder, shared: SharedResources, logger: Logger) -> None:
        self._labels = recorder.scope
        self._recorder = recorder
        self._registry = shared.registry
        self._label_limiter = shared.label_limiter
        self._logger = logger
        self._health = FeedHealth(name=recorder.feed.name, is_synced=recorder.is_synced)
        self._last_failure: tuple[object, ...] | None = None
        self._reported: set[object] = set()
        self.failure_count = 0
        self.next_poll: float | None = None

    def health(self, progress: SyncProgress | None) -> FeedHealth:
        """Return the health of the feed, with the progress of a first sync or a catch-up."""
        recorder = self._recorder
        return msgspec.structs.replace(
            self._health,
            next_poll=self.next_poll,
            progress=progress,
            lag=recorder.last_lag,
            logs=recorder.state.log_count,
            pending=len(recorder.state.pending_logs),
            gaps=len(recorder.coverage.gaps) if recorder.coverage else 0,
            coverage_start=None
            if recorder.complete_since is None
            else recorder.complete_since / 1000,
            is_outdated=self._registry.gauge(GENERATION_UNREAD, (*self._labels, ZERNIO)) == 1,
        )

    def initial_zeros(self) -> list[IncCounter]:
        """Return the exporter's own counters of the feed at 0.

        So ``increase()`` sees their first increment.
        """
        series: list[Series] = [
            (UNREADABLE_ROWS, self._labels),
            (RECONCILED_LOGS, self._labels),
            (THROTTLED, self._labels[:1]),
        ]
        series += [(POLLS, (*self._labels, outcome)) for outcome in POLL_OUTCOMES]
        series += [(ENTRIES_REJECTED, (*self._labels, reason)) for reason in REJECTION_REASONS]
        series += [(FAILED_REQUESTS, (*self._labels, kind)) for kind in REQUEST_KINDS]
        return [IncCounter(family, labels, amount=0) for family, labels in series]

    def request_increments(
        self, requests: Sequence[RequestRecord], wait_seconds: float
    ) -> list[Increment]:
        """Return the increments for some API requests and their wait for the rate limiter."""
        workspace = self._labels[0]
        bounds = CATALOGUE[REQUEST_DURATION].buckets
        increments = list[Increment]()
        for path, code, seconds in requests:
            micros = (int(seconds * 1_000_000),)
            increments.append(IncCounter(REQUESTS, (workspace, path, code)))
            increments.append(
                ObserveHistogram(REQUEST_DURATION, (workspace, path), micros=micros, bounds=bounds)
            )
        if wait_seconds:
            increments.append(IncCounter(THROTTLED, (workspace,), amount=wait_seconds))
        return increments

    def update_gauges(
        self,
        result: PollResult,
        seconds: float,
        *,
        quota: Quota | None,
        clock_offset: float | None,
    ) -> None:
        """Show what a poll of some seconds has found, but for what it has recorded."""
        set_gauge = self._registry.set_gauge
        workspace = self._labels[:1]
        set_gauge("late_up", self._labels, int(result.error is None))
        set_gauge(POLL_DURATION, self._labels, seconds)
        if result.error is None:
            # Before that, the list may not be known, or be left for another one.
            set_gauge(GENERATION, (*workspace, self._recorder.feed.generation), 1)
            set_gauge(RETENTION, self._labels, self._recorder.feed.retention / 1000)
        if clock_offset is not None:
            # Dates of responses are in whole seconds.
            set_gauge(CLOCK_OFFSET, workspace, round(clock_offset))
        if quota is not None:
            set_gauge(QUOTA_LIMIT, workspace, quota.limit)
            set_gauge(QUOTA_REMAINING, workspace, quota.remaining)
            set_gauge(CUSTOMER_REQUESTS, workspace, quota.customer_requests)
            if quota.reset is not None:
                set_gauge(QUOTA_RESET, workspace, quota.reset)

        self.update_pending()

    def update_pending(self) -> None:
        """Show the pending logs by platform and action, if the feed is shown."""
        if not self._recorder.is_shown or self._recorder.feed.counter != LOGS:
            return
        workspace = self._labels[0]
        limit_value = self._label_limiter.limit_value
        counts: Counter[Labels] = Counter()
        oldest: dict[Labels, int] = {}
        for log in self._recorder.state.pending_logs.values():
            platform = limit_value(workspace, "platform", log.platform)
            action = limit_value(workspace, "action", log.action)
            counts[workspace, platform, action] += 1
            if log.created:
                place = (workspace, platform)
                oldest[place] = min(log.created, oldest.get(place, log.created))

        # Series that were shown once, and those of the platforms in use, are kept at 0.
        in_use = self._label_limiter.platforms(workspace)
        kept: set[Labels] = {(workspace, platform, "publish") for platform in in_use}
        kept.update(self._registry.values(workspace, PENDING_LOGS))
        for labels in kept.union(counts):
            self._registry.set_gauge(PENDING_LOGS, labels, counts[labels])
        for labels in self._registry.values(workspace, OLDEST_PENDING).keys() - oldest.keys():
            self._registry.remove_gauge(OLDEST_PENDING, labels)
        for labels, created in oldest.items():
            self._registry.set_gauge(OLDEST_PENDING, labels, created / 1000)

    def report(
        self,
        result: PollResult,
        *,
        started_at: float,
        duration: float,
    ) -> None:
        """Update the health of the feed and log the result of a poll.

        Args:
            result: The result.
            started_at: Unix time in seconds at which the poll started.
            duration: Seconds that it took.
        """
        error = redact(str(result.error or ""))
        fields = {
            "outcome": result.outcome,
            "seconds": round(duration, 3),
            "logs": self._recorder.state.log_count,
        }
        self._log_outcome(result, error, fields)
        if self._recorder.is_synced and not self._health.is_synced:
            self._logger.info("first sync complete", logs=fields["logs"])
        self._health = msgspec.structs.replace(
            self._health,
            is_synced=self._recorder.is_synced,
            outcome=result.outcome,
            error=error,
            last_poll=started_at,
            last_success=started_at if result.error is None else self._health.last_success,
            duration=duration,
        )

    def _log_outcome(self, result: PollResult, error: str, fields: Mapping[str, object]) -> None:
        # Request ids, which are in the text of an error but not in its arguments, differ in every
        # poll.
        failure = None if result.error is None else (result.outcome, *result.error.args)
        if failure is None:
            if self.failure_count:
                self._logger.info("poll recovered", failed_polls=self.failure_count, **fields)
            else:
                self._logger.debug("poll finished", **fields)
            self.failure_count = 0
        else:
            self.failure_count += 1
            is_power_of_two = self.failure_count & (self.failure_count - 1) == 0
            if failure != self._last_failure or is_power_of_two:
                fields = {"error": error, "failed_polls": self.failure_count, **fields}
                self._logger.warning("poll failed", **fields)
        self._last_failure = failure

    def report_page(self, page: LogPage) -> None:
        """Log what differs from the documentation, and the rows that cannot be read, once each."""
        deviations = [deviation for entry in page.entries for deviation in entry.deviations]
        for deviation in dict.fromkeys(deviations):
            if self._is_new(deviation):
                self._logger.warning(
                    "the API has changed",
                    field=deviation.path,
                    kind=deviation.kind,
                    type=deviation.type,
                )

        for key, row_count in page.skipped.items():
            if key and self._is_new(key):  # The next page has those at the end.
                self._recorder.count(UNREADABLE_ROWS, row_count)
                self._logger.warning(
                    "rows skipped that the API cannot deliver", rows=row_count, next_log=key
                )

    def report_failure(self, failure: ReportFailure) -> None:
        """Count a request that failed without failing a poll, and log it unless it did before."""
        self._recorder.count(FAILED_REQUESTS, 1, failure.kind)
        # Request ids, which are in the text of an error but not in its arguments, differ in every
        # request.
        if self._is_new((failure.kind, *failure.error.args)):
            self._logger.warning(
                "request failed, polls go on", request=failure.kind, error=str(failure.error)
            )

    def _is_new(self, subject: object) -> bool:
        """Return whether something was not reported before, and remember it."""
        if subject in self._reported:
            return False
        if len(self._reported) >= MAX_REPORTED:
            self._reported.clear()
        self._reported.add(subject)
        return True

"""Report the polls of a feed: metrics, health for the status page, and log messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from late_exporter.health import FeedHealth, Quota
from late_exporter.ingest.accounting import gauge_value
from late_exporter.ingest.batch_builder import RECONCILED_LOGS
from late_exporter.ingest.fetcher import FAILED_REQUESTS, UNREADABLE_ROWS
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.schedule import PollResult
from late_exporter.ingest.steps import REQUEST_KINDS
from late_exporter.log import redact
from late_exporter.metrics.catalogue import (
    CATALOGUE,
    ENTRIES_REJECTED,
    GENERATION_UNREAD,
    LAST_POLL,
    LAST_RECONCILE,
    LOGS,
    OLDEST_PENDING,
    PENDING_LOGS,
)
from late_exporter.metrics.label_limiter import LabelLimiter
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import ZERNIO, Scope
from late_exporter.protocols import Logger, RequestRecord
from late_exporter.series import (
    IncCounter,
    Increment,
    ObserveHistogram,
    Series,
    SeriesValue,
    SetCurrent,
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
QUOTA_GAUGES = {
    "limit": "late_exporter_api_quota_limit",
    "remaining": "late_exporter_api_quota_remaining",
    "reset": "late_exporter_api_quota_reset_timestamp_seconds",
    "customer_requests": "late_exporter_api_quota_customer_requests",
}

MIN_LOGGED_SYNC = 10.0
"""Seconds from which the end of a catch-up is logged."""


class PollReporter:
    """Metrics, health and log messages about the polls of one feed.

    Attributes:
        failure_count: Number of consecutive polls that failed.
        next_poll: Unix time of the next poll, in seconds.
    """

    def __init__(
        self,
        recorder: FeedRecorder,
        *,
        registry: SeriesRegistry,
        label_limiter: LabelLimiter,
        logger: Logger,
    ) -> None:
        self._labels = recorder.scope
        self._recorder = recorder
        self._registry = registry
        self._label_limiter = label_limiter
        self._logger = logger
        self._pending_labels: set[tuple[str, str]] = set()
        self._health = FeedHealth(name=recorder.feed.name, is_synced=recorder.is_synced)
        self._last_failure: tuple[object, ...] | None = None
        self.failure_count = 0
        self.next_poll: float | None = None

    @property
    def health(self) -> FeedHealth:
        recorder = self._recorder
        return msgspec.structs.replace(
            self._health,
            next_poll=self.next_poll,
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
        """Return the exporter's own counters of the feed at 0, so that ``increase()`` sees their first increment."""
        by_label = {
            POLLS: POLL_OUTCOMES,
            ENTRIES_REJECTED: REJECTION_REASONS,
            FAILED_REQUESTS: REQUEST_KINDS,
        }
        series: list[Series] = [
            (name, (*self._labels, value)) for name in by_label for value in by_label[name]
        ]
        series += [
            (UNREADABLE_ROWS, self._labels),
            (RECONCILED_LOGS, self._labels),
            (THROTTLED, self._labels[:1]),
        ]
        return [IncCounter(family, labels, amount=0) for family, labels in series]

    def request_increments(
        self, requests: Sequence[RequestRecord], wait_seconds: float
    ) -> list[Increment]:
        """Return the increments for some API requests and the time they waited for the rate limiter."""
        workspace = self._labels[0]
        bounds = CATALOGUE[REQUEST_DURATION].buckets
        increments = list[Increment]()
        for path, code, seconds in requests:
            micros = int(seconds * 1_000_000)
            increments.append(IncCounter(REQUESTS, (workspace, path, code)))
            increments.append(
                ObserveHistogram(REQUEST_DURATION, (workspace, path), micros=micros, bounds=bounds)
            )
        if wait_seconds:
            increments.append(IncCounter(THROTTLED, (workspace,), amount=wait_seconds))
        return increments

    def outcome_increments(
        self, outcome: str, *, now: float, scan_started_at: int
    ) -> list[Increment]:
        """Return the increments for the outcome of a poll at ``now``, in Unix seconds.

        ``scan_started_at`` is the API time in milliseconds at which a reconciliation scan started
        that this poll has completed; 0 if none.
        """
        times = {
            LAST_POLL: now if outcome == "success" else 0,
            LAST_RECONCILE: scan_started_at / 1000,
        }
        return [
            IncCounter(POLLS, (*self._labels, outcome)),
            *(
                SetCurrent(family, self._labels, value=time)
                for family, time in times.items()
                if time
            ),
        ]

    def update_gauges(
        self,
        result: PollResult,
        seconds: float,
        *,
        quota: Quota | None,
        clock_offset: float | None,
    ) -> None:
        """Show what a poll of some seconds has found, but for what it has recorded."""
        self.update_retention()
        self._registry.set_gauge("late_up", self._labels, int(result.error is None))
        if (
            result.error is None
        ):  # Before that, the list may not be known, or be left for another one.
            self._registry.set_gauge(
                GENERATION, (self._labels[0], self._recorder.feed.generation), 1
            )
        self._registry.set_gauge("late_exporter_last_poll_duration_seconds", self._labels, seconds)
        if clock_offset is not None:
            # Dates of responses are in whole seconds.
            self._registry.set_gauge(CLOCK_OFFSET, self._labels[:1], round(clock_offset))
        for field, family in QUOTA_GAUGES.items() if quota is not None else ():
            value = getattr(quota, field)
            if value is not None:
                self._registry.set_gauge(family, self._labels[:1], value)

        if self._recorder.is_shown and self._recorder.feed.counter == LOGS:
            self._update_pending()

    def _update_pending(self) -> None:
        """Show the pending logs by platform and action."""
        limit_value, workspace = self._label_limiter.limit_value, self._labels[0]
        counts: Counter[tuple[str, str]] = Counter()
        oldest: dict[str, int] = {}
        for log in self._recorder.state.pending_logs.values():
            platform = limit_value(workspace, "platform", log.platform)
            counts[platform, limit_value(workspace, "action", log.action)] += 1
            if log.created:
                oldest[platform] = min(log.created, oldest.get(platform, log.created))
        # Series that were shown once, and those of the platforms in use, are kept at 0.
        self._pending_labels |= counts.keys()
        self._pending_labels |= {
            (platform, "publish") for platform in self._label_limiter.platforms(workspace)
        }
        for platform, action in self._pending_labels:
            self._registry.set_gauge(
                PENDING_LOGS, (workspace, platform, action), counts[platform, action]
            )
            if platform in oldest:
                self._registry.set_gauge(
                    OLDEST_PENDING, (workspace, platform), oldest[platform] / 1000
                )
            else:
                self._registry.remove_gauge(OLDEST_PENDING, (workspace, platform))

    def update_retention(self) -> None:
        """Show the retention of the list that is read, from the first poll that has read one."""
        if self._recorder.coverage is not None:
            self._registry.set_gauge(RETENTION, self._labels, self._recorder.feed.retention / 1000)

    def report(
        self,
        result: PollResult,
        *,
        started_at: float,
        duration: float,
        sync_seconds: float | None = None,
    ) -> None:
        """Update the health of the feed and log the result of a poll.

        Args:
            result: The result.
            started_at: Unix time in seconds at which the poll started.
            duration: Seconds that it took.
            sync_seconds: Time since the first sync or the catch-up began that the poll has
                completed, None if it has completed none.
        """
        error = redact(str(result.error or ""))
        fields = {
            "outcome": result.outcome,
            "seconds": round(duration, 3),
            "logs": self._recorder.state.log_count,
        }
        self._log_outcome(result, error, fields)
        is_first_sync = self._recorder.is_synced and not self._health.is_synced
        if is_first_sync or (sync_seconds or 0) >= MIN_LOGGED_SYNC:
            fields["seconds"] = round(sync_seconds or duration, 3)
            self._logger.info("first sync complete" if is_first_sync else "caught up", **fields)
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


def last_scan(series_values: Mapping[Series, SeriesValue], scope: Scope) -> float:
    """Return the start of the last completed scan of a feed, or its first sync, in Unix seconds; 0 if there is none."""
    return gauge_value(series_values, (LAST_RECONCILE, (scope.workspace, scope.feed)))

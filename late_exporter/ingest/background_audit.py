"""Audit a feed while it is polled: a few pages after each poll, until the audit is complete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import msgspec

from late_exporter.errors import REQUEST_FAILURES, ApiError, BadPayload, BadRequest, LateError
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.audit import (
    Audit,
    AuditSteps,
    CounterMismatch,
    Difference,
    WaitForExporter,
    audit_list,
    check_counters,
    count_extra,
    count_missing,
)
from late_exporter.ingest.progress import AuditProgress
from late_exporter.ingest.reader_state import ReconcileScan
from late_exporter.ingest.request_queue import RequestKind
from late_exporter.ingest.seeking import MAX_PAGE_FAILURES
from late_exporter.ingest.steps import FetchedPage, FetchPage
from late_exporter.metrics.names import LAST_AUDIT
from late_exporter.model import Coverage, FeedAccounting, Scope
from late_exporter.protocols import Logger
from late_exporter.series import Increment, Series, SeriesValue, SetCurrent, gauge_value

AUDIT_GAUGES = ("late_exporter_audit_missing_logs", "late_exporter_audit_extra_logs", LAST_AUDIT)
"""Results of the last audit; the store keeps them until the next one."""

MAX_LOGGED_LOGS = 10
"""Missing logs that are logged by id; the audit command lists all of them."""


class _AuditRun(msgspec.Struct):
    """An audit in progress.

    Args:
        step: Next step; None once the audit is complete.
        failure_count: Number of attempts to read the next page that failed.
    """

    audit: Audit
    steps: AuditSteps
    step: FetchPage | WaitForExporter | None
    failure_count: int = 0


class BackgroundAuditor:
    """Repeated audit of one feed.

    Before an audit rechecks its suspects, it waits for a whole reconciliation scan: by its end, logs that were written
    late or changed their status unnoticed are recorded. For the same reason the first audit starts after the first
    scan.
    """

    def __init__(
        self,
        scope: Scope,
        feed: Feed,
        *,
        fetch_page: Callable[[FetchPage], Awaitable[FetchedPage]],
        evaluate_accounting: Callable[
            [Callable[[FeedAccounting], list[CounterMismatch]]], Awaitable[list[CounterMismatch]]
        ],
        report_failure: Callable[[RequestKind, ApiError], None],
        logger: Logger,
        last_audit_at: float = 0.0,
    ) -> None:
        self._scope = scope
        self._feed = feed
        self._fetch_page = fetch_page
        self._evaluate_accounting = evaluate_accounting
        self._report_failure = report_failure
        self._logger = logger
        self._last_audit_at = last_audit_at
        self._run: _AuditRun | None = None
        self._is_scan_complete = False
        self._ignored_scan = 0

    @property
    def last_audit_at(self) -> float:
        """Unix time in seconds at which the last audit was completed, 0 if never."""
        return self._last_audit_at

    @property
    def progress(self) -> AuditProgress | None:
        """Progress of the audit in progress; None if there is none."""
        run = self._run
        if run is None:
            return None
        return AuditProgress(run.audit, isinstance(run.step, WaitForExporter), self._ignored_scan)

    def resume(self, progress: AuditProgress) -> None:
        """Continue an audit of an earlier run."""
        steps = audit_list(progress.audit)
        self._run = _AuditRun(progress.audit, steps, next(steps))
        self._is_scan_complete, self._ignored_scan = not progress.is_waiting, progress.ignored_scan

    def switch_feed(self, feed: Feed) -> None:
        """Continue with the feed of another API generation; an audit in progress is cancelled."""
        self._feed = feed
        self._run = None

    def is_due(self, now: float, interval: float) -> bool:
        return self._is_scan_complete and self._is_wanted(now, interval)

    def awaits_scan(self, now: float, interval: float) -> bool:
        """Return whether an audit cannot begin or continue before a scan of the whole list."""
        return not self._is_scan_complete and self._is_wanted(now, interval)

    def _is_wanted(self, now: float, interval: float) -> bool:
        # An audit after now was completed while the clock was ahead.
        return interval > 0 and (self._run is not None or not 0 <= now - self._last_audit_at < interval)

    def report_scan(self, scan: ReconcileScan) -> None:
        """Accept a scan that was completed and committed; one that began while an audit waits reads the whole list."""
        # A scan that was in progress when the suspects were found may already have passed some of them.
        self._is_scan_complete = self._is_scan_complete or scan.started_at != self._ignored_scan

    async def advance(
        self,
        coverage: Coverage,
        scan: ReconcileScan | None,
        *,
        page_budget: int,
        grace_period: int,
        now: float,
        max_skip: int | None = None,
    ) -> Sequence[Increment]:
        """Audit some pages; return the results once the audit is complete.

        If that fails, the same page is fetched the next time. ``max_skip`` is that of the Audit.
        """
        try:
            if self._run is None:
                audit = Audit(coverage=coverage, grace_period=grace_period, max_skip=max_skip)
                steps = audit_list(audit)
                self._run = _AuditRun(audit, steps, next(steps))
            return await self._advance(self._run, coverage, scan, page_budget=page_budget, now=now)
        except REQUEST_FAILURES as exc:
            self._report_failure("audit", exc.without_frames())
            return ()
        except LateError as exc:
            self._logger.debug("audit interrupted", error=str(exc))
            return ()

    async def _advance(
        self, run: _AuditRun, coverage: Coverage, scan: ReconcileScan | None, *, page_budget: int, now: float
    ) -> Sequence[Increment]:
        if isinstance(run.step, WaitForExporter):
            run.audit.coverage = coverage
            run.step = next(run.steps)
        # Logs that expire during an audit are pruned, even if the API shows them for longer.
        run.audit.coverage = msgspec.structs.replace(run.audit.coverage, retention_floor=coverage.retention_floor)
        for _ in range(page_budget):
            if isinstance(run.step, FetchPage):
                run.step = await self._fetch_next(run, run.step, now)
            if run.step is None:
                mismatches = await self._evaluate_accounting(partial(check_counters, self._scope, self._feed))
                return self._finish(run.audit, mismatches, now)
            if isinstance(run.step, WaitForExporter):
                self._is_scan_complete, self._ignored_scan = False, scan.started_at if scan else 0
                break
        return ()

    async def _fetch_next(self, run: _AuditRun, step: FetchPage, now: float) -> FetchPage | WaitForExporter | None:
        """Fetch a page for the audit, and return its next step; None if it is complete.

        An audit that cannot go on is started again after the interval.
        """
        page = error = None
        in_parts = run.failure_count >= MAX_PAGE_FAILURES - 1
        try:
            page = await self._fetch_page(msgspec.structs.replace(step, in_parts=in_parts))
        except BadRequest as exc:
            error = exc.without_frames()
        except REQUEST_FAILURES:
            run.failure_count += 1
            raise
        run.failure_count = 0
        try:
            return run.steps.send(page) if error is None else run.steps.throw(error)
        except StopIteration:
            return None
        except (BadPayload, BadRequest) as exc:
            self._last_audit_at = now
            self._run = None
            self._logger.warning("audit cannot continue", error=str(exc))
            raise

    def _finish(self, audit: Audit, mismatches: Sequence[CounterMismatch], now: float) -> Sequence[Increment]:
        self._run = None
        self._last_audit_at = now
        missing, extra = count_missing(audit.differences, mismatches), count_extra(mismatches)
        self._log_result(audit.differences, mismatches, missing=missing, extra=extra)
        labels = (self._scope.workspace, self._scope.feed)
        return [
            SetCurrent(family, labels, value=value)
            for family, value in zip(AUDIT_GAUGES, (missing, extra, now), strict=True)
        ]

    def _log_result(
        self, differences: Sequence[Difference], mismatches: Sequence[CounterMismatch], *, missing: int, extra: int
    ) -> None:
        if not missing and not extra:
            self._logger.info("audit completed", missing=missing, extra=extra)
            return
        self._logger.warning("audit found differences", missing=missing, extra=extra)
        for difference in differences[:MAX_LOGGED_LOGS]:
            entry, recorded = difference.entry, ",".join(sorted(difference.recorded_statuses)) or "none"
            self._logger.warning("log not counted", id=entry.key, status=entry.status, counted=recorded)
        for mismatch in mismatches:
            metric = mismatch.family or "stored logs"
            self._logger.warning("count is wrong", metric=metric, expected=mismatch.expected, found=mismatch.actual)


def last_audit(series_values: Mapping[Series, SeriesValue], scope: Scope) -> float:
    """Return the Unix time in seconds at which the last audit of a feed was completed, 0 if never."""
    labels = (scope.workspace, scope.feed)
    # Until an audit has completed, LAST_AUDIT is the time of the first sync, without the other results.
    return gauge_value(series_values, (LAST_AUDIT, labels)) if (AUDIT_GAUGES[0], labels) in series_values else 0.0

"""Audit a feed while it is polled: a few pages after each poll, until the audit is complete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import msgspec

from late_exporter.errors import REQUEST_FAILURES, ApiError, BadPayload, BadRequest, LateError
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.audit import (
    Audit,
    CounterMismatch,
    Difference,
    ScanSteps,
    audit_list,
    check_counters,
    count_extra,
    count_missing,
)
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

MAX_LATENESS = 4 * 3_600_000
"""Milliseconds by which a log may appear late without being called missing if it appears after the scan."""


class _AuditRun(msgspec.Struct):
    """An audit in progress.

    Args:
        step: Next step; None if the list is compared.
        failure_count: Number of attempts to read the next page that failed.
    """

    audit: Audit
    steps: ScanSteps
    step: FetchPage | None
    failure_count: int = 0


class BackgroundAuditor:
    """Repeated audit of one feed.

    An audit follows a reconciliation scan of the whole list, and compares the logs that were in the list when the scan
    began, even if they were hours late. An audit that is interrupted by a restart starts again.
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
        self._scanned_at = 0

    @property
    def last_audit_at(self) -> float:
        """Unix time in seconds at which the last audit was completed, 0 if never."""
        return self._last_audit_at

    @property
    def next_step(self) -> FetchPage | None:
        """The next page of the audit in progress; None if there is none."""
        return None if self._run is None else self._run.step

    def switch_feed(self, feed: Feed) -> None:
        """Continue with the feed of another API generation; an audit in progress is cancelled."""
        self._feed = feed
        self._run, self._scanned_at = None, 0

    def is_due(self, now: float, interval: float) -> bool:
        return self._scanned_at > 0 and self._is_wanted(now, interval)

    def awaits_scan(self, now: float, interval: float) -> bool:
        """Return whether an audit cannot begin before a scan of the whole list."""
        return not self._scanned_at and self._is_wanted(now, interval)

    def _is_wanted(self, now: float, interval: float) -> bool:
        # An audit after now was completed while the clock was ahead.
        return interval > 0 and (self._run is not None or not 0 <= now - self._last_audit_at < interval)

    def report_scan(self, scan: ReconcileScan) -> None:
        """Accept a scan that was completed and committed."""
        if scan.depth is None and self._run is None:
            self._scanned_at = scan.started_at

    async def advance(
        self, coverage: Coverage, *, page_budget: int, max_skip: int | None, now: float
    ) -> Sequence[Increment]:
        """Audit some pages; return the results once the audit is complete.

        If that fails, the same page is fetched the next time. ``max_skip`` is that of the ListScan.
        """
        try:
            if self._run is None:
                audit = Audit(coverage=coverage, cutoff=self._scanned_at - MAX_LATENESS, compares_pending=False)
                steps = audit_list(audit, max_skip)
                self._run = _AuditRun(audit, steps, next(steps))
            return await self._advance(self._run, coverage, page_budget=page_budget, now=now)
        except REQUEST_FAILURES as exc:
            self._report_failure("audit", exc.without_frames())
            return ()
        except LateError as exc:
            self._logger.debug("audit interrupted", error=str(exc))
            return ()

    async def _advance(
        self, run: _AuditRun, coverage: Coverage, *, page_budget: int, now: float
    ) -> Sequence[Increment]:
        # Logs that expire during an audit are pruned, even if the API shows them for longer.
        run.audit.coverage = coverage
        for _ in range(page_budget):
            if run.step is not None:
                run.step = await self._fetch_next(run, run.step, now)
            if run.step is None:
                mismatches = await self._evaluate_accounting(partial(check_counters, self._scope, self._feed))
                return self._finish(run.audit.differences, mismatches, now)
        return ()

    async def _fetch_next(self, run: _AuditRun, step: FetchPage, now: float) -> FetchPage | None:
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
            self._run, self._scanned_at = None, 0
            self._logger.warning("audit cannot continue", error=str(exc))
            raise

    def _finish(
        self, differences: Sequence[Difference], mismatches: Sequence[CounterMismatch], now: float
    ) -> Sequence[Increment]:
        self._run, self._scanned_at = None, 0
        self._last_audit_at = now
        missing, extra = count_missing(differences, mismatches), count_extra(mismatches)
        self._log_result(differences, mismatches, missing=missing, extra=extra)
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

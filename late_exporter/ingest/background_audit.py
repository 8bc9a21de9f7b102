"""Audits a feed while it is polled: some pages after each poll, until the audit is through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from late_exporter.errors import BadPayload
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
from late_exporter.ingest.steps import FetchedPage, FetchPage, ReconcileScan
from late_exporter.model import (
    Coverage,
    Feed,
    FeedAccounting,
    Increment,
    LatestValue,
    Scope,
    Series,
    SeriesValue,
    SetLatest,
)
from late_exporter.protocols import Logger

__all__ = ["AUDIT_GAUGES", "BackgroundAuditor", "last_audit"]

MISSING = "late_exporter_audit_missing_logs"
EXTRA = "late_exporter_audit_extra_logs"
LAST_AUDIT = "late_exporter_audit_last_completed_timestamp_seconds"
AUDIT_GAUGES = (MISSING, EXTRA, LAST_AUDIT)
"""What an audit is to show; the state keeps it from one to the next."""

MAX_LOGGED_LOGS = 10
"""Logs that are named in the exporter's log; the command names them all."""


class BackgroundAuditor:
    """The audit of one feed, again and again.

    The chance that it gives the exporter is a whole reconcile walk: what is written late, or settles where no poll
    looks, is counted by the end of the next one. So the first audit begins after the first walk, too.

    Args:
        scope: The feed of the workspace.
        feed: The log list.
        look: Reads a page, and what is counted of it.
        tally: Gives what the books of the state itself say.
        log: Hears of what is found.
        last: When an audit last came to its end, a Unix time in seconds; 0 for never.
    """

    def __init__(
        self,
        scope: Scope,
        feed: Feed,
        *,
        fetch_page: Callable[[FetchPage], Awaitable[FetchedPage]],
        read_accounting: Callable[[], Awaitable[FeedAccounting]],
        logger: Logger,
        last_audit_at: float = 0.0,
    ) -> None:
        self._scope = scope
        self._feed = feed
        self._fetch_page = fetch_page
        self._read_accounting = read_accounting
        self._logger = logger
        self._last_audit_at = last_audit_at
        self._audit: Audit | None = None
        self._steps: AuditSteps | None = None
        self._step: FetchPage | WaitForExporter | None = None
        self._scan_complete = False
        self._ignored_scan: ReconcileScan | None = None

    def switch_feed(self, feed: Feed) -> None:
        """Go on with the feed of another generation of the API; an audit of the old list is void."""
        self._feed = feed
        self._audit = self._steps = None

    def is_due(self, now: float, interval: float) -> bool:
        """Whether there is an audit to begin or to go on with."""
        return (
            interval > 0 and self._scan_complete and (self._steps is not None or now - self._last_audit_at >= interval)
        )

    def report_scan(self, scan: ReconcileScan) -> None:
        """Take note of a walk over the whole list that has ended, and of which all is saved."""
        # One that was under way when the doubts were raised had passed some of them already.
        self._scan_complete = self._scan_complete or scan is not self._ignored_scan

    async def advance(
        self, coverage: Coverage, scan: ReconcileScan | None, *, page_budget: int, grace_period: int, now: float
    ) -> Sequence[Increment]:
        """Look at some pages; gives what is to be shown once the audit is through.

        Args:
            coverage: As last made durable.
            scan: The walk under way.
            page_budget: How many.
            grace_period: How long before the last poll a log was created for that poll to have had its chance.
            now: Unix time in seconds.

        Raises:
            LateError: The same page is looked at the next time, or the audit begun anew where it cannot go on.
        """
        if self._audit is None or self._steps is None:
            self._audit = Audit(coverage=coverage, grace_period=grace_period)
            self._steps = audit_list(self._audit)
            self._step = next(self._steps)
        elif isinstance(self._step, WaitForExporter):
            self._audit.coverage = coverage
            self._step = next(self._steps)
        for _ in range(page_budget):
            if isinstance(self._step, FetchPage):
                page = await self._fetch_page(self._step)
                self._step = self._send_page(self._steps, page, now)
            if self._step is None:
                return self._finish(
                    self._audit, check_counters(self._scope, self._feed, await self._read_accounting()), now
                )
            if isinstance(self._step, WaitForExporter):
                self._scan_complete, self._ignored_scan = False, scan
                break
        return ()

    def _send_page(self, steps: AuditSteps, page: FetchedPage, now: float) -> FetchPage | WaitForExporter | None:
        """The step after a page; None where it was the last one."""
        try:
            return steps.send(page)
        except StopIteration:
            return None
        except BadPayload:
            self._last_audit_at = now
            self._audit = self._steps = None
            raise

    def _finish(self, audit: Audit, mismatches: Sequence[CounterMismatch], now: float) -> Sequence[Increment]:
        self._audit = self._steps = None
        self._last_audit_at = now
        counts = {MISSING: count_missing(audit.differences, mismatches), EXTRA: count_extra(mismatches)}
        self._log_result(audit.differences, mismatches, missing=counts[MISSING], extra=counts[EXTRA])
        names = (self._scope.workspace, self._scope.feed)
        return [
            SetLatest(family, names, at=int(now * 1000), value=value)
            for family, value in {**counts, LAST_AUDIT: now}.items()
        ]

    def _log_result(
        self, differences: Sequence[Difference], mismatches: Sequence[CounterMismatch], *, missing: int, extra: int
    ) -> None:
        if not missing and not extra:
            self._logger.info("audit ended", missing=missing, extra=extra)
            return
        self._logger.warning("audit found differences", missing=missing, extra=extra)
        for difference in differences[:MAX_LOGGED_LOGS]:
            entry, recorded = difference.entry, ",".join(sorted(difference.recorded_statuses)) or "none"
            self._logger.warning("log not counted", id=entry.key, status=entry.status, counted=recorded)
        for imbalance in mismatches:
            what = imbalance.family or "logs on record"
            self._logger.warning("count is wrong", of=what, expected=imbalance.expected, found=imbalance.actual)


def last_audit(totals: Mapping[Series, SeriesValue], scope: Scope) -> float:
    """When an audit of a feed last came to its end, a Unix time in seconds; 0 for never."""
    total = totals.get((LAST_AUDIT, (scope.workspace, scope.feed)))
    return float(total.value.value) if total is not None and isinstance(total.value, LatestValue) else 0.0

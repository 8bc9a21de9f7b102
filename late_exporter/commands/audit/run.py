"""Audit one feed with requests of its own, alongside a running exporter or without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from late_exporter.api.pages import fetch_page
from late_exporter.commands.audit.comparison import Audit, Difference, grace_period
from late_exporter.commands.audit.report import AuditReport
from late_exporter.commands.feed_choice import require_retained
from late_exporter.errors import ApiError
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.accounting import check_counters
from late_exporter.ingest.poll_context import FetchedPage
from late_exporter.ingest.steps import read_pages
from late_exporter.ingest.sweep import FetchPage, Sweep, TimeFilter
from late_exporter.metrics.names import LAST_POLL, LAST_RECONCILE
from late_exporter.model import PENDING, LogEntry, Scope
from late_exporter.protocols import Client, Logger
from late_exporter.series import gauge_value
from late_exporter.store.records import Coverage, FeedAccounting
from late_exporter.store.snapshot import Snapshot

LATE_WRITE_WINDOW = 3_600_000  # milliseconds from creation to writing; without an exporter, later logs are not judged
EXPIRY_MARGIN = 300_000  # milliseconds before its expiry at which the API may already have deleted a log
LIVENESS_POLLS = 5  # poll intervals for which an exporter counts as running after its last poll
MIN_LIVENESS = 120.0  # seconds for which it counts as running at least
RECHECK_INTERVAL = 5.0


class Timing(NamedTuple):
    """Sources of time; tests replace them."""

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class AuditRunner:
    """Audits one feed of one workspace; ``wait`` is the number of seconds that the exporter has to count what differs.

    Attributes:
        on_page: Called after each request with the logs read, the logs of the list (0 if unknown) and the requests.
    """

    def __init__(
        self,
        scope: Scope,
        choose_feed: Callable[[Coverage], Awaitable[Feed]],
        *,
        client: Client,
        open_snapshot: Callable[[], Snapshot],
        interval: float,
        wait: float,
        logger: Logger,
        timing: Timing = Timing(),  # noqa: B008 - immutable
    ) -> None:
        self._scope = scope
        self._choose_feed = choose_feed
        self._client = client
        self._state = _AuditState(scope, open_snapshot)
        self._interval = interval
        self._wait = wait
        self._logger = logger
        self._timing = timing
        self._request_count = self._read_count = self._list_total = 0
        self._clock_offset = 0.0
        self.on_page: Callable[[int, int, int], object] = lambda *_: None

    async def run(self, since: float | None = None) -> AuditReport:
        """Compare the logs of the last ``since`` seconds, or all that were counted; raise StoreError or ConfigError."""
        started_at = self._timing.monotonic()
        status = self._state.status()
        coverage = status.coverage
        if coverage is None:
            return self._failure("nothing has been counted yet")
        if not coverage.is_synced:
            return self._failure("the first sync is not complete, so there is nothing to compare yet")
        try:
            feed = await self._choose_feed(coverage)
        except ApiError as exc:
            return self._failure(str(exc))
        require_retained(since, feed)
        now = self._timing.clock()
        is_running = now - status.last_poll <= max(LIVENESS_POLLS * self._interval, MIN_LIVENESS)
        audit = Audit(
            coverage=coverage,
            cutoff=coverage.caught_up_at - (grace_period(self._interval) if is_running else LATE_WRITE_WINDOW),
            since=0 if since is None else int((now - since) * 1000),
            compares_pending=is_running,
        )
        sweep: Sweep[FetchedPage] = Sweep(TimeFilter(is_supported=feed.supports_time_filter), lower=audit.lower)
        try:
            async for page in read_pages(sweep, partial(self._fetch_page, feed)):
                audit.compare(page)
        except ApiError as exc:
            return self._failure(str(exc))
        has_reconciled = is_running and await self._wait_for_exporter(audit)
        accounting = self._state.accounting()
        return AuditReport(
            workspace=self._scope.workspace,
            feed=self._scope.feed,
            since=min(max(audit.lower, audit.coverage.caught_up_at - feed.retention), audit.cutoff),
            until=audit.cutoff,
            polled=is_running,
            reconciled=has_reconciled,
            logs=len(audit.listed_keys) - len(audit.too_recent) - len(audit.in_gap),
            requests=self._request_count,
            seconds=self._timing.monotonic() - started_at,
            differences=audit.differences,
            mismatches=check_counters(self._scope, feed, accounting),
            accounting=accounting,
            too_recent=len(audit.too_recent),
            in_gap=len(audit.in_gap),
            deleted=self._state.deleted_count(audit, feed),
        )

    def _failure(self, error: str) -> AuditReport:
        scope = self._scope
        return AuditReport(workspace=scope.workspace, feed=scope.feed, error=error, requests=self._request_count)

    async def _fetch_page(self, feed: Feed, request: FetchPage) -> FetchedPage:
        self._request_count += 1
        response = await fetch_page(self._client, feed, skip=request.place.skip, created_before=request.place.before)
        if response.date is not None:
            self._clock_offset = response.date - self._timing.clock()
        self._read_count += len(response.page.entries)
        self._list_total = max(self._list_total, response.page.total or 0)  # Pages by time have the total of a part.
        self.on_page(self._read_count, self._list_total, self._request_count)
        return FetchedPage(response.page, self._state.statuses(response.page.entries))

    async def _wait_for_exporter(self, audit: Audit) -> bool:
        """Wait until all differences are recorded or a reconciliation has completed; return whether one has."""
        began_at = self._timing.clock() + self._clock_offset
        deadline = self._timing.monotonic() + self._wait
        has_reconciled = False
        if self._wait and audit.unrecorded:
            self._logger.info(
                "waiting for the exporter to count logs that differ",
                logs=len(audit.unrecorded),
                at_most=f"{self._wait:g}s",
            )
        self._state.drop_recorded(audit.unrecorded)
        while audit.unrecorded and not has_reconciled and (seconds_left := deadline - self._timing.monotonic()) > 0:
            await self._timing.sleep(min(seconds_left, RECHECK_INTERVAL))
            has_reconciled = self._state.status().last_reconcile > began_at
            self._state.drop_recorded(audit.unrecorded)
        return has_reconciled


class _StateStatus(NamedTuple):
    """Coverage of a feed, the time of its last successful poll, and the start of its last complete reconciliation."""

    coverage: Coverage | None
    last_poll: float
    last_reconcile: float


class _AuditState:
    """State that is opened again for every query, because the exporter may be writing to it."""

    def __init__(self, scope: Scope, open_snapshot: Callable[[], Snapshot]) -> None:
        self._scope = scope
        self._open_snapshot = open_snapshot

    def status(self) -> _StateStatus:
        with self._open_snapshot() as snapshot:
            if self._scope not in snapshot.scopes:
                return _StateStatus(None, 0.0, 0.0)
            values, coverage = snapshot.series_values(), snapshot.feed_state(self._scope).coverage
        labels = (self._scope.workspace, self._scope.feed)
        last_poll, last_reconcile = (gauge_value(values, (family, labels)) for family in (LAST_POLL, LAST_RECONCILE))
        return _StateStatus(coverage, last_poll, last_reconcile)

    def statuses(self, entries: Sequence[LogEntry]) -> Mapping[str, frozenset[str]]:
        with self._open_snapshot() as snapshot:
            return snapshot.lookup(self._scope, [entry.key for entry in entries])

    def drop_recorded(self, unrecorded: dict[str, Difference]) -> None:
        """Remove the logs that are recorded by now; one that was pending may have settled before it was recorded."""
        if not unrecorded:
            return
        with self._open_snapshot() as snapshot:
            for row in snapshot.recorded_statuses(self._scope):
                difference = unrecorded.get(row.key)
                if difference is not None and difference.entry.status in (row.status, PENDING):
                    del unrecorded[row.key]

    def accounting(self) -> FeedAccounting:
        with self._open_snapshot() as snapshot:
            return snapshot.accounting(self._scope)

    def deleted_count(self, audit: Audit, feed: Feed) -> int:
        """Return the number of stored logs that the API should still keep and does not list."""
        lower = max(audit.lower, audit.coverage.caught_up_at - feed.retention + EXPIRY_MARGIN)
        with self._open_snapshot() as snapshot:
            stored_keys = {
                row.key for row in snapshot.recorded_statuses(self._scope) if lower <= row.created <= audit.cutoff
            }
        return len(stored_keys - audit.listed_keys)

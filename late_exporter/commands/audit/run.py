"""An audit from outside: by requests of its own, beside an exporter that goes on or without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from late_exporter.commands.audit.report import AuditReport
from late_exporter.commands.feed_choice import require_retained
from late_exporter.errors import ApiError, BadPayload
from late_exporter.ingest.audit import Audit, WaitForExporter, audit_list, check_counters, grace_period
from late_exporter.ingest.steps import FetchedPage, FetchPage
from late_exporter.model import Coverage, Feed, FeedAccounting, KnownLogs, LatestValue, Scope, Series, SeriesValue
from late_exporter.protocols import Client, Logger
from late_exporter.store import StateSnapshot

__all__ = ["AuditRunner"]

LIMIT = 100
DAY = 86_400_000

LATE_WRITE_WINDOW = 3_600_000
"""With nobody to count what comes late, a log may have been written this much after its createdAt."""

EXPIRY_MARGIN = 300_000
"""Logs that are about to expire may have done so already."""

LIVENESS_POLLS = 5
MIN_LIVENESS = 120.0
"""An exporter that has not polled for so many intervals, and for so long, is none."""

RECHECK_INTERVAL = 5.0
LAST_POLL = "late_exporter_last_successful_poll_timestamp_seconds"
LAST_RECONCILE = "late_exporter_reconcile_last_completed_timestamp_seconds"


class AuditRunner:
    """Audits one feed of one workspace.

    Args:
        scope: The feed of the workspace.
        choose: Gives the log list for what the state has of it.
        client: Reads the API.
        records: Opens the state as it is at that moment.
        interval: Between two polls of the exporter, in seconds.
        wait: How long an exporter may take to count what is in doubt, in seconds.
        log: Hears that it is waited for.
    """

    def __init__(
        self,
        scope: Scope,
        choose: Callable[[Coverage], Awaitable[Feed]],
        *,
        client: Client,
        records: Callable[[], StateSnapshot],
        interval: float,
        wait: float,
        log: Logger,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._scope = scope
        self._choose = choose
        self._client = client
        self._records = records
        self._interval = interval
        self._wait = wait
        self._log = log
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._requests = 0
        self._skew = 0.0
        self._former: set[str] = set()

    async def run(self, since: float | None = None) -> AuditReport:
        """Compare the logs of the last so many seconds, or all.

        Raises:
            StoreError: The state cannot be read.
            ConfigError: Logs are not kept for so long.
        """
        started = self._monotonic()
        scope = self._scope
        coverage, last_poll, _ = self._state()
        trouble = _not_ready(coverage)
        if coverage is None or trouble:
            return AuditReport(workspace=scope.workspace, feed=scope.feed, error=trouble)
        try:
            feed = await self._choose(coverage)
        except ApiError as exc:
            return AuditReport(workspace=scope.workspace, feed=scope.feed, error=str(exc))
        require_retained(since, feed)
        polled = self._clock() - last_poll <= max(LIVENESS_POLLS * self._interval, MIN_LIVENESS)
        seen: set[str] = set()
        plan = Audit(
            coverage=coverage,
            since=0 if since is None else int((self._clock() - since) * 1000),
            grace_period=grace_period(self._interval) if polled else LATE_WRITE_WINDOW,
            exporter_running=polled,
            listed_keys=seen,
        )
        try:
            walked = await self._read_logs(plan, feed)
        except ApiError as exc:
            return AuditReport(workspace=scope.workspace, feed=scope.feed, error=str(exc), requests=self._requests)
        tally, deleted = self._check_counters(plan, feed, seen)
        return AuditReport(
            workspace=scope.workspace,
            feed=scope.feed,
            since=max(plan.lower, plan.coverage.caught_up_at - feed.retention),
            until=plan.cutoff,
            polled=polled,
            reconciled=walked,
            logs=len(seen) - len(plan.too_recent) - len(plan.in_gap),
            requests=self._requests,
            seconds=self._monotonic() - started,
            differences=plan.differences,
            imbalances=check_counters(scope, feed, tally),
            tally=tally,
            too_recent=len(plan.too_recent),
            in_gap=len(plan.in_gap),
            deleted=deleted,
        )

    async def _read_logs(self, plan: Audit, feed: Feed) -> bool:
        """Do what the auditor asks for; tells whether the exporter had its whole chance."""
        steps = audit_list(plan)
        walked = False
        answer: FetchedPage | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                return walked
            if isinstance(step, WaitForExporter):
                walked, answer = await self._wait_for_exporter(plan, feed), None
            else:
                answer = await self._fetch_page(step, feed)

    async def _fetch_page(self, step: FetchPage, feed: Feed) -> FetchedPage:
        params: dict[str, str | int] = {**feed.query, "days": feed.retention // DAY, "limit": LIMIT, "skip": step.skip}
        self._requests += 1
        answer = await self._client.get(feed.path, params, path_template=feed.path)
        if answer is None:
            raise BadPayload(f"404: the API has no {feed.path}")
        if answer.date is not None:
            self._skew = answer.date - self._clock()
        page = feed.parse(answer.body)
        with self._records() as records:
            met = records.lookup(self._scope, page.entries, has_pending=feed.has_pending)
        self._former |= met.former_keys
        return FetchedPage(page, KnownLogs(met.statuses))

    async def _wait_for_exporter(self, plan: Audit, feed: Feed) -> bool:
        """Wait until all doubts are counted or a whole walk has passed them; tells whether one has."""
        begun, until = self._clock() + self._skew, self._monotonic() + self._wait
        walked = False
        if plan.exporter_running and self._wait:
            self._log.info(
                "some logs look different; waiting for the exporter to count them",
                logs=len(plan.suspects),
                at_most=f"{self._wait:g}s",
            )
        while (
            plan.exporter_running
            and not walked
            and self._has_suspects(plan, feed)
            and (left := until - self._monotonic()) > 0
        ):
            await self._sleep(min(left, RECHECK_INTERVAL))
            walked = self._state()[2] > begun
        plan.coverage = self._state()[0] or plan.coverage
        return walked

    def _has_suspects(self, plan: Audit, feed: Feed) -> bool:
        entries = [doubt.entry for doubt in plan.suspects.values()]
        with self._records() as records:
            counted = records.lookup(self._scope, entries, has_pending=feed.has_pending).statuses
        return any(entry.status not in counted.get(entry.key, ()) for entry in entries)

    def _state(self) -> tuple[Coverage | None, float, float]:
        """The coverage, and when the last successful poll was and the last whole walk began."""
        with self._records() as records:
            if self._scope not in records.scopes:
                return None, 0.0, 0.0
            totals, coverage = records.series_values(), records.feed_state(self._scope).coverage
        return coverage, self._reading(totals, LAST_POLL), self._reading(totals, LAST_RECONCILE)

    def _reading(self, totals: Mapping[Series, SeriesValue], family: str) -> float:
        total = totals.get((family, (self._scope.workspace, self._scope.feed)))
        return float(total.value.value) if total is not None and isinstance(total.value, LatestValue) else 0.0

    def _check_counters(self, plan: Audit, feed: Feed, seen: set[str]) -> tuple[FeedAccounting, int]:
        """The books, and how many logs on record the API no longer shows."""
        lower = max(plan.lower, plan.coverage.caught_up_at - feed.retention + EXPIRY_MARGIN)
        with self._records() as records:
            held = {
                counted.key
                for counted in records.recorded_statuses(self._scope)
                if counted.created is not None and lower <= counted.created <= plan.cutoff
            }
            return records.accounting(self._scope), len(held - seen - self._former)


def _not_ready(coverage: Coverage | None) -> str:
    if coverage is None:
        return "nothing has been counted yet"
    return "" if coverage.is_synced else "the first sync is not complete: nothing can be compared yet"

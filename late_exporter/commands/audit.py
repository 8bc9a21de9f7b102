"""The command ``audit``: compare the counts of a state with the API, alongside a running exporter or without one."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from late_exporter.commands.audit_report import Audit, AuditReport, render_json, render_text
from late_exporter.commands.connections import connect_workspaces, recorded_feed, require_retained
from late_exporter.commands.event_loop import interruptible
from late_exporter.commands.list_reader import PAUSES, ListReader
from late_exporter.commands.output import json_line, printable, warn, write_lines
from late_exporter.commands.progress import ProgressBar
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ApiError
from late_exporter.feeds.feed import Feed
from late_exporter.format import iso_time, plural
from late_exporter.ingest.accounting import check_counters
from late_exporter.metrics.names import LAST_POLL, LAST_RECONCILE
from late_exporter.model import Coverage, Scope
from late_exporter.protocols import Client
from late_exporter.series import gauge_value
from late_exporter.store.snapshot import Snapshot

GRACE_POLLS, MIN_GRACE_SECONDS = 3, 60.0
LATE_WRITE_WINDOW = 3_600_000  # milliseconds from creation to writing; without an exporter, later logs are not judged
EXPIRY_MARGIN = 300_000  # milliseconds before its expiry at which the API may already have deleted a log
LIVENESS_POLLS, MIN_LIVENESS = 5, 120.0  # poll intervals and seconds for which an exporter runs after its last poll
RECHECK_INTERVAL = 5.0


def audit(context: CommandContext) -> int:
    """Print the report of each feed; the exit code does not depend on whether all of it is read."""
    with interruptible():
        reports = asyncio.run(_audit_feeds(context))
    lines = [json_line(render_json(reports))] if context.flags.format == "json" else render_text(reports)
    return write_lines(map(printable, lines), int(not all(report.ok for report in reports)))


async def _audit_feeds(context: CommandContext) -> Sequence[AuditReport]:
    settings, flags, progress = context.settings, context.flags, ProgressBar(sys.stderr)
    reports = []
    async with connect_workspaces(context) as connections, progress.live():
        for scope in [Scope(name, feed) for name in connections for feed in settings.poll.feeds]:
            client, generation = connections[scope.workspace]
            progress.start(f"{scope.workspace} {scope.feed}", client)
            runner = AuditRunner(
                scope,
                partial(recorded_feed, scope.feed, client, generation),
                client=client,
                open_snapshot=partial(Snapshot, settings.state.url, settings.state.password_path),
                interval=settings.poll.interval,
            )
            reports.append(await runner.run(flags.since, wait=flags.wait, progress=progress))
            progress.clear()
    return reports


def grace_period(interval: float) -> int:
    """Return the milliseconds before a poll within which a new log may not be recorded; ``interval`` is in seconds."""
    return int(max(GRACE_POLLS * interval, MIN_GRACE_SECONDS) * 1000)


class _Status(NamedTuple):
    """Coverage of a feed, the time of its last successful poll, and the start of its last complete reconciliation."""

    coverage: Coverage | None
    last_poll: float = 0.0
    last_reconcile: float = 0.0


class AuditRunner(NamedTuple):
    """Audits one feed of one workspace; the state is opened for every query, because the exporter may write to it."""

    scope: Scope
    choose_feed: Callable[[Coverage], Awaitable[Feed]]
    client: Client
    open_snapshot: Callable[[], Snapshot]
    interval: float
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self, since: float | None, *, wait: float, progress: ProgressBar | None = None) -> AuditReport:
        """Compare the logs of the last ``since`` seconds, or all that were counted.

        A running exporter has ``wait`` seconds to count what differs.

        Raises:
            StoreError: The state cannot be read.
            ConfigError: The API does not keep logs for so long.
        """
        started_at, status = self.monotonic(), self._status()
        report, coverage = AuditReport(workspace=self.scope.workspace, feed=self.scope.feed), status.coverage
        if coverage is None:
            return replace(report, error="nothing has been counted yet")
        if not coverage.is_synced:
            return replace(report, error="the first sync is not complete, so there is nothing to compare yet")
        now = self.clock()
        is_running = now - status.last_poll <= max(LIVENESS_POLLS * self.interval, MIN_LIVENESS)
        audit = Audit(
            coverage=coverage,
            cutoff=coverage.caught_up_at - (grace_period(self.interval) if is_running else LATE_WRITE_WINDOW),
            since=0 if since is None else int((now - since) * 1000),
            compares_pending=is_running,
        )
        try:
            feed = await self.choose_feed(coverage)
            require_retained(since, feed)
            reader = ListReader(self.client, feed, progress=progress, pauses=PAUSES, sleep=self.sleep)
            api_time = await self._compare(audit, reader)
        except ApiError as exc:
            return replace(report, error=str(exc))
        has_reconciled = is_running and await self._wait_for_exporter(audit, api_time, wait)
        with self.open_snapshot() as snapshot:
            accounting = snapshot.accounting(self.scope)
            mismatches = check_counters(self.scope, feed, accounting)
            oldest = max(audit.lower, coverage.caught_up_at - feed.retention + EXPIRY_MARGIN)
            rows = snapshot.recorded_statuses(self.scope)
            stored_keys = {row.key for row in rows if oldest <= row.created <= audit.cutoff}
        return replace(
            report,
            ok=not audit.unrecorded and not mismatches,
            since=iso_time(min(max(audit.lower, coverage.caught_up_at - feed.retention), audit.cutoff)),
            until=iso_time(audit.cutoff),
            polled=is_running,
            reconciled=has_reconciled,
            logs=len(audit.listed_keys) - len(audit.too_recent) - len(audit.in_gap),
            requests=reader.request_count,
            seconds=round(self.monotonic() - started_at, 3),
            observation_count=accounting.observation_count,
            stored_count=accounting.stored_count,
            pruned_count=accounting.pruned_count,
            too_recent=len(audit.too_recent),
            in_gap=len(audit.in_gap),
            deleted=len(stored_keys - audit.listed_keys),
            differences=list(audit.unrecorded.values()),
            mismatches=mismatches,
        )

    def _status(self) -> _Status:
        with self.open_snapshot() as snapshot:
            if self.scope not in snapshot.scopes:
                return _Status(None)
            values, coverage = snapshot.series_values(), snapshot.feed_state(self.scope).coverage
        labels = (self.scope.workspace, self.scope.feed)
        return _Status(coverage, *(gauge_value(values, (family, labels)) for family in (LAST_POLL, LAST_RECONCILE)))

    async def _compare(self, audit: Audit, reader: ListReader) -> float:
        """Read the list; return the time of the API's clock."""
        offset = 0.0
        async for response in reader.pages(audit.lower):
            entries = response.page.entries
            with self.open_snapshot() as snapshot:
                audit.compare(entries, snapshot.lookup(self.scope, [entry.key for entry in entries]))
            if response.date is not None:
                offset = response.date - self.clock()
        return self.clock() + offset

    async def _wait_for_exporter(self, audit: Audit, began_at: float, wait: float) -> bool:
        """Wait until all differences are recorded or a reconciliation has completed; return whether one has."""
        deadline, has_reconciled = self.monotonic() + wait, False
        self._settle(audit)
        if wait and audit.unrecorded:
            warn(f"waiting up to {wait:g} s for the exporter to count {plural(len(audit.unrecorded), 'log')}")
        while audit.unrecorded and not has_reconciled and (seconds_left := deadline - self.monotonic()) > 0:
            await self.sleep(min(seconds_left, RECHECK_INTERVAL))
            has_reconciled = self._status().last_reconcile > began_at
            self._settle(audit)
        return has_reconciled

    def _settle(self, audit: Audit) -> None:
        if audit.unrecorded:
            with self.open_snapshot() as snapshot:
                for row in snapshot.recorded_statuses(self.scope):
                    audit.settle(row.key, row.status)

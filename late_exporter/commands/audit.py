"""The command ``audit``: compare the counts of a state with the API, alongside a running exporter or without one."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import partial

from msgspec.structs import replace

from late_exporter.api.client import LateClient
from late_exporter.commands.audit_report import Audit, AuditReport, render_json, render_text
from late_exporter.commands.connections import connect_workspaces, recorded_feed, require_retained
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.list_reader import ListReader
from late_exporter.commands.output import json_line, printable, write_lines
from late_exporter.commands.progress import ProgressLine
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ApiError
from late_exporter.format import iso_time
from late_exporter.ingest.accounting import check_counters, gauge_value
from late_exporter.metrics.names import LAST_POLL
from late_exporter.model import Scope
from late_exporter.store.snapshot import Snapshot

GRACE_POLLS, MIN_GRACE = (
    3,
    60.0,
)  # poll intervals and seconds within which a new log may not be recorded yet
LATE_WRITE_WINDOW = 3_600_000  # milliseconds from creation to writing; without an exporter, later logs are not judged
LIVENESS_POLLS, MIN_LIVENESS = (
    5,
    120.0,
)  # poll intervals and seconds for which an exporter runs after its last poll


def audit(context: CommandContext) -> int:
    """Print the report of each feed; the exit code does not depend on whether all of it is read."""
    reports = run_interruptible(_audit_feeds(context))
    lines = (
        [json_line(render_json(reports))]
        if context.flags.format == "json"
        else render_text(reports)
    )
    return write_lines(map(printable, lines), int(not all(report.ok for report in reports)))


async def _audit_feeds(context: CommandContext) -> Sequence[AuditReport]:
    settings, since, interval = (
        context.settings,
        context.flags.since,
        context.settings.poll.interval,
    )
    open_snapshot = partial(Snapshot, settings.state.url, settings.state.password_path)
    reports = []
    with closing(ProgressLine(sys.stderr)) as progress:
        async with connect_workspaces(context) as connections:
            for scope in [
                Scope(name, feed) for name in connections for feed in settings.poll.feeds
            ]:
                client = connections[scope.workspace]
                progress.start(f"{scope.workspace} {scope.feed}", client.quota_wait)
                report = audit_feed(
                    scope, client, open_snapshot, progress, interval=interval, since=since
                )
                reports.append(await report)
    return reports


async def audit_feed(
    scope: Scope,
    client: LateClient,
    open_snapshot: Callable[[], Snapshot],
    progress: ProgressLine,
    *,
    interval: float,
    since: float | None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AuditReport:
    """Compare the logs of the last ``since`` seconds of a feed, or all that were counted.

    The state is opened for every query, because the exporter may write to it.

    Raises:
        StoreError: The state cannot be read.
        ConfigError: The API does not keep logs for so long.
    """
    now = clock()
    report = AuditReport(workspace=scope.workspace, feed=scope.feed)
    with open_snapshot() as snapshot:
        coverage = snapshot.feed_state(scope).coverage if scope in snapshot.scopes else None
        last_poll = gauge_value(
            snapshot.series_values(), (LAST_POLL, (scope.workspace, scope.feed))
        )
    if coverage is None:
        return replace(report, error="nothing has been counted yet")
    if not coverage.is_synced:
        return replace(
            report, error="the first sync is not complete, so there is nothing to compare yet"
        )
    is_running = now - last_poll <= max(LIVENESS_POLLS * interval, MIN_LIVENESS)
    grace_period = (
        int(max(GRACE_POLLS * interval, MIN_GRACE) * 1000) if is_running else LATE_WRITE_WINDOW
    )
    audit = Audit(
        coverage=coverage,
        cutoff=coverage.caught_up_at - grace_period,
        since=0 if since is None else int((now - since) * 1000),
        compares_pending=is_running,
    )
    try:
        feed = await recorded_feed(scope.feed, client, coverage)
        require_retained(since, feed)
        reader = ListReader(client, feed, progress=progress, sleep=sleep)
        async for page, _ in reader.pages(audit.lower):
            with open_snapshot() as snapshot:
                audit.compare(
                    page.entries, snapshot.lookup(scope, [entry.key for entry in page.entries])
                )
    except ApiError as exc:
        return replace(report, error=str(exc))
    with open_snapshot() as snapshot:
        mismatches = check_counters(scope, feed, snapshot.accounting(scope))
        audit.settle(snapshot.recorded_statuses(scope))
    return replace(
        report,
        ok=not audit.unrecorded and not mismatches,
        since=iso_time(min(max(audit.lower, coverage.caught_up_at - feed.retention), audit.cutoff)),
        until=iso_time(audit.cutoff),
        polled=is_running,
        logs=len(audit.compared_keys),
        differences=list(audit.unrecorded.values()),
        mismatches=mismatches,
    )

"""The command ``audit``: compare the recorded logs with the API, one by one.

It works beside a running exporter or without one, and reads the lists by rules of its own. The
exporter's daily audit counts what it finds; this command only reports it. The counters are compared
with the recorded logs by ``state check``.

The list moves while it is read, and the exporter goes on recording, so logs are compared only up to
a time at which everything should have been recorded. Logs without a time are not compared.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.api.generation import find_feed
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.log_reader import (
    ListReader,
    connect_workspaces,
    require_retained,
)
from late_exporter.commands.output import json_line, printable, write_lines
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ApiError, ApiUnavailable
from late_exporter.feeds.feed import Feed
from late_exporter.format import iso_time, plural
from late_exporter.ingest.accounting import gauge_value
from late_exporter.metrics.catalogue import LAST_POLL
from late_exporter.model import PENDING, LogEntry, Scope
from late_exporter.store.records import Coverage
from late_exporter.store.snapshot import RecordedStatus, Snapshot

# Within so many poll intervals, and at least seconds, a new log may not be recorded yet.
GRACE_POLLS = 3
MIN_GRACE = 60.0

# For so many poll intervals, and at least seconds, an exporter is taken to run after its last poll.
LIVENESS_POLLS = 5
MIN_LIVENESS = 120.0

LATE_WRITE_WINDOW = 3_600_000
"""Milliseconds from creation to writing: without an exporter, later logs are not judged."""


class Difference(msgspec.Struct, frozen=True):
    """A log that is not counted in its current status, and the statuses in which it is counted."""

    id: str
    created: str | None
    platform: str
    action: str
    status: str
    counted_statuses: Sequence[str]


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of the audit of a feed, with the fields that JSON has."""

    workspace: str
    feed: str
    ok: bool = False
    error: str = ""
    since: str = ""
    until: str = ""
    polled: bool = False
    logs: int = 0
    differences: Sequence[Difference] = ()


class Comparison(msgspec.Struct, kw_only=True):
    """State and result of the comparison of one log list.

    Args:
        coverage: Coverage last committed.
        cutoff: Creation time in milliseconds up to which logs are compared.
        since: Logs older than this are excluded, as are those below the coverage's retention floor.
        compares_pending: Whether a log that is recorded as pending is compared; without an exporter
            it may have settled since.
        compared_keys: Keys of the logs that are recorded, or should be: not those that no poll had
            time to record, nor those in gaps, which the exporter knows to be missing.
        unrecorded: Logs that are not recorded in their current status, by key.
    """

    coverage: Coverage
    cutoff: int
    since: int = 0
    compares_pending: bool = True
    compared_keys: set[str] = msgspec.field(default_factory=set)
    unrecorded: dict[str, Difference] = msgspec.field(default_factory=dict)

    @property
    def lower(self) -> int:
        return max(self.coverage.retention_floor, self.since)

    def add(self, entries: Sequence[LogEntry], statuses: Mapping[str, frozenset[str]]) -> None:
        """Compare the logs of a page with the statuses that are recorded."""
        for entry in entries:
            if entry.is_own or entry.created is None or entry.created < self.lower:
                continue
            recorded = statuses.get(entry.key, frozenset())
            if entry.status in recorded:
                # Pages overlap, and it may have been recorded in between.
                self.unrecorded.pop(entry.key, None)
            elif self._may_be_unrecorded(entry.created, recorded):
                continue
            else:
                self.unrecorded[entry.key] = Difference(
                    id=entry.key,
                    created=iso_time(entry.created) or str(entry.created),
                    platform=entry.platform,
                    action=entry.action,
                    status=entry.status,
                    counted_statuses=sorted(recorded),
                )
            self.compared_keys.add(entry.key)

    def _may_be_unrecorded(self, created: int, recorded: frozenset[str]) -> bool:
        if created > self.cutoff:
            return True
        if PENDING in recorded and not self.compares_pending:
            return True
        return any(gap.lower <= created <= gap.upper.created for gap in self.coverage.gaps)

    def settle(self, recorded: Iterable[RecordedStatus]) -> None:
        """Remove logs that are recorded by now.

        One that was pending may have settled before it was recorded.
        """
        for key, status, _ in recorded:
            if key in self.unrecorded and self.unrecorded[key].status in (status, PENDING):
                del self.unrecorded[key]


def audit(context: CommandContext) -> int:
    """Print the report of each feed; return 1 if anything differs or could not be compared."""
    reports = run_interruptible(_audit_feeds(context))
    is_ok = all(report.ok for report in reports)
    lines: Iterable[str] = render_text(reports)
    if context.flags.format == "json":
        lines = [json_line({"ok": is_ok, "feeds": msgspec.to_builtins(reports)})]
    return write_lines(map(printable, lines), int(not is_ok))


async def _audit_feeds(context: CommandContext) -> Sequence[AuditReport]:
    settings = context.settings
    open_snapshot = partial(Snapshot, settings.state.url, settings.state.password_path)
    reports = []
    async with connect_workspaces(context) as connections:
        for workspace, client in connections.items():
            for feed in settings.poll.feeds:
                report = await audit_feed(
                    Scope(workspace, feed),
                    client,
                    open_snapshot,
                    interval=settings.poll.interval,
                    since=context.flags.since,
                )
                reports.append(report)
    return reports


async def audit_feed(
    scope: Scope,
    client: LateClient,
    open_snapshot: Callable[[], Snapshot],
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
    with open_snapshot() as snapshot:
        coverage = snapshot.feed_state(scope).coverage if scope in snapshot.scopes else None
        labels = (scope.workspace, scope.feed)
        last_poll = gauge_value(snapshot.series_values(), (LAST_POLL, labels))
    failed = partial(AuditReport, workspace=scope.workspace, feed=scope.feed)
    if coverage is None:
        return failed(error="nothing has been counted yet")
    if not coverage.is_synced:
        return failed(error="the first sync is not complete, so there is nothing to compare yet")

    is_running = now - last_poll <= max(LIVENESS_POLLS * interval, MIN_LIVENESS)
    grace_period = LATE_WRITE_WINDOW
    if is_running:
        grace_period = int(max(GRACE_POLLS * interval, MIN_GRACE) * 1000)
    comparison = Comparison(
        coverage=coverage,
        cutoff=coverage.caught_up_at - grace_period,
        since=0 if since is None else int((now - since) * 1000),
        compares_pending=is_running,
    )
    try:
        feed = await _recorded_feed(scope.feed, client, coverage)
        require_retained(since, feed)
        reader = ListReader(client, feed, title=" ".join(scope), sleep=sleep)
        async for page, _ in reader.pages(comparison.lower):
            keys = [entry.key for entry in page.entries]
            with open_snapshot() as snapshot:
                comparison.add(page.entries, snapshot.lookup(scope, keys))
    except ApiError as exc:
        return failed(error=str(exc))

    with open_snapshot() as snapshot:
        comparison.settle(snapshot.recorded_statuses(scope))
    first = max(comparison.lower, coverage.caught_up_at - feed.retention)
    return AuditReport(
        workspace=scope.workspace,
        feed=scope.feed,
        ok=not comparison.unrecorded,
        since=iso_time(min(first, comparison.cutoff)),
        until=iso_time(comparison.cutoff),
        polled=is_running,
        logs=len(comparison.compared_keys),
        differences=list(comparison.unrecorded.values()),
    )


async def _recorded_feed(name: str, client: LateClient, coverage: Coverage) -> Feed:
    """Return the feed that the state was counted from.

    Raises:
        ApiUnavailable: Another one is configured.
    """
    feed = await find_feed(name, client, recorded=coverage.generation)
    if feed.generation != coverage.generation:
        raise ApiUnavailable(
            f"the state was counted from API generation {coverage.generation}, but "
            f"--api.generation is {feed.generation}; start the exporter once to switch the state"
        )
    return feed


def render_text(reports: Sequence[AuditReport]) -> Iterator[str]:
    for report in reports:
        count = len(report.differences)
        verdict = report.error or (plural(count, "difference") if count else "no difference")
        yield f"{report.workspace} {report.feed}: {verdict}"
        if not report.error:
            for line in _details(report):
                yield f"  {line}"


def _details(report: AuditReport) -> Iterator[str]:
    yield f"{plural(report.logs, 'log')} from {report.since} to {report.until} compared"
    if not report.polled:
        yield (
            "no exporter is polling: logs that arrived or settled since its last poll are left out"
        )
    for log in report.differences:
        statuses = ", ".join(log.counted_statuses)
        verdict = f"counted as {statuses}" if statuses else "not counted"
        yield f"{log.created}  {log.platform}  {log.action}  {log.status}, {verdict}: {log.id}"
    if report.differences:
        yield (
            "The next reconciliation of a running exporter should count them; audit again after it."
        )

"""The command ``audit``: compare the recorded logs with the API, one by one.

It works beside a running exporter or without one, and reads the lists by rules of its own. The
exporter's daily audit counts what it finds; this command only reports it. The counters are compared
with the recorded logs by ``state check``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from functools import partial

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.api.generation import find_feed
from late_exporter.commands.api_reader import (
    ListReader,
    connect_workspaces,
    require_retained,
)
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.output import json_line, printable, write_lines
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ApiError, ApiUnavailable
from late_exporter.feeds.feed import Feed
from late_exporter.format import iso_time, plural
from late_exporter.model import MINUTE_MS, LogEntry, Scope
from late_exporter.store.records import Coverage
from late_exporter.store.snapshot import Snapshot, open_snapshot

GRACE_PERIOD = 20 * MINUTE_MS
"""Milliseconds before the last poll within which logs may not be counted yet: the late window of
fifteen minutes, and the polls after it."""


class Difference(msgspec.Struct, frozen=True):
    """A log that is not counted in its current status, and the statuses in which it is counted."""

    id: str
    created: str
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
    logs: int = 0
    differences: Sequence[Difference] = ()


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
    read_state = partial(open_snapshot, settings.state.url, settings.state.password_path)
    reports = []
    async with connect_workspaces(context) as connections:
        for workspace, client in connections.items():
            for feed in settings.poll.feeds:
                scope = Scope(workspace, feed)
                since = context.flags.since
                reports.append(await audit_feed(scope, client, read_state, since=since))
    return reports


async def audit_feed(
    scope: Scope,
    client: LateClient,
    read_state: Callable[[], AbstractContextManager[Snapshot]],
    *,
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
    with read_state() as snapshot:
        coverage = snapshot.feed_state(scope).coverage if scope in snapshot.scopes else None
    failed = partial(AuditReport, workspace=scope.workspace, feed=scope.feed)
    if coverage is None:
        return failed(error="nothing has been counted yet")
    if not coverage.is_synced:
        return failed(error="the first sync is not complete, so there is nothing to compare yet")

    lower = coverage.retention_floor
    if since is not None:
        lower = max(lower, int((now - since) * 1000))
    upper = coverage.caught_up_at - GRACE_PERIOD
    differences: dict[str, Difference | None] = {}
    try:
        feed = await _recorded_feed(scope.feed, client, coverage)
        require_retained(since, feed)
        reader = ListReader(client, feed, " ".join(scope), sleep=sleep)
        async for page, _ in reader.pages(lower):
            entries = [each for each in page.entries if _is_compared(each, lower, upper, coverage)]
            with read_state() as snapshot:
                statuses = snapshot.lookup(scope, [entry.key for entry in entries])
            # Pages overlap: a log may be recorded when it is read again.
            for entry in entries:
                differences[entry.key] = _find_difference(entry, statuses.get(entry.key, set()))
    except ApiError as exc:
        return failed(error=str(exc))

    found = [each for each in differences.values() if each is not None]
    return AuditReport(
        workspace=scope.workspace,
        feed=scope.feed,
        ok=not found,
        since=iso_time(min(max(lower, coverage.caught_up_at - feed.retention), upper)),
        until=iso_time(upper),
        logs=len(differences),
        differences=found,
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


def _is_compared(entry: LogEntry, lower: int, upper: int, coverage: Coverage) -> bool:
    """Return whether a log should be recorded, if it is not in a gap, which the exporter knows."""
    created = entry.created
    if entry.is_own or created is None or not lower <= created <= upper:
        return False
    return not any(gap.lower <= created <= gap.upper.created for gap in coverage.gaps)


def _find_difference(entry: LogEntry, recorded: AbstractSet[str]) -> Difference | None:
    if entry.status in recorded:
        return None
    return Difference(
        id=entry.key,
        created=iso_time(entry.created or 0),
        platform=entry.platform,
        action=entry.action,
        status=entry.status,
        counted_statuses=sorted(recorded),
    )


def render_text(reports: Sequence[AuditReport]) -> Iterator[str]:
    for report in reports:
        count = len(report.differences)
        verdict = report.error or (plural(count, "difference") if count else "no difference")
        yield f"{report.workspace} {report.feed}: {verdict}"
        if not report.error:
            yield f"  {plural(report.logs, 'log')} from {report.since} to {report.until} compared"
        for log in report.differences:
            statuses = ", ".join(log.counted_statuses)
            verdict = f"counted as {statuses}" if statuses else "not counted"
            place = f"{log.created}  {log.platform}  {log.action}  {log.status}"
            yield f"  {place}, {verdict}: {log.id}"
        if report.differences:
            yield "  The next scan of a running exporter should count them; audit again after it."

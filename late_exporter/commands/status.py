"""The command ``status``: print what the status page of the exporter on this machine shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

import msgspec

from late_exporter.commands._runner import write_line, write_stdout
from late_exporter.commands.exporter_client import fetch
from late_exporter.commands.terminal import Terminal, clean, format_table
from late_exporter.config.settings import CommandContext
from late_exporter.errors import LateError
from late_exporter.format import human_duration, plural
from late_exporter.status import FeedHealth, PlatformHealth, StatusDocument, WorkspaceHealth
from late_exporter.web.verdicts import (
    feed_status,
    platform_tone,
    problem_text,
    progress_text,
    relative_time,
    status_notices,
    utc_text,
    verdicts_of,
    window_name,
    worst_first,
)

FEED_TITLES = ("FEED", "STATE", "LAST POLL", "LAST SUCCESS", "NEXT POLL", "LAG>", "LOGS>", "PENDING>", "DETAIL")
LEVELS = {"bad": "FAILING", "warn": "WARNING", "busy": "BUSY", "idle": "IDLE", "ok": "OK"}
MAX_NAMES = 5


def show_status(context: CommandContext) -> int:
    """Print the status of the exporter, and return the exit code."""
    body = fetch(context, "/", accept="application/json")
    try:
        document = msgspec.json.decode(body, type=StatusDocument)
    except msgspec.MsgspecError:
        raise LateError("the response is not that of a late-exporter of this version") from None
    if context.flags.format == "json":
        return write_stdout(lambda: _write_json(body))
    return write_stdout(lambda: _write_text(document))


def _write_json(body: bytes) -> int:
    write_line(body.decode())
    return 0


def _write_text(document: StatusDocument) -> int:
    terminal = Terminal.detect(sys.stdout, os.environ)
    for verdict in verdicts_of(document.workspaces, document.now):
        write_line(terminal.toned(f"{LEVELS[verdict.tone]:8}", verdict.tone) + terminal.bold(clean(verdict.text)))
    for workspace in document.workspaces:
        write_line("")
        for line in _workspace_lines(workspace, document.now, terminal):
            write_line(line)
    write_line("")
    write_line(f"late-exporter {clean(document.version)}, {utc_text(document.now)}")
    return 0


def _workspace_lines(workspace: WorkspaceHealth, now: float, terminal: Terminal) -> Iterator[str]:
    quota = workspace.quota
    rest = f", {quota.remaining:,} of {quota.limit:,} requests left" if quota is not None else ""
    yield terminal.bold(clean(f"{workspace.name} ({workspace.base_url}, generation {workspace.generation}{rest})"))
    feeds = workspace.feeds
    tones = [feed_status(feed).tone for feed in feeds]
    yield from _indent(format_table(FEED_TITLES, [_feed_row(feed, now) for feed in feeds], terminal, tones=tones))
    platforms = worst_first(workspace.platforms)
    if platforms:
        yield ""
        since = utc_text(min(platform.counted_since for platform in platforms))[:10]
        window = window_name(workspace.recent_since or 0.0, now).upper()
        titles = ("PLATFORM", f"{window}>", "FAILED>", f"SINCE {since}>", "FAILED>", "PENDING>", "LAST LOG")
        rows = [_platform_row(platform, now) for platform in platforms]
        tones = [platform_tone(platform) for platform in platforms]
        yield from _indent(format_table(titles, rows, terminal, tones=tones))
    notices = [clean(notice) for notice in _notices(workspace, now)]
    if notices:
        yield ""
        yield from _indent(terminal.toned(notice, "warn") for notice in notices)


def _indent(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _feed_row(feed: FeedHealth, now: float) -> tuple[str, ...]:
    detail = problem_text(feed) or (progress_text(feed.progress) if feed.progress is not None else "")
    return (
        feed.name,
        feed_status(feed).label,
        _when(feed.last_poll, now),
        _when(feed.last_success, now),
        # A poll that is due runs, or waits for the quota.
        _when(None if feed.next_poll is None else max(feed.next_poll, now), now),
        "-" if feed.lag is None else human_duration(feed.lag),
        f"{feed.logs:,}",
        f"{feed.pending:,}",
        detail,
    )


def _platform_row(platform: PlatformHealth, now: float) -> tuple[str, ...]:
    recent = platform.recent
    pending = f"{platform.pending:,}"
    if platform.oldest_pending is not None:
        pending += f" ({human_duration(max(now - platform.oldest_pending, 0), rough=True)})"
    return (
        platform.name,
        f"{recent.final:,}",
        _failures(recent.failed, recent.final),
        f"{platform.final:,}",
        _failures(platform.failed, platform.final),
        pending,
        _when(platform.last_log, now),
    )


def _failures(failed: int, final: int) -> str:
    return f"{failed:,} ({failed / final:.1%})" if failed else "0"


def _when(time: float | None, now: float) -> str:
    return "-" if time is None else relative_time(time, now, coarse=True)


def _notices(workspace: WorkspaceHealth, now: float) -> Iterator[str]:
    failing = workspace.failing_accounts
    if failing:
        names = [f"{account.username or account.account_id} ({account.platform})" for account in failing]
        yield f"{plural(len(failing), 'account')} failed the last publish: {_join(names)}"
    for notice in status_notices(workspace.status, now):
        yield f"{notice.text} {_join(list(notice.names))}".rstrip()
    for feed in workspace.status.feeds:
        if feed.error:
            yield f"Status feed {feed.name}: {feed.error}"


def _join(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES:,} more; see late-exporter accounts" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more

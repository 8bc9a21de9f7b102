"""The command ``status``: print what the status page of the exporter on this machine shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from late_exporter.commands.exporter_client import fetch
from late_exporter.commands.output import json_line, write_lines
from late_exporter.commands.tables import Row, Table, Terminal, clean
from late_exporter.config.settings import CommandContext
from late_exporter.errors import LateError
from late_exporter.format import human_duration
from late_exporter.health import FeedHealth, PlatformHealth, WorkspaceHealth
from late_exporter.web import verdicts
from late_exporter.web.findings import (
    Finding,
    StatusDocument,
    as_sentence,
    problems_in,
    working_parts,
)

LEVELS = {"bad": "FAILING", "warn": "WARNING", "busy": "BUSY", "idle": "IDLE", "ok": "OK"}
LEVEL_WIDTH, INDENT = 8, 2


def status(context: CommandContext) -> int:
    """Print the status of the exporter, and return the exit code."""
    flags = context.flags
    body = fetch(context, "/", accept="application/json")
    document = parse_status(body)
    problems = problems_in(document.findings)

    terminal = Terminal.detect()
    lines: Iterable[str]
    if flags.format == "json":
        lines = [json_line(msgspec.json.decode(body))]
    elif flags.problems:
        lines = _notices(problems, terminal)
    else:
        lines = _lines(document, terminal)
    return write_lines(lines, int(flags.check and bool(problems)))


def parse_status(body: bytes) -> StatusDocument:
    try:
        return msgspec.json.decode(body, type=StatusDocument)
    except msgspec.MsgspecError:
        raise LateError("the response is not that of a late-exporter of this version") from None


def _notices(findings: Iterable[Finding], terminal: Terminal) -> Iterator[str]:
    for each in findings:
        text = clean(f"{each.workspace}: {each.line}" if each.workspace else as_sentence(each.line))
        first, *rest = terminal.fold(text, LEVEL_WIDTH, f"{LEVELS[each.tone]:{LEVEL_WIDTH}}")
        yield terminal.toned(first[:LEVEL_WIDTH], each.tone) + first[LEVEL_WIDTH:]
        yield from rest


def _lines(document: StatusDocument, terminal: Terminal) -> Iterator[str]:
    yield from _notices([*problems_in(document.findings), *working_parts(document)], terminal)
    for workspace in document.workspaces:
        yield ""
        yield from _workspace_lines(workspace, workspace.api_time(document.now), terminal)
        own = (each for each in document.findings if each.workspace == workspace.name)
        notes = [each.line for each in own if each.tone == "ok" and each.kind != "feed"]
        yield from [""] * bool(notes)
        for note in notes:
            yield from terminal.fold(clean(note), 2 * INDENT, " " * INDENT)
    yield ""
    yield f"late-exporter {clean(document.version)}, {verdicts.utc_text(document.now)}"


def _workspace_lines(workspace: WorkspaceHealth, now: float, terminal: Terminal) -> Iterator[str]:
    quota, as_of = workspace.quota, verdicts.outdated_since(workspace)
    rest = f", {quota.remaining:,} of {quota.limit:,} requests left" if quota is not None else ""
    rest = f", as of {_when(as_of, now)}" if as_of is not None else rest
    heading = f"{workspace.name} ({workspace.base_url}, generation {workspace.generation}{rest})"
    yield from map(terminal.bold, terminal.fold(clean(heading), INDENT))
    narrower = terminal._replace(width=terminal.width and terminal.width - INDENT)
    feeds = Table(narrower, toned="STATE")
    yield from _indented(
        feeds.lines(_feed_row(feed, workspace.quota_wait, now) for feed in workspace.feeds)
    )
    platforms = verdicts.worst_first(workspace.platforms)
    if platforms:
        since = verdicts.utc_text(min(platform.counted_since for platform in platforms))[:10]
        window = verdicts.window_name(workspace.recent_since or 0.0, now).lower()
        yield from ("", f"  Attempts: recent ones are of the {window}, all are since {since}")
        table = Table(narrower, toned="FAILED>")
        yield from _indented(table.lines(_platform_row(platform, now) for platform in platforms))


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"{' ' * INDENT}{line}".rstrip() for line in lines)


def _feed_row(feed: FeedHealth, quota_wait: float, now: float) -> Row:
    status, progress = verdicts.polling_state(feed), feed.progress
    next_poll = _when(None if feed.next_poll is None else max(feed.next_poll, now), now)
    cells = {
        "FEED": feed.name,
        "STATE": status.label,
        "LAST SUCCESS": _when(feed.last_success, now),
        "NEXT POLL": "waits for the quota"
        if verdicts.waits_for_quota(feed, quota_wait, now)
        else next_poll,
        "LAG>": "" if feed.lag is None else human_duration(feed.lag),
        "LOGS>": f"{feed.logs:,}",
        "PENDING>": f"{feed.pending:,}",
        "DETAIL": verdicts.progress_text(progress) if progress is not None else "",
    }
    return Row(cells, status.tone)


def _platform_row(platform: PlatformHealth, now: float) -> Row:
    recent, oldest = platform.recent, platform.oldest_pending
    age = "" if oldest is None else f" ({human_duration(max(now - oldest, 0), rough=True)})"
    cells = {
        "PLATFORM": platform.name,
        "RECENT>": f"{recent.final:,}",
        "FAILED>": _failures(recent.failed, recent.final),
        "ALL>": f"{platform.final:,}",
        "ALL FAILED>": _failures(platform.failed, platform.final),
        "PENDING>": f"{platform.pending:,}{age}",
        "LAST LOG": _when(platform.last_log, now),
    }
    return Row(cells, verdicts.platform_tone(platform))


def _failures(failed: int, final: int) -> str:
    return f"{failed:,} ({failed / final:.1%})" if failed else "0"


def _when(time: float | None, now: float) -> str:
    return "" if time is None else verdicts.relative_time(time, now, coarse=True)

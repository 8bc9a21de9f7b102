"""The command ``status``: print what the status page of the exporter on this machine shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from late_exporter.commands.exporter_client import fetch
from late_exporter.commands.output import json_line, write_lines
from late_exporter.commands.tables import Row, Table, Terminal, clean
from late_exporter.config.settings import CommandContext
from late_exporter.errors import LateError
from late_exporter.format import human_duration, plural
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
LEVEL_WIDTH = 8
MANY_WORKSPACES = 5
"""Number of workspaces from which only those with problems are shown, if there are any.

Problems of as many do not count.
"""

INDENT = 2


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
        lines = _notices(document, problems, terminal)
    else:
        lines = _lines(document, terminal)
    return write_lines(lines, int(flags.check and bool(problems)))


def parse_status(body: bytes) -> StatusDocument:
    try:
        return msgspec.json.decode(body, type=StatusDocument)
    except msgspec.MsgspecError:
        raise LateError("the response is not that of a late-exporter of this version") from None


def _notices(
    document: StatusDocument,
    findings: Iterable[Finding],
    terminal: Terminal,
    *,
    has_steps: bool = False,
) -> Iterator[str]:
    for each in findings:
        place = document.place(each) or "".join(each.workspaces)
        text = clean(f"{place}: {each.line}" if place else as_sentence(each.line))
        level = f"{LEVELS[each.tone]:{LEVEL_WIDTH}}"
        first, *rest = terminal.fold(text, LEVEL_WIDTH, level)
        yield terminal.toned(first[:LEVEL_WIDTH], each.tone) + first[LEVEL_WIDTH:]
        yield from rest
        if has_steps and each.tone in ("bad", "warn"):
            step = _next_step(document, each)
            yield from terminal.fold(clean(step), LEVEL_WIDTH, " " * LEVEL_WIDTH)


def _next_step(document: StatusDocument, finding: Finding) -> str:
    """Return what to do about a problem, as on the page."""
    command = document.command(finding)
    text = finding.wording.step
    if command:
        text += f" Run {command}."
    return f"{text} See late-exporter runbook {finding.wording.runbook}.".lstrip()


def _lines(document: StatusDocument, terminal: Terminal) -> Iterator[str]:
    problems = problems_in(document.findings)
    findings = [*problems, *working_parts(document)]
    yield from _notices(document, findings, terminal, has_steps=True)

    # Many workspaces would push the problems out of the terminal.
    shown = list(document.workspaces)
    if problems and len(shown) >= MANY_WORKSPACES:
        few = [each for each in problems if each.workspace_count < MANY_WORKSPACES]
        troubled = {name for each in few for name in each.workspaces}
        shown = [each for each in shown if each.name in troubled]
    for workspace in shown:
        yield ""
        yield from _workspace_lines(workspace, workspace.api_time(document.now), terminal)
        own = (each for each in document.findings if workspace.name in each.workspaces)
        notes = [each.line for each in own if each.tone == "ok" and each.kind != "feed"]
        if notes:
            yield ""
        for note in notes:
            yield from terminal.fold(clean(note), 2 * INDENT, " " * INDENT)
    if len(shown) < document.workspace_count:
        yield ""
        yield f"{plural(document.workspace_count - len(shown), 'more workspace')}, not shown"
    yield ""
    yield f"late-exporter {clean(document.version)}, {verdicts.utc_text(document.now)}"


def _workspace_lines(workspace: WorkspaceHealth, now: float, terminal: Terminal) -> Iterator[str]:
    # The heading, with the quota, or with the age of figures that are old.
    facts = [workspace.base_url]
    as_of = verdicts.outdated_since(workspace)
    if as_of is not None:
        facts.append(f"as of {_when(as_of, now)}")
    elif verdicts.is_outdated(workspace):
        facts.append("nothing read yet")
    else:
        facts.append(f"generation {workspace.generation}")
        if workspace.quota is not None:
            quota = workspace.quota
            facts.append(f"{quota.remaining:,} of {quota.limit:,} requests left")
    heading = clean(f"{workspace.name} ({', '.join(facts)})")
    for line in terminal.fold(heading, INDENT):
        yield terminal.bold(line)

    feeds = [_feed_row(feed, workspace.quota_wait, now) for feed in workspace.feeds]
    yield from _indented(Table(terminal, toned="STATE").lines(feeds))

    platforms = verdicts.worst_first(workspace.platforms)
    if platforms:
        since = verdicts.utc_text(min(platform.counted_since for platform in platforms))[:10]
        window = verdicts.window_name(workspace.recent_since or 0.0, now).lower()
        yield ""
        yield f"  Attempts: recent ones are of the {window}, all are since {since}"
        rows = [_platform_row(platform, now) for platform in platforms]
        yield from _indented(Table(terminal, toned="FAILED>").lines(rows))


def _indented(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield f"{' ' * INDENT}{line}".rstrip()


def _feed_row(feed: FeedHealth, quota_wait: float, now: float) -> Row:
    status = verdicts.polling_state(feed)
    next_poll = "" if feed.next_poll is None else _when(max(feed.next_poll, now), now)
    if verdicts.waits_for_quota(feed, quota_wait, now):
        next_poll = "waits for the quota"
    cells = {
        "FEED": feed.name,
        "STATE": status.label,
        "LAST SUCCESS": _when(feed.last_success, now),
        "NEXT POLL": next_poll,
        "LAG>": "" if feed.lag is None else human_duration(feed.lag),
        "LOGS>": f"{feed.logs:,}",
        "PENDING>": f"{feed.pending:,}",
        "DETAIL": "" if feed.progress is None else verdicts.progress_text(feed.progress),
    }
    return Row(cells, status.tone)


def _platform_row(platform: PlatformHealth, now: float) -> Row:
    recent = platform.recent
    pending = f"{platform.pending:,}"
    if platform.oldest_pending is not None:
        age = max(now - platform.oldest_pending, 0)
        pending += f" ({human_duration(age, rough=True)})"
    cells = {
        "PLATFORM": platform.name,
        "RECENT>": f"{recent.final:,}",
        "FAILED>": _failures(recent.failed, recent.final),
        "ALL>": f"{platform.final:,}",
        "ALL FAILED>": _failures(platform.failed, platform.final),
        "PENDING>": pending,
        "LAST LOG": _when(platform.last_log, now),
    }
    return Row(cells, verdicts.platform_tone(platform))


def _failures(failed: int, final: int) -> str:
    return f"{failed:,} ({failed / final:.1%})" if failed else "0"


def _when(time: float | None, now: float) -> str:
    return "" if time is None else verdicts.relative_time(time, now, coarse=True)

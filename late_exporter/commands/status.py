"""The command ``status``: print what the status page of the exporter on this machine shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

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
            step = each.wording.step
            command = document.command(each)
            if command:
                step += f" Run {command}."
            step += f" See late-exporter runbook {each.wording.runbook}."
            yield from terminal.fold(clean(step), LEVEL_WIDTH, " " * LEVEL_WIDTH)


def _lines(document: StatusDocument, terminal: Terminal) -> Iterator[str]:
    """Yield the findings, then the feeds and the platforms as tables."""
    problems = problems_in(document.findings)
    findings = [*problems, *working_parts(document)]
    yield from _notices(document, findings, terminal, has_steps=True)

    shown = _shown_workspaces(document, problems)
    names = {workspace.name for workspace in shown}
    for note in document.findings:
        is_note = note.tone == "ok" and note.kind != "feed"
        if is_note and not names.isdisjoint(note.workspaces):
            yield from _notices(document, [note], terminal)

    yield from _tables(document, shown, terminal)

    yield ""
    if len(shown) < document.workspace_count:
        yield f"{plural(document.workspace_count - len(shown), 'more workspace')}, not shown"
    yield f"late-exporter {clean(document.version)}, {verdicts.utc_text(document.now)}"


def _shown_workspaces(
    document: StatusDocument, problems: Sequence[Finding]
) -> Sequence[WorkspaceHealth]:
    """Return the workspaces whose feeds and platforms are shown.

    Many would push the problems out of the terminal.
    """
    if not problems or len(document.workspaces) < MANY_WORKSPACES:
        return document.workspaces
    few = [each for each in problems if each.workspace_count < MANY_WORKSPACES]
    troubled = {name for each in few for name in each.workspaces}
    return [each for each in document.workspaces if each.name in troubled]


def _tables(
    document: StatusDocument, shown: Sequence[WorkspaceHealth], terminal: Terminal
) -> Iterator[str]:
    feeds: list[Row] = []
    platforms: list[Row] = []
    for workspace in shown:
        now = workspace.api_time(document.now)
        place = {"WORKSPACE": workspace.name} if document.workspace_count > 1 else {}
        feeds += [_feed_row(place, feed, workspace.quota_wait, now) for feed in workspace.feeds]
        # Figures of an API that cannot be read are old.
        if not verdicts.is_outdated(workspace):
            by_rank = verdicts.worst_first(workspace.platforms)
            platforms += [_platform_row(place, platform, now) for platform in by_rank]

    for toned, rows in (("STATE", feeds), ("FAILED>", platforms)):
        if rows:
            yield ""
            yield from Table(terminal, toned=toned).lines(rows)


def _feed_row(place: Mapping[str, str], feed: FeedHealth, quota_wait: float, now: float) -> Row:
    status = verdicts.polling_state(feed)
    next_poll = "" if feed.next_poll is None else _when(max(feed.next_poll, now), now)
    if verdicts.waits_for_quota(feed, quota_wait, now):
        next_poll = "waits for the quota"
    cells = {
        **place,
        "FEED": feed.name,
        "STATE": status.label,
        "LAST SUCCESS": _when(feed.last_success, now),
        "NEXT POLL": next_poll,
        "LOGS>": f"{feed.logs:,}",
        "DETAIL": "" if feed.progress is None else verdicts.progress_text(feed.progress),
    }
    return Row(cells, status.tone)


def _platform_row(place: Mapping[str, str], platform: PlatformHealth, now: float) -> Row:
    recent = platform.recent
    pending = f"{platform.pending:,}"
    if platform.oldest_pending is not None:
        age = max(now - platform.oldest_pending, 0)
        pending += f" ({human_duration(age, rough=True)})"
    failed = f"{recent.failed:,}"
    if recent.failed:
        failed += f" ({recent.failed / recent.final:.1%})"
    cells = {
        **place,
        "PLATFORM": platform.name,
        "RECENT>": f"{recent.final:,}",
        "FAILED>": failed,
        "PENDING>": pending,
        "LAST LOG": _when(platform.last_log, now),
    }
    return Row(cells, verdicts.platform_tone(platform))


def _when(time: float | None, now: float) -> str:
    return "" if time is None else verdicts.relative_time(time, now, coarse=True)

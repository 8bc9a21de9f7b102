"""The command ``status``: print what the status page of the exporter on this machine shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from late_exporter.commands.exporter_client import fetch
from late_exporter.commands.output import json_line, write_lines
from late_exporter.commands.tables import Row, Table, clean, fold
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

LEVELS = {
    "bad": "FAILING ",
    "warn": "WARNING ",
    "busy": "BUSY    ",
    "idle": "IDLE    ",
    "ok": "OK      ",
}
INDENT = " " * len(LEVELS["ok"])

MAX_WORKSPACES = 5
"""Number of workspaces whose feeds and platforms are shown, the worst first.

More would push the problems out of the terminal.
"""


def status(context: CommandContext) -> int:
    """Print the status of the exporter, and return the exit code."""
    flags = context.flags
    body = fetch(context, "/", accept="application/json")
    document = parse_status(body)
    problems = problems_in(document.findings)

    lines: Iterable[str] = _lines(document, problems)
    if flags.format == "json":
        lines = [json_line(msgspec.json.decode(body))]
    elif flags.problems:
        lines = _notices(document, problems)
    return write_lines(lines, int(flags.check and bool(problems)))


def parse_status(body: bytes) -> StatusDocument:
    try:
        return msgspec.json.decode(body, type=StatusDocument)
    except msgspec.MsgspecError:
        raise LateError("the response is not that of a late-exporter of this version") from None


def _lines(document: StatusDocument, problems: Sequence[Finding]) -> Iterator[str]:
    """Yield the findings, then the feeds and the platforms as tables."""
    shown = document.workspaces[:MAX_WORKSPACES]
    names = {workspace.name for workspace in shown}
    notes = [
        each
        for each in document.findings
        if each.tone == "ok" and each.kind != "feed" and not names.isdisjoint(each.workspaces)
    ]
    yield from _notices(document, [*problems, *working_parts(document), *notes])
    yield from _tables(document, shown)

    yield ""
    if len(shown) < document.workspace_count:
        yield f"{plural(document.workspace_count - len(shown), 'more workspace')}, not shown"
    yield f"late-exporter {clean(document.version)}, {verdicts.utc_text(document.now)}"


def _notices(document: StatusDocument, findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the lines of some findings, each problem with what to do."""
    for each in findings:
        place = document.place(each)
        text = f"{place}: {each.line}" if place else as_sentence(each.line)
        yield from fold(LEVELS[each.tone], clean(text))
        if each.tone in ("bad", "warn"):
            step = each.wording.step
            command = document.command(each)
            if command:
                step += f" Run {command}."
            step += f" See late-exporter runbook {document.runbook(each)}."
            yield from fold(INDENT, clean(step))


def _tables(document: StatusDocument, shown: Iterable[WorkspaceHealth]) -> Iterator[str]:
    feeds: list[Row] = []
    platforms: list[Row] = []
    for workspace in shown:
        now = workspace.api_time(document.now)
        place = {"WORKSPACE": workspace.name} if document.workspace_count > 1 else {}
        feeds += [_feed_row(place, feed, now) for feed in workspace.feeds]
        # Figures of an API that cannot be read are old.
        if not verdicts.is_outdated(workspace):
            by_rank = verdicts.worst_first(workspace.platforms)
            platforms += [_platform_row(place, platform, now) for platform in by_rank]

    for rows in (feeds, platforms):
        if rows:
            yield ""
            yield from Table(list(rows[0])).lines(rows)


def _feed_row(place: Mapping[str, str], feed: FeedHealth, now: float) -> Row:
    return {
        **place,
        "FEED": feed.name,
        "STATE": verdicts.polling_state(feed).label,
        "LAST SUCCESS": _when(feed.last_success, now),
        "LOGS>": f"{feed.logs:,}",
        "DETAIL": "" if feed.progress is None else verdicts.progress_text(feed.progress),
    }


def _platform_row(place: Mapping[str, str], platform: PlatformHealth, now: float) -> Row:
    recent = platform.recent
    pending = f"{platform.pending:,}"
    if platform.oldest_pending is not None:
        age = max(now - platform.oldest_pending, 0)
        pending += f" ({human_duration(age, rough=True)})"
    failed = f"{recent.failed:,}"
    if recent.failed:
        failed += f" ({recent.failed / recent.final:.1%})"
    return {
        **place,
        "PLATFORM": platform.name,
        "RECENT>": f"{recent.final:,}",
        "FAILED>": failed,
        "PENDING>": pending,
        "LAST LOG": _when(platform.last_log, now),
    }


def _when(time: float | None, now: float) -> str:
    return "" if time is None else verdicts.relative_time(time, now, coarse=True)

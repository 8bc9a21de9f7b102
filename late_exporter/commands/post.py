"""The command ``post``: print the history of one post, and its outcome on each account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.api.generation import find_feed
from late_exporter.api.pages import fetch_post, is_post_id
from late_exporter.commands.connections import connect_workspaces, report_failure
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.list_reader import ListReader
from late_exporter.commands.log_views import (
    POST_COLUMNS,
    WorkspaceLog,
    log_fields,
    log_row,
    log_views,
    read_logs,
)
from late_exporter.commands.output import json_line, write_lines
from late_exporter.commands.post_outcomes import (
    OUTCOME_COLUMNS,
    OutcomeCollector,
    PostOutcome,
    outcome_row,
)
from late_exporter.commands.tables import Table, Terminal, clean, shorten
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError, LateError
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.feeds.view import row_text
from late_exporter.model import PAGE_SIZE

SEARCH_LIMIT = 1000  # logs to read if the logs of a post have to be searched for
CAPTION_LENGTH = 40


class PostHistory(NamedTuple):
    """Logs of a post, oldest first, and whether these are all."""

    post_id: str
    logs: Sequence[WorkspaceLog]
    is_complete: bool = True

    @property
    def outcomes(self) -> list[PostOutcome]:
        collector = OutcomeCollector()
        for workspace, log in reversed(self.logs):
            collector.add(
                WorkspaceLog(workspace, msgspec.structs.replace(log, post_id=self.post_id))
            )
        return sorted(collector, key=lambda outcome: (outcome.platform, outcome.username))


def post(context: CommandContext) -> int:
    unread = list[str]()
    history = run_interruptible(_find_history(context, unread))
    is_json = context.flags.format == "json"
    lines = (
        [json_line(json_document(history))] if is_json else render_text(history, Terminal.detect())
    )
    return write_lines(lines, int(bool(unread)))


async def _find_history(context: CommandContext, unread: list[str]) -> PostHistory:
    """Return the logs of the post in the first workspace that has any; raise LateError if none has."""
    post_id = context.args[0]
    if not is_post_id(post_id):
        raise ConfigError("POST_ID: not the id of a post")
    async with connect_workspaces(context) as connections:
        for workspace, client in connections.items():
            with report_failure(workspace, unread):
                feed = await find_feed("publishing", client)
                if (history := await fetch_history(client, feed, post_id, workspace)).logs:
                    return history
    names = ", ".join(name for name in connections if name not in unread)
    if not names:
        raise LateError("no workspace could be read")
    raise LateError(
        f"no logs of a post {post_id} in {names}; the API keeps logs for 90 days, in generation late 7"
    )


async def fetch_history(
    client: LateClient, feed: Feed, post_id: str, workspace: str
) -> PostHistory:
    """Return the logs of a post in a workspace, if there are any."""
    logs, is_complete = list[LogView](), True
    if feed.post_path is None:
        # A search may also find logs of other posts whose texts contain the id.
        reader = ListReader(client, feed, {"search": post_id})
        async for page in read_logs(reader, feed, 0):
            logs += (log for log in page if mentions(log, post_id))
            if reader.read_count >= SEARCH_LIMIT:
                is_complete = False
                break
    else:
        logs = log_views(*await fetch_post(client, feed, post_id), feed)
        is_complete = len(logs) < PAGE_SIZE
    logs.reverse()  # Logs of the same time are newest first, too.
    logs.sort(key=lambda log: log.created or 0)
    return PostHistory(post_id, [WorkspaceLog(workspace, log) for log in logs], is_complete)


def mentions(log: LogView, post_id: str) -> bool:
    """Return whether a log belongs to a post, judged by its texts if it does not name a post."""
    if log.post_id:
        return log.post_id == post_id
    return any(
        post_id in row_text(log.row, field) for field in ("request_id", "request_body", "metadata")
    )


def json_document(history: PostHistory) -> Mapping[str, Any]:
    return {
        "post_id": history.post_id,
        "complete": history.is_complete,
        "outcomes": [msgspec.structs.asdict(outcome) for outcome in history.outcomes],
        "logs": [*map(log_fields, history.logs)],
    }


def render_text(history: PostHistory, terminal: Terminal) -> Iterator[str]:
    caption = shorten(
        next((item.log.caption for item in history.logs if item.log.caption), ""), CAPTION_LENGTH
    )
    yield f"Post {clean(history.post_id)}" + (f": “{caption}”" if caption else "")
    yield ""
    if not history.is_complete:
        yield from ("Earlier logs may be missing: only the newest ones could be read.", "")
    yield from Table(terminal, POST_COLUMNS).lines(map(log_row, history.logs))
    yield ""
    yield from Table(terminal, OUTCOME_COLUMNS, toned="STATE").lines(
        map(outcome_row, history.outcomes)
    )

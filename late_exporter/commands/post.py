"""The command ``post``: print the history of one post, and its outcome on each account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import asdict, replace

from late_exporter.api.client import LateClient
from late_exporter.api.generation import find_feed
from late_exporter.api.pages import fetch_post, is_post_id
from late_exporter.commands.api_reader import ListReader, connect_workspaces, report_failure
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.logs import (
    LOG_COLUMNS,
    log_fields,
    log_row,
    log_views,
    read_logs,
)
from late_exporter.commands.output import json_line, write_lines
from late_exporter.commands.tables import Row, Table, clean, shorten
from late_exporter.config.messages import quote
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError, LateError
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.feeds.publishing import ATTEMPTS
from late_exporter.feeds.view import row_text
from late_exporter.model import FAILED, PAGE_SIZE, PENDING, SUCCESS

SEARCH_LIMIT = 1000  # logs to read if the logs of a post have to be searched for
TITLE_LENGTH = 40
CAPTION_LENGTH = 60

PUBLISHED = "published"
STATES = {"rate_limit_pause": "paused", "cancelled": "cancelled"}
"""States that follow from the action of the newest log; others are its status."""

NOT_AN_ID = (
    "not the id of a post, which is like 65f1c0a9e2b5af0012ab34cd; posts and logs print it in the "
    "column POST"
)

POST_COLUMNS = tuple(title for title in LOG_COLUMNS if title != "POST")
OUTCOME_COLUMNS = ("STATE", "PLATFORM", "ACCOUNT", "TRY>", "SCHEDULED", "RESULT")


class PostOutcome(msgspec.Struct, kw_only=True):
    """Outcome of a post on an account, with the fields that JSON has.

    Args:
        state: ``published``, ``failed``, ``pending``, ``paused``, ``skipped``, ``cancelled``, or
            the status of the newest log or of the post if it is not one of these.
        time: Time of the newest log; of a post without logs, the time at which it is due, or at
            which it failed.
        error_source: ``user``, ``platform`` or ``system``, if the API says so.
    """

    workspace: str
    post_id: str
    platform: str
    account_id: str = ""
    username: str = ""
    state: str
    time: str = ""
    scheduled_for: str = ""
    attempts: int = 0
    error_code: str = ""
    error: str = ""
    error_source: str = ""
    url: str = ""
    caption: str = ""

    def add(self, log: LogView) -> None:
        """Add a log that is older than those before.

        A published post stays published, whatever was tried later.
        """
        if log.action in ATTEMPTS and log.status in (FAILED, SUCCESS, PENDING):
            self.attempts = max(self.attempts, log.attempt or self.attempts + 1)
            if log.status == SUCCESS:
                self.state = PUBLISHED
        if log.status in (FAILED, "skipped") and not (self.error_code or self.error):
            self.error_code = log.error_code
            self.error = log.error or (f"HTTP {log.status_code}" if log.status_code else "")
        self.account_id = self.account_id or log.account_id
        self.username = self.username or log.username
        self.scheduled_for = self.scheduled_for or log.scheduled_for
        self.url = self.url or log.url
        self.caption = self.caption or log.caption


class OutcomeCollector:
    """Determines the outcomes of posts from their logs, which are added from new to old."""

    def __init__(self) -> None:
        self._by_platform: dict[tuple[str, str, str], dict[str, PostOutcome]] = {}

    def __iter__(self) -> Iterator[PostOutcome]:
        """Iterate over the outcomes, the post of the newest log first."""
        for by_account in self._by_platform.values():
            yield from by_account.values()

    def add(self, log: LogView) -> None:
        # Logs without the id of a post are not grouped.
        post = (log.workspace, log.post_id or log.key, log.platform)
        by_account = self._by_platform.setdefault(post, {})
        # A log without an account belongs to the account of the next newer log.
        account = log.account_id or log.username or next(iter(by_account), "")
        if account not in by_account:
            by_account[account] = PostOutcome(
                workspace=log.workspace,
                post_id=log.post_id,
                platform=log.platform,
                state=STATES.get(log.action, log.status),
                time=log.time,
            )
        by_account[account].add(log)


class PostHistory(NamedTuple):
    """Logs of a post, oldest first, and whether these are all."""

    post_id: str
    logs: Sequence[LogView]
    is_complete: bool = True

    @property
    def outcomes(self) -> Sequence[PostOutcome]:
        collector = OutcomeCollector()
        for log in reversed(self.logs):
            collector.add(replace(log, post_id=self.post_id))
        return sorted(collector, key=attrgetter("platform", "username"))


def post(context: CommandContext) -> int:
    unread: list[str] = []
    history = run_interruptible(_find_history(context, unread))
    if context.flags.format == "json":
        return write_lines([json_line(json_document(history))], int(bool(unread)))
    return write_lines(render_text(history), int(bool(unread)))


async def _find_history(context: CommandContext, unread: list[str]) -> PostHistory:
    """Return the logs of the post in the first workspace that has any.

    Raises:
        LateError: No workspace has any.
    """
    post_id = context.args[0]
    if not is_post_id(post_id) or "/" in post_id:
        raise ConfigError(f"POST_ID{quote(post_id)}: {NOT_AN_ID}")
    async with connect_workspaces(context) as connections:
        for workspace, client in connections.items():
            with report_failure(workspace, unread):
                feed = await find_feed("publishing", client)
                history = await fetch_history(client, feed, post_id, workspace)
                if history.logs:
                    return history

    names = ", ".join(name for name in connections if name not in unread)
    if not names:
        raise LateError("no workspace could be read")
    raise LateError(
        f"no logs of a post {post_id} in {names}; "
        "the API keeps logs for 90 days, in generation late 7"
    )


async def fetch_history(
    client: LateClient, feed: Feed, post_id: str, workspace: str
) -> PostHistory:
    """Return the logs of a post in a workspace, if there are any."""
    logs: list[LogView] = []
    is_complete = True
    if feed.post_path is None:
        # A search may also find logs of other posts whose texts contain the id.
        reader = ListReader(client, feed, workspace, {"search": post_id})
        async for page in read_logs(reader, 0):
            logs += [log for log in page if mentions(log, post_id)]
            if reader.read_count >= SEARCH_LIMIT:
                is_complete = False
                break
    else:
        logs += log_views(*await fetch_post(client, feed, post_id), feed, workspace)
        is_complete = len(logs) < PAGE_SIZE
    logs.reverse()  # Logs of the same time are newest first, too.
    logs.sort(key=lambda log: log.created or 0)
    return PostHistory(post_id, logs, is_complete)


def mentions(log: LogView, post_id: str) -> bool:
    """Return whether a log belongs to a post, judged by its texts if it does not name a post."""
    if log.post_id:
        return log.post_id == post_id
    texts = [row_text(log.row, field) for field in ("request_id", "request_body", "metadata")]
    return any(post_id in text for text in texts)


def json_document(history: PostHistory) -> Mapping[str, Any]:
    return {
        "post_id": history.post_id,
        "complete": history.is_complete,
        "outcomes": [*map(asdict, history.outcomes)],
        "logs": [*map(log_fields, history.logs)],
    }


def render_text(history: PostHistory) -> Iterator[str]:
    captions = [log.caption for log in history.logs if log.caption]
    title = f": “{shorten(captions[0], TITLE_LENGTH)}”" if captions else ""
    yield f"Post {clean(history.post_id)}{title}"
    yield ""
    if not history.is_complete:
        yield "Earlier logs may be missing: only the newest ones could be read."
        yield ""
    yield from Table(POST_COLUMNS).lines(map(log_row, history.logs))
    yield ""
    yield from Table(OUTCOME_COLUMNS).lines(map(outcome_row, history.outcomes))


def outcome_row(outcome: PostOutcome) -> Row:
    """Return an outcome as a row of a table."""
    error = ": ".join(filter(None, (outcome.error_code, outcome.error)))
    result = outcome.url if outcome.state == PUBLISHED else error
    caption = f"“{shorten(outcome.caption, CAPTION_LENGTH)}”" if outcome.caption else ""
    return {
        "TIME": outcome.time,
        "STATE": outcome.state,
        "WORKSPACE": outcome.workspace,
        "PLATFORM": outcome.platform,
        "ACCOUNT": outcome.username or outcome.account_id,
        "TRY>": str(outcome.attempts or ""),
        "SCHEDULED": outcome.scheduled_for,
        "POST": outcome.post_id,
        "RESULT": result,
        "RESULT, CAPTION": f"{result} {caption}".strip(),
    }

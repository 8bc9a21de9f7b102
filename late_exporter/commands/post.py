"""The command ``post``: print the history of one post, and its outcome on each platform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from late_exporter.api.client import LateClient
from late_exporter.api.pages import fetch_post, is_post_id
from late_exporter.commands.connections import connect_workspace
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.list_reader import ListReader
from late_exporter.commands.log_views import (
    POST_COLUMNS,
    TONES,
    log_fields,
    log_row,
    log_views,
    read_logs,
)
from late_exporter.commands.output import json_line, write_lines
from late_exporter.commands.tables import Table, Terminal, clean
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError, LateError
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.feeds.publishing import ATTEMPTS
from late_exporter.feeds.view import row_text
from late_exporter.format import plural
from late_exporter.model import DAY_MS, FAILED, PAGE_SIZE, PENDING, SUCCESS

SEARCH_LIMIT = 1000  # logs to read if the logs of a post have to be searched for
CAPTION_LENGTH = 72
STATES = {"rate_limit_pause": "paused", "cancelled": "cancelled"}
"""Outcomes that follow from the action of the newest log; others are its status."""


class PostOutcome(NamedTuple):
    """Outcome of a post on one account of a platform, in one sentence.

    Args:
        account: User name or id; empty if the post has only one account on the platform.
        state: ``published``, ``failed``, ``pending``, ``paused``, ``skipped``, ``cancelled``, or the status of the
            newest log if it is not one of these.
    """

    platform: str
    account: str
    state: str
    summary: str


class PostHistory(NamedTuple):
    """Logs of a post, oldest first, and whether these are all."""

    workspace: str
    post_id: str
    logs: Sequence[LogView]
    is_complete: bool = True


def post(context: CommandContext) -> int:
    history = run_interruptible(_read_history(context))
    is_json = context.flags.format == "json"
    return write_lines([render_json(history)] if is_json else render_text(history, Terminal.detect()))


async def _read_history(context: CommandContext) -> PostHistory:
    async with connect_workspace(context) as (workspace, (client, generation)):
        feed = await generation.resolve_feed("publishing", client, state_generation=None)
        return await fetch_history(client, feed, context.args[0], workspace)


async def fetch_history(client: LateClient, feed: Feed, post_id: str, workspace: str) -> PostHistory:
    """Return the logs of a post; raise ConfigError if the id is not valid, or LateError if there are none."""
    if not is_post_id(post_id):
        raise ConfigError("POST_ID: not the id of a post")
    logs, is_complete = list[LogView](), True
    if feed.post_path is None:
        # A search may also find logs of other posts whose texts contain the id.
        read_count = 0
        async for page in read_logs(ListReader(client, feed, {"search": post_id}), feed, 0):
            read_count += len(page)
            logs += (log for log in page if mentions(log, post_id))
            if read_count >= SEARCH_LIMIT:
                is_complete = False
                break
    elif response := await fetch_post(client, feed, post_id):
        logs = log_views(response, feed)
        is_complete = len(logs) < PAGE_SIZE
    if not logs:
        raise LateError(
            f"the workspace {workspace} has no logs of a post {post_id}: the API keeps logs for "
            f"{feed.retention // DAY_MS} days, and the post may belong to another workspace"
        )
    logs.reverse()  # Logs of the same time are newest first, too.
    logs.sort(key=lambda log: log.created or 0)
    return PostHistory(workspace, post_id, logs, is_complete)


def mentions(log: LogView, post_id: str) -> bool:
    """Return whether a log belongs to a post, judged by its texts if it does not name a post."""
    if log.post_id:
        return log.post_id == post_id
    return any(post_id in row_text(log.row, field) for field in ("request_id", "request_body", "metadata"))


def render_json(history: PostHistory) -> str:
    return json_line(
        {
            "post_id": history.post_id,
            "workspace": history.workspace,
            "complete": history.is_complete,
            "outcomes": [outcome._asdict() for outcome in post_outcomes(history.logs)],
            "logs": [log_fields(log) for log in history.logs],
        }
    )


def render_text(history: PostHistory, terminal: Terminal) -> Iterator[str]:
    caption = clean(next((log.caption for log in history.logs if log.caption), ""))
    caption = caption if len(caption) <= CAPTION_LENGTH else f"{caption[: CAPTION_LENGTH - 3]}..."
    yield f"Post {clean(history.post_id)}" + (f': "{caption}"' if caption else "")
    yield ""
    if not history.is_complete:
        yield from ("Earlier logs may be missing: only the newest ones could be read.", "")
    yield from Table(terminal, *POST_COLUMNS).lines(map(log_row, history.logs))
    yield ""
    for outcome in post_outcomes(history.logs):
        destination = f"{outcome.platform} {outcome.account}".rstrip()
        yield f"{clean(destination)}: {terminal.toned(clean(outcome.summary), TONES.get(outcome.state, ''))}"


def post_outcomes(logs: Sequence[LogView]) -> list[PostOutcome]:
    """Return the outcomes of a post by platform and account, given its logs oldest first."""
    usernames = {(log.platform, log.account_id): log.username for log in logs if log.username and log.account_id}
    by_account: dict[tuple[str, str], list[LogView]] = {}
    for log in logs:
        account = log.username or usernames.get((log.platform, log.account_id), log.account_id)
        by_account.setdefault((log.platform, account), []).append(log)
    outcomes = []
    for platform in sorted({log.platform for log in logs}):
        accounts = sorted(account for name, account in by_account if name == platform)
        if len(accounts) <= 1 + ("" in accounts):  # logs without an account are of the only one
            outcomes.append(_outcome(platform, "", [log for log in logs if log.platform == platform]))
        else:
            outcomes += [_outcome(platform, account, by_account[platform, account]) for account in accounts]
    return outcomes


def _outcome(platform: str, account: str, logs: Sequence[LogView]) -> PostOutcome:
    """Return the outcome after the newest log; a published post stays published, whatever was tried afterwards."""
    newest = logs[-1]
    attempts = [log for log in logs if log.action in ATTEMPTS and log.status in (FAILED, SUCCESS, PENDING)]
    success = next((log for log in reversed(attempts) if log.status == SUCCESS), None)
    if success is not None:
        return PostOutcome(platform, account, "published", f"published {success.url}".rstrip())
    state = STATES.get(newest.action, newest.status)
    step = "" if newest.action in (*ATTEMPTS, *STATES) else f" at {newest.action}"
    count = max([len(attempts), *(log.attempt or 0 for log in attempts)])
    after = f" after {plural(count, 'attempt')}" if count else ""
    reason = next(filter(None, (_reason(log) for log in reversed(logs) if log.status in (FAILED, "skipped"))), "")
    since = f" since {newest.time}" if newest.time and newest.status != FAILED else ""
    return PostOutcome(platform, account, state, f"{state}{step}{since}{after}{reason}")


def _reason(log: LogView) -> str:
    """Return why a log failed, in parentheses; empty if it does not say."""
    reason = log.error_code or (f"HTTP {log.status_code}" if log.status_code else "") or log.error
    return f" ({reason})" if reason else ""

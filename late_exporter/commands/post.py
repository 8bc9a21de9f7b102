"""Print the history of one post: every attempt, and the outcome on each platform."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from late_exporter.api.pages import fetch_post, is_post_id
from late_exporter.commands._runner import ConnectWorkspaces, connect_workspace, write_line
from late_exporter.commands.columns import POST_COLUMNS
from late_exporter.commands.feed_choice import current_feed
from late_exporter.commands.logview import chronological, log_views, mentions
from late_exporter.commands.pager import LogPager
from late_exporter.commands.terminal import TableFormatter, Terminal, clean, json_line
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError, LateError
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.feeds.publishing import ATTEMPTS
from late_exporter.format import iso_time, plural
from late_exporter.model import DAY_MS, PAGE_SIZE, PENDING
from late_exporter.protocols import Client

SEARCH_LIMIT = 1000  # logs to read if the logs of a post have to be searched for
CAPTION_LENGTH = 72
FAILED, SUCCESS, SKIPPED = "failed", "success", "skipped"
PAUSE = "rate_limit_pause"


class PostOutcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Outcome of a post on one account of a platform.

    Args:
        account: User name or id; empty if the post has only one account on the platform.
        state: ``published``, ``failed``, ``pending``, ``paused``, ``skipped``, ``cancelled``, or the status of the
            newest log if it is not one of these.
        reason: Error code, HTTP status or error message of the last failure.
        since: Creation time of the newest log.
        summary: Outcome in one sentence.
    """

    platform: str
    account: str
    state: str
    attempts: int
    reason: str
    url: str
    since: str
    summary: str


class PostHistory(NamedTuple):
    """Logs of a post, oldest first, and a sentence about those that could not be read, or an empty one."""

    post_id: str
    logs: Sequence[LogView]
    missing: str
    retention_days: int


class Destination(NamedTuple):
    """One account of a platform that a post goes to."""

    platform: str
    account: str


async def show_post(context: CommandContext, connect: ConnectWorkspaces) -> int:
    async with connect_workspace(context, connect) as (workspace, connection):
        feed = await current_feed("publishing", *connection)
        history = await fetch_history(connection.client, feed, context.args[0], workspace=workspace, clock=time.time)
    if context.flags.format == "json":
        lines = render_json(history, workspace)
    else:
        lines = render_text(history, Terminal.detect(sys.stdout, os.environ))
    for line in lines:
        write_line(line)
    return 0


async def fetch_history(
    client: Client, feed: Feed, post_id: str, *, workspace: str, clock: Callable[[], float]
) -> PostHistory:
    """Return the logs of a post; raise ConfigError if the id is not valid, or LateError if there is no such post."""
    if not is_post_id(post_id):
        raise ConfigError("POST_ID: not the id of a post")
    if feed.post_path is not None:
        history = await _fetch_post(client, feed, post_id)
    else:
        history = await _search_post(client, feed, post_id, clock)
    if history is None:
        days = feed.retention // DAY_MS
        raise LateError(
            f"the workspace {workspace} has no logs of a post {post_id}: the API keeps logs for {days} days, and the "
            "post may belong to another workspace"
        )
    return history


async def _fetch_post(client: Client, feed: Feed, post_id: str) -> PostHistory | None:
    response = await fetch_post(client, feed, post_id)
    if response is None:
        return None
    logs = chronological(log_views(response, feed))
    missing = f"The API shows the newest {PAGE_SIZE} logs of a post; earlier logs are missing here."
    return PostHistory(post_id, logs, missing if len(logs) >= PAGE_SIZE else "", feed.retention // DAY_MS)


async def _search_post(client: Client, feed: Feed, post_id: str, clock: Callable[[], float]) -> PostHistory | None:
    """Search for the id, which may also find logs of other posts whose texts contain it."""
    history: list[LogView] = []
    read_count, missing = 0, ""
    pager = LogPager(client, feed, {"search": post_id}, feed.retention / 1000, clock=clock)
    async for logs in pager.pages():
        read_count += len(logs)
        history += (log for log in logs if mentions(log, post_id))
        if read_count >= SEARCH_LIMIT:
            missing = f"Only the newest {read_count:,} results of a search for the post were read."
            break
    return PostHistory(post_id, chronological(history), missing, feed.retention // DAY_MS) if history else None


def render_json(history: PostHistory, workspace: str) -> Iterator[str]:
    yield json_line(
        {
            "postId": history.post_id,
            "workspace": workspace,
            "complete": not history.missing,
            "outcomes": [msgspec.to_builtins(outcome) for outcome in post_outcomes(history.logs)],
            "logs": [log.row for log in history.logs],
        }
    )


def render_text(history: PostHistory, terminal: Terminal) -> Iterator[str]:
    logs = history.logs
    caption = clean(next((log.caption for log in logs if log.caption), ""))
    caption = caption if len(caption) <= CAPTION_LENGTH else f"{caption[: CAPTION_LENGTH - 3]}..."
    yield f"Post {clean(history.post_id)}" + (f': "{caption}"' if caption else "")
    yield ""
    if history.missing:
        yield history.missing
        yield ""
    if not logs:
        yield f"No logs; the API keeps them for {history.retention_days} days."
        return
    yield from TableFormatter(POST_COLUMNS, terminal).lines(logs)
    yield ""
    for outcome in post_outcomes(logs):
        destination = f"{outcome.platform} {outcome.account}".rstrip()
        yield f"{clean(destination)}: {terminal.coloured(clean(outcome.summary), outcome.state)}"


def post_outcomes(logs: Sequence[LogView]) -> list[PostOutcome]:
    """Return the outcomes of a post by platform and account, given its logs oldest first."""
    by_destination: dict[Destination, list[LogView]] = {}
    for log, destination in zip(logs, _destinations(logs), strict=True):
        by_destination.setdefault(destination, []).append(log)
    platforms = [destination.platform for destination in by_destination]
    return [
        _outcome(
            platform, account if platforms.count(platform) > 1 else "", by_destination[Destination(platform, account)]
        )
        for platform, account in sorted(by_destination)
    ]


def _destinations(logs: Sequence[LogView]) -> Iterator[Destination]:
    """Yield the destination of each log; logs may name an account by its id, by its user name, or not at all."""
    usernames = {(log.platform, log.account_id): log.username for log in logs if log.username}
    accounts: dict[str, set[str]] = {}
    for log in logs:
        accounts.setdefault(log.platform, set()).add(_account(log, usernames))
    for log in logs:
        candidates = accounts[log.platform] - {""}
        default = next(iter(candidates)) if len(candidates) == 1 else ""
        yield Destination(log.platform, _account(log, usernames) or default)


def _account(log: LogView, usernames: Mapping[tuple[str, str], str]) -> str:
    return log.username or usernames.get((log.platform, log.account_id), log.account_id)


def _outcome(platform: str, account: str, logs: Sequence[LogView]) -> PostOutcome:
    """Return the outcome after the newest log; a published post stays published, whatever was tried afterwards."""
    newest = logs[-1]
    attempts = [log for log in logs if log.action in ATTEMPTS and log.status in (FAILED, SUCCESS, PENDING)]
    attempt_count = max([len(attempts), *(log.attempt or 0 for log in attempts)])
    failures = [log for log in logs if log.status == FAILED]
    reason = _reason(failures[-1]) if failures else ""
    published_index = next((index for index in reversed(range(len(logs))) if _is_published(logs[index])), None)
    if published_index is not None:
        later_failure = any(log.action in ATTEMPTS and log.status == FAILED for log in logs[published_index + 1 :])
        state, summary = "published", " ".join(filter(None, ("published", logs[published_index].url)))
        summary += f", then failed{_in_parentheses(reason)}" if later_failure else ""
    else:
        state, summary = _unpublished(newest, attempt_count, reason)
    return PostOutcome(
        platform=platform,
        account=account,
        state=state,
        attempts=attempt_count,
        reason=reason,
        url="" if published_index is None else logs[published_index].url,
        since="" if newest.created is None else iso_time(newest.created, precise=True),
        summary=summary,
    )


def _unpublished(newest: LogView, attempt_count: int, reason: str) -> tuple[str, str]:
    since = f" since {newest.time}" if newest.time else ""
    after = f" after {plural(attempt_count, 'attempt')}" if attempt_count else ""
    if newest.action == PAUSE:
        return "paused", f"paused{since}{after}{_in_parentheses(reason)}"
    if newest.status == PENDING:
        return PENDING, f"pending{since}"
    if newest.action == "cancelled":
        return "cancelled", f"cancelled{since.replace(' since', ' at')}"
    if newest.status == FAILED and newest.action in ATTEMPTS:
        return FAILED, f"failed{after}{_in_parentheses(reason)}"
    if newest.status in (FAILED, SKIPPED):
        step = "" if newest.action in ATTEMPTS else f" at {newest.action}"
        return newest.status, f"{newest.status}{step}{_in_parentheses(_reason(newest))}"
    return newest.status, f"not published yet: {newest.action} {newest.status}"


def _is_published(log: LogView) -> bool:
    return log.action in ATTEMPTS and log.status == SUCCESS


def _reason(log: LogView) -> str:
    return log.error_code or (f"HTTP {log.status_code}" if log.status_code else "") or log.error


def _in_parentheses(reason: str) -> str:
    return f" ({reason})" if reason else ""

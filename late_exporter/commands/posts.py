"""The command ``posts``: print the posts that failed, are overdue, or are still to be published."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

from msgspec.structs import asdict

from late_exporter.api.client import LateClient
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.log_reader import connect_workspaces, report_failure
from late_exporter.commands.logs import LogBatches, matching_logs
from late_exporter.commands.output import warn, write_stdout
from late_exporter.commands.post import (
    OutcomeCollector,
    PostOutcome,
    outcome_row,
)
from late_exporter.commands.tables import Table, Terminal, print_records
from late_exporter.config.sections import CommandFlags
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ApiError, BadRequest, EndpointNotFound, Forbidden
from late_exporter.feeds.decoder import load_object, read_nested
from late_exporter.feeds.status_feeds import (
    OVERDUE_SECONDS,
    STATUS_FEEDS,
    StatusRequest,
    due_time,
    objects_in,
    rows_of,
)
from late_exporter.feeds.view import row_text
from late_exporter.format import iso_time
from late_exporter.ingest.status_poller import fetch_status
from late_exporter.model import FAILED, PAGE_SIZE

POSTS_COLUMNS = ("TIME", "STATE", "PLATFORM", "ACCOUNT", "TRY>", "POST", "RESULT, CAPTION")


def posts(context: CommandContext) -> int:
    return write_stdout(lambda: run_interruptible(_show_posts(context)))


async def _show_posts(context: CommandContext) -> int:
    flags, unread, outcomes = context.flags, list[str](), list[PostOutcome]()
    async with connect_workspaces(context) as connections:
        for workspace, client in connections.items():
            outcomes += await find_posts(workspace, client, flags, now=time.time(), unread=unread)
    print_posts(outcomes, flags, Terminal.detect(), is_several=len(connections) > 1)
    return int(bool(unread))


def print_posts(
    outcomes: Sequence[PostOutcome], flags: CommandFlags, terminal: Terminal, *, is_several: bool
) -> None:
    """Print posts up to a limit (0 for all): those that are due by time, then those that failed."""
    due = sorted((each for each in outcomes if each.state != FAILED), key=attrgetter("time"))
    failures = sorted(
        (each for each in outcomes if each.state == FAILED), key=attrgetter("time"), reverse=True
    )
    outcomes = [*due, *failures]
    table = Table(
        terminal,
        (*POSTS_COLUMNS[:2], *["WORKSPACE"] * is_several, *POSTS_COLUMNS[2:]),
        toned="STATE",
    )
    print_records(outcomes[: flags.limit or None], flags.format, table, outcome_row, asdict)
    if flags.limit and len(outcomes) > flags.limit:
        warn(f"these are the first {flags.limit:,}; --limit 0 shows all")
    elif not outcomes:
        warn("no post matches")


async def find_posts(
    workspace: str, client: LateClient, flags: CommandFlags, *, now: float, unread: list[str]
) -> Sequence[PostOutcome]:
    """Return the posts of a workspace that the flags ask for, by default those that failed or are overdue.

    If they cannot be read, the error is printed and the workspace added to ``unread``.
    """
    kinds = {name for name in ("failed", "overdue", "pending") if getattr(flags, name)} or {
        "failed",
        "overdue",
    }
    outcomes: list[PostOutcome] = []
    if kinds != {"failed"}:
        with report_failure(workspace, unread):
            due_posts = _due_posts(workspace, client, now, is_pending=flags.pending)
            outcomes += [
                post async for post in due_posts if flags.platform in (None, post.platform)
            ]
    if "failed" in kinds and workspace not in unread:
        logs = matching_logs(workspace, client, flags, now=now, unread=unread, quiet=True)
        outcomes += await _failed_posts(logs)
    return outcomes


async def _failed_posts(batches: LogBatches) -> Sequence[PostOutcome]:
    collector = OutcomeCollector()
    async for batch in batches:
        for item in batch:
            collector.add(item)
    return [outcome for outcome in collector if outcome.state == FAILED]


async def _due_posts(
    workspace: str, client: LateClient, now: float, *, is_pending: bool
) -> AsyncIterator[PostOutcome]:
    """Yield the posts that are overdue, or all that are not published yet, by account."""
    accounts = await _fetch_rows(client, "accounts", Forbidden, EndpointNotFound)
    usernames = {row_text(row, "_id"): row_text(row, "username") for row in accounts}
    for status, seconds in OVERDUE_SECONDS.items():
        # An older API does not know every status.
        for post in await _fetch_rows(
            client, "posts", BadRequest, status=status, sortBy="scheduled-asc"
        ):
            due_at = due_time(post, status)
            if row_text(post, "status") == status and (
                is_pending or (due_at and now - due_at > seconds)
            ):
                for outcome in _by_account(workspace, post, usernames):
                    yield outcome


def _by_account(
    workspace: str, post: Mapping[str, Any], usernames: Mapping[str, str]
) -> Iterator[PostOutcome]:
    """Yield the outcome of a post on each account on which it is not published."""
    due_at = due_time(post, row_text(post, "status"))
    for target in list(objects_in(post.get("platforms"))) or [{}]:
        account_id = row_text(target, "accountId", "_id") or row_text(target, "accountId")
        if row_text(target, "status") != "published":
            yield PostOutcome(
                workspace=workspace,
                post_id=row_text(post, "_id"),
                platform=row_text(target, "platform"),
                account_id=account_id,
                username=usernames.get(account_id) or row_text(target, "accountId", "username"),
                state=row_text(post, "status"),
                time="" if due_at is None else iso_time(due_at * 1000),
                scheduled_for=row_text(post, "scheduledFor"),
                caption=row_text(post, "title") or row_text(post, "content"),
            )


async def _fetch_rows(
    client: LateClient, name: str, *expected: type[ApiError], **params: str
) -> Sequence[Any]:
    """Return the first rows of the list of posts or accounts; none after an expected error."""
    request = StatusRequest(f"/v1/{name}", {**params, "limit": PAGE_SIZE})
    with suppress(*expected):
        return list(
            rows_of(
                read_nested(await fetch_status(client, STATUS_FEEDS[name], request), load_object),
                name,
            )
        )
    return ()

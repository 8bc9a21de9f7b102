"""The command ``posts``: print the posts that failed, are overdue, or are still to be published."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from operator import attrgetter

from msgspec.structs import asdict

from late_exporter.api.client import LateClient
from late_exporter.commands.api_reader import connect_workspaces, refresh_status, report_failure
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.logs import DEFAULT_SINCE, matching_logs
from late_exporter.commands.post import PUBLISHED, OutcomeCollector, PostOutcome, outcome_row
from late_exporter.commands.tables import print_selection
from late_exporter.config.sections import CommandFlags
from late_exporter.config.settings import CommandContext
from late_exporter.errors import EndpointNotFound, Forbidden
from late_exporter.feeds.status_feeds import STATUS_FEEDS
from late_exporter.feeds.status_feeds.posts import (
    DUE_FIRST,
    DUE_LAST,
    ENDED,
    FAILED_STATUSES,
    OVERDUE_SECONDS,
    RISKS,
    ListedPost,
    PostTarget,
    find_risk,
    read_posts,
)
from late_exporter.feeds.status_feeds.refresh import AccountList
from late_exporter.format import iso_time
from late_exporter.ingest.status_poller import fetch_status
from late_exporter.ingest.steps import perform
from late_exporter.model import FAILED

POSTS_COLUMNS = ("TIME", "STATE", "PLATFORM", "ACCOUNT", "TRY>", "POST", "RESULT, CAPTION")

SCHEDULED = "scheduled"


def posts(context: CommandContext) -> int:
    return run_interruptible(_show_posts(context))


async def _show_posts(context: CommandContext) -> int:
    flags = context.flags
    now = time.time()
    unread: list[str] = []
    outcomes: list[PostOutcome] = []
    async with connect_workspaces(context) as connections:
        for workspace, client in connections.items():
            outcomes += await find_posts(workspace, client, flags, now=now, unread=unread)
    print_posts(outcomes, flags, is_several=len(connections) > 1, unread=unread)
    return int(bool(unread))


def print_posts(
    outcomes: Sequence[PostOutcome],
    flags: CommandFlags,
    *,
    is_several: bool,
    unread: Sequence[str] = (),
) -> None:
    """Print posts up to a limit (0 for all): those that are due by time, then those that failed."""
    by_time = sorted(outcomes, key=attrgetter("time"))
    due = [each for each in by_time if each.state not in ENDED]
    failures = [each for each in reversed(by_time) if each.state in ENDED]

    columns = list(POSTS_COLUMNS)
    if is_several:
        columns.insert(2, "WORKSPACE")
    print_selection([*due, *failures], "post", flags, columns, outcome_row, asdict, unread)


async def find_posts(
    workspace: str, client: LateClient, flags: CommandFlags, *, now: float, unread: list[str]
) -> Sequence[PostOutcome]:
    """Return the posts of a workspace that the flags ask for, or those that failed or are overdue.

    If some cannot be read, the error is printed and the workspace added to ``unread``.
    """
    if not (flags.failed or flags.overdue or flags.pending or flags.at_risk):
        flags = flags.model_copy(update={"failed": True, "overdue": True})

    attempts = OutcomeCollector()
    if flags.failed:
        async for batch in matching_logs(workspace, client, flags, now=now, unread=unread):
            for log in batch:
                if log.action != "token_refresh":  # It concerns an account, not a post.
                    attempts.add(log)
    by_target = {(each.post_id, each.platform, each.account_id): each for each in attempts}
    failures = [each for each in attempts if each.state == FAILED]
    if workspace in unread:
        return failures

    others: list[PostOutcome] = []
    with report_failure(workspace, unread):
        accounts = await _read_accounts(client, now, is_required=flags.at_risk)
        reader = PostReader(workspace, client, accounts)
        if flags.failed:
            since = now - (flags.since or DEFAULT_SINCE)
            others += await reader.failed_posts(since, by_target)
        others += await reader.due_posts(now, flags)

    for post in others:
        # Zernio tries a post again by itself after an error that passes: one line says both.
        attempt = by_target.get((post.post_id, post.platform, post.account_id))
        if attempt is not None and attempt in failures:
            failures.remove(attempt)
            post.attempts = attempt.attempts
            post.error_code = attempt.error_code
            post.error = attempt.error
    return [*failures, *(each for each in others if flags.platform in (None, each.platform))]


class PostReader:
    """Reads the posts of a workspace.

    Args:
        workspace: Its name.
        client: Its API client.
        accounts: Its accounts, as far as they are known.
    """

    def __init__(self, workspace: str, client: LateClient, accounts: AccountList) -> None:
        self._workspace = workspace
        self._client = client
        self._accounts = accounts

    async def due_posts(self, now: float, flags: CommandFlags) -> Sequence[PostOutcome]:
        """Return the posts to be published that the flags ask for, by account."""
        statuses: Collection[str] = ()
        if flags.overdue or flags.pending:
            statuses = OVERDUE_SECONDS.keys()
        elif flags.at_risk:
            statuses = (SCHEDULED,)

        outcomes = []
        for status in statuses:
            for post in await self._read(status, DUE_FIRST):
                for target in post.waiting_targets:
                    due_at = target.due_at
                    is_overdue = due_at is not None and now - due_at > OVERDUE_SECONDS[status]
                    risk = find_risk(target, self._accounts, now) if status == SCHEDULED else ""
                    is_wanted = flags.pending or (flags.overdue and is_overdue)
                    if not is_wanted and not (flags.at_risk and risk):
                        continue
                    outcome = self._outcome(post, target, status, due_at)
                    if risk:
                        outcome.error_code = risk
                        outcome.error = RISKS[risk]
                    outcomes.append(outcome)
        return outcomes

    async def failed_posts(
        self, since: float, attempts: Mapping[tuple[str, str, str], PostOutcome]
    ) -> Sequence[PostOutcome]:
        """Return the posts that failed without a log, by account.

        Zernio fails them when their account is disconnected, or when its cooldown begins.

        Args:
            since: Unix time; a post that neither changed nor was due since then is left out.
            attempts: Outcomes by post, platform and account, as logs have them.
        """
        outcomes = []
        for status in FAILED_STATUSES:
            for post in await self._read(status, DUE_LAST):
                for target in post.targets:
                    # A post may fail long before it is due; without any time, it may be recent.
                    times = [each for each in (post.updated_at, target.due_at) if each is not None]
                    is_old = bool(times) and max(times) < since
                    if is_old or not target.has_failed:
                        continue
                    time = times[0] if times else None
                    outcome = self._outcome(post, target, target.status, time)
                    attempt = attempts.get((outcome.post_id, outcome.platform, outcome.account_id))
                    if attempt is None or attempt.state not in (FAILED, PUBLISHED):
                        outcomes.append(outcome)
        return outcomes

    async def _read(self, status: str, sort: str) -> Sequence[ListedPost]:
        """Return the first posts with a status."""
        send = partial(fetch_status, self._client, STATUS_FEEDS["posts"])
        page = await perform(read_posts(status, sort), send)
        return [post for post in page.posts if post.status == status]

    def _outcome(
        self, post: ListedPost, target: PostTarget, state: str, time: float | None
    ) -> PostOutcome:
        error = target.error
        if target.platform_code:
            error = f"{error} (platform code {target.platform_code})".strip()
        scheduled_for = target.scheduled_for
        account = self._accounts.states.get(target.account_id)
        return PostOutcome(
            workspace=self._workspace,
            post_id=post.id,
            platform=target.platform,
            account_id=target.account_id,
            username=target.username if account is None else account.username,
            state=state,
            time="" if time is None else iso_time(time * 1000),
            scheduled_for="" if scheduled_for is None else iso_time(scheduled_for * 1000),
            error_code=target.error_code,
            error_source=target.error_source,
            error=error,
            caption=post.caption,
        )


async def _read_accounts(client: LateClient, now: float, *, is_required: bool) -> AccountList:
    """Return the accounts; none without the right to read them, unless they are required."""
    try:
        reports = await refresh_status(client, STATUS_FEEDS["accounts"], now)
    except (Forbidden, EndpointNotFound):
        if is_required:
            raise
        reports = ()
    lists = [report for report in reports if isinstance(report, AccountList)]
    return lists[0] if lists else AccountList()

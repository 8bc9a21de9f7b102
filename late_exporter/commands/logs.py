"""Print the logs of a feed that match a filter: the newest ones, or new ones as they arrive."""

from __future__ import annotations

import asyncio
import math
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NoReturn

import msgspec

from late_exporter.api.pages import PageResponse, fetch_page, fetch_post, is_post_id
from late_exporter.commands._runner import ConnectWorkspaces, connect_workspace, warn, write_line
from late_exporter.commands.columns import ACTIVITY_COLUMNS, CSV_COLUMNS, TABLE_COLUMNS
from late_exporter.commands.feed_choice import current_feed, require_retained
from late_exporter.commands.logview import chronological, log_views
from late_exporter.commands.pager import LogPager
from late_exporter.commands.terminal import CsvFormatter, JsonFormatter, LogFormatter, TableFormatter, Terminal
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ApiError, BadRequest, ConfigError
from late_exporter.feeds.classification import ACTIONS_BY_NAME, EVENTS_BY_NAME
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.ingest.sweep import second_above, second_below
from late_exporter.model import DAY_MS, LATE, PENDING
from late_exporter.protocols import Client

ACCOUNT_ID = re.compile(r"[0-9a-f]{24}")
LOCAL_ACTIONS = frozenset({*(action for action, _ in ACTIONS_BY_NAME.values()), *EVENTS_BY_NAME.values(), "all"})
"""Actions that the API cannot filter by, because each of them stands for several of its own or for any."""

STATUS_CACHE_SIZE = 50_000  # logs whose last status is remembered while following
MAX_PENDING = 1000  # pending logs whose outcome is followed at a time
MAX_PAUSE = 60.0  # seconds between two attempts after several failures


def log_formatter(format_name: str, feed: str, terminal: Terminal) -> LogFormatter:
    if format_name == "json":
        return JsonFormatter()
    if format_name == "csv":
        return CsvFormatter(CSV_COLUMNS)
    return TableFormatter(TABLE_COLUMNS.get(feed, ACTIVITY_COLUMNS), terminal)


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects logs; None matches any value.

    Args:
        action: Action or connection event as in the metrics, or in generation ``zernio`` as in the API.
        account: Account id or user name, with or without @.
        since: Age of the oldest logs, in seconds.
        until: Creation time of the newest logs, in milliseconds.
    """

    platform: str | None = None
    status: str | None = None
    action: str | None = None
    account: str | None = None
    since: float = 86_400.0
    until: int | None = None

    def query(self, feed: Feed, *, following: bool) -> dict[str, str | int]:
        """Return the part of the filter that the API can apply, as parameters of a request.

        If logs are followed, pending logs have to be seen once they no longer are pending: the API must not filter by
        that status.
        """
        # The API knows the lower-case names only.
        platform, status = (value and value.lower() for value in (self.platform, self.status))
        filters = {"platform": platform, "status": None if following and status == PENDING else status}
        if feed.generation == LATE:
            filters["action" if feed.post_path is not None else "eventType"] = self.action
        else:
            filters["action"] = None if self.action in LOCAL_ACTIONS else self.action
            filters["accountId"] = self.account if ACCOUNT_ID.fullmatch(self.account or "") else None
        days = min(max(math.ceil(self.since * 1000 / DAY_MS), 1), feed.retention // DAY_MS)
        return {name: value for name, value in filters.items() if value} | {"days": days}

    def matches(self, log: LogView) -> bool:
        """Return whether a log matches, including filters that the API does not support; own requests never match."""
        return (
            not log.is_own
            and (self.until is None or log.created is None or log.created <= self.until)
            and _equals(self.platform, log.platform)
            and (_equals(self.action, log.action) or self.action == log.row.get("action"))
            and (_equals(self.status, log.status) or not log.status)
            and (
                self.account is None
                or _normalize(self.account) in (_normalize(log.username), _normalize(log.account_id))
            )
        )


def _equals(expected_value: str | None, value: str) -> bool:
    return expected_value is None or expected_value == "all" or expected_value.casefold() == value.casefold()


def _normalize(account: str) -> str:
    return account.removeprefix("@").casefold()


async def print_newest(
    pager: LogPager, log_filter: LogFilter, formatter: LogFormatter, *, limit: int, write: Callable[[str], None]
) -> tuple[int, bool]:
    """Write the newest logs that match, up to a limit (0 for all); return their number and whether there are more."""
    count = 0
    async for logs in pager.pages():
        matching = [log for log in logs if log_filter.matches(log)]
        selected_logs = matching[: limit - count] if limit else matching
        _print(formatter, selected_logs, write)
        count += len(selected_logs)
        if limit and count >= limit:
            return count, True
    return count, False


async def follow(
    follower: LogFollower,
    *,
    limit: int,
    interval: float,
    warn: Callable[[str], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Write the newest logs that match, oldest first, and then new ones every ``interval`` seconds, until cancelled.

    Raises ApiError if the first poll fails, and BadRequest if the API rejects the filter.
    """
    await follower.start(limit)
    failures = 0
    while True:
        await sleep(_pause(interval, failures))
        try:
            await follower.poll()
            failures = 0
        except BadRequest:
            raise
        except ApiError as exc:
            failures = min(failures + 1, 10)
            warn(f"{exc}; retrying in {_pause(interval, failures):g} s")


def _pause(interval: float, failures: int) -> float:
    return min(interval * 2.0**failures, max(interval, MAX_PAUSE))


class LogFollower:
    """Writes new logs and changed statuses, and remembers what it has written."""

    def __init__(
        self,
        client: Client,
        feed: Feed,
        pager: LogPager,
        log_filter: LogFilter,
        formatter: LogFormatter,
        write: Callable[[str], None],
    ) -> None:
        self._client = client
        self._feed = feed
        self._pager = pager
        self._filter = log_filter
        self._formatter = formatter
        self._write = write
        self._statuses: dict[str, str] = {}
        self._pending: dict[str, LogView] = {}

    async def start(self, limit: int) -> None:
        """Write the newest logs; older ones are never written."""
        logs: list[LogView] = []
        matching: list[LogView] = []
        async for page in self._pager.pages():
            logs += page
            matching += (log for log in page if self._filter.matches(log))
            if limit and len(matching) >= limit:
                # When newer logs are deleted, older ones move up into the pages that are read.
                self._pager.skip_older_than(logs)
                break
        self._remember(logs)
        self._show(chronological(matching[:limit] if limit else matching))

    async def poll(self) -> None:
        """Write new logs and changed statuses; write nothing if a request fails."""
        logs: list[LogView] = []
        async for page in self._pager.pages():
            logs += page
            if page and page[-1].key in self._statuses:
                break
        changes = [self._status_change(log) for log in chronological(logs)]
        self._remember(logs)
        self._show(log for log in changes if log is not None)
        await self._refresh_pending(logs)

    def _status_change(self, log: LogView) -> LogView | None:
        """Return the log with its previous status, or None if there is nothing new to write."""
        previous_status = self._statuses.get(log.key)
        if previous_status == log.status:
            return None
        if log.key in self._pending or self._filter.matches(log):
            return msgspec.structs.replace(log, previous_status=previous_status or "")
        return None

    def _show(self, logs: Iterable[LogView]) -> None:
        batch = list(logs)
        _print(self._formatter, batch, self._write)
        for log in batch:
            self._pending.pop(log.key, None)
            if log.status == PENDING and len(self._pending) < MAX_PENDING:
                self._pending[log.key] = log

    def _remember(self, logs: Iterable[LogView]) -> None:
        for log in logs:
            self._statuses.pop(log.key, None)
            self._statuses[log.key] = log.status
        while len(self._statuses) > STATUS_CACHE_SIZE:
            self._statuses.pop(next(iter(self._statuses)))

    async def _refresh_pending(self, logs: Iterable[LogView]) -> None:
        """Request the status of one pending log that is on none of the pages, each in turn."""
        keys = {log.key for log in logs}
        pending_log = next((log for key, log in self._pending.items() if key not in keys), None)
        if pending_log is None:
            return
        response = await self._fetch_current(pending_log)
        # Without ids the final log may have another key, so all logs of that time are looked at.
        views = log_views(response, self._feed) if response else ()
        current = [log for log in views if log.created == pending_log.created]
        changes = [self._status_change(log) for log in current]
        del self._pending[pending_log.key]
        self._pending |= {log.key: log for log in current if log.key == pending_log.key and log.status == PENDING}
        self._remember(current)
        self._show(log for log in changes if log is not None)

    async def _fetch_current(self, log: LogView) -> PageResponse | None:
        """Return the logs of the same time or of the same post, None if the API can filter by neither."""
        if self._feed.supports_time_filter and log.created is not None:
            return await fetch_page(
                self._client,
                self._feed,
                created_after=second_below(log.created),
                created_before=second_above(log.created),
            )
        if self._feed.post_path is None or not is_post_id(log.post_id):
            return None
        return await fetch_post(self._client, self._feed, log.post_id)


def _print(formatter: LogFormatter, logs: Iterable[LogView], write: Callable[[str], None]) -> None:
    for line in formatter.lines(logs):
        write(line)


async def show_logs(context: CommandContext, connect: ConnectWorkspaces) -> int:
    """Print the newest logs that match, and return the exit code; with --follow print new logs until cancelled."""
    flags = context.flags
    log_filter = LogFilter(platform=flags.platform, status=flags.status, action=flags.action, account=flags.account)
    if flags.since is not None:
        log_filter = msgspec.structs.replace(log_filter, since=flags.since)
    if flags.until is not None:
        if flags.follow:
            raise ConfigError("--until: not with --follow, which prints new logs")
        if flags.until <= time.time() - log_filter.since:
            raise ConfigError(
                "--until: must be later than the start, which is --since, by default 1d, ago; give a longer --since"
            )
        log_filter = msgspec.structs.replace(log_filter, until=int(flags.until * 1000))
    async with connect_workspace(context, connect) as (_, connection):
        feed = await current_feed(flags.feed, *connection)
        require_retained(flags.since, feed)
        filters = log_filter.query(feed, following=flags.follow)
        pager = LogPager(connection.client, feed, filters, log_filter.since, clock=time.time, until=log_filter.until)
        formatter = log_formatter(flags.format, feed.name, Terminal.detect(sys.stdout, os.environ))
        if flags.follow:
            follower = LogFollower(connection.client, feed, pager, log_filter, formatter, write_line)
            await follow(follower, limit=flags.limit, interval=context.settings.poll.interval, warn=warn)
        count, has_more = await print_newest(pager, log_filter, formatter, limit=flags.limit, write=write_line)
    if has_more:
        warn(f"these are the newest {count:,}; --limit 0 shows all")
    elif not count:
        warn("no log matches")
    return 0

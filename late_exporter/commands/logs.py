"""The command ``logs``: print the logs that match a filter, newest first."""

from __future__ import annotations

import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TypeAlias

import msgspec

from late_exporter.commands.connections import connect_workspace, require_retained
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.list_reader import ListReader
from late_exporter.commands.log_views import LOG_COLUMNS, log_fields, log_row, read_logs
from late_exporter.commands.output import json_line, warn, write_line, write_stdout
from late_exporter.commands.tables import Table, Terminal
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError
from late_exporter.feeds.classification import ACTIONS_BY_NAME, EVENTS_BY_NAME
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.model import DAY_MS, LATE

ACCOUNT_ID = re.compile(r"[0-9a-f]{24}")
LOCAL_ACTIONS = frozenset({*(action for action, _ in ACTIONS_BY_NAME.values()), *EVENTS_BY_NAME.values(), "all"})
"""Actions that the API cannot filter by, because each of them stands for several of its own or for any."""

DEFAULT_SINCE = 86_400.0  # seconds

LogFormatter: TypeAlias = Callable[[Iterable[LogView]], Iterator[str]]


def log_formatter(format_name: str, terminal: Terminal) -> LogFormatter:
    if format_name == "json":
        return lambda logs: (json_line(log_fields(log)) for log in logs)
    table = Table(terminal, *LOG_COLUMNS)
    return lambda logs: table.lines(map(log_row, logs))


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects logs; None matches any value.

    Args:
        action: Action or connection event as in the metrics, or in generation ``zernio`` as in the API.
        account: Account id or user name, with or without @.
        since: Age of the oldest logs, in seconds.
    """

    platform: str | None = None
    status: str | None = None
    action: str | None = None
    account: str | None = None
    since: float = DEFAULT_SINCE

    def query(self, feed: Feed) -> dict[str, str | int]:
        """Return the part of the filter that the API can apply, as parameters of a request."""
        # The API knows the lower-case names only.
        filters = {"platform": self.platform and self.platform.lower(), "status": self.status and self.status.lower()}
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


def logs(context: CommandContext) -> int:
    return write_stdout(lambda: run_interruptible(_show_logs(context)))


async def _show_logs(context: CommandContext) -> int:
    flags, now = context.flags, time.time()
    since = DEFAULT_SINCE if flags.since is None else flags.since
    if flags.until is not None and flags.until <= now - since:
        raise ConfigError("--until: must be later than --since ago, by default 1d")
    log_filter = LogFilter(
        platform=flags.platform, status=flags.status, action=flags.action, account=flags.account, since=since
    )
    async with connect_workspace(context) as (_, (client, generation)):
        feed = await generation.resolve_feed(flags.feed, client, state_generation=None)
        require_retained(flags.since, feed)
        reader, lower = ListReader(client, feed, log_filter.query(feed)), int((now - since) * 1000)
        formatter = log_formatter(flags.format, Terminal.detect())
        pages = read_logs(reader, feed, lower, None if flags.until is None else int(flags.until * 1000))
        count, has_more = await print_newest(pages, log_filter, formatter, limit=flags.limit)
    if has_more:
        warn(f"these are the newest {count:,}; --limit 0 shows all")
    elif not count:
        warn("no log matches")
    return 0


async def print_newest(
    pages: AsyncIterator[list[LogView]],
    log_filter: LogFilter,
    formatter: LogFormatter,
    *,
    limit: int,
    write: Callable[[str], None] = write_line,
) -> tuple[int, bool]:
    """Write the newest logs that match, up to a limit (0 for all); return their number and whether there are more."""
    count = 0
    async for page in pages:
        matching = [log for log in page if log_filter.matches(log)]
        selected = matching[: limit - count] if limit else matching
        for line in formatter(selected):
            write(line)
        count += len(selected)
        if limit and count >= limit:
            return count, True
    return count, False

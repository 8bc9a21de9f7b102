"""The command ``logs``: print the logs that match a filter, newest first."""

from __future__ import annotations

import math
import re
import time

from late_exporter.api.client import LateClient
from late_exporter.commands.connections import connect_workspace, require_retained
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.list_reader import ListReader
from late_exporter.commands.log_views import LOG_COLUMNS, log_fields, log_row, read_logs
from late_exporter.commands.output import json_line, warn, write_line, write_stdout
from late_exporter.commands.tables import Table, Terminal
from late_exporter.config.sections import CommandFlags
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError
from late_exporter.feeds.classification import ACTIONS_BY_NAME, EVENTS_BY_NAME
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.model import DAY_MS, LATE

ACCOUNT_ID = re.compile(r"[0-9a-f]{24}")
LOCAL_ACTIONS = frozenset({*(action for action, _ in ACTIONS_BY_NAME.values()), *EVENTS_BY_NAME.values(), "all"})
"""Actions that the API cannot filter by, because each of them stands for several of its own or for any."""

DEFAULT_SINCE = 86_400.0  # seconds


def logs(context: CommandContext) -> int:
    return write_stdout(lambda: run_interruptible(_show_logs(context)))


async def _show_logs(context: CommandContext) -> int:
    flags, now = context.flags, time.time()
    if flags.until is not None and flags.until <= now - (flags.since or DEFAULT_SINCE):
        raise ConfigError("--until: must be later than --since ago, by default 1d")
    async with connect_workspace(context) as (_, (client, generation)):
        feed = await generation.resolve_feed(flags.feed, client, state_generation=None)
        require_retained(flags.since, feed)
        await print_logs(client, feed, flags, Terminal.detect(), now=now)
    return 0


async def print_logs(client: LateClient, feed: Feed, flags: CommandFlags, terminal: Terminal, *, now: float) -> None:
    """Print the newest logs that match, up to a limit (0 for all)."""
    lower = int((now - (flags.since or DEFAULT_SINCE)) * 1000)
    upper = None if flags.until is None else int(flags.until * 1000)
    table, count = Table(terminal, *LOG_COLUMNS), 0
    async for page in read_logs(ListReader(client, feed, query(flags, feed)), feed, lower, upper):
        matching = [log for log in page if matches(flags, log)]
        selection = matching[: flags.limit - count] if flags.limit else matching
        is_json = flags.format == "json"
        for line in map(json_line, map(log_fields, selection)) if is_json else table.lines(map(log_row, selection)):
            write_line(line)
        count += len(selection)
        if flags.limit and count >= flags.limit:
            warn(f"these are the newest {count:,}; --limit 0 shows all")
            return
    if not count:
        warn("no log matches")


def query(flags: CommandFlags, feed: Feed) -> dict[str, str | int]:
    """Return the part of the filter that the API can apply, as parameters of a request."""
    # The API knows the lower-case names only.
    filters = {"platform": flags.platform and flags.platform.lower(), "status": flags.status and flags.status.lower()}
    if feed.generation == LATE:
        filters["action" if feed.post_path is not None else "eventType"] = flags.action
    else:
        filters["action"] = None if flags.action in LOCAL_ACTIONS else flags.action
        filters["accountId"] = flags.account if ACCOUNT_ID.fullmatch(flags.account or "") else None
    days = math.ceil((flags.since or DEFAULT_SINCE) * 1000 / DAY_MS)
    return {name: value for name, value in filters.items() if value} | {"days": min(days, feed.retention // DAY_MS)}


def matches(flags: CommandFlags, log: LogView) -> bool:
    """Return whether a log matches, including filters that the API does not support; own requests never match.

    The action is that of the metrics, or in generation ``zernio`` that of the API.
    """
    return (
        not log.is_own
        and _equals(flags.platform, log.platform)
        and (_equals(flags.action, log.action) or flags.action == log.row.get("action"))
        and (_equals(flags.status, log.status) or not log.status)
        and (
            flags.account is None or _normalize(flags.account) in (_normalize(log.username), _normalize(log.account_id))
        )
    )


def _equals(expected_value: str | None, value: str) -> bool:
    return expected_value is None or expected_value == "all" or expected_value.casefold() == value.casefold()


def _normalize(account: str) -> str:
    return account.removeprefix("@").casefold()

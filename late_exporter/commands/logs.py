"""The logs of a feed that match: the newest ones, or as they come."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from late_exporter.commands.logview import LogView, chronological, moment, parse_page, post_path
from late_exporter.commands.pager import DAY, LIMIT, LogPager
from late_exporter.commands.terminal import (
    Column,
    CsvFormatter,
    JsonFormatter,
    LogFormatter,
    TableFormatter,
    Terminal,
    duration,
    explanation,
)
from late_exporter.errors import ApiError, BadRequest
from late_exporter.feeds.zernio import ACTIONS, EVENTS
from late_exporter.model import PENDING, Feed
from late_exporter.protocols import ApiResponse, Client

__all__ = ["CSV_COLUMNS", "LogFilter", "LogFollower", "follow", "log_formatter", "print_newest"]

ACCOUNT_ID = re.compile(r"[0-9a-f]{24}")
LOCAL_ACTIONS = frozenset({*(action for action, _ in ACTIONS.values()), *EVENTS.values(), "all"})
"""What is one action in the metrics and may be several ones of the API, or is none."""

STATUS_CACHE_SIZE = 50_000
"""Logs whose status is remembered while following."""

MAX_PENDING = 1000
MAX_PAUSE = 60.0

_TIME = Column("TIME", lambda log: log.time)
_STATUS = Column(
    "STATUS",
    lambda log: f"{log.status}, was {log.previous_status}" if log.previous_status else log.status,
    is_status=True,
)
_PLATFORM = Column("PLATFORM", lambda log: log.platform)
_ACCOUNT = Column("ACCOUNT", lambda log: log.username or log.account_id)
_TOOK = Column("TOOK", duration, align_right=True)
_DETAIL = Column("DETAIL", explanation)

TABLE_COLUMNS: Mapping[str, Sequence[Column]] = MappingProxyType(
    {
        "publishing": (
            _TIME,
            _STATUS,
            _PLATFORM,
            _ACCOUNT,
            Column("ACTION", lambda log: log.action),
            Column("TRY", lambda log: "" if log.attempt is None else str(log.attempt), align_right=True),
            Column("HTTP", lambda log: log.status_code, align_right=True),
            _TOOK,
            Column("POST", lambda log: log.post_id),
            _DETAIL,
        ),
        "connections": (
            _TIME,
            _PLATFORM,
            _ACCOUNT,
            Column("EVENT", lambda log: log.action, is_status=True),
            Column("METHOD", lambda log: log.method),
            _TOOK,
            Column("LOG", lambda log: log.log_id),
            _DETAIL,
        ),
    }
)

ACTIVITY_COLUMNS: Sequence[Column] = (
    _TIME,
    _STATUS,
    _PLATFORM,
    _ACCOUNT,
    Column("ACTION", lambda log: log.action),
    Column("HTTP", lambda log: log.status_code, align_right=True),
    _TOOK,
    Column("ENDPOINT", lambda log: log.endpoint),
    _DETAIL,
)
"""The columns of all other logs."""

CSV_COLUMNS: Sequence[Column] = (
    Column("time", lambda log: (moment(log.created, precise=True) if log.created is not None else "") or log.time),
    Column("log_id", lambda log: log.log_id),
    Column("post_id", lambda log: log.post_id),
    Column("platform", lambda log: log.platform),
    Column("account_id", lambda log: log.account_id),
    Column("username", lambda log: log.username),
    Column("action", lambda log: log.action),
    Column("method", lambda log: log.method),
    Column("status", lambda log: log.status),
    Column("attempt", lambda log: "" if log.attempt is None else str(log.attempt)),
    Column("status_code", lambda log: log.status_code),
    Column("duration_seconds", lambda log: "" if log.duration is None else f"{log.duration / 1_000_000:g}"),
    Column("error_code", lambda log: log.error_code),
    Column("error", lambda log: log.error),
    Column("url", lambda log: log.url),
    Column("endpoint", lambda log: log.endpoint),
)
"""The columns of CSV, the same for all feeds."""


def log_formatter(form: str, feed: str, screen: Terminal) -> LogFormatter:
    """What writes logs as ``table``, ``json`` or ``csv``."""
    if form == "json":
        return JsonFormatter()
    return (
        CsvFormatter(CSV_COLUMNS)
        if form == "csv"
        else TableFormatter(TABLE_COLUMNS.get(feed, ACTIVITY_COLUMNS), screen)
    )


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which logs are asked for; None is any.

    Args:
        action: An event among connection logs; as the metrics have it, or in generation ``zernio`` as the API does.
        account: Id or name, with or without @.
        since: How far back, in seconds.
    """

    platform: str | None = None
    status: str | None = None
    action: str | None = None
    account: str | None = None
    since: float = 86_400.0

    def query(self, feed: Feed, *, following: bool) -> dict[str, str | int]:
        """What the API can choose by itself.

        A log that was shown pending has to be seen when it no longer is: where that lasts, the status stays here.
        """
        status = None if following and self.status == PENDING else self.status
        chosen = {"platform": self.platform, "status": status}
        if feed.generation == "late":
            chosen["action" if feed.post_path is not None else "eventType"] = self.action
        else:
            chosen["action"] = None if self.action in LOCAL_ACTIONS else self.action
            chosen["accountId"] = self.account if ACCOUNT_ID.fullmatch(self.account or "") else None
        days = min(max(math.ceil(self.since * 1000 / DAY), 1), feed.retention // DAY)
        return {name: value for name, value in chosen.items() if value} | {"days": days}

    def matches(self, log: LogView) -> bool:
        """Whether a log is one of them, also where the API has not looked at everything."""
        return (
            _equals(self.platform, log.platform)
            and (_equals(self.action, log.action) or self.action == log.row.get("action"))
            and (_equals(self.status, log.status) or not log.status)
            and (
                self.account is None
                or _normalize(self.account) in (_normalize(log.username), _normalize(log.account_id))
            )
        )


def _equals(wanted: str | None, value: str) -> bool:
    return wanted is None or wanted == "all" or wanted.casefold() == value.casefold()


def _normalize(text: str) -> str:
    return text.removeprefix("@").casefold()


async def print_newest(
    pager: LogPager, log_filter: LogFilter, formatter: LogFormatter, *, limit: int, write: Callable[[str], None]
) -> tuple[int, bool]:
    """Write the newest logs that match; how many there were, and whether there may be more.

    Args:
        pager: The list.
        log_filter: Which of it.
        formatter: How.
        limit: How many at most; 0 is all.
        write: Takes a line.
    """
    shown = 0
    async for logs in pager.pages():
        matching = [log for log in logs if log_filter.matches(log)]
        some = matching[: limit - shown] if limit else matching
        _print(formatter, some, write)
        shown += len(some)
        if limit and shown >= limit:
            return shown, True
    return shown, False


async def follow(
    follower: LogFollower,
    *,
    limit: int,
    interval: float,
    note: Callable[[str], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Write the newest logs that match, oldest first, and then every one that comes, until cancelled.

    Args:
        follower: Reads and writes them.
        limit: How many to begin with; 0 is all.
        interval: Between two polls, in seconds.
        note: Takes what goes wrong meanwhile; only what was wrongly asked for ends it.
        sleep: Waits.
    """
    await follower.start(limit)
    failures = 0
    while True:
        await sleep(min(interval * 2.0**failures, max(interval, MAX_PAUSE)))
        try:
            await follower.poll()
            failures = 0
        except BadRequest:
            raise
        except ApiError as exc:
            failures = min(failures + 1, 10)
            pause = min(interval * 2.0**failures, max(interval, MAX_PAUSE))
            note(f"{exc}; asking again in {pause:g} s")


class LogFollower:
    """Knows which logs were shown, and in which status.

    Args:
        client: Of the workspace, for the logs of single posts.
        feed: Which list.
        listing: The list.
        wanted: Which of it.
        printer: How.
        write: Takes a line.
    """

    def __init__(
        self,
        client: Client,
        feed: Feed,
        listing: LogPager,
        wanted: LogFilter,
        printer: LogFormatter,
        write: Callable[[str], None],
    ) -> None:
        self._client = client
        self._feed = feed
        self._pager = listing
        self._filter = wanted
        self._formatter = printer
        self._write = write
        self._statuses: dict[str, str] = {}
        self._pending: dict[str, LogView] = {}

    async def start(self, limit: int) -> None:
        """Show the newest logs; what is older than they are is never shown."""
        met: list[LogView] = []
        matching: list[LogView] = []
        async for logs in self._pager.pages():
            met += logs
            matching += (log for log in logs if self._filter.matches(log))
            if limit and len(matching) >= limit:
                # Whatever later slides into the pages that are read has been there all along.
                self._pager.skip_older_than(met)
                break
        self._remember(met)
        self._show(chronological(matching[:limit] if limit else matching))

    async def poll(self) -> None:
        """Show what has come and what has changed since; nothing is shown of a poll that fails half-way."""
        met: list[LogView] = []
        async for logs in self._pager.pages():
            met += logs
            if logs and logs[-1].key in self._statuses:
                break
        news = [self._changed(log) for log in chronological(met)]
        self._remember(met)
        self._show(log for log in news if log is not None)
        await self._refresh_pending(met)

    def _changed(self, log: LogView) -> LogView | None:
        """The log as it is to be shown, None where there is nothing new about it."""
        before = self._statuses.get(log.key)
        if before == log.status:
            return None
        if log.key in self._pending or self._filter.matches(log):
            return msgspec.structs.replace(log, previous_status=before or "")
        return None

    def _show(self, logs: Iterable[LogView]) -> None:
        shown = list(logs)
        _print(self._formatter, shown, self._write)
        for log in shown:
            self._pending.pop(log.key, None)
            if log.status == PENDING and len(self._pending) < MAX_PENDING:
                self._pending[log.key] = log

    def _remember(self, logs: Iterable[LogView]) -> None:
        for log in logs:
            self._statuses.pop(log.key, None)
            self._statuses[log.key] = log.status
        while len(self._statuses) > STATUS_CACHE_SIZE:
            self._statuses.pop(next(iter(self._statuses)))

    async def _refresh_pending(self, met: Iterable[LogView]) -> None:
        """Ask what became of a pending log that the pages no longer show; one at a time, each in turn."""
        keys = {log.key for log in met}
        waiting = next((log for key, log in self._pending.items() if key not in keys), None)
        if waiting is None:
            return
        answer = await self._fetch_current(waiting)
        del self._pending[waiting.key]
        logs = parse_page(answer.body, self._feed).logs if answer else ()
        for log in logs:
            if log.key == waiting.key and log.status == PENDING:
                self._pending[log.key] = log
            elif log.key == waiting.key:
                self._show([msgspec.structs.replace(log, previous_status=PENDING)])
                self._remember([log])

    async def _fetch_current(self, log: LogView) -> ApiResponse | None:
        """The logs of its post, or those of its time; None where neither can be asked for."""
        feed, created = self._feed, log.created
        if feed.supports_time_filter and created is not None:
            window = {"from": moment(created - 1, precise=True), "to": moment(created + 1, precise=True)}
            params: dict[str, str | int] = {
                **feed.query,
                **window,
                "days": feed.retention // DAY,
                "limit": LIMIT,
            }
            return await self._client.get(feed.path, params, path_template=feed.path)
        path = post_path(feed, log.post_id)
        return await self._client.get(path, {"limit": LIMIT}, path_template=feed.post_path or "") if path else None


def _print(printer: LogFormatter, logs: Iterable[LogView], write: Callable[[str], None]) -> None:
    for line in printer.lines(logs):
        write(line)

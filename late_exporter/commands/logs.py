"""The logs of a feed that match: the newest ones, or as they come."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from late_exporter.commands.logview import Log, chronological, moment, post_path, read
from late_exporter.commands.pager import DAY, LIMIT, Listing
from late_exporter.commands.terminal import Column, Csv, Json, Printer, Screen, Table, duration, explanation
from late_exporter.errors import ApiError, BadRequest
from late_exporter.feeds.zernio import ACTIONS, EVENTS
from late_exporter.model import PENDING, Feed
from late_exporter.protocols import ApiResponse, Client

__all__ = ["CELLS", "Follower", "Wanted", "follow", "printer", "show"]

ACCOUNT_ID = re.compile(r"[0-9a-f]{24}")
SHARED = frozenset({*(action for action, _ in ACTIONS.values()), *EVENTS.values(), "all"})
"""What is one action in the metrics and may be several ones of the API, or is none."""

REMEMBERED = 50_000
"""Logs whose status is remembered while following."""

WAITING = 1000
LONGEST_PAUSE = 60.0

_TIME = Column("TIME", lambda log: log.time)
_STATUS = Column("STATUS", lambda log: f"{log.status}, was {log.was}" if log.was else log.status, toned=True)
_PLATFORM = Column("PLATFORM", lambda log: log.platform)
_ACCOUNT = Column("ACCOUNT", lambda log: log.username or log.account_id)
_TOOK = Column("TOOK", duration, right=True)
_DETAIL = Column("DETAIL", explanation)

TABLES: Mapping[str, Sequence[Column]] = MappingProxyType(
    {
        "publishing": (
            _TIME,
            _STATUS,
            _PLATFORM,
            _ACCOUNT,
            Column("ACTION", lambda log: log.action),
            Column("TRY", lambda log: "" if log.attempt is None else str(log.attempt), right=True),
            Column("HTTP", lambda log: log.status_code, right=True),
            _TOOK,
            Column("POST", lambda log: log.post_id),
            _DETAIL,
        ),
        "connections": (
            _TIME,
            _PLATFORM,
            _ACCOUNT,
            Column("EVENT", lambda log: log.action, toned=True),
            Column("METHOD", lambda log: log.method),
            _TOOK,
            Column("LOG", lambda log: log.log_id),
            _DETAIL,
        ),
    }
)

ACTIVITY: Sequence[Column] = (
    _TIME,
    _STATUS,
    _PLATFORM,
    _ACCOUNT,
    Column("ACTION", lambda log: log.action),
    Column("HTTP", lambda log: log.status_code, right=True),
    _TOOK,
    Column("ENDPOINT", lambda log: log.endpoint),
    _DETAIL,
)
"""The columns of all other logs."""

CELLS: Sequence[Column] = (
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


def printer(form: str, feed: str, screen: Screen) -> Printer:
    """What writes logs as ``table``, ``json`` or ``csv``."""
    if form == "json":
        return Json()
    return Csv(CELLS) if form == "csv" else Table(TABLES.get(feed, ACTIVITY), screen)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
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

    def query(self, feed: Feed, *, lasting: bool) -> dict[str, str | int]:
        """What the API can choose by itself.

        A log that was shown pending has to be seen when it no longer is: where that lasts, the status stays here.
        """
        status = None if lasting and self.status == PENDING else self.status
        chosen = {"platform": self.platform, "status": status}
        if feed.generation == "late":
            chosen["action" if feed.post_path is not None else "eventType"] = self.action
        else:
            chosen["action"] = None if self.action in SHARED else self.action
            chosen["accountId"] = self.account if ACCOUNT_ID.fullmatch(self.account or "") else None
        days = min(max(math.ceil(self.since * 1000 / DAY), 1), feed.retention // DAY)
        return {name: value for name, value in chosen.items() if value} | {"days": days}

    def matches(self, log: Log) -> bool:
        """Whether a log is one of them, also where the API has not looked at everything."""
        return (
            _is(self.platform, log.platform)
            and (_is(self.action, log.action) or self.action == log.row.get("action"))
            and (_is(self.status, log.status) or not log.status)
            and (self.account is None or _name(self.account) in (_name(log.username), _name(log.account_id)))
        )


def _is(wanted: str | None, value: str) -> bool:
    return wanted is None or wanted == "all" or wanted.casefold() == value.casefold()


def _name(text: str) -> str:
    return text.removeprefix("@").casefold()


async def show(
    listing: Listing, wanted: Wanted, printer: Printer, *, limit: int, write: Callable[[str], None]
) -> tuple[int, bool]:
    """Write the newest logs that match; how many there were, and whether there may be more.

    Args:
        listing: The list.
        wanted: Which of it.
        printer: How.
        limit: How many at most; 0 is all.
        write: Takes a line.
    """
    shown = 0
    async for logs in listing.pages():
        matching = [log for log in logs if wanted.matches(log)]
        some = matching[: limit - shown] if limit else matching
        _print(printer, some, write)
        shown += len(some)
        if limit and shown >= limit:
            return shown, True
    return shown, False


async def follow(
    follower: Follower,
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
    await follower.begin(limit)
    failures = 0
    while True:
        await sleep(min(interval * 2.0**failures, max(interval, LONGEST_PAUSE)))
        try:
            await follower.go_on()
            failures = 0
        except BadRequest:
            raise
        except ApiError as exc:
            failures = min(failures + 1, 10)
            pause = min(interval * 2.0**failures, max(interval, LONGEST_PAUSE))
            note(f"{exc}; asking again in {pause:g} s")


class Follower:
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
        listing: Listing,
        wanted: Wanted,
        printer: Printer,
        write: Callable[[str], None],
    ) -> None:
        self._client = client
        self._feed = feed
        self._listing = listing
        self._wanted = wanted
        self._printer = printer
        self._write = write
        self._statuses: dict[str, str] = {}
        self._pending: dict[str, Log] = {}

    async def begin(self, limit: int) -> None:
        """Show the newest logs; what is older than they are is never shown."""
        met: list[Log] = []
        matching: list[Log] = []
        async for logs in self._listing.pages():
            met += logs
            matching += (log for log in logs if self._wanted.matches(log))
            if limit and len(matching) >= limit:
                # Whatever later slides into the pages that are read has been there all along.
                self._listing.raise_floor(met)
                break
        self._remember(met)
        self._show(chronological(matching[:limit] if limit else matching))

    async def go_on(self) -> None:
        """Show what has come and what has changed since; nothing is shown of a poll that fails half-way."""
        met: list[Log] = []
        async for logs in self._listing.pages():
            met += logs
            if logs and logs[-1].key in self._statuses:
                break
        news = [self._judged(log) for log in chronological(met)]
        self._remember(met)
        self._show(log for log in news if log is not None)
        await self._look_after(met)

    def _judged(self, log: Log) -> Log | None:
        """The log as it is to be shown, None where there is nothing new about it."""
        before = self._statuses.get(log.key)
        if before == log.status:
            return None
        if log.key in self._pending or self._wanted.matches(log):
            return msgspec.structs.replace(log, was=before or "")
        return None

    def _show(self, logs: Iterable[Log]) -> None:
        shown = list(logs)
        _print(self._printer, shown, self._write)
        for log in shown:
            self._pending.pop(log.key, None)
            if log.status == PENDING and len(self._pending) < WAITING:
                self._pending[log.key] = log

    def _remember(self, logs: Iterable[Log]) -> None:
        for log in logs:
            self._statuses.pop(log.key, None)
            self._statuses[log.key] = log.status
        while len(self._statuses) > REMEMBERED:
            self._statuses.pop(next(iter(self._statuses)))

    async def _look_after(self, met: Iterable[Log]) -> None:
        """Ask what became of a pending log that the pages no longer show; one at a time, each in turn."""
        keys = {log.key for log in met}
        waiting = next((log for key, log in self._pending.items() if key not in keys), None)
        if waiting is None:
            return
        answer = await self._around(waiting)
        del self._pending[waiting.key]
        logs = read(answer.body, self._feed).logs if answer else ()
        for log in logs:
            if log.key == waiting.key and log.status == PENDING:
                self._pending[log.key] = log
            elif log.key == waiting.key:
                self._show([msgspec.structs.replace(log, was=PENDING)])
                self._remember([log])

    async def _around(self, log: Log) -> ApiResponse | None:
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


def _print(printer: Printer, logs: Iterable[Log], write: Callable[[str], None]) -> None:
    for line in printer.lines(logs):
        write(line)

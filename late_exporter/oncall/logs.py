"""The logs of a feed that match: the newest ones, or as they come."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from late_exporter.errors import ApiError, ApiUnavailable, BadRequest
from late_exporter.model import PENDING, Feed
from late_exporter.oncall.output import Column, Csv, Json, Printer, Screen, Table, duration, explanation
from late_exporter.oncall.rows import Log, Page, chronological, moment, post_path, read
from late_exporter.seams import Client

__all__ = ["CELLS", "Follower", "Listing", "Wanted", "follow", "printer", "show"]

DAY = 86_400_000
LIMIT = 100
"""Logs on a page; the most the API gives."""

OVERLAP = 2
"""Rows that two pages share, so that a shift between the two reads is noticed."""

LEAP = 50
"""How far to go back where two pages share no row."""

LEAPS = 40
STILL = 3
"""Pages in a row with nothing new, after which a list is taken to be at its end."""

REMEMBERED = 50_000
"""Logs whose status is remembered while following."""

WAITING = 1000
LONGEST_PAUSE = 60.0

_TIME = Column("TIME", lambda log: log.time)
_PLATFORM = Column("PLATFORM", lambda log: log.platform)
_ACCOUNT = Column("ACCOUNT", lambda log: log.username or log.account_id)
_TOOK = Column("TOOK", duration, right=True)
_DETAIL = Column("DETAIL", explanation)

TABLES: Mapping[str, Sequence[Column]] = MappingProxyType(
    {
        "publishing": (
            _TIME,
            Column("STATUS", lambda log: f"{log.status}, was {log.was}" if log.was else log.status, toned=True),
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
"""The columns of CSV, the same for both feeds."""


def printer(form: str, feed: str, screen: Screen) -> Printer:
    """What writes logs as ``table``, ``json`` or ``csv``."""
    if form == "json":
        return Json()
    return Csv(CELLS) if form == "csv" else Table(TABLES[feed], screen)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which logs are asked for; None is any.

    Args:
        action: An event among connection logs.
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
        action = "action" if feed.post_path is not None else "eventType"
        chosen = {"platform": self.platform, "status": status, action: self.action}
        days = min(max(math.ceil(self.since * 1000 / DAY), 1), feed.retention // DAY)
        return {name: value for name, value in chosen.items() if value} | {"days": days}

    def matches(self, log: Log) -> bool:
        """Whether a log is one of them, also where the API has not looked at everything."""
        return (
            _is(self.platform, log.platform)
            and _is(self.action, log.action)
            and (_is(self.status, log.status) or not log.status)
            and (self.account is None or _name(self.account) in (_name(log.username), _name(log.account_id)))
        )


def _is(wanted: str | None, value: str) -> bool:
    return wanted is None or wanted == "all" or wanted.casefold() == value.casefold()


def _name(text: str) -> str:
    return text.removeprefix("@").casefold()


class Listing:
    """A log list, read from its newest end.

    Args:
        client: Of the workspace.
        feed: Which list.
        query: What the API is to choose.
        since: How far back, in seconds.
        clock: Unix time, where the API does not tell its own.
    """

    def __init__(
        self,
        client: Client,
        feed: Feed,
        query: Mapping[str, str | int],
        since: float,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._feed = feed
        self._query = query
        self._since = since
        self._clock = clock
        self._floor: int | None = None

    def raise_floor(self, logs: Iterable[Log]) -> None:
        """From now on leave out what is not newer than the oldest of these logs."""
        oldest = min((log.created for log in logs if log.created is not None), default=None)
        if oldest is not None and self._floor is not None:
            self._floor = max(self._floor, oldest + 1)

    async def pages(self) -> AsyncIterator[list[Log]]:
        """Page after page, newest first, without what is too old and what was on a page before.

        Pages share rows. Where they do not, the list has moved up, and what slipped past is looked for further up.
        """
        met: set[str] = set()
        before: set[str] = set()
        skip = leaps = still = 0
        while True:
            page = await self._page(skip)
            keys = {log.key for log in page.logs}
            if before and skip and not keys & before and leaps < LEAPS:
                skip, leaps = max(0, skip - LEAP), leaps + 1
                continue
            fresh = {log.key: log for log in page.logs if log.key not in met}
            yield [log for log in fresh.values() if not self._old(log)]
            still = 0 if fresh else still + 1
            if self._ended(page, skip) or still >= STILL:
                return
            before = keys
            met |= keys
            skip += max(1, page.rows - OVERLAP)

    async def _page(self, skip: int) -> Page:
        answer = await self._client.get(
            self._feed.path, {**self._query, "limit": LIMIT, "skip": skip}, endpoint=self._feed.path
        )
        if answer is None:
            raise ApiUnavailable(f"404: no such endpoint: {self._feed.path}")
        if self._floor is None:
            now = self._clock() if answer.date is None else answer.date
            self._floor = math.floor((now - self._since) * 1000)
        return read(answer.body, self._feed.name)

    def _old(self, log: Log) -> bool:
        return self._floor is not None and log.created is not None and log.created < self._floor

    def _ended(self, page: Page, skip: int) -> bool:
        dated = [log for log in page.logs if log.created is not None]
        if not page.rows or page.has_more is False or (dated and all(map(self._old, dated))):
            return True
        if page.has_more is None:
            return skip + page.rows >= page.total if page.total is not None else page.rows < LIMIT
        return False


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
        path = post_path(self._feed, waiting.post_id)
        answer = path and await self._client.get(path, {"limit": LIMIT}, endpoint=self._feed.post_path or "")
        del self._pending[waiting.key]
        logs = read(answer.body, self._feed.name).logs if answer else ()
        for log in logs:
            if log.key == waiting.key and log.status == PENDING:
                self._pending[log.key] = log
            elif log.key == waiting.key:
                self._show([msgspec.structs.replace(log, was=PENDING)])
                self._remember([log])


def _print(printer: Printer, logs: Iterable[Log], write: Callable[[str], None]) -> None:
    for line in printer.lines(logs):
        write(line)

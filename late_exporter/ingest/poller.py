"""The loop of one feed: what the reader asks for is done, and how a poll ended becomes an outcome."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from late_exporter.api.generation import Dialect
from late_exporter.errors import ApiError, LateError, RateLimited, StoreError, Unauthorized
from late_exporter.feeds import GENERATIONS
from late_exporter.ingest import reader
from late_exporter.ingest.audit import grace
from late_exporter.ingest.background_audit import SHOWN, Inspector
from late_exporter.ingest.fetcher import Fetcher
from late_exporter.ingest.recorder import Bookkeeper, Draft, births
from late_exporter.ingest.steps import Ask, Count, Drift, Find, Plan, Read, Roll, Seen, Step, Walk
from late_exporter.ingest.webhooks import Alarm, Inbox, Spending
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.registry import Board
from late_exporter.model import Add, Feed, Increment, Observe, Scope, Take
from late_exporter.protocols import Client, Log
from late_exporter.status import FeedHealth, PollHealth

__all__ = ["OUTCOMES", "Pace", "Poller", "Turn"]

OUTCOMES = ("success", "unauthorized", "rate_limited", "unavailable", "bad_payload", "store_error")

COMMIT_ENTRIES = 1000
"""Logs that a catch-up commits together."""

LONGEST_BACKOFF = 120.0
SHORTEST_TURN = 5.0
"""A catch-up gives way to the newest logs after this many seconds, or after a poll interval."""

WALK_SHARE = 0.05
URGENT_SHARE = 0.25
AUDIT_SHARE = 0.02
"""Of the key's limit: what a feed's reconcile walk, its search for pending or missed logs, and its audit may use."""

POSTS = 10
"""Posts that a poll may ask for, however low the limit is."""

JITTER = 0.1
RECENT = 8
ERRORS = 3
"""Polls that are remembered for people, and of those that failed."""

DAY = 86_400_000

REQUESTS = "late_exporter_api_request_duration_seconds"
LAST_SUCCESS = "late_exporter_last_successful_poll_timestamp_seconds"
LAST_WALK = "late_exporter_reconcile_last_completed_timestamp_seconds"
GENERATION = "late_exporter_api_generation_info"


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how far a feed is read, in seconds; an audit interval of 0 is none at all.

    Args:
        relaxed: The interval while webhooks are alive; 0: the same.
        woken_share: Of the key's limit: what polls may use that webhooks bring about.
    """

    interval: float = 30.0
    lookback: float = 604_800.0
    reconcile_interval: float = 600.0
    audit_interval: float = 0.0
    relaxed: float = 0.0
    woken_share: float = 0.25


class Turn(msgspec.Struct, frozen=True):
    """How a poll ended; ``unfinished``: there is a gap still to be read."""

    outcome: str
    error: LateError | None = None
    unfinished: bool = False


class Poller:
    """Polls one feed of one workspace until it is cancelled.

    Args:
        workspace: Its name.
        feed: The log list.
        client: Reads the API.
        dialect: The generation of the API.
        books: Keeps what was read.
        board: Shows how polling goes.
        pace: How often.
        log: Hears of what changes.
        clock: Unix time in seconds.
        monotonic: Time in seconds that only goes forward.
        sleep: Waits so many seconds.
        shown: Waits until what was drawn on the board can be scraped.
        chance: A number from 0 to 1, for the jitter.
        inbox: What the workspace's webhooks count; None: there are none.
    """

    def __init__(
        self,
        workspace: str,
        feed: Feed,
        *,
        client: Client,
        dialect: Dialect,
        books: Bookkeeper,
        board: Board,
        pace: Pace,
        log: Log,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        shown: Callable[[], Awaitable[None]] | None = None,
        chance: Callable[[], float] = random.random,
        inbox: Inbox | None = None,
    ) -> None:
        self._names = (workspace, feed.name)
        self._fetcher = Fetcher(feed, client=client, dialect=dialect, books=books, log=log, clock=clock)
        self._client = client
        self._books = books
        self._board = board
        self._pace = pace
        self._log = log
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._shown = shown
        self._chance = chance
        self._inbox = inbox
        self._alarm = Alarm()
        self._bell = asyncio.Event()
        self._until = 0.0
        self._spare: int | None = None
        self._draft = Draft()
        self._drift = Drift()
        self._inspector = Inspector(
            Scope(workspace, feed.name), feed, look=self._fetcher.page, tally=books.tally, log=log, last=books.audited
        )
        self._walk: Walk | None = None
        self._walked = monotonic()
        self._passed: Walk | None = None
        self._throttled = False
        self._waking = True
        self._roll = Roll()
        self._failures = 0
        self._recent: deque[PollHealth] = deque(maxlen=RECENT)
        self._errors: deque[PollHealth] = deque(maxlen=ERRORS)
        self._health = FeedHealth(name=feed.name, synced=books.synced)

    @property
    def health(self) -> FeedHealth:
        """How the feed is doing."""
        books = self._books
        return msgspec.structs.replace(
            self._health,
            lag=books.lag,
            logs=books.logs,
            pending=len(books.pendings),
            gaps=len(books.coverage.gaps) if books.coverage else 0,
            coverage_start=books.whole_since(books.coverage) / 1000 if books.coverage and books.synced else None,
            recent=tuple(self._recent),
            failures=tuple(self._errors),
        )

    @property
    def generation(self) -> str:
        """Of the API that is read."""
        return self._fetcher.feed.generation

    def retune(self, client: Client, dialect: Dialect, pace: Pace) -> None:
        """Go on with another client, at another pace; to be called while ``run`` does not."""
        self._books.keep(self._tally())
        self._client = client
        self._fetcher.retune(client, dialect)
        self._pace = pace

    async def run(self) -> None:
        """Poll until cancelled; an error that is none of ours ends it."""
        await self._begin()
        woken = False
        while True:
            started, readings = self._monotonic(), self._client.key_readings
            turn = await self.poll(woken=woken)
            if not woken:
                await self.audit(turn)
            if not woken or turn.error is not None or turn.unfinished:
                self._until = self._monotonic() + self._delay(turn, self._monotonic() - started)
            woken = await self._pause(turn, readings)

    def wake(self) -> None:
        """Look soon: a webhook has told of something."""
        self._alarm.ring()
        self._bell.set()

    async def catch_up(self) -> Turn:
        """Poll until nothing is left to read, or a poll fails; gives the last one."""
        await self._begin()
        while (turn := await self.poll()).unfinished:
            pass
        return turn

    async def _begin(self) -> None:
        self._draft = Draft()
        born = [*births(*self._names, OUTCOMES), *(self._inbox.births() if self._inbox else ())]
        if await self._commit(born) is not None:
            self._books.keep((), shown=born)
        if not self._pace.audit_interval:
            # What a last audit found would be shown for ever, and be ever older.
            for family in SHOWN:
                self._board.clear(family, self._names)

    async def poll(self, *, woken: bool = False) -> Turn:
        """One poll, its outcome counted and shown; one that a webhook has brought about keeps to what is new."""
        started, at = self._monotonic(), self._clock()
        asked, counted = self._fetcher.asked, self._books.counted
        self._alarm.begin(started)
        spending = self._inbox.spending if self._inbox is not None and woken else None
        self._spare = self._reserve(spending) if spending is not None else None
        turn = await self._turn()
        if spending is not None:
            spending.add(self._monotonic(), self._fetcher.asked - asked - 1)
        requests = self._tally()
        failure = await self._commit([*requests, *self._verdict(turn.outcome)])
        self._note_walk(saved=failure is None and turn.outcome != StoreError.outcome)
        if failure is not None:
            turn = Turn(failure.outcome, failure)
            # No state, no record: a poll that could not be saved is the one thing shown without being durable.
            self._books.keep(requests, shown=[Add("late_exporter_polls_total", (*self._names, turn.outcome))])
        self._alarm.end(self._monotonic(), found=turn.error is not None or self._books.counted > counted)
        seconds = self._monotonic() - started
        self._draw(turn, seconds)
        if self._shown is not None:
            await self._shown()
        ended = PollHealth(
            at=at,
            outcome=turn.outcome,
            error=str(turn.error or ""),
            requests=self._fetcher.asked - asked,
            logs=self._books.counted - counted,
            duration=seconds,
        )
        self._report(turn, ended)
        return turn

    async def audit(self, turn: Turn) -> None:
        """A stretch of an audit after a poll, where one is due and nothing else is; it makes way for all other work."""
        if turn.error is not None or turn.unfinished or self._throttled or self._books.coverage is None:
            return
        if not self._books.synced or not self._inspector.is_due(self._clock(), self._pace.audit_interval):
            return
        interval = self._interval
        pages = max(1, int(self._client.limit * interval / 60 * AUDIT_SHARE))
        try:
            found = await self._inspector.go_on(
                self._books.coverage, self._walk, pages=pages, grace=grace(interval), now=self._clock()
            )
        except LateError as exc:
            self._log.debug("audit interrupted", error=str(exc))
            return
        self._books.keep(found)

    def _note_walk(self, *, saved: bool) -> None:
        """Take note of what a poll was to the walk over the whole list."""
        passed, self._passed = self._passed, None
        for walk in (self._walk, passed):
            if walk is not None and not saved:
                walk.begun = 0
        if passed is not None and passed.begun:
            self._inspector.note_walk(passed)

    async def _turn(self) -> Turn:
        failure: LateError | None = None
        unfinished = False
        try:
            unfinished = await self._read_feed()
        except (ApiError, StoreError) as exc:
            failure = exc
        if self._draft.entries and not self._books.synced:
            failure = await self._commit() or failure
        if failure is not None:
            return Turn(failure.outcome, failure)
        return Turn("success", unfinished=unfinished)

    async def _commit(self, increments: Sequence[Increment] = ()) -> StoreError | None:
        draft, self._draft = self._draft, Draft()
        try:
            await self._books.commit(draft, self._fetcher.now(), increments)
        except StoreError as exc:
            return exc
        return None

    async def _read_feed(self) -> bool:
        """Do what the reader asks for; tells whether it was interrupted in the middle of a gap."""
        if await self._fetcher.follow():
            # A walk begun on the old list knows places of that.
            self._walk, self._roll, self._drift = None, Roll(), Drift()
            self._inspector.follow(self._fetcher.feed)
        plan = self._plan()
        steps = reader.poll(plan)
        started = self._monotonic()
        answer: Seen | None = None
        try:
            while True:
                step = steps.send(answer)
                answer = await self._do(step, plan)
                if self._is_overdue(step, started):
                    return True
        except StopIteration:
            self._waking = False
            return False
        finally:
            steps.close()
            done = plan.walk is not None and plan.walk.done
            self._walk, self._passed = (None, plan.walk) if done else (plan.walk, None)

    def _plan(self) -> Plan:
        minutes = self._client.limit * self._interval / 60
        due = self._monotonic() - self._walked >= self._pace.reconcile_interval
        if due and self._walk is None and self._books.synced:
            self._walk = Walk(begun=self._fetcher.now())
            self._walked = self._monotonic()
        urgent = int(minutes * URGENT_SHARE)
        return Plan(
            now=self._fetcher.now(),
            retention=self._fetcher.feed.retention,
            lookback=int(self._pace.lookback * 1000),
            coverage=self._books.coverage,
            pendings=self._books.pendings,
            waking=self._waking,
            posts=max(POSTS, urgent) if self._spare is None else min(POSTS, self._spare),
            generation=self._fetcher.feed.generation,
            windowed=self._fetcher.feed.windowed,
            strides=(max(1, int(minutes * WALK_SHARE)), max(5, urgent)) if self._spare is None else (0, 0),
            walk=self._walk,
            drift=self._drift,
            roll=self._roll,
        )

    def _is_overdue(self, step: object, started: float) -> bool:
        if not isinstance(step, Count) or step.midway or step.coverage is None or not step.coverage.gaps:
            return False
        return self._monotonic() - started > max(self._pace.interval, SHORTEST_TURN)

    async def _do(self, step: Step, plan: Plan) -> Seen | None:
        match step:
            case Read():
                return await self._read(step, plan)
            case Ask():
                return await self._fetcher.ask(step)
            case Find():
                return await self._fetcher.find(step)
            case Count():
                await self._count(step)
                return None

    async def _read(self, step: Read, plan: Plan) -> Seen:
        seen = await self._fetcher.page(step)
        plan.now = self._fetcher.now()
        return seen

    async def _count(self, step: Count) -> None:
        draft = self._draft
        draft.entries += [(entry, step.walked) for entry in step.entries]
        draft.coverage = step.coverage or draft.coverage
        draft.gone += step.gone
        if len(draft.entries) >= COMMIT_ENTRIES:
            failure = await self._commit()
            if failure is not None:
                raise failure

    def _tally(self) -> list[Increment]:
        """What a poll counts of its requests, and of the webhooks that came."""
        workspace, _ = self._names
        requests, waited = self._client.drain()
        self._throttled = waited > 0
        bounds = CATALOGUE[REQUESTS].buckets
        tally: list[Increment] = self._inbox.drain() if self._inbox is not None else []
        for request in requests:
            tally.append(Add("late_exporter_api_requests_total", (workspace, request.endpoint, request.code)))
            micros = int(request.seconds * 1_000_000)
            tally.append(Observe(REQUESTS, (workspace, request.endpoint), micros=micros, bounds=bounds))
        if waited:
            tally.append(Add("late_exporter_api_throttled_seconds_total", (workspace,), amount=waited))
        return tally

    def _verdict(self, outcome: str) -> list[Increment]:
        """What a poll counts of its outcome."""
        verdict: list[Increment] = [Add("late_exporter_polls_total", (*self._names, outcome))]
        if outcome == "success":
            now = self._clock()
            verdict.append(Take(LAST_SUCCESS, self._names, at=int(now * 1000), value=now))
        if self._passed is not None and self._passed.begun:
            begun = self._passed.begun
            verdict.append(Take(LAST_WALK, self._names, at=begun, value=begun / 1000))
        return verdict

    def _draw(self, turn: Turn, seconds: float) -> None:
        self._board.gauge("late_up", self._names, int(turn.error is None))
        self._show_generation()
        self._board.gauge("late_exporter_last_poll_duration_seconds", self._names, seconds)
        quota, workspace = self._client.quota, self._names[:1]
        if quota is not None:
            self._board.gauge("late_exporter_api_quota_limit", workspace, quota.limit)
            self._board.gauge("late_exporter_api_quota_remaining", workspace, quota.remaining)
            self._board.gauge("late_exporter_api_quota_reset_timestamp_seconds", workspace, quota.reset)

    def _show_generation(self) -> None:
        workspace, _ = self._names
        for generation in GENERATIONS:
            if generation == self._fetcher.feed.generation:
                self._board.gauge(GENERATION, (workspace, generation), 1)
            else:
                self._board.clear(GENERATION, (workspace, generation))

    def _report(self, turn: Turn, ended: PollHealth) -> None:
        self._speak(turn, ended.duration)
        succeeded = turn.error is None
        self._failures = 0 if succeeded else self._failures + 1
        self._recent.appendleft(ended)
        if not succeeded:
            self._errors.appendleft(ended)
        self._health = msgspec.structs.replace(
            self._health,
            synced=self._books.synced,
            outcome=ended.outcome,
            error=ended.error,
            last_poll=ended.at,
            last_success=ended.at if succeeded else self._health.last_success,
            duration=ended.duration,
        )

    def _speak(self, turn: Turn, seconds: float) -> None:
        fields = {"outcome": turn.outcome, "seconds": round(seconds, 3), "logs": self._books.logs}
        if turn.error is not None and (turn.outcome, str(turn.error)) != (self._health.outcome, self._health.error):
            self._log.warning("poll failed", error=str(turn.error), **fields)
        elif turn.error is None and self._failures:
            self._log.info("poll succeeds again", after=self._failures, **fields)
        elif self._books.synced and not self._health.synced:
            self._log.info("first sync complete", **fields)
        else:
            self._log.debug("poll ended", **fields)

    async def _pause(self, turn: Turn, readings: int) -> bool:
        """Wait for the next poll; tells whether a webhook has brought it about."""
        left = self._until - self._monotonic()
        self._health = msgspec.structs.replace(self._health, next_poll=self._clock() + max(0.0, left))
        while (left := self._until - self._monotonic()) > 0:
            if isinstance(turn.error, Unauthorized):
                if self._client.key_changed() or self._client.key_readings != readings:
                    return False
                left = min(left, self._pace.interval)
            sooner = self._wanted_in() if turn.error is None else math.inf
            if sooner <= 0:
                return True
            await self._rest(min(left, sooner))
        return False

    def _wanted_in(self) -> float:
        """Seconds until a webhook has the feed polled; infinite where there is none."""
        due = self._alarm.due()
        if self._inbox is None or due == math.inf:
            return math.inf
        now = self._monotonic()
        return max(due - now, self._inbox.spending.wait(now, self._budget))

    @property
    def _budget(self) -> int:
        """Requests a minute for polls that webhooks bring about."""
        return int(self._client.limit * self._pace.woken_share)

    def _reserve(self, spending: Spending) -> int:
        """Take one of those requests; gives how many a poll may add to the two that it may need to see what is new."""
        now = self._monotonic()
        left = spending.left(now, self._budget)
        spending.add(now, 1)
        return max(0, left - 2)

    async def _rest(self, seconds: float) -> None:
        """Sleep until the time is over or a webhook rings."""
        if self._inbox is None:
            await self._sleep(seconds)
            return
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        ringing = asyncio.ensure_future(self._bell.wait())
        try:
            await asyncio.wait((sleeping, ringing), return_when=asyncio.FIRST_COMPLETED)
            if sleeping.done():
                await sleeping
        finally:
            sleeping.cancel()
            ringing.cancel()
        self._bell.clear()

    @property
    def _interval(self) -> float:
        """Seconds between two polls, as long as all is well."""
        relaxed = self._pace.relaxed
        if relaxed and self._inbox is not None and self._inbox.is_alive(self._clock(), relaxed):
            return relaxed
        return self._pace.interval

    def _delay(self, turn: Turn, elapsed: float) -> float:
        """Seconds until the next poll: the interval, more after each failure, and as long as the API says."""
        if turn.unfinished:
            return 0.0
        interval = self._pace.interval
        jitter = 1 + JITTER * (2 * self._chance() - 1)
        if isinstance(turn.error, RateLimited):
            return max(turn.error.until - self._monotonic(), interval * jitter - elapsed)
        if turn.error is not None:
            backoff = interval * 2.0 ** min(self._failures - 1, 20)
            return min(backoff, max(interval, LONGEST_BACKOFF)) * jitter
        interval = self._interval
        return max(interval * jitter - elapsed, interval * JITTER)

"""The loop of one feed: what the reader asks for is done, and how a poll ended becomes an outcome."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from late_exporter.api.generation import ApiGeneration
from late_exporter.errors import ApiError, LateError, RateLimited, StoreError, Unauthorized
from late_exporter.feeds import GENERATIONS
from late_exporter.ingest import reader
from late_exporter.ingest.audit import grace_period
from late_exporter.ingest.background_audit import AUDIT_GAUGES, BackgroundAuditor
from late_exporter.ingest.fetcher import Fetcher
from late_exporter.ingest.recorder import FeedRecorder, PendingBatch, initial_zeros
from late_exporter.ingest.steps import (
    FetchedPage,
    FetchPage,
    FetchPost,
    FetchWindow,
    PendingScan,
    PollContext,
    ReaderStep,
    ReconcileScan,
    Record,
    SurplusDetector,
)
from late_exporter.ingest.webhooks import Debouncer, RequestBudget, WebhookStats
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import Feed, IncCounter, Increment, ObserveHistogram, Scope, SetLatest
from late_exporter.protocols import Client, Logger
from late_exporter.status import FeedHealth, PollHealth

__all__ = ["POLL_OUTCOMES", "PollConfig", "PollResult", "Poller"]

POLL_OUTCOMES = ("success", "unauthorized", "rate_limited", "unavailable", "bad_payload", "store_error")

COMMIT_SIZE = 1000
"""Logs that a catch-up commits together."""

MAX_BACKOFF = 120.0
MIN_CATCH_UP_SECONDS = 5.0
"""A catch-up gives way to the newest logs after this many seconds, or after a poll interval."""

SCAN_SHARE = 0.05
URGENT_SHARE = 0.25
AUDIT_SHARE = 0.02
"""Of the key's limit: what a feed's reconcile walk, its search for pending or missed logs, and its audit may use."""

MIN_LOOKUPS = 10
"""Posts that a poll may ask for, however low the limit is."""

JITTER = 0.1
RECENT_POLLS = 8
RECENT_FAILURES = 3
"""Polls that are remembered for people, and of those that failed."""

DAY = 86_400_000

REQUESTS = "late_exporter_api_request_duration_seconds"
LAST_SUCCESS = "late_exporter_last_successful_poll_timestamp_seconds"
LAST_RECONCILE = "late_exporter_reconcile_last_completed_timestamp_seconds"
GENERATION = "late_exporter_api_generation_info"


class PollConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how far a feed is read, in seconds; an audit interval of 0 is none at all.

    Args:
        webhook_interval: The interval while webhooks are alive; 0: the same.
        webhook_share: Of the key's limit: what polls may use that webhooks bring about.
    """

    interval: float = 30.0
    lookback: float = 604_800.0
    reconcile_interval: float = 600.0
    audit_interval: float = 0.0
    webhook_interval: float = 0.0
    webhook_share: float = 0.25


class PollResult(msgspec.Struct, frozen=True):
    """How a poll ended; ``is_partial``: there is a gap still to be read."""

    outcome: str
    error: LateError | None = None
    is_partial: bool = False


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
        generation: ApiGeneration,
        recorder: FeedRecorder,
        registry: SeriesRegistry,
        config: PollConfig,
        logger: Logger,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wait_published: Callable[[], Awaitable[None]] | None = None,
        random_unit: Callable[[], float] = random.random,
        webhook_stats: WebhookStats | None = None,
    ) -> None:
        self._names = (workspace, feed.name)
        self._fetcher = Fetcher(
            feed, client=client, generation=generation, recorder=recorder, logger=logger, clock=clock
        )
        self._client = client
        self._recorder = recorder
        self._registry = registry
        self._config = config
        self._logger = logger
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._shown = wait_published
        self._chance = random_unit
        self._webhook_stats = webhook_stats
        self._debouncer = Debouncer()
        self._wake_event = asyncio.Event()
        self._until = 0.0
        self._spare: int | None = None
        self._pending = PendingBatch()
        self._drift = SurplusDetector()
        self._auditor = BackgroundAuditor(
            Scope(workspace, feed.name),
            feed,
            fetch_page=self._fetcher.fetch_page,
            read_accounting=recorder.read_accounting,
            logger=logger,
            last_audit_at=recorder.last_audit_at,
        )
        self._scan: ReconcileScan | None = None
        self._walked = monotonic()
        self._passed: ReconcileScan | None = None
        self._throttled = False
        self._waking = True
        self._roll = PendingScan()
        self._failures = 0
        self._recent: deque[PollHealth] = deque(maxlen=RECENT_POLLS)
        self._errors: deque[PollHealth] = deque(maxlen=RECENT_FAILURES)
        self._health = FeedHealth(name=feed.name, is_synced=recorder.is_synced)

    @property
    def health(self) -> FeedHealth:
        """How the feed is doing."""
        books = self._recorder
        return msgspec.structs.replace(
            self._health,
            lag=books.last_lag,
            logs=books.log_count,
            pending=len(books.pending_logs),
            gaps=len(books.coverage.gaps) if books.coverage else 0,
            coverage_start=books.complete_since(books.coverage) / 1000 if books.coverage and books.is_synced else None,
            recent_polls=tuple(self._recent),
            recent_failures=tuple(self._errors),
        )

    @property
    def generation(self) -> str:
        """Of the API that is read."""
        return self._fetcher.feed.generation

    def reconfigure(self, client: Client, generation: ApiGeneration, config: PollConfig) -> None:
        """Go on with another client, at another pace; to be called while ``run`` does not."""
        self._recorder.defer(self._tally())
        self._client = client
        self._fetcher.reconfigure(client, generation)
        self._config = config

    async def run(self) -> None:
        """Poll until cancelled; an error that is none of ours ends it."""
        await self._begin()
        woken = False
        while True:
            started, readings = self._monotonic(), self._client.key_reload_count
            turn = await self.poll(by_webhook=woken)
            if not woken:
                await self.audit(turn)
            if not woken or turn.error is not None or turn.is_partial:
                self._until = self._monotonic() + self._delay(turn, self._monotonic() - started)
            woken = await self._pause(turn, readings)

    def wake(self) -> None:
        """Look soon: a webhook has told of something."""
        self._debouncer.notify()
        self._wake_event.set()

    async def catch_up(self) -> PollResult:
        """Poll until nothing is left to read, or a poll fails; gives the last one."""
        await self._begin()
        while (turn := await self.poll()).is_partial:
            pass
        return turn

    async def _begin(self) -> None:
        self._pending = PendingBatch()
        born = [
            *initial_zeros(*self._names, POLL_OUTCOMES),
            *(self._webhook_stats.initial_zeros() if self._webhook_stats else ()),
        ]
        if await self._commit(born) is not None:
            self._recorder.defer((), provisional=born)
        if not self._config.audit_interval:
            # What a last audit found would be shown for ever, and be ever older.
            for family in AUDIT_GAUGES:
                self._registry.remove_gauge(family, self._names)

    async def poll(self, *, by_webhook: bool = False) -> PollResult:
        """One poll, its outcome counted and shown; one that a webhook has brought about keeps to what is new."""
        started, at = self._monotonic(), self._clock()
        asked, counted = self._fetcher.request_count, self._recorder.recorded_count
        self._debouncer.start_poll(started)
        spending = self._webhook_stats.budget if self._webhook_stats is not None and by_webhook else None
        self._spare = self._reserve(spending) if spending is not None else None
        turn = await self._turn()
        if spending is not None:
            spending.add(self._monotonic(), self._fetcher.request_count - asked - 1)
        requests = self._tally()
        failure = await self._commit([*requests, *self._verdict(turn.outcome)])
        self._note_walk(saved=failure is None and turn.outcome != StoreError.outcome)
        if failure is not None:
            turn = PollResult(failure.outcome, failure)
            # No state, no record: a poll that could not be saved is the one thing shown without being durable.
            self._recorder.defer(
                requests, provisional=[IncCounter("late_exporter_polls_total", (*self._names, turn.outcome))]
            )
        self._debouncer.finish_poll(
            self._monotonic(), has_new_logs=turn.error is not None or self._recorder.recorded_count > counted
        )
        seconds = self._monotonic() - started
        self._draw(turn, seconds)
        if self._shown is not None:
            await self._shown()
        ended = PollHealth(
            started_at=at,
            outcome=turn.outcome,
            error=str(turn.error or ""),
            requests=self._fetcher.request_count - asked,
            logs=self._recorder.recorded_count - counted,
            duration=seconds,
        )
        self._report(turn, ended)
        return turn

    async def audit(self, turn: PollResult) -> None:
        """A stretch of an audit after a poll, where one is due and nothing else is; it makes way for all other work."""
        if turn.error is not None or turn.is_partial or self._throttled or self._recorder.coverage is None:
            return
        if not self._recorder.is_synced or not self._auditor.is_due(self._clock(), self._config.audit_interval):
            return
        interval = self._interval
        pages = max(1, int(self._client.rate_limit * interval / 60 * AUDIT_SHARE))
        try:
            found = await self._auditor.advance(
                self._recorder.coverage,
                self._scan,
                page_budget=pages,
                grace_period=grace_period(interval),
                now=self._clock(),
            )
        except LateError as exc:
            self._logger.debug("audit interrupted", error=str(exc))
            return
        self._recorder.defer(found)

    def _note_walk(self, *, saved: bool) -> None:
        """Take note of what a poll was to the walk over the whole list."""
        passed, self._passed = self._passed, None
        for walk in (self._scan, passed):
            if walk is not None and not saved:
                walk.started_at = 0
        if passed is not None and passed.started_at:
            self._auditor.report_scan(passed)

    async def _turn(self) -> PollResult:
        failure: LateError | None = None
        unfinished = False
        try:
            unfinished = await self._read_feed()
        except (ApiError, StoreError) as exc:
            failure = exc
        if self._pending.entries and not self._recorder.is_synced:
            failure = await self._commit() or failure
        if failure is not None:
            return PollResult(failure.outcome, failure)
        return PollResult("success", is_partial=unfinished)

    async def _commit(self, increments: Sequence[Increment] = ()) -> StoreError | None:
        draft, self._pending = self._pending, PendingBatch()
        try:
            await self._recorder.commit(draft, self._fetcher.now(), increments)
        except StoreError as exc:
            return exc
        return None

    async def _read_feed(self) -> bool:
        """Do what the reader asks for; tells whether it was interrupted in the middle of a gap."""
        if await self._fetcher.refresh_generation():
            # A walk begun on the old list knows places of that.
            self._scan, self._roll, self._drift = None, PendingScan(), SurplusDetector()
            self._auditor.switch_feed(self._fetcher.feed)
        plan = self._plan()
        steps = reader.poll(plan)
        started = self._monotonic()
        answer: FetchedPage | None = None
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
            done = plan.scan is not None and plan.scan.is_complete
            self._scan, self._passed = (None, plan.scan) if done else (plan.scan, None)

    def _plan(self) -> PollContext:
        minutes = self._client.rate_limit * self._interval / 60
        due = self._monotonic() - self._walked >= self._config.reconcile_interval
        if due and self._scan is None and self._recorder.is_synced:
            self._scan = ReconcileScan(started_at=self._fetcher.now())
            self._walked = self._monotonic()
        urgent = int(minutes * URGENT_SHARE)
        return PollContext(
            now=self._fetcher.now(),
            retention=self._fetcher.feed.retention,
            lookback=int(self._config.lookback * 1000),
            coverage=self._recorder.coverage,
            pending_logs=self._recorder.pending_logs,
            first_poll=self._waking,
            lookup_budget=max(MIN_LOOKUPS, urgent) if self._spare is None else min(MIN_LOOKUPS, self._spare),
            generation=self._fetcher.feed.generation,
            supports_time_filter=self._fetcher.feed.supports_time_filter,
            page_budget=(max(1, int(minutes * SCAN_SHARE)), max(5, urgent)) if self._spare is None else (0, 0),
            scan=self._scan,
            surplus_detector=self._drift,
            pending_scan=self._roll,
        )

    def _is_overdue(self, step: object, started: float) -> bool:
        if not isinstance(step, Record) or step.splits_timestamp or step.coverage is None or not step.coverage.gaps:
            return False
        return self._monotonic() - started > max(self._config.interval, MIN_CATCH_UP_SECONDS)

    async def _do(self, step: ReaderStep, plan: PollContext) -> FetchedPage | None:
        match step:
            case FetchPage():
                return await self._read(step, plan)
            case FetchPost():
                return await self._fetcher.fetch_post(step)
            case FetchWindow():
                return await self._fetcher.fetch_window(step)
            case Record():
                await self._count(step)
                return None

    async def _read(self, step: FetchPage, plan: PollContext) -> FetchedPage:
        seen = await self._fetcher.fetch_page(step)
        plan.now = self._fetcher.now()
        return seen

    async def _count(self, step: Record) -> None:
        draft = self._pending
        draft.entries += [(entry, step.by_reconciliation) for entry in step.entries]
        draft.coverage = step.coverage or draft.coverage
        draft.deleted_keys += step.deleted_keys
        if len(draft.entries) >= COMMIT_SIZE:
            failure = await self._commit()
            if failure is not None:
                raise failure

    def _tally(self) -> list[Increment]:
        """What a poll counts of its requests, and of the webhooks that came."""
        workspace, _ = self._names
        requests, waited = self._client.pop_request_log()
        self._throttled = waited > 0
        bounds = CATALOGUE[REQUESTS].buckets
        tally: list[Increment] = self._webhook_stats.pop_increments() if self._webhook_stats is not None else []
        for request in requests:
            tally.append(
                IncCounter("late_exporter_api_requests_total", (workspace, request.path_template, request.code))
            )
            micros = int(request.seconds * 1_000_000)
            tally.append(ObserveHistogram(REQUESTS, (workspace, request.path_template), micros=micros, bounds=bounds))
        if waited:
            tally.append(IncCounter("late_exporter_api_throttled_seconds_total", (workspace,), amount=waited))
        return tally

    def _verdict(self, outcome: str) -> list[Increment]:
        """What a poll counts of its outcome."""
        verdict: list[Increment] = [IncCounter("late_exporter_polls_total", (*self._names, outcome))]
        if outcome == "success":
            now = self._clock()
            verdict.append(SetLatest(LAST_SUCCESS, self._names, at=int(now * 1000), value=now))
        if self._passed is not None and self._passed.started_at:
            begun = self._passed.started_at
            verdict.append(SetLatest(LAST_RECONCILE, self._names, at=begun, value=begun / 1000))
        return verdict

    def _draw(self, turn: PollResult, seconds: float) -> None:
        self._registry.set_gauge("late_up", self._names, int(turn.error is None))
        self._show_generation()
        self._registry.set_gauge("late_exporter_last_poll_duration_seconds", self._names, seconds)
        quota, workspace = self._client.quota, self._names[:1]
        if quota is not None:
            self._registry.set_gauge("late_exporter_api_quota_limit", workspace, quota.limit)
            self._registry.set_gauge("late_exporter_api_quota_remaining", workspace, quota.remaining)
            self._registry.set_gauge("late_exporter_api_quota_reset_timestamp_seconds", workspace, quota.reset)

    def _show_generation(self) -> None:
        workspace, _ = self._names
        for generation in GENERATIONS:
            if generation == self._fetcher.feed.generation:
                self._registry.set_gauge(GENERATION, (workspace, generation), 1)
            else:
                self._registry.remove_gauge(GENERATION, (workspace, generation))

    def _report(self, turn: PollResult, ended: PollHealth) -> None:
        self._speak(turn, ended.duration)
        succeeded = turn.error is None
        self._failures = 0 if succeeded else self._failures + 1
        self._recent.appendleft(ended)
        if not succeeded:
            self._errors.appendleft(ended)
        self._health = msgspec.structs.replace(
            self._health,
            is_synced=self._recorder.is_synced,
            outcome=ended.outcome,
            error=ended.error,
            last_poll=ended.started_at,
            last_success=ended.started_at if succeeded else self._health.last_success,
            duration=ended.duration,
        )

    def _speak(self, turn: PollResult, seconds: float) -> None:
        fields = {"outcome": turn.outcome, "seconds": round(seconds, 3), "logs": self._recorder.log_count}
        if turn.error is not None and (turn.outcome, str(turn.error)) != (self._health.outcome, self._health.error):
            self._logger.warning("poll failed", error=str(turn.error), **fields)
        elif turn.error is None and self._failures:
            self._logger.info("poll succeeds again", after=self._failures, **fields)
        elif self._recorder.is_synced and not self._health.is_synced:
            self._logger.info("first sync complete", **fields)
        else:
            self._logger.debug("poll ended", **fields)

    async def _pause(self, turn: PollResult, readings: int) -> bool:
        """Wait for the next poll; tells whether a webhook has brought it about."""
        left = self._until - self._monotonic()
        self._health = msgspec.structs.replace(self._health, next_poll=self._clock() + max(0.0, left))
        while (left := self._until - self._monotonic()) > 0:
            if isinstance(turn.error, Unauthorized):
                if self._client.key_file_changed() or self._client.key_reload_count != readings:
                    return False
                left = min(left, self._config.interval)
            sooner = self._wanted_in() if turn.error is None else math.inf
            if sooner <= 0:
                return True
            await self._rest(min(left, sooner))
        return False

    def _wanted_in(self) -> float:
        """Seconds until a webhook has the feed polled; infinite where there is none."""
        due = self._debouncer.due_at()
        if self._webhook_stats is None or due == math.inf:
            return math.inf
        now = self._monotonic()
        return max(due - now, self._webhook_stats.budget.seconds_until_free(now, self._budget))

    @property
    def _budget(self) -> int:
        """Requests a minute for polls that webhooks bring about."""
        return int(self._client.rate_limit * self._config.webhook_share)

    def _reserve(self, spending: RequestBudget) -> int:
        """Take one of those requests; gives how many a poll may add to the two that it may need to see what is new."""
        now = self._monotonic()
        left = spending.remaining(now, self._budget)
        spending.add(now, 1)
        return max(0, left - 2)

    async def _rest(self, seconds: float) -> None:
        """Sleep until the time is over or a webhook rings."""
        if self._webhook_stats is None:
            await self._sleep(seconds)
            return
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        ringing = asyncio.ensure_future(self._wake_event.wait())
        try:
            await asyncio.wait((sleeping, ringing), return_when=asyncio.FIRST_COMPLETED)
            if sleeping.done():
                await sleeping
        finally:
            sleeping.cancel()
            ringing.cancel()
        self._wake_event.clear()

    @property
    def _interval(self) -> float:
        """Seconds between two polls, as long as all is well."""
        relaxed = self._config.webhook_interval
        if relaxed and self._webhook_stats is not None and self._webhook_stats.is_alive(self._clock(), relaxed):
            return relaxed
        return self._config.interval

    def _delay(self, turn: PollResult, elapsed: float) -> float:
        """Seconds until the next poll: the interval, more after each failure, and as long as the API says."""
        if turn.is_partial:
            return 0.0
        interval = self._config.interval
        jitter = 1 + JITTER * (2 * self._chance() - 1)
        if isinstance(turn.error, RateLimited):
            return max(turn.error.until - self._monotonic(), interval * jitter - elapsed)
        if turn.error is not None:
            backoff = interval * 2.0 ** min(self._failures - 1, 20)
            return min(backoff, max(interval, MAX_BACKOFF)) * jitter
        interval = self._interval
        return max(interval * jitter - elapsed, interval * JITTER)

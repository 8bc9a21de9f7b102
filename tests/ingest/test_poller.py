from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

import pytest

from late_exporter.api.generation import ApiGeneration
from late_exporter.errors import ApiUnavailable, BadPayload, LateError, RateLimited, StoreError, Unauthorized
from late_exporter.exposition.exposition import Exposition
from late_exporter.feeds import FEEDS
from late_exporter.ingest.poller import POLL_OUTCOMES, PollConfig, Poller, PollResult
from late_exporter.ingest.recorder import FeedRecorder, PendingBatch, initial_zeros
from late_exporter.ingest.webhooks import RequestBudget, WebhookStats
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import (
    Batch,
    CommitResult,
    Coverage,
    Exemplar,
    Feed,
    FeedAccounting,
    FeedState,
    Histogram,
    IncCounter,
    Increment,
    KnownLogs,
    Labels,
    ListPosition,
    LogEntry,
    Scope,
    Series,
    SeriesValue,
)
from late_exporter.status import FeedHealth, PollHealth, Quota
from late_exporter.store import Store, open_store

NOW = 1_763_993_002.0
DAY = 86_400.0
LIST = "/v1/posts/logs"
POST = "/v1/posts/{postId}/logs"
LOGS = "late_publishing_logs_total"
POLLS = "late_exporter_polls_total"
REQUESTS = "late_exporter_api_requests_total"
THROTTLED = "late_exporter_api_throttled_seconds_total"
SUCCEEDED = "late_exporter_last_successful_poll_timestamp_seconds"

Row: TypeAlias = dict[str, Any]


class Stop(Exception):
    """Ends a loop that has no end."""


class Reply(NamedTuple):
    """A good answer."""

    body: bytes
    date: float | None = None


class Call(NamedTuple):
    """A request that ended."""

    path_template: str
    code: str
    seconds: float


Handler: TypeAlias = Callable[[str, Mapping[str, str | int]], Reply | None]


class Client:
    """An API whose answers are up to a test."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.quota: Quota | None = None
        self.rate_limit = 60
        self.changed = False
        self.key_reload_count = 0
        self.waited = 0.0
        self.asked: list[tuple[str, Mapping[str, str | int]]] = []
        self._calls: list[Call] = []

    def key_file_changed(self) -> bool:
        """Whether there is another key."""
        return self.changed

    def pop_request_log(self) -> tuple[Sequence[Call], float]:
        """What happened since last asked."""
        calls, self._calls = self._calls, []
        waited, self.waited = self.waited, 0.0
        return calls, waited

    async def get(self, path: str, params: Mapping[str, str | int], *, path_template: str) -> Reply | None:
        """An answer."""
        self.asked.append((path, params))
        code = "error"
        try:
            await asyncio.sleep(0)
            answer = self.handler(path, params)
            code = "200" if answer else "404"
        finally:
            self._calls.append(Call(path_template, code, 0.25))
        return answer


class Faulty:
    """A store that can be told to fail."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failing: set[str] = set()
        self.batches: list[Batch] = []

    def _try(self, name: str) -> None:
        if name in self.failing:
            raise StoreError(f"{name}: no luck")

    def series_values(self) -> Mapping[Series, SeriesValue]:
        """See Store."""
        return self._store.series_values()

    def feed_state(self, scope: Scope) -> FeedState:
        """See Store."""
        return self._store.feed_state(scope)

    def lookup(self, scope: Scope, entries: Sequence[LogEntry], *, feed: Feed, since: int) -> KnownLogs:
        """See Store."""
        self._try("lookup")
        return self._store.lookup(scope, entries, feed=feed, since=since)

    def begin_rekey(self, scope: Scope, coverage: Coverage) -> None:
        """See Store."""
        self._try("begin_rekey")
        self._store.begin_rekey(scope, coverage)

    def accounting(self, scope: Scope) -> FeedAccounting:
        """See Store."""
        self._try("accounting")
        return self._store.accounting(scope)

    def commit(self, scope: Scope, batch: Batch) -> CommitResult:
        """See Store."""
        self._try("commit")
        self.batches.append(batch)
        return self._store.commit(scope, batch)

    def size(self, workspace: str) -> tuple[int, int]:
        """See Store."""
        self._try("size")
        return self._store.size(workspace)

    def close(self) -> None:
        """See Store."""
        self._store.close()


class FakeExposition(Exposition):
    """What is shown; counters are watched, so that none falls."""

    def __init__(self) -> None:
        super().__init__(CATALOGUE)
        self.shown: dict[Series, float | Histogram] = {}
        self.born: set[Series] = set()
        self.exemplars: list[Labels] = []

    def put(
        self,
        family: str,
        labels: Labels,
        value: float | Histogram,
        *,
        created: float | None = None,
        start_at_zero: bool = False,
    ) -> None:
        """Set a series."""
        assert (created is None) == (CATALOGUE[family].kind == "gauge")
        before = self.shown.get((family, labels), 0)
        if CATALOGUE[family].kind == "counter":
            assert isinstance(value, int | float)
            assert isinstance(before, int | float)
            assert before <= value, f"{family}{labels} fell from {before} to {value}"
        if start_at_zero:
            self.born.add((family, labels))
        self.shown[family, labels] = value

    def remove(self, family: str, labels: Labels) -> None:
        """Remove a series."""
        del self.shown[family, labels]

    def add_exemplar(self, family: str, labels: Labels, value: float, exemplar: Exemplar) -> None:
        """Attach an exemplar."""
        assert (family, labels) in self.shown
        assert value >= 0
        assert exemplar.labels
        self.exemplars.append(labels)


class Diary:
    """What was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, **fields: Any) -> None:
        """For those who look for something."""
        self.lines.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        """For those who want to know."""
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        """For those who have to act."""
        self.lines.append(("warning", event, fields))

    @property
    def loud(self) -> list[tuple[str, str]]:
        """What is not debug."""
        return [(level, event) for level, event, _ in self.lines if level != "debug"]


def written(seconds: float) -> str:
    """A time as the API writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def row(number: int, status: str = "success", *, age: float = 0.0, **fields: Any) -> Row:
    """A publishing log; a larger number is a newer one."""
    made = {
        "_id": f"{number:024}",
        "platform": "tiktok",
        "action": "publish",
        "status": status,
        "durationMs": 100,
        "createdAt": written(NOW - age),
    }
    return {**made, **fields}


class Timeline:
    """Time of a rig that passes when told, and wakes those who sleep until then."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._rig.now + seconds, next(self._numbers), future))
        await future

    async def reach(self, moment: float) -> int:
        """Let time pass until a moment; tells how many requests were made until then."""
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= moment:
            at, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self._rig.now = at
                future.set_result(None)
                await self._settle()
        self._rig.now = moment
        await self._settle()
        return len(self._rig.client.asked)

    async def _settle(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0)


class Rig:
    """A poller of one feed with everything real but the network and the time."""

    def __init__(self, store: Store, feed: str = "publishing") -> None:
        self.now = 0.0
        self.rows: list[Row] = []
        self.date: float | None = None
        self.slept: list[float] = []
        self.sleeps = 1
        self.chance = 0.5
        self.store = Faulty(store)
        self.client = Client(self.answer)
        self.feed = FEEDS[feed]
        self.shown: Callable[[], Any] | None = None
        self.start()

    def start(self, pace: PollConfig | None = None, *, timeline: Timeline | None = None) -> None:
        """Begin as a process does."""
        self.canvas = FakeExposition()
        self.governor = LabelLimiter(CATALOGUE)
        self.board = SeriesRegistry(CATALOGUE, self.canvas, {"acme": frozenset({self.feed.name})})
        self.diary = Diary()
        self.backlog: list[Increment] = []
        totals = self.store.series_values()
        state = self.store.feed_state(Scope("acme", self.feed.name))
        self.governor.restore(totals)
        synced = state.coverage is not None and state.coverage.is_synced
        self.board.restore(totals, {"acme": [self.feed.name] if synced else []})
        self.books = self.keep_books(state)
        self.inbox = WebhookStats("acme", RequestBudget()) if timeline else None
        self.poller = Poller(
            "acme",
            self.feed,
            client=self.client,
            generation=ApiGeneration(self.feed.generation, logger=self.diary),
            recorder=self.books,
            registry=self.board,
            config=pace or PollConfig(),
            logger=self.diary,
            clock=self.clock,
            monotonic=lambda: self.now,
            sleep=timeline.sleep if timeline else self.sleep,
            random_unit=lambda: self.chance,
            wait_published=self.is_shown,
            webhook_stats=self.inbox,
        )
        if self.inbox is not None:
            self.inbox.wake_callbacks = {self.feed.name: self.poller.wake}

    def keep_books(self, state: FeedState) -> FeedRecorder:
        """The books of the feed."""
        return FeedRecorder(
            "acme",
            self.feed,
            state,
            store=self.store,
            offload=self.offload,
            label_limiter=self.governor,
            registry=self.board,
            backlog=self.backlog,
            clock=self.clock,
        )

    async def offload(self, call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Do it here, but not at once."""
        await asyncio.sleep(0)
        return call(*args, **keywords)

    async def is_shown(self) -> None:
        """Wait until a scrape would see it."""
        if self.shown is not None:
            self.shown()

    def clock(self) -> float:
        """Unix seconds."""
        return NOW + self.now

    async def sleep(self, seconds: float) -> None:
        """Let time pass, a number of times."""
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
        if len(self.slept) >= self.sleeps:
            raise Stop

    def answer(self, path: str, params: Mapping[str, str | int]) -> Reply | None:
        """What an API with these rows says, the newest first."""
        rows = self.rows
        if path != self.feed.path:
            rows = [found for found in rows if f"/v1/posts/{found.get('postId')}/logs" == path]
            if not rows:
                return None
        if "status" in params:
            rows = [found for found in rows if found["status"] == params["status"]]
        skip, limit = int(params.get("skip", 0)), int(params["limit"])
        pagination = {"total": len(rows), "hasMore": skip + limit < len(rows)}
        answer = {"logs": rows[skip : skip + limit], "pagination": pagination}
        return Reply(json.dumps(answer).encode(), self.date)

    def fail(self, failure: BaseException) -> None:
        """From now on every request fails."""

        def handler(_: str, __: Mapping[str, str | int]) -> Reply | None:
            raise failure

        self.client.handler = handler

    def heal(self) -> None:
        """From now on the API answers again."""
        self.client.handler = self.answer

    async def run(self, sleeps: int) -> list[float]:
        """Run until the poller has slept so many times; returns for how long each time."""
        self.slept, self.sleeps = [], sleeps
        with pytest.raises(Stop):
            await self.poller.run()
        return self.slept

    def value(self, family: str, *labels: str) -> float | Histogram | None:
        """What is shown, None where nothing is."""
        return self.canvas.shown.get((family, ("acme", *labels)))

    def logs(self, status: str = "success") -> float | Histogram | None:
        """How many logs are shown as counted."""
        return self.value(LOGS, "tiktok", "publish", status)

    def polls(self) -> dict[str, float | Histogram]:
        """How many polls are shown by outcome, zeros left out."""
        return {
            labels[2]: value for (family, labels), value in self.canvas.shown.items() if family == POLLS and value != 0
        }

    def saved(self, family: str, *labels: str) -> object:
        """What the state holds."""
        total = self.store.series_values().get((family, ("acme", *labels)))
        return total.value if total else None


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A poller that has not begun."""
    with closing(open_store("sqlite://")) as store:
        yield Rig(store)


# How a poll ends.


async def test_a_good_poll(rig: Rig) -> None:
    """A poll that succeeds counts itself, its requests and the logs, and says so."""
    rig.rows = [row(2), row(1)]
    rig.client.quota = Quota(60, 59, NOW + 9)
    rig.client.waited = 1.5
    turn = await rig.poller.poll()

    assert PollResult("success") == turn
    assert [(LIST, {"days": 7, "limit": 100, "skip": 0})] == rig.client.asked
    assert ({"success": 1}, 1, 2) == (rig.polls(), rig.value("late_up", "publishing"), rig.logs())
    assert 1 == rig.value(REQUESTS, LIST, "200")
    assert 1.5 == rig.value(THROTTLED)
    assert NOW == rig.value(SUCCEEDED, "publishing")
    seconds = rig.value("late_exporter_api_request_duration_seconds", LIST)
    assert isinstance(seconds, Histogram)
    assert (250_000, 1) == (seconds.micros, sum(seconds.counts))
    quota = [rig.value(f"late_exporter_api_quota_{name}") for name in ("limit", "remaining", "reset_timestamp_seconds")]
    assert [60, 59, NOW + 9] == quota
    assert 2 == rig.value("late_exporter_state_logs")
    assert 0 == rig.value("late_publishing_pending_logs", "tiktok", "publish")


OUTCOMES_OF = [
    ("unauthorized", Unauthorized("401: the key was refused")),
    ("rate_limited", RateLimited("429: slowly", until=100.0)),
    ("unavailable", ApiUnavailable("502: Bad Gateway")),
    ("bad_payload", BadPayload("the answer is not JSON")),
]


@pytest.mark.parametrize(("outcome", "failure"), OUTCOMES_OF)
async def test_failing_polls(rig: Rig, outcome: str, failure: LateError) -> None:
    """A poll that fails counts by its outcome and shows that the feed is down, until one succeeds."""
    await rig.poller.poll()
    rig.now = 30.0
    rig.fail(failure)
    assert PollResult(outcome, failure) == await rig.poller.poll()

    assert ({"success": 1, outcome: 1}, 0) == (rig.polls(), rig.value("late_up", "publishing"))
    assert NOW == rig.value(SUCCEEDED, "publishing"), "of the last one that succeeded"
    assert 1 == rig.value(REQUESTS, LIST, "error")
    health = rig.poller.health
    assert (outcome, str(failure), NOW, NOW + 30) == (
        health.outcome,
        health.error,
        health.last_success,
        health.last_poll,
    )

    rig.heal()
    assert PollResult("success") == await rig.poller.poll()
    assert ({"success": 2, outcome: 1}, 1) == (rig.polls(), rig.value("late_up", "publishing"))
    assert ("success", "") == (rig.poller.health.outcome, rig.poller.health.error)


async def test_a_list_that_is_not_there(rig: Rig) -> None:
    """A 404 for the list itself is no empty list."""
    rig.client.handler = lambda _, __: None
    turn = await rig.poller.poll()
    assert ("unavailable", "404: the API has no /v1/posts/logs") == (turn.outcome, str(turn.error))
    assert 1 == rig.value(REQUESTS, LIST, "404")


async def test_an_answer_that_is_none(rig: Rig) -> None:
    """An answer that is no list of logs is a bad payload."""
    rig.client.handler = lambda _, __: Reply(b"<html>")
    assert "bad_payload" == (await rig.poller.poll()).outcome


async def test_the_outcomes_are_born(rig: Rig) -> None:
    """Every outcome is at 0 before the first poll has ended."""
    rig.fail(Stop())
    with pytest.raises(Stop):
        await rig.poller.run()
    assert dict.fromkeys(POLL_OUTCOMES, 0) == {
        labels[2]: value for (family, labels), value in rig.canvas.shown.items() if family == POLLS
    }
    assert [0, 0] == [
        rig.value("late_exporter_entries_rejected_total", "publishing", reason) for reason in ("no_id", "not_an_object")
    ]
    assert 0 == rig.value("late_exporter_reconciled_logs_total", "publishing")
    assert 0 == rig.value(THROTTLED)


async def test_a_restart_keeps_what_was_counted(rig: Rig) -> None:
    """After a restart everything goes on from where it was, and births change nothing."""
    rig.rows = [row(1)]
    await rig.run(2)
    rig.start()
    assert ({"success": 2}, 1) == (rig.polls(), rig.logs())
    await rig.run(1)
    assert ({"success": 3}, 1) == (rig.polls(), rig.logs())


async def test_health(rig: Rig) -> None:
    """For people it is told how the feed is doing, from the first poll on."""
    assert FeedHealth(name="publishing") == rig.poller.health
    rig.rows = [row(2, "pending", postId="p"), row(1, age=DAY)]
    seen: list[FeedHealth] = []
    rig.shown = lambda: seen.append(rig.poller.health)
    await rig.run(1)

    assert (False, None) == (seen[0].is_synced, seen[0].outcome), "it is not told before it can be scraped"
    assert (
        FeedHealth(
            name="publishing",
            is_synced=True,
            outcome="success",
            last_poll=NOW,
            last_success=NOW,
            next_poll=NOW + 30,
            duration=0.0,
            logs=2,
            pending=1,
            coverage_start=NOW - 7 * DAY,
            recent_polls=(PollHealth(started_at=NOW, outcome="success", requests=1, logs=2),),
        )
        == rig.poller.health
    )


async def test_the_last_polls_are_remembered(rig: Rig) -> None:
    """Of every poll it is told what it cost and brought; failures are remembered for longer, and neither for ever."""
    for number in range(5):
        rig.now = 30.0 * number
        rig.fail(ApiUnavailable(f"down {number}"))
        await rig.poller.poll()
    rig.heal()
    for number in range(5, 20):
        rig.now = 30.0 * number
        rig.rows.insert(0, row(number, age=-rig.now))
        await rig.poller.poll()
    health = rig.poller.health

    assert [NOW + 30 * number for number in range(19, 11, -1)] == [poll.started_at for poll in health.recent_polls]
    assert {("success", 1, 1, "")} == {
        (poll.outcome, poll.requests, poll.logs, poll.error) for poll in health.recent_polls
    }
    assert [("unavailable", "down 4"), ("unavailable", "down 3"), ("unavailable", "down 2")] == [
        (poll.outcome, poll.error) for poll in health.recent_failures
    ]


async def test_the_lag(rig: Rig) -> None:
    """The lag runs from createdAt to counting by the API's clock; history has none, and none is below 0."""
    rig.rows = [row(1, age=DAY)]
    rig.date = NOW + 1000
    await rig.poller.poll()
    assert rig.poller.health.lag is None
    assert rig.value("late_exporter_log_lag_seconds", "publishing") is None

    rig.rows.insert(0, row(2, age=-995))
    await rig.poller.poll()
    assert 5.0 == rig.poller.health.lag
    rig.rows.insert(0, row(3, age=-2000))
    await rig.poller.poll()
    assert 0.0 == rig.poller.health.lag
    lag = rig.value("late_exporter_log_lag_seconds", "publishing")
    assert isinstance(lag, Histogram)
    assert (2, 5_000_000) == (sum(lag.counts), lag.micros)


async def test_exemplars(rig: Rig) -> None:
    """Logs that come live leave exemplars; history does not, nor does what was counted before."""
    rig.rows = [row(1)]
    await rig.poller.poll()
    assert [] == rig.canvas.exemplars
    rig.rows.insert(0, row(2, "failed"))
    for _ in range(2):
        await rig.poller.poll()
    assert [("acme", "tiktok", "publish", "failed")] == rig.canvas.exemplars


async def test_rejected_rows(rig: Rig) -> None:
    """A row without an id is refused, and counted as such once."""
    rig.rows = [row(1), {"platform": "tiktok", "status": "x"}, row(2, _id=5)]
    for _ in range(3):
        assert "success" == (await rig.poller.poll()).outcome
    assert (1, 2) == (rig.logs(), rig.value("late_exporter_entries_rejected_total", "publishing", "no_id"))


# When the next poll is.


async def test_the_interval(rig: Rig) -> None:
    """Polls begin an interval apart, whatever they took, and never follow without a pause."""

    def slow(seconds: float) -> Handler:
        def handler(path: str, params: Mapping[str, str | int]) -> Reply | None:
            rig.now += seconds
            return rig.answer(path, params)

        return handler

    rig.client.handler = slow(7.0)
    assert [23.0] == await rig.run(1)
    rig.client.handler = slow(500.0)
    assert [3.0] == await rig.run(1)


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
async def test_backoff(rig: Rig, chance: float, factor: float) -> None:
    """After each failure the pause doubles, up to two minutes, with jitter; a success ends it."""
    rig.chance = chance
    rig.fail(ApiUnavailable("down"))
    assert pytest.approx([factor * pause for pause in (30, 60, 120, 120, 120)]) == await rig.run(5)
    rig.heal()
    assert pytest.approx([30 * factor]) == await rig.run(1)
    rig.fail(BadPayload("odd"))
    assert pytest.approx([30 * factor, 60 * factor]) == await rig.run(2)


async def test_backoff_after_many_failures(rig: Rig) -> None:
    """However often it fails, the pause is bounded."""
    rig.fail(ApiUnavailable("down"))
    assert [120.0] * 1100 == (await rig.run(1102))[2:]
    assert {"unavailable": 1102} == rig.polls()


async def test_a_long_interval_is_no_backoff(rig: Rig) -> None:
    """An interval longer than the longest backoff stays the pause."""
    rig.start(PollConfig(interval=300.0))
    rig.fail(ApiUnavailable("down"))
    assert [300.0] * 3 == await rig.run(3)


@pytest.mark.parametrize(("until", "pause"), [(500.0, 500.0), (31.0, 31.0), (12.0, 30.0), (-5.0, 30.0)])
async def test_rate_limited(rig: Rig, until: float, pause: float) -> None:
    """After a 429 nothing is asked before its reset, nor before the next poll is due."""
    rig.fail(RateLimited("429", until=until))
    assert [pause] == await rig.run(1)
    assert NOW + pause == rig.poller.health.next_poll


async def test_rate_limits_do_not_add_up(rig: Rig) -> None:
    """A key that is over its limit again and again waits for each reset, and no longer."""

    def handler(_: str, __: Mapping[str, str | int]) -> Reply | None:
        raise RateLimited("429", until=rig.now + 45)

    rig.client.handler = handler
    assert [45.0] * 5 == await rig.run(5)


async def test_a_new_key_is_tried_soon(rig: Rig) -> None:
    """A refused key backs off; another one in its file is tried within an interval, not after the whole backoff."""
    rig.fail(Unauthorized("401"))
    assert [30.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0] == await rig.run(7)
    assert 3 == len(rig.client.asked), "30 s, 60 s and 120 s of backoff"

    rig.heal()
    rig.client.changed = True
    before = rig.now
    with suppress(Stop):
        await rig.poller.run()
    assert before == rig.now - rig.slept[-1]
    assert 1 == rig.value("late_up", "publishing")


async def test_a_new_key_ends_the_pause(rig: Rig) -> None:
    """A key that changes during a long pause ends it at the next look."""
    rig.start(PollConfig(interval=10.0))
    rig.fail(Unauthorized("401"))
    sleep = rig.sleep

    async def watched(seconds: float) -> None:
        if rig.now >= 100.0:
            rig.client.changed = True
            rig.heal()
        await sleep(seconds)

    rig.sleep = watched  # type: ignore[method-assign]
    rig.start(PollConfig(interval=10.0))
    rig.slept, rig.sleeps = [], 13
    with pytest.raises(Stop):
        await rig.poller.run()
    assert {10.0} == set(rig.slept)
    assert {"unauthorized": 4, "success": 2} == rig.polls(), "at 0, 10, 30 and 70 s, and at 110 s instead of 150 s"


async def test_a_new_key_that_another_feed_read_ends_the_pause(rig: Rig) -> None:
    """The feed that comes second does not wait for its backoff because the first has read the new key already."""
    rig.start(PollConfig(interval=10.0))
    rig.fail(Unauthorized("401"))
    sleep = rig.sleep

    async def watched(seconds: float) -> None:
        if rig.now >= 100.0 and not rig.client.key_reload_count:
            rig.client.key_reload_count = 1
            rig.heal()
        await sleep(seconds)

    rig.sleep = watched  # type: ignore[method-assign]
    rig.start(PollConfig(interval=10.0))
    rig.slept, rig.sleeps = [], 13
    with pytest.raises(Stop):
        await rig.poller.run()
    assert {"unauthorized": 4, "success": 2} == rig.polls(), "at 0, 10, 30 and 70 s, and at 110 s instead of 150 s"


async def test_a_catch_up_gives_way(rig: Rig) -> None:
    """A catch-up that takes longer than an interval is interrupted for the newest logs, and goes on at once."""

    def slow(path: str, params: Mapping[str, str | int]) -> Reply | None:
        rig.now += 20.0
        if len(rig.client.asked) == 5:
            rig.rows.insert(0, row(5000, "failed"))
        return rig.answer(path, params)

    rig.client.handler = slow
    rig.rows = [row(number, age=1000 - number) for number in range(950, 0, -1)]
    turn = await rig.poller.poll()
    assert PollResult("success", is_partial=True) == turn
    assert ("success", False, 1) == (turn.outcome, rig.poller.health.is_synced, rig.poller.health.gaps)
    assert rig.logs() is None, "history is not shown before the first sync is complete"

    await rig.run(1)
    assert (950, 1, 0) == (rig.logs(), rig.logs("failed"), rig.poller.health.gaps)
    skips = [int(params["skip"]) for _, params in rig.client.asked]
    assert skips.count(0) >= 3
    assert len(skips) < 30
    assert [row[1] for row in rig.diary.loud].count("first sync complete") == 1


async def test_a_catch_up_is_committed_in_parts(rig: Rig) -> None:
    """A long first sync is made durable every thousand logs, and a failure in its middle costs none of them."""
    rig.rows = [row(number, age=5000 - number) for number in range(2500, 0, -1)]

    def handler(path: str, params: Mapping[str, str | int]) -> Reply | None:
        if int(params["skip"]) > 1800:
            raise ApiUnavailable("gone")
        return rig.answer(path, params)

    rig.client.handler = handler
    assert "unavailable" == (await rig.poller.poll()).outcome
    sizes = [len(batch.observations) for batch in rig.store.batches]
    assert all(size < 1200 for size in sizes)
    assert 1800 < sum(sizes) < 2300
    held = rig.store.feed_state(Scope("acme", "publishing")).log_count
    assert 1800 < held < 1901
    assert rig.logs() is None

    rig.heal()
    rig.start()
    rig.client.asked.clear()
    await rig.poller.poll()
    assert (2500, 2500) == (rig.logs(), rig.poller.health.logs)
    assert len(rig.client.asked) < 20, "what was read is not read again, but for what may have come late"


async def test_a_reconcile_walk_now_and_then(rig: Rig) -> None:
    """Known ground is walked over again every reconcile interval, page by page; otherwise a poll is one request."""
    rig.start(PollConfig(reconcile_interval=300.0))
    rig.rows = [row(number, age=5000 - number) for number in range(450, 0, -1)]
    await rig.poller.poll()
    await rig.poller.poll()
    rig.client.asked.clear()
    await rig.poller.poll()
    assert 1 == len(rig.client.asked)

    rig.rows.insert(440, row(9999, "failed", age=4990))  # behind the reader's back
    rig.rows.pop()
    rig.now = 300.0
    for _ in range(12):
        await rig.poller.poll()
    assert 1 == rig.logs("failed")
    assert 1 == rig.value("late_exporter_reconciled_logs_total", "publishing")
    requests = len(rig.client.asked)
    await rig.poller.poll()
    assert 1 == len(rig.client.asked) - requests


async def test_an_audit_now_and_then(rig: Rig) -> None:
    """The loop audits after its polls; where it is to audit no more, nothing is shown that would only grow older."""
    rig.start(PollConfig(reconcile_interval=60.0, audit_interval=3600.0))
    rig.rows = [row(number, age=5000 - number) for number in range(150, 0, -1)]
    slept = await rig.run(12)
    assert [30.0] * 12 == slept
    shown = "late_exporter_audit_missing_logs", "late_exporter_audit_extra_logs"
    assert [0, 0] == [rig.value(family, "publishing") for family in shown]
    last = "late_exporter_audit_last_completed_timestamp_seconds"
    assert NOW < float(str(rig.value(last, "publishing"))) <= rig.clock()
    begun = rig.value("late_exporter_reconcile_last_completed_timestamp_seconds", "publishing")
    assert NOW < float(str(begun)) < rig.clock()

    rig.start(PollConfig())
    assert 0 == rig.value(shown[0], "publishing")
    await rig.run(1)
    assert [None] * 3 == [rig.value(family, "publishing") for family in (*shown, last)]


@pytest.mark.parametrize("failing", [1, 2, 3, None])
async def test_a_walk_whose_finds_are_not_saved_is_none(rig: Rig, failing: int | None) -> None:
    """A walk is shown to have passed only where all that it found on its way is durable."""
    rig.start(PollConfig(reconcile_interval=600.0))
    rig.rows = [row(number, age=5000 - number) for number in range(390, 0, -1)]
    await rig.poller.poll()
    await rig.poller.poll()
    rig.now += 601
    begun = rig.clock()
    for number in range(1, 8):
        rig.store.failing = {"commit"} if number == failing else set()
        await rig.poller.poll()
        rig.now += 1
    walked = rig.value("late_exporter_reconcile_last_completed_timestamp_seconds", "publishing")
    assert (None if failing else begun) == walked


async def test_pending_logs_are_asked_for(rig: Rig) -> None:
    """What became of a pending log is learned from its post, whatever its id is made of."""
    rig.rows = [row(1, "pending", postId="a/b?c", age=DAY)]
    await rig.poller.poll()
    gauges = "late_publishing_pending_logs", "late_publishing_oldest_pending_timestamp_seconds"
    assert [1, NOW - DAY] == [rig.value(gauges[0], "tiktok", "publish"), rig.value(gauges[1], "tiktok")]

    asked: list[str] = []

    def handler(path: str, params: Mapping[str, str | int]) -> Reply | None:
        asked.append(path)
        return rig.answer(path if path == LIST else "/v1/posts/a/b?c/logs", params)

    rig.rows = [*(row(number) for number in range(300, 100, -1)), row(1, postId="a/b?c", age=DAY)]
    rig.client.handler = handler
    rig.start()
    for _ in range(2):
        await rig.poller.poll()
    assert "/v1/posts/a%2Fb%3Fc/logs" in asked
    assert 0 == rig.value(gauges[0], "tiktok", "publish")
    assert rig.value(gauges[1], "tiktok") is None
    assert (201, 1, 0) == (rig.logs(), rig.logs("pending"), rig.poller.health.pending)


async def test_a_post_that_is_gone(rig: Rig) -> None:
    """A pending log whose post is gone is pending no more."""
    rig.rows = [row(1, "pending", postId="p", age=DAY)]
    await rig.poller.poll()
    rig.rows = [row(2)]
    await rig.poller.poll()
    assert ("/v1/posts/p/logs", {"limit": 100}) in rig.client.asked
    assert 1 == rig.value(REQUESTS, POST, "404")
    assert 0 == rig.poller.health.pending


async def test_connection_logs() -> None:
    """The other feed is polled in the same way, and knows nothing of pending logs."""
    with closing(open_store("sqlite://")) as store:
        rig = Rig(store, "connections")
        rig.rows = [{"_id": "a", "platform": "tiktok", "eventType": "disconnect", "createdAt": written(NOW)}]
        await rig.run(1)
        assert [("/v1/connections/logs", {"days": 7, "limit": 100, "skip": 0})] == rig.client.asked
        assert 1 == rig.value("late_connection_events_total", "tiktok", "disconnect", "unknown")
        assert 1 == rig.value("late_up", "connections")
        assert not [family for family, _ in rig.canvas.shown if family.startswith("late_publishing")]


# When the state cannot be written.


async def test_a_poll_that_cannot_be_saved(rig: Rig) -> None:
    """A poll whose logs cannot be saved is no success, counts none of them, and still counts itself."""
    rig.rows = [row(1)]
    await rig.poller.poll()
    rig.rows.insert(0, row(2, "failed"))
    rig.now = 30.0
    rig.store.failing = {"commit"}
    for number in (1, 2, 3):
        turn = await rig.poller.poll()
        assert ("store_error", "commit: no luck") == (turn.outcome, str(turn.error))
        assert {"success": 1, "store_error": number} == rig.polls()
    assert (0, 0, NOW) == (rig.value("late_up", "publishing"), rig.logs("failed"), rig.value(SUCCEEDED, "publishing"))
    assert 1 == rig.value(REQUESTS, LIST, "200")
    assert (None, 1) == (rig.saved(POLLS, "publishing", "store_error"), rig.saved(REQUESTS, LIST, "200"))

    rig.store.failing = set()
    await rig.poller.poll()
    await rig.poller.poll()
    assert {"success": 3, "store_error": 3} == rig.polls()
    assert (1, 1) == (rig.logs(), rig.logs("failed"))
    assert (3, 6) == (rig.saved(POLLS, "publishing", "store_error"), rig.saved(REQUESTS, LIST, "200"))
    assert rig.polls() == {name: rig.saved(POLLS, "publishing", name) for name in ("success", "store_error")}
    assert [] == rig.backlog


async def test_a_failure_that_cannot_be_saved(rig: Rig) -> None:
    """Where both the API and the state fail, the poll counts once, by the state."""
    rig.fail(ApiUnavailable("down"))
    rig.store.failing = {"commit"}
    assert "store_error" == (await rig.poller.poll()).outcome
    assert {"store_error": 1} == rig.polls()


async def test_a_state_that_cannot_be_read(rig: Rig) -> None:
    """A state that cannot be asked fails the poll; nothing is counted twice later."""
    rig.rows = [row(1)]
    rig.store.failing = {"lookup"}
    turn = await rig.poller.poll()
    assert ("store_error", "lookup: no luck") == (turn.outcome, str(turn.error))
    assert {"store_error": 1} == rig.polls() == {"store_error": rig.saved(POLLS, "publishing", "store_error")}
    rig.store.failing = set()
    await rig.poller.poll()
    assert 1 == rig.logs()


async def test_a_start_that_cannot_be_saved(rig: Rig) -> None:
    """An exporter that starts on a full disk shows its counters at once, and saves all of it exactly once later."""
    rig.rows = [row(1)]
    rig.store.failing = {"commit"}
    assert [30.0, 60.0] == await rig.run(2)
    assert (0, {"store_error": 2}) == (rig.value(POLLS, "publishing", "success"), rig.polls())
    assert rig.logs() is None

    rig.store.failing = set()
    await rig.poller.poll()
    assert ({"success": 1, "store_error": 2}, 1) == (rig.polls(), rig.logs())
    rig.start()
    assert ({"success": 1, "store_error": 2}, 1) == (rig.polls(), rig.logs())
    assert 3 == rig.value(REQUESTS, LIST, "200")


async def test_a_first_sync_that_cannot_be_saved(rig: Rig) -> None:
    """A first sync that fails by the state in its middle begins where it was last saved, and counts every log once."""
    rig.rows = [row(number, age=5000 - number) for number in range(1500, 0, -1)]

    def handler(path: str, params: Mapping[str, str | int]) -> Reply | None:
        rig.store.failing = {"commit"} if 500 < int(params["skip"]) < 1400 else set()
        return rig.answer(path, params)

    rig.client.handler = handler
    assert "store_error" == (await rig.poller.poll()).outcome
    rig.heal()
    rig.store.failing = set()
    assert "success" == (await rig.poller.poll()).outcome
    assert (1500, 1500) == (rig.logs(), rig.poller.health.logs)


async def test_births_of_a_platform_survive_a_failed_commit(rig: Rig) -> None:
    """The zeros of a new platform, and that it is newborn, are not lost with the commit that failed."""
    await rig.poller.poll()
    rig.rows = [row(1)]
    rig.store.failing = {"commit"}
    await rig.poller.poll()
    rig.store.failing = set()
    await rig.poller.poll()

    assert (1, 0) == (rig.logs(), rig.logs("failed"))
    assert 24 == len([labels for family, labels in rig.canvas.shown if family == LOGS])
    assert (LOGS, ("acme", "tiktok", "publish", "success")) in rig.canvas.born


async def test_a_size_that_cannot_be_told(rig: Rig) -> None:
    """Whatever fails after a commit, what it made durable is shown, and counts once."""
    rig.rows = [row(1)]
    rig.store.failing = {"size"}
    assert "success" == (await rig.poller.poll()).outcome
    assert (1, {"success": 1}) == (rig.logs(), rig.polls())
    assert rig.value("late_exporter_state_bytes") is None
    rig.store.failing = set()
    await rig.poller.poll()
    assert (1, {"success": 2}) == (rig.logs(), rig.polls())
    assert 1 == rig.value("late_exporter_state_logs")


async def test_two_feeds_share_what_is_not_saved(rig: Rig) -> None:
    """What one feed could not save is saved with the next commit of another one, once, and nothing falls meanwhile."""
    throttled = IncCounter(THROTTLED, ("acme",), amount=5.0)
    scope = Scope("acme", "connections")
    other = FeedRecorder(
        "acme",
        FEEDS["connections"],
        rig.store.feed_state(scope),
        store=rig.store,
        offload=rig.offload,
        label_limiter=rig.governor,
        registry=rig.board,
        backlog=rig.backlog,
        clock=rig.clock,
    )
    saving = asyncio.ensure_future(other.commit(PendingBatch(), 0, [IncCounter(THROTTLED, ("acme",), amount=1.0)]))
    await asyncio.sleep(0)  # its batch is made
    rig.books.defer((), provisional=[throttled])
    await saving
    assert (5.0, 1.0) == (rig.value(THROTTLED), rig.saved(THROTTLED))

    await other.commit(PendingBatch(), 0)
    assert (6.0, 6.0) == (rig.value(THROTTLED), rig.saved(THROTTLED))
    assert [] == rig.backlog


# How it ends.


async def test_a_bug_ends_the_loop(rig: Rig) -> None:
    """An exception that is none of ours comes out of the loop, whatever it was doing."""
    rig.fail(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        await rig.poller.run()
    assert {} == rig.polls()


async def test_a_bug_in_the_store_ends_the_loop(rig: Rig) -> None:
    """A bug while saving comes out of the loop, and what was waiting to be saved is still there."""

    def broken(scope: Scope, batch: Batch) -> CommitResult:
        assert ("acme", 1.0) <= (scope.workspace, batch.committed_at)
        raise ZeroDivisionError

    rig.books.defer([IncCounter(THROTTLED, ("acme",))])
    rig.store.commit = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await rig.poller.run()
    assert [IncCounter(THROTTLED, ("acme",))] == rig.backlog


@pytest.mark.parametrize("steps", range(1, 14))
async def test_cancellation(rig: Rig, steps: int) -> None:
    """A loop that is cancelled at any moment ends at once; another one on the same state counts everything once."""
    rig.rows = [row(number, age=1000 - number) for number in range(150, 0, -1)]
    rig.sleeps = 1000
    running = asyncio.ensure_future(rig.poller.run())
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    rig.start()
    await rig.poller.poll()
    assert (150, 150) == (rig.logs(), rig.saved(LOGS, "tiktok", "publish", "success"))


async def test_cancellation_in_the_middle_of_a_request(rig: Rig) -> None:
    """A loop that waits for an answer can be cancelled; nothing of the poll is counted."""
    asked = asyncio.Event()

    async def never(path: str, params: Mapping[str, str | int], *, path_template: str) -> Reply | None:
        assert (LIST, LIST) == (path, path_template)
        assert 0 == params["skip"]
        asked.set()
        await asyncio.Event().wait()
        return None

    rig.client.get = never  # type: ignore[method-assign]
    running = asyncio.ensure_future(rig.poller.run())
    await asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert {} == rig.polls()
    assert rig.value("late_up", "publishing") is None


# What is said.


async def test_what_is_logged(rig: Rig) -> None:
    """The first sync, the first of equal failures and the first success after them are told, the rest whispered."""
    for failure in (
        None,
        None,
        ApiUnavailable("a"),
        ApiUnavailable("a"),
        ApiUnavailable("b"),
        BadPayload("b"),
        None,
        None,
    ):
        if failure is None:
            rig.heal()
        else:
            rig.fail(failure)
        await rig.poller.poll()

    assert [
        ("info", "first sync complete"),
        ("warning", "poll failed"),
        ("warning", "poll failed"),
        ("warning", "poll failed"),
        ("info", "poll succeeds again"),
    ] == rig.diary.loud
    assert 8 == len(rig.diary.lines)
    assert {"outcome": "unavailable", "seconds": 0.0, "logs": 0, "error": "a"} == rig.diary.lines[2][2]
    assert 4 == rig.diary.lines[6][2]["after"]


def test_births_of_the_exporters_own() -> None:
    """A feed's own counters begin at 0."""
    born = initial_zeros("acme", "publishing", ("success", "store_error"))
    assert {0} == {increment.amount for increment in born}
    assert {(POLLS, ("acme", "publishing", "success")), (POLLS, ("acme", "publishing", "store_error"))} <= {
        (increment.family, increment.labels) for increment in born
    }
    for increment in born:
        assert len(CATALOGUE[increment.family].labels) == len(increment.labels)


# What may be forgotten.


def coverage(newest: float, horizon: float = 0.0) -> Coverage:
    """A coverage whose newest log is of a time."""
    return Coverage(
        retention_floor=int(horizon * 1000),
        complete_since=0,
        newest=ListPosition(int(newest * 1000), "x"),
        is_synced=True,
    )


PRUNES = [
    # newest log, the clock, the API's clock, and what it is pruned by
    (NOW, NOW, NOW, NOW),
    (NOW - 5 * DAY, NOW, NOW, NOW - 5 * DAY),
    (NOW + 5 * DAY, NOW, NOW, NOW),
    (NOW, NOW + 400 * DAY, NOW + 400 * DAY, NOW),
    (NOW, NOW - 3 * DAY, NOW, NOW - 3 * DAY),
    (NOW, NOW, NOW - 3 * DAY, NOW - 3 * DAY),
]


@pytest.mark.parametrize(("newest", "clock", "api", "by"), PRUNES)
async def test_what_is_forgotten(rig: Rig, newest: float, clock: float, api: float, by: float) -> None:
    """Logs are forgotten a day after the API has, by the most cautious of the newest log and the two clocks."""
    rig.now = clock - NOW
    await rig.books.commit(PendingBatch(coverage=coverage(newest)), int(api * 1000))

    batch = rig.store.batches[-1]
    assert int((by - 8 * DAY) * 1000) == batch.prune_before
    assert batch.coverage is not None
    assert batch.prune_before == batch.coverage.retention_floor
    assert rig.books.coverage == batch.coverage


async def test_what_is_forgotten_does_not_come_back(rig: Rig) -> None:
    """A log from before what was forgotten is not counted, even when an API shows it; one without a time is."""
    rig.governor = LabelLimiter(CATALOGUE)
    entries = [
        LogEntry(key="old", status="success", created=int((NOW - 8 * DAY) * 1000) - 1),
        LogEntry(key="edge", status="success", created=int((NOW - 8 * DAY) * 1000)),
        LogEntry(key="undated", status="success"),
    ]
    draft = PendingBatch(entries=[(entry, False) for entry in entries], coverage=coverage(NOW))
    await rig.books.commit(draft, int(NOW * 1000))
    assert ["edge", "undated"] == [sighting.entry.key for sighting in rig.store.batches[-1].observations]

    await rig.books.commit(PendingBatch(entries=[(entries[0], False)]), int(NOW * 1000))
    assert [] == rig.store.batches[-1].observations


async def test_the_horizon_never_falls(rig: Rig) -> None:
    """A clock that goes back does not bring back what was forgotten."""
    await rig.books.commit(PendingBatch(coverage=coverage(NOW, horizon=NOW - 2 * DAY)), int(NOW * 1000))
    kept = rig.store.batches[-1].coverage
    assert kept is not None
    assert int((NOW - 2 * DAY) * 1000) == kept.retention_floor
    assert rig.store.batches[-1].prune_before == int((NOW - 8 * DAY) * 1000)


async def test_history_is_born_when_the_record_begins(rig: Rig) -> None:
    """Series of the first sync begin with the record; later ones, and the exporter's own, when they are counted."""
    rig.rows = [row(1, age=DAY)]
    await rig.poller.poll()
    assert NOW - 7 * DAY == rig.store.series_values()[LOGS, ("acme", "tiktok", "publish", "success")].created
    assert NOW == rig.store.series_values()[REQUESTS, ("acme", LIST, "200")].created
    rig.now = 60.0
    rig.rows.insert(0, row(2, age=-60, action="publish", platform="reddit"))
    await rig.poller.poll()
    assert NOW + 60 == rig.store.series_values()[LOGS, ("acme", "reddit", "publish", "success")].created


# What webhooks bring about.


Woken: TypeAlias = tuple[Rig, Timeline]


@pytest.fixture
async def woken(rig: Rig) -> AsyncIterator[Woken]:
    """A poller that has polled once, at 0, and whose webhooks a test sends; it polls every 100 seconds."""
    timeline = Timeline(rig)
    rig.rows = [row(1)]
    rig.client.rate_limit = 600
    rig.start(PollConfig(interval=100.0), timeline=timeline)
    running = asyncio.ensure_future(rig.poller.run())
    assert 1 == await timeline.reach(0.0)
    yield rig, timeline
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def arrive(rig: Rig, *, event: str = "post.failed", log: bool = True) -> None:
    """A webhook comes, with or without a log to find."""
    assert rig.inbox is not None
    if log:
        rig.rows.insert(0, row(len(rig.rows) + 1))
    rig.inbox.record(event, rig.clock() - 0.5, rig.clock())


async def test_a_webhook_has_the_feed_polled_at_once(woken: Woken) -> None:
    """What it tells of is counted within the moment, once, and so is the webhook."""
    rig, timeline = woken
    await timeline.reach(40.0)
    arrive(rig)
    assert 2 == await timeline.reach(40.0)
    assert (2, 2) == (rig.logs(), rig.saved(LOGS, "tiktok", "publish", "success"))
    assert 1 == rig.value("late_exporter_webhooks_received_total", "post.failed")
    assert 0 == rig.value("late_exporter_webhooks_rejected_total", "signature")
    assert NOW + 40 == rig.value("late_exporter_webhook_last_received_timestamp_seconds")
    lag = rig.value("late_exporter_webhook_lag_seconds")
    assert isinstance(lag, Histogram)
    assert (500_000, 1) == (lag.micros, sum(lag.counts))
    assert 2 == await timeline.reach(99.9)
    assert 3 == await timeline.reach(100.0)
    assert 2 == rig.logs()


async def test_a_burst_of_webhooks_costs_a_poll_a_second(woken: Woken) -> None:
    """The first of many is followed at once, the rest together a second later."""
    rig, timeline = woken
    for tenth in range(30):
        await timeline.reach(10 + tenth / 10)
        arrive(rig)
    assert 1 + 3 == await timeline.reach(12.99)
    assert 1 + 4 == await timeline.reach(99.0)
    assert 31 == rig.logs()


async def test_a_webhook_ahead_of_its_log(woken: Woken) -> None:
    """A poll that found nothing is repeated two seconds later, and finds a log that has come; it is repeated once."""
    rig, timeline = woken
    await timeline.reach(10.0)
    arrive(rig, log=False)
    assert 2 == await timeline.reach(11.99)
    rig.rows.insert(0, row(2))
    assert 3 == await timeline.reach(12.0)
    assert 2 == rig.logs()
    arrive(rig, log=False)
    assert (4, 5) == (await timeline.reach(12.0), await timeline.reach(99.0))


async def test_other_webhooks_wake_nothing(woken: Woken) -> None:
    """An event of another feed or of none is counted by the next poll, and brings none about."""
    rig, timeline = woken
    for event in ("account.connected", "comment.received"):
        arrive(rig, event=event, log=False)
    assert 1 == await timeline.reach(99.0)
    await timeline.reach(100.0)
    assert 1 == rig.value("late_exporter_webhooks_received_total", "account.connected")
    assert 1 == rig.value("late_exporter_webhooks_received_total", "other")


async def test_webhooks_do_not_hurry_a_poller_that_waits_for_the_api(woken: Woken) -> None:
    """After a failure or a 429 a webhook changes nothing about when the API is asked again."""
    rig, timeline = woken
    rig.fail(RateLimited("429: slowly", until=350.0))
    assert 2 == await timeline.reach(100.0)
    for second in range(100, 350, 10):
        await timeline.reach(float(second))
        arrive(rig)
    rig.fail(ApiUnavailable("502: Bad Gateway"))
    assert (2, 3) == (await timeline.reach(349.0), await timeline.reach(350.0))
    arrive(rig)
    rig.heal()
    # The backoff of a second failure; what came meanwhile is found by one poll.
    assert (3, 4) == (await timeline.reach(469.0), await timeline.reach(470.0))
    assert 27 == rig.logs()
    assert 4 == await timeline.reach(569.0)


async def test_webhooks_keep_to_a_part_of_the_quota(woken: Woken) -> None:
    """A webhook a second has no more requests made than their share of the limit, and the other polls go on."""
    rig, timeline = woken
    rig.client.rate_limit = 40
    for second in range(1, 121):
        await timeline.reach(float(second))
        arrive(rig, log=second % 2 == 1)
    # A quarter of the limit in each of two minutes, and the polls at 0 and at 100.
    assert 2 + 2 * 10 == await timeline.reach(120.5)
    await timeline.reach(200.0)
    assert 61 == rig.logs()


async def test_a_poll_of_a_webhook_walks_nowhere(rig: Rig) -> None:
    """What a webhook brings about reads what is new; walks and audits are left to the other polls."""
    timeline = Timeline(rig)
    rig.rows = [row(number, age=1000 - number) for number in range(350, 0, -1)]
    rig.start(PollConfig(interval=100.0, reconcile_interval=20.0, audit_interval=1.0), timeline=timeline)
    running = asyncio.ensure_future(rig.poller.run())
    at_first = await timeline.reach(99.0)
    arrive(rig)
    assert at_first + 1 == await timeline.reach(99.9)
    assert at_first + 4 <= await timeline.reach(100.0)
    running.cancel()


async def test_polls_are_rarer_while_webhooks_come(rig: Rig) -> None:
    """With a relaxed interval polls go on at the usual one until a webhook came, and after they have stayed away."""
    timeline = Timeline(rig)
    rig.start(PollConfig(interval=100.0, webhook_interval=500.0), timeline=timeline)
    running = asyncio.ensure_future(rig.poller.run())
    assert 3 == await timeline.reach(250.0)
    arrive(rig, event="account.connected", log=False)
    # One more at 300, then one every 500 s for ten of them.
    assert (4, 5, 6) == (await timeline.reach(799.0), await timeline.reach(800.0), await timeline.reach(1300.0))
    assert 4 + 10 == await timeline.reach(5300.0)
    assert 4 + 10 + 3 == await timeline.reach(5600.0)
    running.cancel()

"""Worlds to test in: a Late API without a network, an exporter without a loop, and time that moves when told."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec

from late_exporter.api.generation import ApiGeneration
from late_exporter.errors import ApiError, ApiUnavailable, BadPayload, RateLimited, StoreError, Unauthorized
from late_exporter.exposition.exposition import Exposition
from late_exporter.feeds import GENERATIONS
from late_exporter.ingest.audit import Audit, CounterMismatch, WaitForExporter, audit_list, check_counters, grace_period
from late_exporter.ingest.background_audit import last_audit
from late_exporter.ingest.poller import POLL_OUTCOMES, PollConfig, Poller, PollResult
from late_exporter.ingest.recorder import FeedRecorder, PendingBatch, initial_zeros
from late_exporter.ingest.steps import FetchedPage, FetchPage
from late_exporter.ingest.webhooks import RequestBudget, WebhookStats
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import (
    Batch,
    CommitResult,
    Coverage,
    Feed,
    FeedAccounting,
    FeedState,
    Increment,
    KnownLogs,
    LogEntry,
    Scope,
    Series,
    SeriesValue,
)
from late_exporter.simulator import LogList, SimulatedApi, StaticLogs
from late_exporter.simulator.log_list import LogRow
from late_exporter.status import Quota
from late_exporter.store import Store, open_store

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "ExporterHarness",
    "FakeLateApi",
    "ListQuirks",
    "LogStatus",
    "NullLogger",
    "Samples",
    "VirtualClock",
    "World",
    "bad_gateway",
    "cut_off",
    "empty",
    "no_logs",
    "rate_limited",
    "unauthorized",
    "unavailable",
    "zernio",
]

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
START = 1_795_600_000.0
KEY = "sk_" + "0" * 64
RETENTION = 7 * DAY

ResultT = TypeVar("ResultT")

Document: TypeAlias = dict[str, Any]
Callback: TypeAlias = Callable[[], object]

Fault: TypeAlias = Callable[["FakeLateApi", bytes], bytes]
"""What a request comes to instead: another body, or an ApiError."""

LogStatus: TypeAlias = tuple[str, str]
"""A log in a status."""


class VirtualClock:
    """Unix and monotonic time; it moves when told."""

    def __init__(self, now: float = START) -> None:
        self.now = now
        self.elapsed = 0.0

    def time(self) -> float:
        """Unix time."""
        return self.now

    def monotonic(self) -> float:
        """Time that only goes forward."""
        return self.elapsed

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.elapsed += seconds

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.advance(seconds)


class World:
    """The logs of one API key, and a record of what they ever were.

    ``appended_ids`` are the logs that were newer than all others when they were written.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.archives = StaticLogs(LogList(), LogList())
        self.history: dict[LogStatus, LogRow] = {}
        self.newest_at = clock.now
        self.insertion_order: dict[str, int] = {}
        self.appended_ids: set[str] = set()
        self._latest = 0.0

    @property
    def rows(self) -> Sequence[LogRow]:
        """The publishing logs, newest first."""
        return self.archives.publishing.rows

    @property
    def ids(self) -> list[str]:
        """The ids of the publishing logs, newest first."""
        return [row["_id"] for row in self.rows]

    @property
    def visible(self) -> dict[LogStatus, LogRow]:
        """The publishing logs that the API shows now, in the status they are in."""
        since = self.clock.now - RETENTION
        return {
            (row["_id"], row["status"]): row
            for row in self.rows
            if row["createdAt"] is None or datetime.fromisoformat(row["createdAt"]).timestamp() >= since
        }

    def publish(
        self, count: int = 1, *, over: float | None = None, kinds: Sequence[LogRow] = ({},), **fields: Any
    ) -> list[str]:
        """Insert logs on top of the list, spread over the time since the last ones or over the last seconds."""
        now = self.clock.now
        first = self.newest_at if over is None else now - over
        self.newest_at = now
        step = (now - first) / max(count, 1)
        return [self.insert(first + step * (n + 1), **{**fields, **kinds[n % len(kinds)]}) for n in range(count)]

    def insert(self, created: float | None, *, precise: bool = True, **fields: Any) -> str:
        """Insert a log wherever its time belongs."""
        number = len(self.insertion_order)
        log_id = f"{int(self.clock.now):08x}{number:016x}"
        row: LogRow = {
            "_id": log_id,
            "postId": {"_id": f"post{number // 2}", "content": "Frische Brezeln 🥨", "status": "published"},
            "platform": "instagram",
            "accountId": "acc1",
            "accountUsername": "@baeckerei",
            "action": "publish",
            "status": "success",
            "statusCode": 200,
            "response": {"errorCode": None},
            "durationMs": 1200,
            "attemptNumber": 1,
            "createdAt": None if created is None else _written(created, precise=precise),
            **fields,
        }
        self.insertion_order[log_id] = number
        if created is not None and created >= self._latest:
            self.appended_ids.add(log_id)
            self._latest = created
        self.archives.publishing.insert(row)
        self._record(row)
        return log_id

    def change(self, log_id: str, status: str, **fields: Any) -> bool:
        """Change a log in place."""
        changed = self.archives.publishing.update(log_id, status=status, **fields)
        row = self.archives.publishing.get(log_id)
        if row is not None:
            self._record(row)
        return changed

    def delete(self, *log_ids: str) -> None:
        """Delete logs."""
        for log_id in log_ids:
            self.archives.publishing.delete(log_id)

    def delete_top(self, count: int) -> None:
        """Delete the newest logs."""
        self.delete(*self.ids[:count])

    def expire(self) -> None:
        """Drop what is older than the retention."""
        self.archives.publishing.expire(self.clock.now - RETENTION)
        self.archives.connections.expire(self.clock.now - RETENTION)

    def add_connection(self, event: str = "connect_success", **fields: Any) -> str:
        """Insert a connection log on top of its list."""
        number = len(self.archives.connections)
        log_id = f"{int(self.clock.now):08x}c{number:015x}"
        row: LogRow = {
            "_id": log_id,
            "platform": "instagram",
            "accountId": "acc1",
            "eventType": event,
            "connectionMethod": "oauth",
            "durationMs": 900,
            "createdAt": _written(self.clock.now, precise=True),
            **fields,
        }
        self.archives.connections.insert(row)
        return log_id

    def _record(self, row: LogRow) -> None:
        self.history[row["_id"], row["status"]] = dict(row)


def _written(moment: float, *, precise: bool) -> str:
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds" if precise else "seconds")
    return text.replace("+00:00", "Z")


class ListRequest(NamedTuple):
    """What was asked of the API."""

    path: str
    skip: int
    status: str | None


class Call(NamedTuple):
    """A request as the exporter counts it."""

    path_template: str
    code: str
    seconds: float


class Reply(NamedTuple):
    """A good answer."""

    body: bytes
    date: float | None


@dataclass(frozen=True, kw_only=True)
class ListQuirks:
    """How a list is other than documented.

    Args:
        max_page_size: Rows on a page at most, whatever was asked for.
        order: The whole list from the documented one; None where the order is as documented.
        transform: Changes a document before it is sent.
        never_expires: nothing expires, and ``days`` is ignored: the list shows all that is stored.
        ignores_skip: ``skip`` is ignored.
        ignores_status: ``status`` is ignored.
        ignores_time_filter: ``from`` and ``to`` are ignored.
    """

    max_page_size: int = 100
    order: Callable[[Sequence[LogRow]], Sequence[LogRow]] | None = None
    transform: Callable[[Document], Document] | None = None
    never_expires: bool = False
    ignores_skip: bool = False
    ignores_status: bool = False
    ignores_time_filter: bool = False


class Checkpoint:
    """A place at which the exporter can be killed."""

    def __await__(self) -> Generator[Self, None, None]:
        """Give whoever drives the coroutine the choice."""
        yield self


class FakeLateApi:
    """The API as a poller sees it, and what happens to it between two requests.

    Args:
        world: What it shows.
        latency: Seconds that a request takes.
        sends_date: Answers carry ``Date``.
        quirks: How it lists.
        generation: Which lists it has; it may change.
    """

    def __init__(
        self,
        world: World,
        *,
        latency: float = 0.0,
        sends_date: bool = True,
        quirks: ListQuirks | None = None,
        generation: str = "late",
    ) -> None:
        self.world = world
        self.generation = generation
        self.latency = latency
        self.sends_date = sends_date
        self.quirks = quirks or ListQuirks()
        self.requests: list[ListRequest] = []
        self.rate_limit = 600
        self.quota: Quota | None = None
        self._clock = world.clock
        self._calls: list[Call] = []
        self._callbacks: dict[int, list[Callback]] = {}
        self._faults: dict[int, Fault] = {}
        self._service = SimulatedApi(world.archives, clock=world.clock.time, rate_limit=10**9)

    def before_request(self, number: int, callback: Callback) -> None:
        """Let something happen before the request of that number, counted from the next one, which is 0."""
        self._callbacks.setdefault(len(self.requests) + number, []).append(callback)

    def fail_request(self, number: int, fault: Fault) -> None:
        """Let the request of that number fail, counted from the next one, which is 0."""
        self._faults[len(self.requests) + number] = fault

    def set_generation(self, generation: str) -> None:
        """Have the endpoints of that generation from now on."""
        self.generation = generation

    def clear_events(self) -> None:
        """Forget what has not happened yet."""
        self._callbacks.clear()
        self._faults.clear()

    @property
    def key_reload_count(self) -> int:
        """Never."""
        return 0

    def key_file_changed(self) -> bool:
        """Never."""
        return False

    def pop_request_log(self) -> tuple[Sequence[Call], float]:
        """The requests since last asked."""
        calls, self._calls = self._calls, []
        return calls, 0.0

    async def get(self, path: str, params: Mapping[str, str | int], *, path_template: str) -> Reply | None:
        """The answer to a request."""
        number = len(self.requests)
        for happening in self._callbacks.pop(number, ()):
            happening()
        await Checkpoint()
        if not self.quirks.never_expires:
            self.world.expire()
        status = params.get("status")
        self.requests.append(ListRequest(path, int(params.get("skip", 0)), None if status is None else str(status)))
        self._clock.advance(self.latency)
        code = "200"
        try:
            reply = self._answer(path, params)
            if reply is None:
                code = "404"
            elif number in self._faults:
                reply = Reply(self._faults.pop(number)(self, reply.body), reply.date)
        except ApiError:
            code = "error"
            raise
        finally:
            self._calls.append(Call(path_template, code, self.latency))
        await Checkpoint()
        return reply

    def _answer(self, path: str, params: Mapping[str, str | int]) -> Reply | None:
        listing, asked = self.quirks, dict(params)
        if self.generation != "both" and (path == "/v1/logs") != (self.generation == "zernio"):
            return None
        if path == "/v1/logs":
            now = float(int(self._clock.now)) if self.sends_date else None
            return Reply(msgspec.json.encode(self._zernio_page(asked)), now)
        if "skip" in asked:
            asked["limit"] = min(int(asked["limit"]), listing.max_page_size)
            asked["skip"] = 0 if listing.ignores_skip else asked["skip"]
            if listing.ignores_status:
                asked.pop("status", None)
        answer = self._service.handle("GET", f"/api{path}", urlencode(asked), {"Authorization": f"Bearer {KEY}"})
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        assert HTTPStatus.OK == answer.status, answer.body
        body = answer.body
        if "skip" in asked and (listing.order or listing.never_expires):
            body = msgspec.json.encode(self._custom_page(asked))
        if "skip" in asked and listing.transform:
            body = msgspec.json.encode(listing.transform(msgspec.json.decode(body)))
        moment = parsedate_to_datetime(answer.headers["Date"]).timestamp()
        return Reply(body, moment if self.sends_date else None)

    def _zernio_page(self, asked: Mapping[str, str | int]) -> Document:
        """A page of a list of generation zernio."""
        archive = self.world.archives.publishing if asked["type"] == "publishing" else self.world.archives.connections
        first, last = ("" if self.quirks.ignores_time_filter else str(asked.get(name, "")) for name in ("from", "to"))
        rows = [
            row
            for row in archive.rows
            if asked.get("status") in {None, row.get("status")}
            and (not first or first <= _comparable(row["createdAt"]) <= last)
        ]
        skip = 0 if self.quirks.ignores_skip else int(asked.get("skip", 0))
        limit = min(int(asked["limit"]), self.quirks.max_page_size)
        pagination = {"total": len(rows), "limit": limit, "skip": skip, "hasMore": skip + limit < len(rows)}
        return {"logs": [zernio(row) for row in rows[skip : skip + limit]], "pagination": pagination}

    def _custom_page(self, asked: Mapping[str, str | int]) -> Document:
        """A page of the publishing logs in an order of their own."""
        rows = self.world.rows if self.quirks.never_expires else list(self.world.visible.values())
        if "status" in asked:
            rows = [row for row in rows if row["status"] == asked["status"]]
        rows = self.quirks.order(rows) if self.quirks.order else rows
        skip, limit = int(asked["skip"]), int(asked["limit"])
        pagination = {"total": len(rows), "limit": limit, "skip": skip, "hasMore": skip + limit < len(rows)}
        return {"logs": rows[skip : skip + limit], "pagination": pagination}


ACTIONS = {
    "publish": "post.published",
    "retry": "post.retried",
    "rate_limit_pause": "post.rate_limited",
    "media_upload": "media.uploaded",
}
EVENTS = {
    "connect_success": "account.connected",
    "connect_failed": "account.connect_failed",
    "disconnect": "account.disconnected",
    "reconnect_success": "account.connected",
}


def zernio(row: LogRow) -> LogRow:
    """What generation zernio shows of a log; the request tells apart what would be alike."""
    event = row.get("eventType")
    failed = str(event).endswith("_failed")
    metadata = {
        "postId": row.get("postId"),
        "accountUsername": row.get("accountUsername"),
        "attemptNumber": row.get("attemptNumber"),
        "connectionMethod": row.get("connectionMethod"),
    }
    return {
        "action": EVENTS.get(str(event)) or ACTIONS[row["action"]],
        "platform": row["platform"],
        "account_id": row.get("accountId"),
        "status": row.get("status") or ("failed" if failed else "success"),
        "status_code": row.get("statusCode"),
        "error_code": (row.get("response") or row.get("error") or {}).get("code" if event else "errorCode"),
        "duration_ms": row.get("durationMs"),
        "created_at": row["createdAt"],
        "metadata": msgspec.json.encode(metadata).decode(),
        "request_id": row.get("requestId", row["_id"]),
        **({"id": row["zernioId"]} if "zernioId" in row else {}),
    }


def _comparable(written: str | None) -> str:
    """A time as texts compare, with milliseconds; empty where there is none."""
    return "" if written is None else written if "." in written else written.replace("Z", ".000Z")


def unavailable(late: FakeLateApi, body: bytes) -> bytes:
    """No answer in time."""
    raise ApiUnavailable(f"no answer within 30 s: {len(late.requests)} requests, {len(body)} bytes")


def unauthorized(late: FakeLateApi, body: bytes) -> bytes:
    """The key is refused."""
    raise Unauthorized(f"401: the key was refused: {len(late.requests)} requests, {len(body)} bytes")


def rate_limited(late: FakeLateApi, body: bytes) -> bytes:
    """The quota is used up."""
    raise RateLimited(f"429: {len(body)} bytes", until=late.world.clock.elapsed + 30)


def cut_off(_: FakeLateApi, body: bytes) -> bytes:
    """The answer ends in the middle."""
    return body[: len(body) // 2]


def empty(_late: FakeLateApi, _body: bytes) -> bytes:
    """A 200 without a body."""
    return b""


def no_logs(_late: FakeLateApi, _body: bytes) -> bytes:
    """A 200 whose list is null."""
    return b'{"logs": null}'


def bad_gateway(_late: FakeLateApi, _body: bytes) -> bytes:
    """A proxy's page instead of the API's answer."""
    raise BadPayload("the answer is not JSON: it begins with '<html>'")


class Samples(dict[tuple[str, tuple[tuple[str, str], ...]], float]):
    """A scrape: value by name and labels."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text format."""
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return cls({_series(head): float(value) for head, _, value in lines})

    def family(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Values above 0 by the other labels' values in the catalogue's order, of the samples with these labels."""
        family = CATALOGUE.get(name) or CATALOGUE[name.rpartition("_")[0]]
        rest = [label for label in (*family.labels[1:], "le") if label not in labels]
        found: dict[tuple[str, ...], float] = {}
        for (sample, pairs), value in self.items():
            carried = dict(pairs)
            if sample == name and value and labels.items() <= carried.items():
                values = tuple(carried[label] for label in rest if label in carried)
                found[values] = found.get(values, 0) + value
        return found

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples that carry these labels."""
        return sum(self.family(name, **labels).values())

    @property
    def counters(self) -> Self:
        """The samples that may never fall."""
        endings = ("_total", "_bucket", "_count", "_sum")
        return type(self)({series: value for series, value in self.items() if series[0].endswith(endings)})


LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def _series(head: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    name, _, labels = head.partition("{")
    return name, tuple(sorted(LABEL.findall(labels)))


@dataclass
class StoreProxy:
    """A store that tells what was made durable, and fails when told.

    Args:
        store: The real one.
        counted: The sightings that were made durable, in order.
        failures: By number of the commit, counted from the next one, whether it fails before or after it is durable.
    """

    store: Store
    counted: list[tuple[Scope, LogStatus]]
    failures: dict[int, str] = field(default_factory=dict)

    def series_values(self) -> Mapping[Series, SeriesValue]:
        """See Store."""
        return self.store.series_values()

    def feed_state(self, scope: Scope) -> FeedState:
        """See Store."""
        return self.store.feed_state(scope)

    def lookup(self, scope: Scope, entries: Sequence[LogEntry], *, feed: Feed, since: int) -> KnownLogs:
        """See Store."""
        return self.store.lookup(scope, entries, feed=feed, since=since)

    def begin_rekey(self, scope: Scope, coverage: Coverage) -> None:
        """See Store."""
        self.store.begin_rekey(scope, coverage)

    def accounting(self, scope: Scope) -> FeedAccounting:
        """See Store."""
        return self.store.accounting(scope)

    def commit(self, scope: Scope, batch: Batch) -> CommitResult:
        """See Store."""
        failure = self.failures.pop(0, None)
        self.failures = {number - 1: when for number, when in self.failures.items()}
        if failure == "before":
            raise StoreError("the state: database or disk is full")
        committed = self.store.commit(scope, batch)
        self.counted += [(scope, (sighting.entry.key, sighting.entry.status)) for sighting in committed.observations]
        if failure == "after":
            raise StoreError("the state: disk I/O error")
        return committed

    def size(self, workspace: str) -> tuple[int, int]:
        """See Store."""
        return self.store.size(workspace)

    def close(self) -> None:
        """See Store."""
        self.store.close()


class NullLogger:
    """A log that nobody reads."""

    def debug(self, event: str, **fields: Any) -> None:
        """Say nothing."""

    info = warning = debug


class Killed(Exception):
    """The process ended at a step."""


def drive(work: Coroutine[Any, Any, ResultT], steps: int | None = None) -> ResultT:
    """Run a coroutine that waits for steps only; raises Killed where it takes more of them."""
    taken = 0
    while steps is None or taken < steps:
        try:
            work.send(None)
        except StopIteration as exc:
            result: ResultT = exc.value
            return result
        taken += 1
    work.close()
    raise Killed


class ExporterHarness:
    """Everything from the client to the exposition, put together as the program does it.

    Args:
        apis: The API of each workspace; a single one is that of ``default``.
        path: The state's file; None for memory.
        feeds: Which lists are read.
        generation: Of the API that it is set to.
        skew: Seconds by which the exporter's clock is ahead of the API's.
        webhooks: They are taken; ``webhook_stats`` has that of each workspace.
    """

    def __init__(
        self,
        apis: FakeLateApi | Mapping[str, FakeLateApi],
        path: Path | None = None,
        *,
        feeds: Sequence[str] = ("publishing",),
        config: PollConfig | None = None,
        skew: float = 0.0,
        max_values: int = 50,
        generation: str = "late",
        webhooks: bool = False,
    ) -> None:
        self.generation = generation
        self.apis = {"default": apis} if isinstance(apis, FakeLateApi) else apis
        self.clock = next(iter(self.apis.values())).world.clock
        self.counted: list[tuple[Scope, LogStatus]] = []
        self._url = f"sqlite:///{path}" if path else "sqlite://"
        self._feeds = feeds
        self._config = config or PollConfig()
        self._skew = skew
        self._max_values = max_values
        self._webhooks = webhooks
        self._start()

    @property
    def api(self) -> FakeLateApi:
        """The API of the only workspace."""
        (late,) = self.apis.values()
        return late

    @property
    def poller(self) -> Poller:
        """The poller of the only feed."""
        (poller,) = self.pollers.values()
        return poller

    @property
    def observations(self) -> set[LogStatus]:
        """The logs of the first workspace that were counted, and in which status."""
        workspace = next(iter(self.apis))
        return {sighted for scope, sighted in self.counted if scope.workspace == workspace}

    def restart(self, downtime: float = 0.0) -> None:
        """End the process in good order and start it anew."""
        self.close()
        self.clock.advance(downtime)
        self._start()

    def close(self) -> None:
        """Release the state."""
        self.store.close()

    def poll(self, workspace: str = "default", feed: str | None = None) -> PollResult:
        """One poll of a feed."""
        return drive(self.pollers[Scope(workspace, feed or self._feeds[0])].poll())

    def audit(self, feed: str | None = None) -> PollResult:
        """One poll of a feed, and a stretch of an audit after it."""
        turn = self.poll(feed=feed)
        (workspace,) = self.apis
        drive(self.pollers[Scope(workspace, feed or self._feeds[0])].audit(turn))
        return turn

    def run_audit(
        self, workspace: str = "default", feed: str | None = None, *, between: Callback = list, **options: Any
    ) -> tuple[Audit, list[CounterMismatch]]:
        """An audit from outside, as one command does it; something may happen before each of its requests.

        The exporter goes on as it does: it gets its chance by polls and walks enough.
        """
        scope = Scope(workspace, feed or self._feeds[0])
        coverage = self.store.feed_state(scope).coverage
        assert coverage is not None
        plan = Audit(
            coverage=coverage, **{"grace_period": grace_period(self._config.interval), "listed_keys": set(), **options}
        )
        steps = audit_list(plan)
        answer: FetchedPage | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                return plan, check_counters(scope, self._feed(scope), self.store.accounting(scope))
            if isinstance(step, WaitForExporter):
                answer = None
                if plan.exporter_running:
                    self.settle(scope)
                plan.coverage = self.store.feed_state(scope).coverage or coverage
            else:
                between()
                answer = drive(self._look(scope, step))

    async def _look(self, scope: Scope, step: FetchPage) -> FetchedPage:
        feed, late = self._feed(scope), self.apis[scope.workspace]
        params: dict[str, str | int] = {**feed.query, "days": 7, "limit": 100, "skip": step.skip}
        reply = await late.get(feed.path, params, path_template=feed.path)
        assert reply is not None
        page = feed.parse(reply.body)
        # By the real store, whatever the exporter is made to believe.
        without_rekey = msgspec.structs.replace(feed, generation="late")
        return FetchedPage(page, self.store.store.lookup(scope, page.entries, feed=without_rekey, since=0))

    def _feed(self, scope: Scope) -> Feed:
        return GENERATIONS[self.pollers[scope].generation][scope.feed]

    def kill(self, steps: int, downtime: float = 0.0) -> bool:
        """Begin a poll, end the process at that step, and start it anew; tells whether the poll took so many."""
        try:
            drive(self.poller.poll(), steps)
        except Killed:
            self.restart(downtime)
            return True
        return False

    def poll_repeatedly(self, count: int, every: float = 30.0) -> list[PollResult]:
        """Some polls, and the time between them."""
        turns = []
        for _ in range(count):
            self.clock.advance(every)
            turns.append(self.poll())
        return turns

    def settle(self, scope: Scope | None = None) -> None:
        """Polls and walks enough to learn all there is to learn of a world in which nothing happens any more."""
        scope = scope or next(iter(self.pollers))
        late = self.apis[scope.workspace]
        late.clear_events()
        rows = max(len(archive.rows) for archive in (late.world.archives.publishing, late.world.archives.connections))
        for _ in range(2):
            self.clock.advance(self._config.reconcile_interval + 1)
            for _ in range(5 + (rows // late.quirks.max_page_size + 1) * 5 // 4):
                self.clock.advance(1.0)
                turn = self.poll(scope.workspace, scope.feed)
                assert "success" == turn.outcome, turn.error

    def scrape(self) -> Samples:
        """What a scraper gets, once it has seen the births."""
        self.scrape_once()
        return self.scrape_once()

    def scrape_once(self) -> Samples:
        """What a scraper gets."""
        self.exposition.publish()
        answer = self.exposition.get_body(None, None)
        self.exposition.mark_served(answer.version)
        return Samples.parse(answer.body.decode())

    def _time(self) -> float:
        return self.clock.now + self._skew

    def _start(self) -> None:
        self.store = StoreProxy(open_store(self._url), self.counted)
        totals = self.store.series_values()
        scopes = [Scope(workspace, feed) for workspace in self.apis for feed in self._feeds]
        states = {scope: self.store.feed_state(scope) for scope in scopes}
        self.label_limiter = LabelLimiter(CATALOGUE, max_values=self._max_values)
        self.label_limiter.restore(totals)
        self.exposition = Exposition(CATALOGUE)
        self.registry = SeriesRegistry(CATALOGUE, self.exposition, {name: frozenset(self._feeds) for name in self.apis})
        self.registry.restore(totals, _synced(states))
        self.recorders: dict[Scope, FeedRecorder] = {}
        self.webhook_stats = {name: WebhookStats(name, RequestBudget()) for name in self.apis} if self._webhooks else {}
        self.pollers: dict[Scope, Poller] = {}
        for workspace, late in self.apis.items():
            backlog: list[Increment] = []
            for scope in scopes:
                if scope.workspace == workspace:
                    self._assemble(scope, late, states[scope], backlog)

    def _assemble(self, scope: Scope, late: FakeLateApi, state: FeedState, backlog: list[Increment]) -> None:
        dialect = ApiGeneration(self.generation, logger=NullLogger())
        feed = dialect.initial_feed(scope.feed, state_generation=state.coverage.generation if state.coverage else None)
        books = FeedRecorder(
            scope.workspace,
            feed,
            state,
            store=self.store,
            offload=_offload,
            label_limiter=self.label_limiter,
            registry=self.registry,
            backlog=backlog,
            clock=self._time,
            last_audit_at=last_audit(self.store.series_values(), scope),
        )
        self.recorders[scope] = books
        inbox = self.webhook_stats.get(scope.workspace)
        self.pollers[scope] = Poller(
            scope.workspace,
            feed,
            client=late,
            generation=dialect,
            recorder=books,
            registry=self.registry,
            config=self._config,
            logger=NullLogger(),
            clock=self._time,
            monotonic=self.clock.monotonic,
            sleep=self.clock.sleep,
            random_unit=lambda: 0.5,
            webhook_stats=inbox,
        )
        born = [*initial_zeros(scope.workspace, scope.feed, POLL_OUTCOMES), *(inbox.initial_zeros() if inbox else ())]
        drive(books.commit(PendingBatch(), int(self._time() * 1000), born))


async def _offload(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    await Checkpoint()
    result = call(*args, **keywords)
    await Checkpoint()
    return result


def _synced(states: Mapping[Scope, FeedState]) -> Mapping[str, Iterable[str]]:
    synced: dict[str, list[str]] = {}
    for scope, state in states.items():
        if state.coverage is not None and state.coverage.is_synced:
            synced.setdefault(scope.workspace, []).append(scope.feed)
    return synced

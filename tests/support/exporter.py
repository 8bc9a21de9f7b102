"""The exporter of a test, seen from outside: an API and a clock in front of it, its metrics and its commits behind it.

This is the only place of the contract suites that knows how the program is composed and what it commits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import msgspec

from late_exporter.api.responses import ApiResponse
from late_exporter.app.assembly import Pipeline, PipelineConfig
from late_exporter.app.workspace_pollers import ApiConnection
from late_exporter.errors import StoreError
from late_exporter.feeds import GENERATIONS
from late_exporter.health import Failure
from late_exporter.ingest import sync
from late_exporter.ingest.poller import Poller
from late_exporter.ingest.schedule import PollConfig, PollResult, Runtime
from late_exporter.ingest.status_poller import StatusConfig, StatusPace
from late_exporter.simulator.log_list import LogRow
from late_exporter.store import Store, database_at
from late_exporter.store.migrations import open_state
from late_exporter.store.records import Batch, CommitResult
from late_exporter.store.thread import StoreThread
from tests.support.client import ClientRequest, FakeClient, QueryParams
from tests.support.clock import DAY, VirtualClock
from tests.support.exposition import read_body
from tests.support.late_api import FakeLateApi, zernio_row
from tests.support.loggers import RecordingLogger
from tests.support.samples import Samples
from tests.support.steps import Killed, drive, drive_together, offload_in_steps

NEVER = 10 * 365 * DAY
"""Interval of reconciliation scans that no test reaches."""

ORDINAL = re.compile(r"\.\d+$")
"""End of the key of a log without an id: its number among alike logs."""


def open_store(url: str, password_file: Path | None = None, *, is_shared: bool = False) -> Store:
    """Open the state at a URL, which is created or upgraded if necessary."""
    database = database_at(url, password_file)
    open_state(database, is_shared=is_shared)
    return Store(database)


class Counted(NamedTuple):
    """An observation that was committed.

    Args:
        key: Id of the log; in generation zernio the key that the exporter makes of its fields.
        status: Status of a publishing log, event of a connection log.
    """

    workspace: str
    feed: str
    key: str
    status: str


class Poll(NamedTuple):
    """Result of a poll.

    Args:
        outcome: Value of the label ``outcome`` of ``late_exporter_polls_total``.
        error: Message of the error that ended the poll.
        is_partial: Whether older logs are left to read by the next polls.
    """

    outcome: str
    error: str | None
    is_partial: bool


class _Ended(Exception):
    """The time is over for which a loop runs."""


def log_key(feed: str, row: LogRow) -> str:
    """Return the key of a log in generation zernio, without its number among alike logs."""
    (entry,) = GENERATIONS["zernio"][feed].parse(msgspec.json.encode({"logs": [zernio_row(row)]})).entries
    return without_ordinal(entry.key)


def without_ordinal(key: str) -> str:
    """Return what alike logs have in common of their keys."""
    return ORDINAL.sub("", key)


class ObservedStore:
    """The store of an exporter, whose commits are observed, and whose disk may be full.

    Attributes:
        failures: Commits that fail, by number counted from the next one: ``before`` or ``after`` they are durable.
        is_full: Whether nothing can be written.
        commit_sizes: Number of new observations of each commit.
    """

    def __init__(self, store: Store, counted: list[Counted]) -> None:
        self.store = store
        self.counted = counted
        self.failures: dict[int, str] = {}
        self.is_full = False
        self.commit_sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def commit_all(self, batches: Sequence[Batch]) -> Sequence[CommitResult | StoreError]:
        """Commit; each may fail before or after its batch is durable."""
        failures = [self._next_failure() for _ in batches]
        durable = [batch for batch, failure in zip(batches, failures, strict=True) if failure != "before"]
        results = iter(self.store.commit_all(durable))
        return [
            StoreError("the state: database or disk is full")
            if failure == "before"
            else self._observe(batch, next(results), failure)
            for batch, failure in zip(batches, failures, strict=True)
        ]

    def _next_failure(self) -> str:
        failure = "before" if self.is_full else self.failures.pop(0, "")
        self.failures = {number - 1: moment for number, moment in self.failures.items()}
        return failure

    def _observe(self, batch: Batch, result: CommitResult | StoreError, failure: str) -> CommitResult | StoreError:
        if isinstance(result, StoreError):
            return result
        self.commit_sizes.append(len(result.observations))
        workspace, feed = batch.scope
        self.counted += [Counted(workspace, feed, each.entry.key, each.entry.status) for each in result.observations]
        return StoreError("the state: disk I/O error") if failure == "after" else result


class ExporterHarness:
    """An exporter of some workspaces, run step by step.

    Args:
        apis: API of each workspace; a single one is that of ``default``.
        clock: Time of the APIs; None is that of the world of the first one.
        path: Path of the state, or its URL; None for memory.
        generation: API generation: ``late``, ``zernio`` or ``auto``.
        skew: Seconds by which the exporter's clock is ahead of the API's; may change.
        commit_size: Number of logs that a catch-up commits together; None leaves it to the exporter; may change.
        zero_hold: Seconds for which a new series shows 0; by default it shows its value at once.
        log_failures: Whether failed logs have lines in the log.
        status: Seconds between two refreshes of each status feed; None reads none.
        poll: Settings of polls by name, as ``reconcile_interval``, in seconds.

    Attributes:
        counted: Observations that were committed, in order, over all restarts.
        clock: Time of the world.
        log: What was logged.
    """

    def __init__(  # noqa: PLR0913 - settings, which are independent of each other
        self,
        apis: FakeClient | Mapping[str, FakeClient],
        path: Path | str | None = None,
        *,
        clock: VirtualClock | None = None,
        feeds: Sequence[str] = ("publishing",),
        generation: str = "late",
        skew: float = 0.0,
        commit_size: int | None = None,
        zero_hold: float = 0.0,
        log_failures: bool = False,
        status: Mapping[str, float] | None = None,
        **poll: Any,
    ) -> None:
        self.generation = generation
        self.apis = {"default": apis} if isinstance(apis, FakeClient) else apis
        self.clock = clock or self._world_clock()
        self.counted: list[Counted] = []
        self.log = RecordingLogger()
        self.skew = skew
        self._url = path if isinstance(path, str) else f"sqlite:///{path}" if path else "sqlite://"
        self.commit_size = commit_size
        self._config = PipelineConfig(
            feeds=tuple(feeds),
            zero_hold=zero_hold,
            logged_failures=frozenset(feeds) if log_failures else frozenset(),
        )
        self._poll = PollConfig(**poll)
        self._status = StatusConfig(intervals=status or {})
        self._ends_at = math.inf
        self._ids: dict[str, str] = {}
        self._start()

    @property
    def api(self) -> FakeLateApi:
        """API of the only workspace."""
        (api,) = self.apis.values()
        assert isinstance(api, FakeLateApi)
        return api

    @property
    def requests(self) -> list[ClientRequest]:
        """Requests to the API of the only workspace."""
        return self.api.requests

    @property
    def feeds(self) -> tuple[str, ...]:
        return self._config.feeds

    @property
    def observations(self) -> set[tuple[str, str]]:
        """Key and status of the observations of the first workspace."""
        workspace = next(iter(self.apis))
        return {(each.key, each.status) for each in self.counted if each.workspace == workspace}

    @property
    def counted_ids(self) -> set[str]:
        """Ids of the publishing logs of the only workspace that are counted, whatever their keys are."""
        for (log_id, _), row in self.api.world.history.items():
            if log_id not in self._ids.values():
                self._ids[log_key("publishing", row)] = log_id
        return {self._ids.get(without_ordinal(key), key) for key, _ in self.observations}

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Failed attempts of the first workspace that the status page lists."""
        pollers = next(iter(self._pipeline.workspaces.values()))
        return tuple(pollers.failures)

    @property
    def is_synced(self) -> bool:
        """Whether the logs of all feeds are shown."""
        shown = self.scrape().family("late_exporter_coverage_start_timestamp_seconds")
        return len(shown) == len(self.apis) * len(self.feeds)

    def poll(self, workspace: str = "default", feed: str | None = None) -> Poll:
        """Do what the loop of a feed does between two sleeps."""
        with self._running():
            return drive(self._turn(self._poller(workspace, feed)))

    def poll_all(self) -> dict[tuple[str, str], Poll]:
        """Poll all feeds of all workspaces at once; return the results by workspace and feed."""
        with self._running():
            results = drive_together([self._turn(poller) for poller in self._pollers.values()])
        return dict(zip(self._pollers, results, strict=True))

    def poll_repeatedly(self, count: int, every: float = 30.0) -> list[Poll]:
        """Poll the only feed several times, with time before each poll."""
        results = []
        for _ in range(count):
            self.clock.advance(every)
            results.append(self.poll())
        return results

    def run(self, seconds: float, workspace: str = "default", feed: str | None = None) -> list[float]:
        """Let the loop of a feed run for some time; return the times at which it sent requests, from the start on."""
        start, self._ends_at = self.clock.elapsed, self.clock.elapsed + seconds
        api, times = self.apis[workspace], list[float]()
        get = api.get

        async def timed_get(path: str, params: QueryParams, *, path_template: str) -> ApiResponse:
            times.append(self.clock.elapsed - start)
            return await get(path, params, path_template=path_template)

        with self._running(), patch.object(api, "get", timed_get), suppress(_Ended):
            drive(self._poller(workspace, feed).run())
        return times

    def run_once(self, feed: str | None = None) -> Poll:
        """Do what a process does that ends once nothing is left to read, except to end."""
        poller = self._poller(next(iter(self.apis)), feed)
        with self._running():
            result = drive(poller.catch_up())
            drive(poller.commit_increments())
        return _poll(result)

    def refresh_status(self) -> None:
        """Refresh all status feeds."""
        for pollers in self._pipeline.workspaces.values():
            drive(pollers.status.refresh())

    def refresh_due_status(self) -> None:
        """Refresh the status feeds that are due, as their loop does."""
        for pollers in self._pipeline.workspaces.values():
            poller = pollers.status
            for state in poller._states.values():  # noqa: SLF001 - its loop never ends
                if state.due_at <= self.clock.monotonic():
                    drive(poller._refresh(state, is_paced=False))  # noqa: SLF001

    def settle(self, workspace: str = "default", feed: str | None = None) -> None:
        """Poll until the whole list has been read twice, in a world that does not change any more."""
        api = self.apis[workspace]
        assert isinstance(api, FakeLateApi)
        api.clear_events()
        rows = max(len(archive.rows) for archive in (api.world.archives.publishing, api.world.archives.connections))
        for _ in range(2):
            self.clock.advance(max(self._poll.reconcile_interval, DAY) + 1)
            for _ in range(5 + (rows // api.quirks.max_page_size + 1) * 5 // 4):
                self.clock.advance(1.0)
                result = self.poll(workspace, feed)
                # A list that has become empty is not believed.
                assert result.outcome == "success" or not api.world.visible, result.error

    def restart(self, downtime: float = 0.0) -> None:
        """Stop the exporter and start it again."""
        self.close()
        self.clock.advance(downtime)
        self._start()

    def kill(self, steps: int, downtime: float = 0.0) -> bool:
        """Poll all feeds at once, kill the exporter at a step, and start it again.

        Returns:
            Whether the polls took so many steps; otherwise they are complete, and nothing was killed.
        """
        try:
            with self._running():
                drive_together([self._turn(poller) for poller in self._pollers.values()], steps)
        except Killed:
            self.restart(downtime)
            return True
        return False

    def close(self) -> None:
        self._store.close()

    def fail_commit(self, number: int, moment: str = "before") -> None:
        """Fail a commit, by its number counted from the next one, ``before`` or ``after`` it is durable."""
        self._store.failures[number] = moment

    def fill_disk(self) -> None:
        """Let nothing be written until the disk is freed."""
        self._store.is_full = True

    def free_disk(self) -> None:
        """Let everything be written."""
        self._store.is_full = False
        self._store.failures.clear()

    def scrape(self) -> Samples:
        """Publish and scrape."""
        return Samples.parse(read_body(self._pipeline.exposition))

    def _world_clock(self) -> VirtualClock:
        api = next(iter(self.apis.values()))
        assert isinstance(api, FakeLateApi)
        return api.world.clock

    async def _sleep(self, seconds: float) -> None:
        await self.clock.sleep(min(seconds, self._ends_at - self.clock.elapsed))
        if self.clock.elapsed >= self._ends_at:
            raise _Ended

    def _poller(self, workspace: str, feed: str | None) -> Poller:
        return self._pollers[workspace, feed or self.feeds[0]]

    async def _turn(self, poller: Poller) -> Poll:
        return _poll(await poller.poll())

    @contextmanager
    def _running(self) -> Iterator[None]:
        with patch.object(sync, "COMMIT_SIZE", self.commit_size or sync.COMMIT_SIZE):
            yield

    def _start(self) -> None:
        self._store = ObservedStore(open_store(self._url), self.counted)
        self._pipeline = Pipeline(
            self._config,
            store_thread=StoreThread(cast("Store", self._store), offload_in_steps),
            create_logger=lambda _: self.log,
            runtime=Runtime(
                clock=lambda: self.clock.now + self.skew,
                monotonic=self.clock.monotonic,
                sleep=self._sleep,
                random=lambda: 0.5,
            ),
        )
        pace = StatusPace()
        for api in self.apis.values():
            api.configured_generation = self.generation
        connections = {name: ApiConnection(api, pace, self._poll, self._status) for name, api in self.apis.items()}
        drive(self._pipeline.add_workspaces(connections))
        self._pollers = {
            (workspace, feed): poller
            for workspace, pollers in self._pipeline.workspaces.items()
            for feed, poller in pollers.by_feed.items()
        }
        for poller in self._pollers.values():
            drive(poller.start())


def _poll(result: PollResult) -> Poll:
    return Poll(result.outcome, None if result.error is None else str(result.error), result.is_partial)

"""What the pure parts of a poll share: the steps that they yield, and what they have read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import msgspec

from late_exporter.errors import REQUEST_FAILURES, ApiError
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.schedule import ApiClock, FeedConnection, PollConfig, Runtime
from late_exporter.ingest.sweep import FetchPage
from late_exporter.model import LogEntry, LogPage
from late_exporter.store.records import Coverage, PendingLog

if TYPE_CHECKING:
    from late_exporter.ingest.fetcher import Fetcher
    from late_exporter.ingest.recorder import FeedRecorder

RequestKind: TypeAlias = Literal["post", "pending", "window", "scan"]
"""Logs of a post, list of pending logs, logs of a time, page of a late window or a scan."""

REQUEST_KINDS: tuple[RequestKind, ...] = ("post", "pending", "window", "scan")

StepT = TypeVar("StepT")
ResultT = TypeVar("ResultT")


class FetchPost(msgspec.Struct, frozen=True):
    """A request for the logs of a post."""

    post_id: str


class Record(msgspec.Struct, frozen=True):
    """Logs that were read, and what is true once they are committed.

    Recording them twice changes nothing.

    Args:
        coverage: New coverage; None leaves it.
        deleted_keys: Keys of pending logs that the API no longer has.
        by_reconciliation: Whether polls had missed the logs.
    """

    entries: tuple[LogEntry, ...] = ()
    coverage: Coverage | None = None
    deleted_keys: tuple[str, ...] = ()
    by_reconciliation: bool = False


class ReportFailure(msgspec.Struct, frozen=True):
    """A request that failed without failing the poll."""

    kind: RequestKind
    error: ApiError


Step: TypeAlias = FetchPage | FetchPost | Record | ReportFailure
StepsTo: TypeAlias = Generator[Step, Any, ResultT]
"""Steps that lead to a result."""


class FeedView:
    """What the reader knows of its feed, also if it is not committed yet; requests are steps.

    Attributes:
        now: Returns the API time in milliseconds.
        monotonic: Returns the monotonic time in seconds.
        has_changes: Whether logs may have arrived since the late window was last read.
        read_pending: Keys of the pending logs that the poll has read.
    """

    def __init__(
        self,
        connection: FeedConnection,
        clock: ApiClock,
        fetcher: Fetcher,
        recorder: FeedRecorder,
        runtime: Runtime,
    ) -> None:
        self._connection = connection
        self._fetcher = fetcher
        self._recorder = recorder
        self.now = clock.now
        self.monotonic = runtime.monotonic
        self.has_changes = False
        self.read_pending: set[str] = set()

    @property
    def feed(self) -> Feed:
        return self._recorder.feed

    @property
    def config(self) -> PollConfig:
        return self._connection.config

    @property
    def coverage(self) -> Coverage | None:
        return self._recorder.coverage_read

    @property
    def pending_logs(self) -> Mapping[str, PendingLog]:
        return self._recorder.state.pending_logs

    @property
    def request_count(self) -> int:
        return self._fetcher.request_count

    def take(self, page: LogPage, retention_floor: int) -> tuple[LogEntry, ...]:
        """Return the observations of a page that are to be counted; the caller records them.

        These are the new ones, except of logs of the exporter itself and those that are too old.
        """
        if self.pending_logs:
            keys = {entry.key for entry in page.entries}
            self.read_pending |= self.pending_logs.keys() & keys
        new = []
        for entry in page.entries:
            is_known = entry.status in page.statuses.get(entry.key, frozenset())
            is_too_old = entry.created is not None and entry.created < retention_floor
            if not (is_known or entry.is_own or is_too_old):
                new.append(entry)
        return tuple(new)


async def perform(
    steps: Generator[StepT, Any, ResultT], perform_step: Callable[[StepT], Awaitable[object]]
) -> ResultT:
    """Perform each step, send its result back, and return the result of all.

    The failure of a request is thrown into the steps.
    """
    resume = partial(steps.send, None)
    while True:
        try:
            step = resume()
        except StopIteration as done:
            result: ResultT = done.value
            return result
        try:
            resume = partial(steps.send, await perform_step(step))
        except REQUEST_FAILURES as exc:
            resume = partial(steps.throw, exc.without_frames())

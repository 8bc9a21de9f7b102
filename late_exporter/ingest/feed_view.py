"""What the pure parts of a poll know of their feed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from late_exporter.feeds.feed import Feed
from late_exporter.ingest.schedule import ApiClock, FeedConnection, PollConfig, Runtime
from late_exporter.model import LogEntry, LogPage
from late_exporter.store.records import Coverage, PendingLog

if TYPE_CHECKING:
    from late_exporter.ingest.recorder import FeedRecorder


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
        recorder: FeedRecorder,
        runtime: Runtime,
    ) -> None:
        self._connection = connection
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

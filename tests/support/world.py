"""The logs of one API key, which a test inserts, changes and deletes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, TypeAlias

from late_exporter.simulator import StaticLogs
from late_exporter.simulator.log_list import UNDATED, LogRow, creation_time
from tests.support.clock import DAY, VirtualClock

RETENTION = 7 * DAY

LogStatus: TypeAlias = tuple[str, str]
"""Key and status of a log: an observation."""


class World:
    """The logs of one API key.

    Args:
        distinct_times: Whether no two logs have the same time, to the millisecond.

    Attributes:
        history: Every state that a publishing log ever had, by id and status.
        connection_history: Every connection log that ever was, by id.
        newest_at: Unix time of the last ``publish``.
        insertion_order: Number of each log, by id.
        appended_ids: Ids of logs that were newer than all others when they were inserted.
    """

    def __init__(self, clock: VirtualClock, *, distinct_times: bool = False) -> None:
        self.clock = clock
        self.distinct_times = distinct_times
        self.archives = StaticLogs()
        self.history: dict[LogStatus, LogRow] = {}
        self.connection_history: dict[str, LogRow] = {}
        self.newest_at = clock.now
        self.insertion_order: dict[str, int] = {}
        self.appended_ids: set[str] = set()
        self._latest = 0.0
        self._moments: set[int] = set()

    @property
    def rows(self) -> Sequence[LogRow]:
        """Publishing logs, newest first."""
        return self.archives.publishing.rows

    @property
    def ids(self) -> list[str]:
        """Ids of the publishing logs, newest first."""
        return [row["_id"] for row in self.rows]

    @property
    def visible(self) -> dict[LogStatus, LogRow]:
        """Publishing logs within the retention, by id and status."""
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
        """Insert a log at the place of its time."""
        if self.distinct_times and created is not None:
            created, precise = self._free_moment(created), True
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
            "attemptNumber": 2 if fields.get("action") == "retry" else 1,
            "createdAt": None if created is None else iso_time(created, precise=precise),
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
        """Change a log in place; return whether it exists."""
        row = next((row for row in self.rows if row["_id"] == log_id), None)
        if row is not None:
            row.update(fields, status=status)
            self._record(row)
        return row is not None

    def delete(self, *log_ids: str) -> None:
        self.archives.publishing.delete(*log_ids)

    def delete_top(self, count: int) -> None:
        self.delete(*self.ids[:count])

    def expire(self) -> None:
        since = self.clock.now - RETENTION
        for archive in (self.archives.publishing, self.archives.connections):
            oldest_first = takewhile(lambda row: creation_time(row) < since, reversed(archive.rows))
            if expired := [row["_id"] for row in oldest_first if creation_time(row) > UNDATED]:
                archive.delete(*expired)

    def add_connection(self, event: str = "connect_success", *, age: float = 0.0, **fields: Any) -> str:
        """Insert a connection log, by default on top of its list."""
        number = len(self.connection_history)
        created = self.clock.now - age
        if self.distinct_times:
            created = self._free_moment(created)
        log_id = f"{int(self.clock.now):08x}c{number:015x}"
        row: LogRow = {
            "_id": log_id,
            "platform": "instagram",
            "accountId": "acc1",
            "eventType": event,
            "connectionMethod": "oauth",
            "durationMs": 900,
            "createdAt": iso_time(created, precise=True),
            **fields,
        }
        self.archives.connections.insert(row)
        self.connection_history[log_id] = dict(row)
        return log_id

    def _free_moment(self, created: float) -> float:
        moment = int(created * 1000)
        while moment in self._moments:
            moment += 1
        self._moments.add(moment)
        return moment / 1000

    def _record(self, row: LogRow) -> None:
        self.history[row["_id"], row["status"]] = dict(row)


def iso_time(seconds: float, *, precise: bool = True) -> str:
    """Return a Unix time as the API writes it."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds" if precise else "seconds")
    return text.replace("+00:00", "Z")

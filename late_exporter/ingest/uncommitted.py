"""Logs that were read and are not committed yet."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from late_exporter.model import LogEntry
from late_exporter.store.batches import with_status
from late_exporter.store.records import Coverage

MAX_LOGS = 20_000
"""Logs in memory, about 20 MB, beyond which each feed commits what it has after every page."""


class ReadLogs(NamedTuple):
    """Logs that were read together; ``by_reconciliation`` if polls had missed them."""

    entries: tuple[LogEntry, ...]
    by_reconciliation: bool


class UncommittedBatch(msgspec.Struct):
    """Uncommitted logs of a feed.

    Args:
        pages: Logs in the order in which they were read.
        coverage: Coverage once they are committed; None leaves it.
        deleted_keys: Keys of pending logs that the API no longer has.
        progress: Work that a later run continues, encoded; None leaves what is stored.
        statuses: Statuses of the logs by key.
        log_count: Number of the logs; 0 once they are committed.
    """

    pages: list[ReadLogs] = msgspec.field(default_factory=list)
    coverage: Coverage | None = None
    deleted_keys: list[str] = msgspec.field(default_factory=list)
    progress: bytes | None = None
    statuses: dict[str, frozenset[str]] = msgspec.field(default_factory=dict)
    log_count: int = 0

    def add(self, entries: tuple[LogEntry, ...], *, by_reconciliation: bool) -> None:
        if not entries:
            return
        self.pages.append(ReadLogs(entries, by_reconciliation))
        self.log_count += len(entries)
        for entry in entries:
            self.statuses[entry.key] = with_status(self.statuses.get(entry.key), entry.status)

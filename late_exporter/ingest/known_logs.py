"""Which logs of a feed are known: those in the state, and those that were read but are not committed yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from late_exporter.model import LogEntry, LogPage, Scope
from late_exporter.store.records import with_status
from late_exporter.store.thread import StoreThread


class KnownLogs:
    """Statuses in which the logs of one feed were read before, by key."""

    def __init__(self, scope: Scope, store_thread: StoreThread) -> None:
        self._scope = scope
        self._store_thread = store_thread
        self._uncommitted: dict[str, frozenset[str]] = {}

    def add_uncommitted(self, entries: Iterable[LogEntry]) -> None:
        """Add logs that were just read."""
        for entry in entries:
            self._uncommitted[entry.key] = with_status(
                self._uncommitted.get(entry.key), entry.status
            )

    def drop_uncommitted(self) -> None:
        """Forget the uncommitted logs, after a commit or because they were dropped."""
        self._uncommitted.clear()

    async def look_up(self, page: LogPage) -> Mapping[str, frozenset[str]]:
        """Return the statuses of those logs of a page that are known; raise StoreError if the state cannot be read."""
        keys = [entry.key for entry in page.entries]
        stored = await self._store_thread.offload(
            self._store_thread.store.lookup, self._scope, keys
        )
        uncommitted = self._uncommitted
        return {
            **stored,
            **{
                key: stored.get(key, frozenset()) | uncommitted[key]
                for key in uncommitted.keys() & keys
            },
        }

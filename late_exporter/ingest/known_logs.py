"""Tell which logs of a page are known: those in the state, and those that were read and are not committed yet."""

from __future__ import annotations

from collections.abc import Mapping

from late_exporter.ingest.uncommitted_logs import UncommittedBatch
from late_exporter.model import LogPage, Scope
from late_exporter.store.batches import with_status
from late_exporter.store.thread import StoreThread


class KnownLogs:
    """Known logs of a feed."""

    def __init__(self, scope: Scope, store_thread: StoreThread) -> None:
        self._scope = scope
        self._store_thread = store_thread
        self._last: tuple[LogPage, Mapping[str, frozenset[str]]] | None = None

    def forget(self) -> None:
        """Ask the store again about the last page, because the stored logs may have changed."""
        self._last = None

    async def statuses(self, page: LogPage, uncommitted: UncommittedBatch) -> Mapping[str, frozenset[str]]:
        """Return the statuses in which the logs of a page are known, by key; raise StoreError if that fails."""
        if self._last is None or self._last[0] is not page:
            keys = [entry.key for entry in page.entries]
            stored: Mapping[str, frozenset[str]] = await self._store_thread.offload(
                self._store_thread.store.lookup, self._scope, keys
            )
            # While nothing is new, each poll gets the same first page, which is then the same object.
            self._last = page, stored
        stored = self._last[1]
        if not uncommitted.statuses:
            return stored
        statuses = dict(stored)
        for entry in page.entries:
            for status in uncommitted.statuses.get(entry.key, ()):
                statuses[entry.key] = with_status(statuses.get(entry.key), status)
        return statuses

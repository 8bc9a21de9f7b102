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

    async def statuses(self, page: LogPage, uncommitted: UncommittedBatch) -> Mapping[str, frozenset[str]]:
        """Return the statuses in which the logs of a page are known, by key; raise StoreError if that fails."""
        keys, lookup = [entry.key for entry in page.entries], self._store_thread.store.lookup
        statuses: dict[str, frozenset[str]] = dict(await self._store_thread.offload(lookup, self._scope, keys))
        for key in uncommitted.statuses.keys() & keys:
            for status in uncommitted.statuses[key]:
                statuses[key] = with_status(statuses.get(key), status)
        return statuses

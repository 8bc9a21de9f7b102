"""Poll and show the workspaces of a PostgreSQL state that this process owns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress

from late_exporter.errors import StoreError
from late_exporter.health import ClusterHealth
from late_exporter.log import Logger
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.store.ownership import ClusterView, Ownership
from late_exporter.store.thread import Offload

BEAT_SECONDS = 2.0
"""Seconds between two looks at who owns what; shorter if the lease is short."""

BEATS_PER_LEASE = 4

ANSWER_SECONDS = 3.0
"""Seconds that a scrape waits for the session; without an answer it has no workspaces."""

MAX_LOGGED_NAMES = 10


class WorkspaceOwner:
    """Polls the workspaces that this process owns, and no others.

    Args:
        ownership: What the session of this process owns; nothing at first.
        poll_only: Polls and shows some workspaces, and no others; raises StoreError if their state
            cannot be read.
        groups: Returns the group of each configured workspace; workspaces of one group have one
            owner.
        offload: Runs a call in the thread of the store, to which the session belongs.
        lease: Seconds of silence after which the sessions of other replicas are ended.
    """

    def __init__(
        self,
        ownership: Ownership,
        *,
        poll_only: Callable[[AbstractSet[str]], Awaitable[None]],
        groups: Callable[[], Mapping[str, str]],
        registry: SeriesRegistry,
        offload: Offload,
        lease: float,
        logger: Logger,
    ) -> None:
        self._ownership = ownership
        self._poll = poll_only
        self._groups = groups
        self._registry = registry
        self._offload = offload
        self._logger = logger
        self._interval = min(BEAT_SECONDS, lease / BEATS_PER_LEASE)
        self._view = ClusterView()
        self._shown_since: dict[str, float] = {}
        self._has_updated = False
        self._error = ""
        self._question_lock = asyncio.Lock()
        self._next_question: asyncio.Task[frozenset[str]] | None = None

    async def run(self) -> None:
        """Look who owns what, again and again, until cancelled."""
        while True:
            started_at = time.monotonic()
            try:
                await self.update()
            except StoreError as exc:
                if str(exc) != self._error:
                    self._logger.warning("workspaces cannot be owned", error=str(exc))
                self._error = str(exc)
                if not self._ownership.has_session:  # Who owns what is not known any more.
                    self._view = ClusterView()
            if self._ownership.is_shared:
                self._report()
            await asyncio.sleep(max(0.0, started_at + self._interval - time.monotonic()))

    async def close(self) -> None:
        """Give all workspaces away, so that others own them at once.

        The pollers must be stopped.
        """
        names = [*self._shown_since]
        self._shown_since = {}
        with suppress(StoreError):
            await self._offload(self._ownership.give, names)

    async def update(self) -> None:
        """Own what this process should own, and poll it.

        Raises:
            StoreError: There is no session, or the state cannot be read.
        """
        kept = await self._offload(self._ownership.reconnect)
        await self._stop("lost", self._shown_since.keys() - kept)

        self._view = await self._offload(self._ownership.look, self._groups())
        if self._view.give:
            await self._stop("released", self._shown_since.keys() & self._view.give)
            await self._offload(self._ownership.give, self._view.give)

        owned = await self._offload(self._ownership.take, self._view.take)
        claimed = owned - self._shown_since.keys()
        unowned = {*self._view.unowned} - owned
        if claimed:
            # Nobody shows them until they are loaded, which may fail.
            self._view = self._view._replace(unowned=sorted(unowned | claimed))
            await self._poll({*self._shown_since, *claimed})
            self._shown_since |= dict.fromkeys(claimed, time.monotonic())
            self._log("claimed", claimed)
        self._view = self._view._replace(unowned=sorted(unowned))

        if self._error:
            self._logger.info("workspaces can be owned again")
        self._error = ""
        self._has_updated = True

    async def shown_workspaces(self) -> AbstractSet[str]:
        """Return the workspaces that a scrape which arrives now may show.

        These are those that were owned before, and are owned still. The session is asked after the
        scrape has arrived; scrapes that arrive meanwhile share the next question.
        """
        arrived_at = time.monotonic()
        if self._next_question is None:
            self._next_question = asyncio.create_task(self._ask())
            # Its error is not reported as never retrieved if no scrape waits for it any more.
            self._next_question.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            question = asyncio.shield(self._next_question)
            owned = await asyncio.wait_for(question, ANSWER_SECONDS)
        except (StoreError, TimeoutError):
            return frozenset()
        return {
            name
            for name, since in self._shown_since.items()
            if name in owned and since < arrived_at
        }

    async def _ask(self) -> frozenset[str]:
        async with self._question_lock:
            self._next_question = None  # What arrives from now on needs another answer.
            owned: frozenset[str] = await self._offload(self._ownership.confirm)
            return owned

    def unready_reason(self) -> str:
        """Return why this process is not ready; empty if it is."""
        if self._error:
            return f"workspaces are not shown: {self._error}"
        return (
            "" if self._has_updated else "workspaces are not shown: the database was not asked yet"
        )

    def health(self) -> ClusterHealth:
        """Return the replicas, and who owns what."""
        return ClusterHealth(
            members=tuple(self._view.members), unowned_workspaces=tuple(self._view.unowned)
        )

    async def _stop(self, change: str, names: AbstractSet[str]) -> None:
        """Stop polling and showing workspaces that others may own from now on.

        It loads none, so it cannot fail.
        """
        if not names:
            return
        self._shown_since = {
            name: since for name, since in self._shown_since.items() if name not in names
        }
        await self._poll({*self._shown_since})
        self._log(change, names)

    def _log(self, change: str, names: AbstractSet[str]) -> None:
        """Log workspaces that were claimed, released or lost."""
        write = self._logger.warning if change == "lost" else self._logger.info
        write(f"workspaces {change}", count=len(names), workspaces=sorted(names)[:MAX_LOGGED_NAMES])

    def _report(self) -> None:
        owned_count = len(self._shown_since) if self._ownership.has_session else 0
        unowned_count = len(self._view.unowned)
        set_gauge = self._registry.set_gauge
        set_gauge("late_exporter_cluster_members", (), len(self._view.members))
        set_gauge("late_exporter_cluster_owned_workspaces", (), owned_count)
        set_gauge("late_exporter_cluster_unowned_workspaces", (), unowned_count)

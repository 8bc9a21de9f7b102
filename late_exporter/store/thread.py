"""The thread of the store, in which commits that wait for each other are made together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

from late_exporter.model import Scope, Series, SeriesValue
from late_exporter.store import Store
from late_exporter.store.records import Batch, CommitResult, FeedState

MAX_GROUP_COMMITS = 100
"""Maximum number of commits in one transaction, so that look-ups need not wait long for it."""

MAX_GROUP_OBSERVATIONS = 2000
"""Maximum number of observations in one transaction."""

FEEDS_PER_TRANSACTION = 20
"""Number of feeds whose state is read at a time: it ends in time if the database is 100 ms away."""

SERIES_PER_PAGE = 1000
"""Number of series that are read at a time, in a few milliseconds; other tasks run in between."""

ResultT = TypeVar("ResultT")

Offload: TypeAlias = Callable[..., Awaitable[Any]]
"""Runs a call in the store's thread and returns its result."""


def create_offload(executor: Executor) -> Offload:
    """Return a coroutine function that runs calls in an executor.

    A cancelled call is awaited nevertheless: it may have made logs durable.
    """

    async def offload(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        loop = asyncio.get_running_loop()
        end_event = asyncio.Event()
        future = executor.submit(call, *args, **keywords)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(end_event.set))
        is_cancelled = False
        while not end_event.is_set():
            try:
                await end_event.wait()
            except asyncio.CancelledError:
                is_cancelled = True
        task = asyncio.current_task()
        if is_cancelled and task is not None:
            task.cancel()  # It takes effect at the next await.
        return future.result()

    return offload


class _WaitingCommit(Generic[ResultT]):
    """A batch, and its outcome once it is committed."""

    def __init__(self, batch: Batch, finish: Callable[[Batch, CommitResult], ResultT]) -> None:
        self.batch = batch
        self.finish = finish
        self.result: CommitResult | BaseException | None = None


class StoreThread:
    """Access to the store, which is used in no other way.

    Calls run one after the other in its thread.

    Feeds that wait while a transaction is written are committed together in the next one, with one
    fsync, so that the time to commit does not grow with the number of feeds. A batch has a result
    only after the transaction that contains it.

    Args:
        store: The store.
        offload: Runs a call in the thread of the store.
    """

    def __init__(self, store: Store, offload: Offload) -> None:
        self.store = store
        self.offload = offload
        self._waiting: deque[_WaitingCommit[Any]] = deque()

    async def feed_states(self, scopes: Sequence[Scope]) -> Mapping[Scope, FeedState]:
        """Return the state of some feeds.

        It is read in parts: each feed takes two answers of a database.
        """
        states: dict[Scope, FeedState] = {}
        for start in range(0, len(scopes), FEEDS_PER_TRANSACTION):
            states |= await self.offload(
                self.store.feed_states, scopes[start : start + FEEDS_PER_TRANSACTION]
            )
        return states

    async def series_pages(
        self, workspaces: Iterable[str]
    ) -> AsyncIterator[Mapping[Series, SeriesValue]]:
        """Yield the stored series of some workspaces in pages.

        All at once take several times the memory.
        """
        for workspace in workspaces:
            last_id = ""
            is_last = False
            while not is_last:
                page, last_id = await self.offload(
                    self.store.series_page, workspace, last_id, SERIES_PER_PAGE
                )
                is_last = len(page) < SERIES_PER_PAGE
                yield page

    async def commit(
        self, batch: Batch, finish: Callable[[Batch, CommitResult], ResultT]
    ) -> ResultT:
        """Store a batch durably; return what ``finish`` makes of the result.

        ``finish`` runs in the thread of the store.

        Raises:
            StoreError: Nothing of the batch was stored.
        """
        waiting = _WaitingCommit(batch, finish)
        self._waiting.append(waiting)
        try:
            result: ResultT = await self.offload(self._complete, waiting)
        except BaseException:
            # If the call was not made, a later one must not commit what counts as failed.
            if waiting.result is None:
                with suppress(ValueError):
                    self._waiting.remove(waiting)
            raise
        return result

    def _complete(self, waiting: _WaitingCommit[ResultT]) -> ResultT:
        """Commit until a waiting commit is made; most calls find it made by one before them."""
        while waiting.result is None:
            self._commit_group(self._next_group())
        if isinstance(waiting.result, BaseException):
            raise waiting.result
        return waiting.finish(waiting.batch, waiting.result)

    def _commit_group(self, group: Sequence[_WaitingCommit[Any]]) -> None:
        try:
            results: Sequence[CommitResult | BaseException] = self.store.commit_all(
                [each.batch for each in group]
            )
        except BaseException as exc:  # noqa: BLE001 - raised again to each feed of the group
            results = [exc] * len(group)
        for waiting, result in zip(group, results, strict=True):
            waiting.result = result

    def _next_group(self) -> list[_WaitingCommit[Any]]:
        group = [self._waiting.popleft()]
        count = len(group[0].batch.observations)
        while self._waiting and len(group) < MAX_GROUP_COMMITS:
            count += len(self._waiting[0].batch.observations)
            if count > MAX_GROUP_OBSERVATIONS:
                break
            group.append(self._waiting.popleft())
        return group

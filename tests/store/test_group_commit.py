"""Commits of several feeds in one transaction, by the thread of the store.

Invariant: a batch is reported as committed if and only if it is durable, and it counts once, whatever happens to the
other batches of its group.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from late_exporter.errors import StoreError
from late_exporter.model import Scope
from late_exporter.store import Store
from late_exporter.store.records import Batch, CommitResult
from late_exporter.store.thread import MAX_GROUP_COMMITS, MAX_GROUP_OBSERVATIONS, StoreThread, create_offload
from tests.store.test_store import batch_of
from tests.support.exporter import open_store
from tests.support.store import log_count

FEEDS = 12
SCOPES = [Scope(f"w{number}", "publishing") for number in range(FEEDS)]


def counted(store: Store, number: int) -> tuple[object, int]:
    """Return the counter and the number of stored logs of a workspace."""
    return log_count(store, workspace=f"w{number}"), store.feed_state(SCOPES[number]).log_count


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Open a state with empty feeds."""
    with closing(open_store(f"sqlite:///{tmp_path / 'late.db'}")) as opened:
        opened.feed_states(SCOPES)
        yield opened


class Committer:
    """Feeds whose commits wait for a call that is in progress in the thread of the store."""

    def __init__(self, store: Store) -> None:
        self.executor = ThreadPoolExecutor(1)
        self.may_go_on = threading.Event()
        self.executor.submit(self.may_go_on.wait)
        self.thread = StoreThread(store, create_offload(self.executor))
        self.tasks: list[asyncio.Task[int]] = []

    async def start(self, batches: Sequence[Batch]) -> None:
        """Start commits."""
        self.tasks = [asyncio.ensure_future(self.thread.commit(each, count_observations)) for each in batches]
        await asyncio.sleep(0)

    async def finish(self) -> list[int | BaseException]:
        """Let the commits go on, and return their results."""
        self.may_go_on.set()
        results = await asyncio.gather(*self.tasks, return_exceptions=True)
        self.executor.shutdown()
        return results


def count_observations(_: Batch, result: CommitResult) -> int:
    """Return the number of new observations."""
    return len(result.observations)


async def test_a_group_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group has a maximum number of feeds and of observations, but at least one feed."""
    groups: list[int] = []

    def record(batches: Sequence[Batch]) -> Sequence[StoreError]:
        groups.append(len(batches))
        return [StoreError()] * len(batches)

    monkeypatch.setattr(store, "commit_all", record)
    committer = Committer(store)
    large = [str(number) for number in range(MAX_GROUP_OBSERVATIONS)]
    keys = [], large[:-1], ["a"], large, *([str(number)] for number in range(2 * MAX_GROUP_COMMITS))
    await committer.start([batch_of(SCOPES[0], *each) for each in keys])
    await committer.finish()
    assert groups == [3, 1, MAX_GROUP_COMMITS, MAX_GROUP_COMMITS]


async def test_a_cancelled_commit_is_made_anyway(store: Store) -> None:
    """A feed that is cancelled while its commit waits is not left in doubt: it ends after the commit is made."""
    committer = Committer(store)
    await committer.start([batch_of(scope, "a") for scope in SCOPES[:4]])
    committer.tasks[2].cancel()
    await asyncio.sleep(0)
    assert not committer.tasks[2].done()
    await committer.finish()
    assert [counted(store, number) for number in range(4)] == [(1, 1)] * 4


async def test_an_unexpected_error_reaches_every_feed_of_the_group(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No feed waits forever."""

    def fail(_: Sequence[Batch]) -> Sequence[StoreError]:
        raise ZeroDivisionError

    monkeypatch.setattr(store, "commit_all", fail)
    committer = Committer(store)
    await committer.start([batch_of(scope, "a") for scope in SCOPES[:3]])
    assert [ZeroDivisionError] * 3 == [type(each) for each in await committer.finish()]


async def test_a_commit_whose_call_was_not_made_is_not_made_later(store: Store) -> None:
    """What a feed was told to have failed must not be committed with another feed: it commits its increments again."""
    is_broken = True

    async def offload(call: Callable[..., Any], *args: Any) -> Any:
        if is_broken:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return call(*args)

    thread = StoreThread(store, offload)
    with pytest.raises(RuntimeError):
        await thread.commit(batch_of(SCOPES[0], "a"), count_observations)
    is_broken = False
    assert await thread.commit(batch_of(SCOPES[1], "b"), count_observations) == 1
    assert [counted(store, number) for number in (0, 1)] == [(0, 0), (1, 1)]

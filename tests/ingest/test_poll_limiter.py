"""The number of polls that run at the same time."""

from __future__ import annotations

import asyncio

import pytest

from late_exporter.ingest.poll_limiter import LONG_SECONDS, MAX_POLLS, PollLimiter
from tests.support.clock import LoopClock


class Polls:
    """Polls of a limiter, which end when a test lets them."""

    def __init__(self) -> None:
        self.clock = LoopClock(elapsed=0.0)
        self.limiter = PollLimiter(self.clock.monotonic)
        self.running: list[int] = []
        self.ends: dict[int, asyncio.Event] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self, *numbers: int) -> None:
        """Start polls."""
        for number in numbers:
            self.ends[number] = asyncio.Event()
            self.tasks[number] = asyncio.ensure_future(self._run(number))
        await settle()

    async def end(self, *numbers: int) -> None:
        """Let polls end."""
        for number in numbers:
            self.ends[number].set()
        await settle()

    async def _run(self, number: int) -> None:
        async with self.limiter.slot():
            self.running.append(number)
            await self.ends[number].wait()
            self.running.remove(number)


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(10 * MAX_POLLS):
        await asyncio.sleep(0)


@pytest.fixture
def polls() -> Polls:
    """Return a limiter on a clock that a test moves."""
    return Polls()


async def test_polls_start_in_order_as_others_end(polls: Polls) -> None:
    """A number of polls run at a time; the others start in the order in which they came."""
    await polls.start(*range(MAX_POLLS + 3))
    assert list(range(MAX_POLLS)) == polls.running
    await polls.end(5)
    assert MAX_POLLS == polls.running[-1]
    await polls.end(MAX_POLLS, 7)
    assert [MAX_POLLS + 1, MAX_POLLS + 2] == polls.running[-2:]


async def test_long_polls_are_not_waited_for(polls: Polls) -> None:
    """Whatever number of large workspaces are read, a small one starts at the latest when the oldest are long."""
    await polls.start(*range(MAX_POLLS))
    polls.clock.advance(LONG_SECONDS)
    await polls.start(*range(MAX_POLLS, 3 * MAX_POLLS))
    assert 2 * MAX_POLLS == len(polls.running)
    polls.clock.advance(LONG_SECONDS)
    await polls.end(0)
    assert 3 * MAX_POLLS - 1 == len(polls.running)


async def test_a_cancelled_poll_leaves_its_place(polls: Polls) -> None:
    """Neither a poll that is cancelled while it waits nor one that runs keeps others waiting."""
    await polls.start(*range(MAX_POLLS + 4))
    polls.tasks[MAX_POLLS].cancel()
    polls.tasks[MAX_POLLS + 1].cancel()
    polls.tasks[3].cancel()
    await settle()
    assert MAX_POLLS + 2 == polls.running[-1]
    await polls.end(4)
    assert MAX_POLLS + 3 == polls.running[-1]

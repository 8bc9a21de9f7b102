"""Calls and the web server's event loop in threads of their own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from late_exporter.web.thread import DaemonThreadExecutor, call_in_loop, run_in_thread


async def test_work_runs_beside_a_blocked_loop() -> None:
    """What runs in the thread goes on while the event loop that has started it is held by a callback."""
    answers = [threading.Event(), threading.Event()]

    async def work() -> None:
        answers[0].set()
        await asyncio.to_thread(lambda: None)
        answers[1].set()

    task = asyncio.ensure_future(run_in_thread(work))
    await asyncio.sleep(0)
    assert all(answer.wait(60) for answer in answers), "this holds the event loop"
    await task


async def test_a_cancelled_call_ends_its_work_first() -> None:
    """A cancelled call awaits what its work does at the end."""
    started, steps = asyncio.Event(), list[str]()
    loop = asyncio.get_running_loop()

    async def work() -> None:
        loop.call_soon_threadsafe(started.set)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(lambda: None)
            steps.append("closed")

    task = asyncio.ensure_future(run_in_thread(work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["closed"]


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_a_call_that_is_cancelled_at_its_start(turns: int) -> None:
    """A call that is cancelled before its work has begun ends, too."""
    task = asyncio.ensure_future(run_in_thread(asyncio.Event().wait))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)


async def test_an_error_of_the_work() -> None:
    """An error in the thread is raised by the call."""

    async def work() -> None:
        raise OSError("too many open files")

    with pytest.raises(OSError, match="too many open files"):
        await run_in_thread(work)


async def test_a_call_in_another_loop() -> None:
    """A coroutine function runs on its own loop; its result is returned, and a cancelled call cancels it."""
    loop = asyncio.get_running_loop()
    loops, started, cancelled = list[asyncio.AbstractEventLoop](), asyncio.Event(), asyncio.Event()

    async def add(number: int) -> int:
        loops.append(asyncio.get_running_loop())
        return number + 1

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def connection() -> None:
        loops.append(asyncio.get_running_loop())
        assert await call_in_loop(loop, add, 1) == 2
        call = asyncio.ensure_future(call_in_loop(loop, hang))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(started.wait(), loop))
        call.cancel()

    await run_in_thread(connection)
    await asyncio.wait_for(cancelled.wait(), 60)
    assert loops[1] is loop
    assert loops[0] is not loop


def test_a_system_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started, the result of a call is an error of the system, as of a call that fails."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(BlockingIOError, match="can't start new thread"):
        DaemonThreadExecutor().submit(str).result()

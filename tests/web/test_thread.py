"""The web server's event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from late_exporter.web.asgi import Message, Receive, Send
from late_exporter.web.thread import in_loop, run_in_thread


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


async def test_an_application_in_another_loop() -> None:
    """An application runs on its own loop, and receives and sends on that of the connection."""
    loops = dict[str, asyncio.AbstractEventLoop]()
    sent = list[Message]()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        loops["app"] = asyncio.get_running_loop()
        await send({"path": scope["path"], **await receive()})

    async def receive() -> Message:
        loops["receive"] = asyncio.get_running_loop()
        return {"body": b"question"}

    async def send(message: Message) -> None:
        loops["send"] = asyncio.get_running_loop()
        sent.append(message)

    forward = in_loop(app, asyncio.get_running_loop())

    async def connection() -> None:
        loops["connection"] = asyncio.get_running_loop()
        await forward({"path": "/"}, receive, send)

    await run_in_thread(connection)
    assert sent == [{"path": "/", "body": b"question"}]
    assert asyncio.get_running_loop() is loops["app"] is not loops["connection"]
    assert loops["connection"] is loops["receive"] is loops["send"]

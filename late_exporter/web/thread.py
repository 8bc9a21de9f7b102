"""The event loop of the web server, in its own thread, so that a scrape need not wait for polls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from late_exporter.concurrency import DaemonThreadExecutor

P = ParamSpec("P")
T = TypeVar("T")


async def run_in_thread(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run a coroutine function on an event loop in a thread of its own.

    Ends with it, and raises its error. If this call is cancelled, so is the coroutine, which is
    awaited.
    """
    stop = Future[None]()

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(DaemonThreadExecutor())
        task = asyncio.ensure_future(work())
        asyncio.wrap_future(stop).add_done_callback(lambda _: task.cancel())
        with suppress(asyncio.CancelledError):
            await task

    ended = asyncio.get_running_loop().run_in_executor(
        DaemonThreadExecutor(), lambda: asyncio.run(run())
    )
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        stop.set_result(None)
        await ended
        raise


async def call_in_loop(
    loop: asyncio.AbstractEventLoop,
    function: Callable[P, Coroutine[Any, Any, T]],
    *args: P.args,
    **keywords: P.kwargs,
) -> T:
    """Return the result of a coroutine function that runs on another event loop."""
    return await asyncio.wrap_future(
        asyncio.run_coroutine_threadsafe(function(*args, **keywords), loop)
    )

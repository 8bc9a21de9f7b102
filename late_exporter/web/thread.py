"""Threads: of calls that may hang, and of the web server, whose scrapes need not wait for polls."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreadExecutor(ThreadPoolExecutor):
    """Run each call, such as name resolution, in its own daemon thread.

    So a hung call cannot delay shutdown. It replaces the event loop's default executor, whose
    threads are joined at exit.
    """

    def submit(self, call: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        """Start a call; return the future of its result.

        That is OSError if the system allows no more threads.
        """
        future = Future[Any]()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call(*args, **keywords))
                except BaseException as exc:  # noqa: BLE001 - raised again by the future's result()
                    future.set_exception(exc)

        try:
            threading.Thread(target=run, daemon=True, name="daemon-call").start()
        except RuntimeError as exc:
            future.set_exception(OSError(errno.EAGAIN, str(exc)))
        return future


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

"""The event loop of the web server, in a thread of its own, so that a scrape need not wait for polls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

from late_exporter.concurrency import DaemonThreadExecutor
from late_exporter.web.asgi import App, Message, Receive, Send

P = ParamSpec("P")
T = TypeVar("T")


async def run_in_thread(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run a coroutine function on an event loop in a thread of its own.

    Ends with it, and raises its error. If this call is cancelled, so is the coroutine, which is awaited.
    """
    loop = asyncio.get_running_loop()
    started: asyncio.Future[Callable[[], object]] = loop.create_future()

    async def run() -> None:
        own_loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work())
        own_loop.set_default_executor(DaemonThreadExecutor())
        loop.call_soon_threadsafe(started.set_result, partial(own_loop.call_soon_threadsafe, task.cancel))
        with suppress(asyncio.CancelledError):
            await task

    ended = loop.run_in_executor(DaemonThreadExecutor(), lambda: asyncio.run(run()))
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        await asyncio.wait((started, ended), return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            with suppress(RuntimeError):  # the coroutine has just ended, and its loop is closed
                started.result()()
        await ended
        raise


def in_loop(app: App, loop: asyncio.AbstractEventLoop) -> App:
    """Return an application that runs on ``loop``, for connections that are served on another event loop."""

    async def forward(scope: Message, receive: Receive, send: Send) -> None:
        call_here = partial(call_in_loop, asyncio.get_running_loop())
        await call_in_loop(loop, app, scope, partial(call_here, receive), partial(call_here, send))

    return forward


async def call_in_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[P, Awaitable[T]], *args: P.args, **keywords: P.kwargs
) -> T:
    """Return the result of a coroutine function that runs on another event loop."""

    async def call() -> T:
        return await function(*args, **keywords)

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), loop))

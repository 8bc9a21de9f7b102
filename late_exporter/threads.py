"""Threads for calls that may hang, such as name resolution without a reachable server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


class DaemonThreadExecutor(ThreadPoolExecutor):
    """Run each call in its own daemon thread, so a hung call cannot delay shutdown.

    It replaces the event loop's default executor, whose threads are joined at exit.
    """

    def submit(self, call: Callable[P, ResultT], /, *args: P.args, **keywords: P.kwargs) -> Future[ResultT]:
        """Start a call; return the future of its result."""
        future = Future[ResultT]()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call(*args, **keywords))
            except BaseException as exc:  # noqa: BLE001 - raised again by the future's result()
                future.set_exception(exc)

        threading.Thread(target=run, daemon=True, name="daemon-call").start()
        return future

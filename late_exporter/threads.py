"""Threads for calls that may hang, as name resolution does where no server answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

__all__ = ["DaemonThreadExecutor"]

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


class DaemonThreadExecutor(ThreadPoolExecutor):
    """Runs every call in a thread of its own, for which nobody waits when the program ends.

    The event loop's usual executor would be waited for, and a program that is told to stop would not.
    """

    def submit(self, call: Callable[P, ResultT], /, *args: P.args, **keywords: P.kwargs) -> Future[ResultT]:
        """Begin a call."""
        future = Future[ResultT]()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call(*args, **keywords))
            except BaseException as exc:  # noqa: BLE001 - it is raised where the result is asked for
                future.set_exception(exc)

        threading.Thread(target=run, daemon=True, name="errand").start()
        return future

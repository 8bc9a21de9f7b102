"""Threads for calls that may hang."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


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

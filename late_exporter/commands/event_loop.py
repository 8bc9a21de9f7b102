"""How a command ends: with its work, at a signal, or when the work asks for it."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from late_exporter import log
from late_exporter.web.thread import DaemonThreadExecutor

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

SWITCH_SECONDS = 0.0001
"""Time after which a thread that computes lets the event loop run; 5 ms would delay scrapes."""

ResultT = TypeVar("ResultT")
Stop: TypeAlias = Callable[[], None]  # callback that stops the command


def raise_at_signals() -> None:
    """Raise KeyboardInterrupt at signals.

    An incomplete result is no success, and no temporary file is left behind.
    """
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def run_interruptible(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of a command that ends by itself."""
    raise_at_signals()
    return asyncio.run(work)


async def run_until_stopped(
    work: Callable[[Stop], Coroutine[Any, Any, object]], *, stopped_code: int = 0
) -> int:
    """Run until the work ends, calls its argument, or a signal arrives.

    A second signal kills the process.

    Returns:
        0, or ``stopped_code`` if the work was stopped before its end.
    """
    # Imported objects stay: the garbage collector need not scan them again and again.
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(DaemonThreadExecutor())

    stopped = asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # until there is something to reload

    task = asyncio.ensure_future(work(stopped.set))
    task.add_done_callback(lambda _: stopped.set())
    await stopped.wait()
    for number in STOP_SIGNALS:
        loop.remove_signal_handler(number)

    if not task.done():
        log.get_logger("late_exporter").info("stopping")
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return stopped_code
    except BaseExceptionGroup as group:
        # The first error is the one that ended the other tasks.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
    return 0

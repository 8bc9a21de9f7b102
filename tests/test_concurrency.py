"""Calls in threads of their own, and postponed cancellations."""

from __future__ import annotations

import asyncio
import threading

import pytest

from late_exporter.concurrency import DaemonThreadExecutor, PostponedCancellation


def test_a_system_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started, the result of a call is an error of the system, as of a call that fails."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(BlockingIOError, match="can't start new thread"):
        DaemonThreadExecutor().submit(str).result()


async def test_a_cancellation_is_postponed() -> None:
    """A task that is cancelled at a pause ends with the first await after the last one."""
    steps: list[str] = []

    async def work() -> None:
        cancellation = PostponedCancellation()
        for number in range(3):
            steps.append(f"step {number}")
            await cancellation.pause()
        cancellation.end()
        steps.append("end")
        await asyncio.sleep(0)
        steps.append("never")

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert ["step 0", "step 1", "step 2", "end"] == steps

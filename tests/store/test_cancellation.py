"""Postponed cancellations."""

from __future__ import annotations

import asyncio

from late_exporter.store.cancellation import PostponedCancellation


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

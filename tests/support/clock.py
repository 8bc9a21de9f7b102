"""Time that moves only if a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
START = 1_795_600_000.0


class VirtualClock:
    """Unix and monotonic time; sleeping advances both at once.

    Attributes:
        now: Unix time.
        elapsed: Monotonic time.
    """

    def __init__(self, now: float = START, *, elapsed: float = 0.0) -> None:
        self.now = now
        self.elapsed = elapsed

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.elapsed

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.elapsed += seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


class LoopClock(VirtualClock):
    """Time for tests in an event loop: sleeping advances it and lets other tasks run."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await asyncio.sleep(0)


class SleepingClock(VirtualClock):
    """Time at which tasks really sleep, until a test moves it past the end of their sleep."""

    def __init__(self, now: float = START) -> None:
        super().__init__(now)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.elapsed + seconds, next(self._numbers), future))
        await future

    async def reach(self, moment: float) -> None:
        """Move to a monotonic time and run everything that is due until then."""
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= moment:
            at, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self.advance(at - self.elapsed)
                future.set_result(None)
                await self._settle()
        self.advance(moment - self.elapsed)
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0)

"""A quota that several users of a key share, in simulated time."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections import deque
from collections.abc import Coroutine, Iterable
from email.utils import formatdate
from typing import Any

import httpx

from late_exporter.api.client import LateClient
from late_exporter.errors import RateLimited
from tests.support.api import create_client

START = 1_795_600_020.0  # 20 seconds into a minute
MINUTE = 60.0
LATENCY = 0.1


class Window:
    """Requests per minute of one key, in a sliding window."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._times: deque[float] = deque()

    def accept(self, now: float) -> bool:
        """Count a request; return False if it exceeds the limit, in which case it is not counted."""
        while self._times and self._times[0] <= now - MINUTE:
            self._times.popleft()
        if len(self._times) >= self.limit:
            return False
        self._times.append(now)
        return True

    @property
    def remaining(self) -> int:
        return self.limit - len(self._times)

    def reset(self) -> float:
        """Return when the next slot frees up."""
        return self._times[0] + MINUTE


class SharedQuota:
    """An API with one key: requests of exporters by HTTP, and those of the customer's own software.

    Attributes:
        refused_customer_calls: Calls of the customer that were refused because of the exporters.
        exporter_times: When each request of an exporter was accepted, by number of the exporter.
    """

    def __init__(self, limit: int) -> None:
        self.refused_customer_calls: list[float] = []
        self.refused_exporter_requests: list[float] = []
        self.exporter_times: dict[int, list[float]] = {}
        self._window = Window(limit)
        self._customer_window = Window(limit)
        self._clients: list[httpx.AsyncClient] = []

    @staticmethod
    def now() -> float:
        """Return the Unix time."""
        return START + asyncio.get_running_loop().time()

    def call(self) -> None:
        """Count a call of the customer."""
        now = self.now()
        is_accepted = self._window.accept(now)
        if self._customer_window.accept(now) and not is_accepted:
            self.refused_customer_calls.append(now - START)

    async def call_at(self, times: Iterable[float]) -> None:
        """Call at some times of the loop."""
        loop = asyncio.get_running_loop()
        for time in sorted(times):
            await asyncio.sleep(time - loop.time())
            self.call()

    def connect(self, share: float = 0.5) -> LateClient:
        """Return the client of another exporter process."""
        number = len(self.exporter_times)
        times = self.exporter_times[number] = []

        async def handle(_: httpx.Request) -> httpx.Response:
            await asyncio.sleep(LATENCY / 2)
            now = self.now()
            is_accepted = self._window.accept(now)
            (times if is_accepted else self.refused_exporter_requests).append(now - START)
            reset = self._window.reset()
            headers = {
                "Date": formatdate(now, usegmt=True),
                "X-RateLimit-Limit": str(self._window.limit),
                "X-RateLimit-Remaining": str(self._window.remaining),
            }
            headers["X-RateLimit-Reset"] = str(math.ceil(reset))
            await asyncio.sleep(LATENCY / 2)
            if not is_accepted:
                headers["Retry-After"] = str(math.ceil(reset - now))
            return httpx.Response(200 if is_accepted else 429, stream=httpx.ByteStream(b"{}"), headers=headers)

        loop = asyncio.get_running_loop()
        return create_client(handle, monotonic=loop.time, share=share)


async def send_forever(client: LateClient) -> None:
    """Send requests one after the other, as fast as the client allows."""
    while True:
        try:
            await client.get("/v1/logs", {}, path_template="/v1/logs")
        except RateLimited as exc:
            await asyncio.sleep(exc.until - asyncio.get_running_loop().time())


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: the clock of the loop jumps to the next timer instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class _JumpingLoop(asyncio.SelectorEventLoop):
    """Event loop with simulated time, which begins at 0 and advances when all tasks wait."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run_for(seconds: float, *coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run coroutines concurrently for some simulated seconds, then cancel them; raise what they raise."""

    async def run() -> None:
        tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
        done, pending = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()

    loop = _JumpingLoop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()

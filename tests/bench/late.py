"""Late API as a process, so that its CPU time is not measured: python -m tests.bench.late PORT ROWS.

``/ROWS/api`` serves a fixed list of that many logs of the last days. ``/_bench`` returns how many requests wait.
``/_bench/hold`` makes all requests wait until ``/_bench/release``, so that a measurement has an exact start.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import uvicorn

from late_exporter.simulator import LogList, SimulatedApi, SimulatedWorld, StaticLogs
from late_exporter.simulator.log_list import DAY

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

DAYS = 6
RATE_LIMIT = 1_000_000_000
"""Requests per minute, high enough that neither program is limited."""


class BenchApi:
    """ASGI application of the API."""

    def __init__(self, size: int) -> None:
        self._waiting_count = 0
        self._is_open = asyncio.Event()
        self._is_open.set()
        world = SimulatedWorld(1, time.time() - 60, logs_per_day=1.2 * size / DAYS, history=DAYS * DAY)
        rows = [row for row in world.publishing.rows if row["status"] != "pending"][:size]
        self._app = SimulatedApi(StaticLogs(publishing=LogList(rows)), clock=time.time, rate_limit=RATE_LIMIT)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        _, size, path = scope["path"].split("/", 2)
        if size == "_bench":
            await self._command(path, send)
            return
        self._waiting_count += 1
        await self._is_open.wait()
        self._waiting_count -= 1
        await self._app({**scope, "path": f"/{path}"}, receive, send)

    async def _command(self, command: str, send: Send) -> None:
        match command:
            case "hold":
                self._is_open.clear()
            case "release":
                self._is_open.set()
        body = b"%d" % self._waiting_count
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    app = BenchApi(int(sys.argv[2]))
    gc.freeze()
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", lifespan="off", date_header=False, ws="none"
    )

"""Late API as a process, so that its CPU time is not measured: python -m tests.bench.late ROWS.

``/api`` serves a fixed list of that many logs of the last days. ``/_bench/waiting`` returns how many requests wait.
``/_bench/hold`` makes all requests wait until ``/_bench/release``, so that a measurement has an exact start.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import uvicorn

from late_exporter.simulator import LogList, SimulatedApi, StaticLogs, simulate_world
from late_exporter.simulator.log_list import LogRow

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

DAYS = 6
SURPLUS = 1.2
"""Logs of the world for each log of the list, as their number is random."""
RATE_LIMIT = 1_000_000_000
"""Requests per minute, high enough that neither program is limited."""


def create_rows(size: int) -> list[LogRow]:
    """Return the newest final publishing logs of a simulated world."""
    world = simulate_world(1, time.time() - 60, history=DAYS * 86_400, logs_per_day=SURPLUS * size / DAYS)
    rows = [row for row in world.publishing.rows if row["status"] != "pending"]
    assert len(rows) >= size
    return rows[:size]


class BenchApi:
    """ASGI application of the API."""

    def __init__(self, size: int) -> None:
        self._waiting_count = 0
        self._is_open = asyncio.Event()
        self._is_open.set()
        logs = StaticLogs(publishing=LogList(create_rows(size)))
        self._app = SimulatedApi(logs, clock=time.time, rate_limit=RATE_LIMIT, generation="both")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        if scope["path"].startswith("/_bench"):
            await self._command(scope["path"].rpartition("/")[2], send)
            return
        self._waiting_count += 1
        await self._is_open.wait()
        self._waiting_count -= 1
        await self._app(scope, receive, send)

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
    app = BenchApi(int(sys.argv[1]))
    gc.freeze()
    config = uvicorn.Config(app, log_level="warning", lifespan="off", date_header=False, ws="none")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stderr.write(f"listening, address=http://127.0.0.1:{listener.getsockname()[1]}\n")
        uvicorn.Server(config).run(sockets=[listener])

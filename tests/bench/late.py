"""Late API as a process, so that its CPU time is not measured: python -m tests.bench.late PORT ROWS.

``/ROWS/api`` serves a fixed list of that many logs of the last days. ``/_bench`` returns how many requests wait.
``/_bench/hold`` makes all requests wait until ``/_bench/release``, so that a measurement has an exact start.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import uvicorn

from late_exporter.simulator import LogList, SimulatedApi, StaticLogs
from late_exporter.simulator.accounts import PLATFORMS, SimulatedPlatform
from late_exporter.simulator.log_list import LogRow

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

DAYS = 6
ACCOUNTS = 200
RATE_LIMIT = 1_000_000_000
"""Requests per minute, high enough that neither program is limited."""
_random = random.Random(1)
_platforms = tuple(platform for platform in PLATFORMS.values() if platform.failures)


def make_row(number: int, created_at: float) -> LogRow:
    """Return a final publishing log like those of the simulated world."""
    draw = _random.random()
    account_number = number * 7919 % ACCOUNTS
    platform = _platforms[account_number % len(_platforms)]
    action = "retry" if draw > 0.97 else "media_upload" if draw > 0.9 else "publish"
    content = f"Fresh from the oven, number {number}: " + "the best bread is the one that is shared. " * 3
    row: LogRow = {
        "_id": f"{int(created_at):08x}{number:016x}",
        "postId": {"_id": f"65f2{number:020x}", "content": content, "status": "published"},
        "userId": "65f000000000000000000001",
        "profileId": "65f000000000000000000002",
        "platform": platform.name,
        "accountId": account_id(account_number),
        "accountUsername": f"@bakery{account_number}",
        "action": action,
        "status": "failed" if 0.5 < draw < 0.55 else "success",
        "endpoint": f"api.{platform.name}.com/v1/posts",
        "request": {"contentPreview": content[:100], "mediaCount": 1, "mediaUrls": [f"https://media/{number}.jpg"]},
        "createdAt": datetime.fromtimestamp(created_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "durationMs": int(platform.median_seconds * _random.lognormvariate(0, platform.sigma) * 1000),
        "attemptNumber": 2 if action == "retry" else 1,
    }
    return row | _outcome_fields(platform, row["status"])


def _outcome_fields(platform: SimulatedPlatform, status: str) -> LogRow:
    if status == "success":
        post_id = str(_random.getrandbits(56))
        return {
            "statusCode": 200,
            "response": {
                "platformPostId": post_id,
                "platformPostUrl": f"https://www.{platform.name}.com/{post_id}",
            },
        }
    failure = _random.choice(tuple(platform.failures))
    response = {"errorMessage": failure.message, "errorCode": failure.code, "rawBody": failure.message * 2}
    return {"statusCode": failure.status_code, "response": response}


def account_id(number: int) -> str:
    """Return an account id in the format of the API."""
    return f"65f1c0{number:018x}"


class BenchApi:
    """ASGI application of the API."""

    def __init__(self, size: int) -> None:
        self._waiting_count = 0
        self._is_open = asyncio.Event()
        self._is_open.set()
        now = time.time() - 60
        rows = [make_row(n, now - (size - n) * DAYS * 86400 / size) for n in range(size)]
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

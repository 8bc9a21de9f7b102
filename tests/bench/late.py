"""Late API as a process, so that its CPU time is not measured: python -m tests.bench.late PORT RATE DAYS ROWS...

``/ROWS/api`` serves a fixed list of that many logs of the last DAYS, to RATE requests per minute and key, and
``/ROWS-zernio/api`` the same in generation zernio. ``/_bench`` returns the number of requests.
``/_bench/hold`` makes all requests wait until ``/_bench/release``, so that a measurement has an exact start.
``/_bench/add`` inserts a new log before every first page, until ``/_bench/keep``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import uvicorn

from late_exporter.simulator import LogList, SimulatedApi, StaticLogs
from late_exporter.simulator.log_list import LogRow
from late_exporter.simulator.platforms import PLATFORMS, SimulatedPlatform
from tests.bench.naming import account_id, log_id

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

DAYS = 6
ACCOUNTS = 200
_random = random.Random(1)
_platforms = tuple(PLATFORMS.values())


def make_row(number: int, created_at: float, accounts: int = ACCOUNTS) -> LogRow:
    """Return a final publishing log like those of the simulated world, of one of a number of accounts."""
    draw = _random.random()
    account_number = number * 7919 % accounts
    platform = _platforms[account_number % len(_platforms)]
    action = "retry" if draw > 0.97 else "media_upload" if draw > 0.9 else "publish"
    content = f"Fresh from the oven, number {number}: " + "the best bread is the one that is shared. " * 3
    row: LogRow = {
        "_id": log_id(created_at, number),
        "postId": {"_id": f"65f2{number:020x}", "content": content, "status": "published"},
        "userId": "65f000000000000000000001",
        "profileId": "65f000000000000000000002",
        "platform": platform.name,
        "accountId": account_id(account_number),
        "accountUsername": f"@bakery{account_number}",
        "action": action,
        "status": "failed" if 0.5 < draw < 0.55 else "success",
        "endpoint": platform.endpoint,
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
                "platformPostUrl": f"{platform.post_url_prefix}{post_id}",
            },
        }
    failure = _random.choice(tuple(platform.failures))
    response = {"errorMessage": failure.message, "errorCode": failure.code, "rawBody": failure.message * 2}
    return {"statusCode": failure.status_code, "response": response}


class BenchApi:
    """ASGI application of the API."""

    def __init__(self, rate_limit: int, days: float, sizes: Sequence[int]) -> None:
        self._request_count = 0
        self._waiting_count = 0
        self._adds_logs = False
        self._last_number = max(sizes)
        self._is_open = asyncio.Event()
        self._is_open.set()
        now = time.time() - 60
        rows = [make_row(n, now - (max(sizes) - n) * days * 86400 / max(sizes)) for n in range(max(sizes))]
        self._log_sources = {str(size): StaticLogs(LogList(rows[len(rows) - size :])) for size in sizes}
        self._apps = {
            f"{name}{suffix}": SimulatedApi(archives, clock=time.time, rate_limit=rate_limit, generation=generation)
            for name, archives in self._log_sources.items()
            for generation, suffix in (("late", ""), ("zernio", "-zernio"))
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        _, size, path = scope["path"].split("/", 2)
        if size == "_bench":
            await self._command(path, send)
            return
        self._waiting_count += 1
        await self._is_open.wait()
        self._waiting_count -= 1
        self._request_count += 1
        if self._adds_logs and b"skip=0" in scope["query_string"]:
            self._last_number += 1
            self._log_sources[size].publishing.insert(make_row(self._last_number, time.time()))
        await self._apps[size]({**scope, "path": f"/{path}"}, receive, send)

    async def _command(self, command: str, send: Send) -> None:
        match command:
            case "hold":
                self._is_open.clear()
            case "release":
                self._is_open.set()
            case "add" | "keep":
                self._adds_logs = command == "add"
        body = json.dumps({"requests": self._request_count, "waiting": self._waiting_count}).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _parse_sizes(arguments: Sequence[str]) -> Iterator[int]:
    return (int(argument) for argument in arguments)


if __name__ == "__main__":
    app = BenchApi(int(sys.argv[2]), float(sys.argv[3]), [*_parse_sizes(sys.argv[4:])])
    gc.freeze()
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", lifespan="off", date_header=False, ws="none"
    )

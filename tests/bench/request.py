"""One request of a bare client per 100 ms, the lower bound of a poll: python -m tests.bench.request URL KEY."""

from __future__ import annotations

import asyncio
import sys

import httpx

PAUSE_SECONDS = 0.1


async def main(url: str, key: str) -> None:
    """Request the newest page until killed, and print a line per request."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(headers=headers) as client:
        while True:
            response = await client.get(f"{url}/v1/posts/logs", params={"days": 7, "limit": 100, "skip": 0})
            response.raise_for_status()
            sys.stdout.write("requested\n")
            sys.stdout.flush()
            await asyncio.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))

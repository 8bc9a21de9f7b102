"""HTTP client of the workspaces."""

from __future__ import annotations

from contextlib import AsyncExitStack

import httpx

from late_exporter.app.connector import open_client
from late_exporter.config.sources import load


async def test_a_client_is_shared() -> None:
    """The client of all workspaces keeps no cookie, which would be sent with other keys, and has no timeout."""
    settings = load("run", {}, {"LATE_API_KEY": f"sk_{0:064x}"})
    async with AsyncExitStack() as stack:
        client = await open_client(settings, stack)
        request = httpx.Request("GET", "https://api.example/v1/logs")
        for cookie in ("session=of-another-key; Path=/", "name=日本"):
            headers = [(b"Set-Cookie", cookie.encode())]
            client.cookies.extract_cookies(httpx.Response(200, headers=headers, request=request))
        assert [*client.cookies.jar] == []
        assert [*client.timeout.as_dict().values()] == [None] * 4

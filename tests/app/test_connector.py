"""HTTP client of the workspaces."""

from __future__ import annotations

from contextlib import AsyncExitStack

from late_exporter.api.client import NoCookies
from late_exporter.app.connector import open_client
from late_exporter.config.sources import load


async def test_a_client_is_shared() -> None:
    """The client of all workspaces keeps no cookies and has no timeout of its own."""
    settings = load("run", {}, {"LATE_API_KEY": f"sk_{0:064x}"})
    async with AsyncExitStack() as stack:
        client = await open_client(settings, stack)
        assert isinstance(client.cookies.jar, NoCookies)
        assert [None] * 4 == [*client.timeout.as_dict().values()]

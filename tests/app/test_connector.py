"""HTTP client of the workspaces."""

from __future__ import annotations

from contextlib import AsyncExitStack
from unittest.mock import Mock, call

import httpx
import pytest

from late_exporter.api.client import NoCookies
from late_exporter.app.connector import MAX_IDLE_SECONDS, open_client
from late_exporter.config.sources import load


async def test_a_client_is_shared() -> None:
    """The client of all workspaces keeps no cookies and has no timeout of its own."""
    settings = load("run", {}, {"LATE_API_KEY": f"sk_{0:064x}"})
    async with AsyncExitStack() as stack:
        client = await open_client(settings, stack)
        assert isinstance(client.cookies.jar, NoCookies)
        assert [None] * 4 == [*client.timeout.as_dict().values()]


@pytest.mark.parametrize(("interval", "seconds"), [("10s", 50.0), ("30s", 90.0), ("10m", MAX_IDLE_SECONDS)])
async def test_idle_connections(interval: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept until the next poll, unless a network may have dropped them by then."""
    limits = Mock(wraps=httpx.Limits)
    monkeypatch.setattr(httpx, "Limits", limits)
    settings = load("run", {"poll.interval": [interval]}, {"LATE_API_KEY": f"sk_{0:064x}"})
    async with AsyncExitStack() as stack:
        await open_client(settings, stack)
    assert [call(keepalive_expiry=seconds)] == limits.mock_calls

"""HTTP clients of the workspaces."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from unittest.mock import Mock, call

import httpx
import pytest

from late_exporter.api.cookies import CookielessAsyncClient
from late_exporter.app.connector import MAX_IDLE_SECONDS, WORKSPACES_PER_CLIENT, open_clients
from late_exporter.config.sources import load


@pytest.mark.parametrize(("workspaces", "clients"), [(0, 1), (1, 1), (WORKSPACES_PER_CLIENT + 1, 2)])
async def test_clients_are_shared(workspaces: int, clients: int, tmp_path: Path) -> None:
    """There is a client for the first workspace of a reload, and none keeps cookies or a timeout of its own."""
    (tmp_path / "late.key").write_text(f"sk_{0:064x}")
    rows = [f"- {{name: w{number}, api_key_file: late.key}}" for number in range(workspaces)]
    file = tmp_path / "late.yml"
    file.write_text(
        "\n".join(["workspaces:", *rows]) if rows else "workspaces: [{name: brand-0, api_key_file: late.key}]"
    )
    total = "1" if rows else "3"
    settings = load("run", {"config.file": [str(file)], "shard": ["0"], "total-shards": [total]}, {})
    assert workspaces == len(settings.workspaces)
    async with AsyncExitStack() as stack:
        opened = await open_clients(settings, stack)
        assert clients == len(opened)
        for client in opened:
            assert isinstance(client, CookielessAsyncClient)
            assert [None] * 4 == [*client.timeout.as_dict().values()]


@pytest.mark.parametrize(("interval", "seconds"), [("10s", 50.0), ("30s", 90.0), ("10m", MAX_IDLE_SECONDS)])
async def test_idle_connections(interval: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept until the next poll, unless a network may have dropped them by then."""
    limits = Mock(wraps=httpx.Limits)
    monkeypatch.setattr(httpx, "Limits", limits)
    settings = load("run", {"poll.interval": [interval]}, {"LATE_API_KEY": f"sk_{0:064x}"})
    async with AsyncExitStack() as stack:
        await open_clients(settings, stack)
    assert [call(keepalive_expiry=seconds)] == limits.mock_calls

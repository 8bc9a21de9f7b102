"""HTTP client of the workspaces."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from late_exporter.app.connector import WORKSPACES_PER_CLIENT, open_clients
from late_exporter.config.sources import load
from late_exporter.errors import ConfigError


async def test_a_client_is_shared() -> None:
    """The client of all workspaces keeps no cookie, which would be sent with other keys, and has no timeout."""
    settings = load("run", {}, {"ZERNIO_API_KEY": f"sk_{0:064x}"})
    async with AsyncExitStack() as stack:
        (client,) = await open_clients(settings, stack)
        request = httpx.Request("GET", "https://api.example/v1/logs")
        for cookie in ("session=of-another-key; Path=/", "name=日本"):
            headers = [(b"Set-Cookie", cookie.encode())]
            client.cookies.extract_cookies(httpx.Response(200, headers=headers, request=request))
        assert [*client.cookies.jar] == []
        assert [*client.timeout.as_dict().values()] == [None] * 4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ALL_PROXY", "socks5://user:hunter2@proxy.example:1080", "must be the URL of an HTTP proxy"),
        ("HTTPS_PROXY", "http://user:hunter2@proxy.example:hunter2", "must be the URL of an HTTP proxy"),
        ("SSL_CERT_FILE", "/nowhere", "SSL_CERT_FILE: /nowhere: No such file or directory"),
        ("SSL_CERT_FILE", __file__, f"SSL_CERT_FILE: {__file__}: "),
    ],
)
async def test_unusable_variables(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    """A proxy or certificates that cannot be used are an error that names the variable, without a password."""
    monkeypatch.setenv(name, value)
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError) as caught:
            await open_clients(load("run", {}, {"ZERNIO_API_KEY": f"sk_{0:064x}"}), stack)
    (problem,) = caught.value.problems
    assert name in problem
    assert message in problem
    assert "hunter2" not in problem


async def test_many_workspaces_have_several_clients(tmp_path: Path) -> None:
    """A request looks at all idle connections of its client, of which there are more for more workspaces."""
    (tmp_path / "key").write_text(f"sk_{0:064x}")
    rows = [f"- {{name: w{n}, api_key_file: key, profile_id: p{n}}}" for n in range(2 * WORKSPACES_PER_CLIENT + 1)]
    (tmp_path / "late.yml").write_text("\n".join(["workspaces:", *rows]))
    settings = load("run", {"config.file": str(tmp_path / "late.yml")}, {})
    async with AsyncExitStack() as stack:
        assert len(await open_clients(settings, stack)) == 3

"""Start-up: a command imports only what it needs."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.e2e.late import LateServer, respond_with

HEAVY = {"asyncio", "click", "httpx", "prometheus_client", "pydantic", "sqlite3", "ssl", "structlog", "uvicorn", "yaml"}


def heavy_imports(arguments: Sequence[str]) -> set[str]:
    """Return the heavy modules that a command has imported when it ends."""
    program = f"""
import sys
from late_exporter.cli import main
main({list(arguments)!r})
print("heavy:", *sorted({HEAVY!r} & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    (names,) = (line for line in done.stderr.splitlines() if line.startswith("heavy:"))
    return set(names.split()[1:])


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--version"], {"click"}),
        (["--help"], {"click"}),
        (["run", "--help"], {"asyncio", "click", "pydantic", "ssl", "yaml"}),
        (["logs", "--limit", "x"], {"asyncio", "click", "pydantic", "ssl", "structlog", "yaml"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], allowed: set[str]) -> None:
    """Commands that people and orchestrators wait for do not import client, server, store, pydantic and the like."""
    assert heavy_imports(arguments) - allowed == set()


def test_the_health_check_imports_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A health check that succeeds imports nothing heavy but what http.client does, also with an address given."""
    with LateServer() as server:
        server.fault = respond_with(200, "late-exporter is healthy")
        port = server.url.removeprefix("http://").partition("/")[0].rpartition(":")[2]
        monkeypatch.setenv("LATE_EXPORTER_WEB__LISTEN_ADDRESS", f"localhost:{port}")
        monkeypatch.setenv("ZERNIO_API_KEY", "sk_" + "0" * 64)
        assert heavy_imports(["healthcheck"]) == {"ssl"}

"""Start-up: a command imports only what it needs."""

import subprocess
import sys

import pytest

HEAVY = {
    "click",
    "httpx",
    "late_exporter.commands.run",
    "late_exporter.config.tls",
    "late_exporter.config.web",
    "late_exporter.metrics.catalogue",
    "prometheus_client",
    "pydantic",
    "sqlite3",
    "structlog",
    "uvicorn",
    "yaml",
}


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--version"], set()),
        (["--help"], {"click", "pydantic"}),
        (["logs", "--help"], {"click", "pydantic"}),
        (["completion", "bash"], {"click", "pydantic"}),
        (["metrics"], {"click", "late_exporter.metrics.catalogue", "pydantic"}),
        (["healthcheck", "--web.listen-address=127.0.0.1:1"], {"pydantic"}),
        (["logs", "--limit=x"], {"pydantic"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], needed: set[str]) -> None:
    """Commands that people and orchestrators wait for do not import client, server, store and their libraries."""
    program = f"""
import sys
from late_exporter.cli import main
main({arguments!r})
print(*sorted({HEAVY!r} & sys.modules.keys()), sep="\\n", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert needed == {line for line in done.stderr.splitlines() if line and "error" not in line}

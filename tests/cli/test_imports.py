"""Start-up: a command imports only what it needs."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.e2e.late import LateServer, respond_with

HEAVY = {
    "asyncio",
    "click",
    "dataclasses",
    "hashlib",
    "http.client",
    "httpx",
    "ipaddress",
    "json",
    "late_exporter.commands.run",
    "late_exporter.config.tls",
    "late_exporter.config.web",
    "late_exporter.metrics.catalogue",
    "logging",
    "pathlib",
    "platform",
    "prometheus_client",
    "pydantic",
    "sqlite3",
    "ssl",
    "structlog",
    "uvicorn",
    "yaml",
}
CLICK = {"click", "dataclasses", "json", "logging", "pathlib"}  # click and what it imports in some of its versions


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
        (["--version"], set()),
        (["-V"], set()),
        (["version"], set()),
        (["help", "logs"], CLICK),
        (["--help"], CLICK),
        (["logs", "--help"], CLICK),
        (["completion", "bash"], CLICK),
        (["metrics"], CLICK | {"late_exporter.metrics.catalogue"}),
        (["metrics", "--format", "json"], CLICK | {"late_exporter.metrics.catalogue"}),
        (["fly"], {"ipaddress", "json", "logging"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], allowed: set[str]) -> None:
    """Commands that people and orchestrators wait for do not import client, server, store, pydantic and the like."""
    assert set() == heavy_imports(arguments) - allowed


def test_the_health_check_imports_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A health check that succeeds imports nothing heavy, with an address from the environment too."""
    with LateServer() as server:
        server.fault = respond_with(200, "late-exporter is healthy")
        port = server.url.removeprefix("http://").partition("/")[0].rpartition(":")[2]
        monkeypatch.setenv("LATE_EXPORTER_WEB__LISTEN_ADDRESS", f"localhost:{port}")
        monkeypatch.setenv("LATE_API_KEY", "sk_" + "0" * 64)
        assert set() == heavy_imports(["healthcheck"])


def test_completion_imports_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Completion, for which a shell waits at every press of the tab key, needs the option table only."""
    monkeypatch.setenv("_LATE_EXPORTER_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "late-exporter --poll.i")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert set() == heavy_imports([]) - CLICK


def test_the_exporter_keeps_no_library_that_it_needs_at_startup_only() -> None:
    """The process that serves has no pydantic in memory, nor what only other commands or a web configuration need."""
    unneeded = {"bcrypt", "jinja2", "late_exporter.simulator", "pydantic", "yaml", "zipfile"}
    unneeded |= {f"late_exporter.{name}" for name in ("commands.check", "commands.query", "config.tls")}
    program = f"""
import sys
from late_exporter.cli.loading import SettingsProcess
flags, settings = SettingsProcess(["run", "--poll.interval=7s"]).result()
from late_exporter import commands, log
commands.function_of("run")
log.configure(settings.log.level, settings.log.format, settings.secrets)
print(settings.poll.interval, *sorted({unneeded!r} & sys.modules.keys()))
"""
    env = {**os.environ, "LATE_API_KEY": "sk_" + "0" * 64}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, env=env)
    assert "7.0\n" == done.stdout

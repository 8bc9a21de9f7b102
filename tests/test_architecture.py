from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import late_exporter

PACKAGE = Path(late_exporter.__file__).parent
ROOT = PACKAGE.parent

FOREIGN = {
    # Foreign packages, and the only modules that may know them.
    "httpx": {"api.client", "commands.run"},
    "sqlite3": {"store.admin", "store.queries", "store.snapshot", "store.sqlite"},
    "prometheus_client": {"commands.run", "app.exporter", "exposition.exposition", "exposition.publisher"},
    "click": {"cli.help"},
    "pydantic": {
        "config.flags",
        "config.options",
        "config.settings",
        "config.sources",
        "config.tls",
        "config.types",
        "config.web",
    },
    "pydantic_settings": {"config.settings"},
    "yaml": {"config.yaml_file"},
    "bcrypt": {"web.auth"},
    "h11": {"web.server"},
    "ssl": {"commands.healthcheck", "config.tls", "config.web"},
    "uvicorn": {"web.server"},
    "structlog": {"commands.run", "log", "web.server"},
}

PURE = (
    "errors",
    "exposition.negotiation",
    "feeds",
    "ingest.audit",
    "ingest.reader",
    "ingest.steps",
    "metrics",
    "model",
    "store.matching",
)
"""What is arithmetic knows no network, no database, no event loop, no thread, no clock and no chance."""

IMPURE = {"asyncio", "httpx", "sqlite3", "prometheus_client", "socket", "threading", "time", "random", "os", "pathlib"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package by its name within it."""
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(file.read_text(encoding="utf-8"))


def imported(module: ast.Module) -> set[str]:
    """What a module imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def roots(module: ast.Module) -> set[str]:
    """The packages that a module imports from."""
    return {name.partition(".")[0] for name in imported(module)}


def test_contracts() -> None:
    """The contracts of import-linter hold, none of them is skipped, and every module has its layer."""
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or "lint-imports"
    result = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == result.returncode, result.stdout
    assert "Contracts: 3 kept, 0 broken." in result.stdout


@pytest.mark.parametrize("package", FOREIGN)
def test_who_knows_foreign_packages(package: str) -> None:
    """A foreign package is known where it is translated, and nowhere above."""
    knowing = {name for name, module in sources() if package in roots(module)}
    assert set() == knowing - FOREIGN[package]


@pytest.mark.parametrize("name", PURE)
def test_what_is_pure(name: str) -> None:
    """The arithmetic can be tested with nothing but values."""
    found = {module: IMPURE & roots(tree) for module, tree in sources() if f"{module}.".startswith(f"{name}.")}
    assert found
    assert set() == set().union(*found.values())


def test_settings_are_read_at_the_edge() -> None:
    """Only the command line and the composition root know the settings; everything else takes plain arguments."""
    knowing = {name for name, module in sources() if "late_exporter.config.settings" in imported(module)}
    assert knowing <= {
        "__main__",
        "app.exporter",
        "app.reload",
        "cli",
        "cli.help",
        "cli.parser",
        "cli.program",
        "config.markdown",
        "config.sources",
        "commands._runner",
        "commands.backfill.command",
        "commands.run",
    }


def test_the_simulator_is_no_part_of_the_exporter() -> None:
    """Nothing of what counts knows the simulated API, nor does the simulator know what counts."""
    knowing = {
        name
        for name, module in sources()
        if any(imports.startswith("late_exporter.simulator") for imports in imported(module))
    }
    assert {name for name in knowing if not name.startswith("simulator")} <= {
        "cli",
        "commands.run",
        "config.options",
        "config.settings",
        "config.types",
    }
    used = {
        imports.split(".")[1]
        for name, module in sources()
        if name.startswith("simulator")
        for imports in imported(module)
        if imports.startswith("late_exporter.")
    }
    assert used <= {"simulator", "model", "errors"}


def test_foundations() -> None:
    """The errors import nothing of the package, the value types at most the errors."""
    modules = dict(sources())
    assert "late_exporter" not in roots(modules["errors"])
    assert "late_exporter" not in roots(modules["model"])


def test_every_module_says_what_it_is() -> None:
    """Every module has a docstring that is a sentence."""
    for name, module in sources():
        words = ast.get_docstring(module) or ""
        assert words.split("\n\n")[0].rstrip().endswith("."), name


def test_no_module_state() -> None:
    """No module of the exporter makes a metric, a client or a connection by being imported."""
    makers = {
        "Counter",
        "Gauge",
        "Histogram",
        "Summary",
        "CollectorRegistry",
        "AsyncClient",
        "connect",
        "Lock",
        "Event",
    }
    for name, module in sources():
        for node in module.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
                called = node.value.func
                made = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                assert made not in makers, name


def test_importing_is_quiet() -> None:
    """Importing the whole package writes nothing and starts nothing."""
    program = """
import threading, importlib, pkgutil, late_exporter
for module in pkgutil.walk_packages(late_exporter.__path__, "late_exporter."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert threading.active_count() == 1
"""
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "", "") == (result.returncode, result.stdout, result.stderr)

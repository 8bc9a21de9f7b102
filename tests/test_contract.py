"""The suites that state what the exporter promises know nothing of how it keeps its promises.

They stay unchanged while ``late_exporter.ingest`` and ``late_exporter.store`` are replaced.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises import PROMISES, Promise

TESTS = Path(__file__).parent

HARNESSES = ("support/exporter.py", "fuzz/whole_path.py", "adversary/bugs.py")
"""The files that know how the program is composed: two harnesses, and the bugs that the adversary must find."""

EXACT_SUITES = (
    *("exactness", "failing_requests", "first_sync", "clocks", "pending", "paging", "identity", "window_check"),
    *("initial_zeros", "after_restart", "short_lives", "implausible_apis"),
)
CORE = (
    *(f"ingest/test_{name}.py" for name in EXACT_SUITES),
    *(
        "ingest/conftest.py",
        "adversary/*.py",
        "support/late_api.py",
        "support/oracle.py",
        "support/world.py",
    ),
)
"""Suites of what is counted, and the fake world and API that they speak to."""

EDGE = (
    *(f"e2e/test_{name}.py" for name in ("golden", "kill", "disk", "restart", "alerts", "prometheus")),
    *(f"e2e/test_{name}.py" for name in ("examples", "hostile_api", "secrets")),
    *("e2e/replay/*.py", "e2e/golden.py", "e2e/late.py", "e2e/program.py", "e2e/traffic.py", "fuzz/*.py", "rules/*.py"),
    *("web/test_app.py", "web/test_auth*.py", "web/test_landing*.py", "config/*.py", "bench/test_ratios.py"),
    "bench/ratios.py",
)
"""Suites of what users see: the program as a process, its pages, its configuration, its rules."""

CORE_IMPORTS = {
    "late_exporter.errors": "the errors that a client of the API raises, which fakes raise too",
    "late_exporter.protocols": "what a client of the API returns",
    "late_exporter.simulator": "the world of the fake API",
    "late_exporter.metrics.catalogue": "names, labels and buckets of the metrics",
}
EDGE_IMPORTS = {
    **CORE_IMPORTS,
    "late_exporter.api": "limits of responses, and the client that reads any response",
    "late_exporter.cli": "the command line",
    "late_exporter.config": "settings and their messages",
    "late_exporter.exposition": "what the web application serves",
    "late_exporter.feeds": "names of the feeds, and what is removed from texts",
    "late_exporter.metrics.labels": "values of labels",
    "late_exporter.status": "what the status page shows",
    "late_exporter.store.cluster": "the replicas among it",
    "late_exporter.web": "the web application",
    "late_exporter.ingest.webhooks": "the paths of webhooks, which need no password",
}
"""What the suites may import of the program, and why."""

INNER = ("late_exporter.ingest.", "late_exporter.store.")
PUBLIC = ("__name__", "__file__", "__notes__", "_replace", "_asdict")
"""Attributes that begin like private ones."""


def files(patterns: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files of some suites, without the harnesses."""
    for pattern in patterns:
        found = [path for path in TESTS.glob(pattern) if str(path.relative_to(TESTS)) not in HARNESSES]
        assert found or pattern in HARNESSES, pattern
        yield from found


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the modules and names that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def inner_names(tree: ast.Module) -> Iterator[str]:
    """Yield the private attributes of other objects that a file uses, and what it patches within the program."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr not in PUBLIC:
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            is_inherited = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super"
            if not is_own and not is_inherited:
                yield node.attr
        elif isinstance(node, ast.Constant) and str(node.value).startswith(INNER):
            yield str(node.value)


@pytest.mark.parametrize(("patterns", "allowed"), [(CORE, CORE_IMPORTS), (EDGE, EDGE_IMPORTS)], ids=["core", "edge"])
def test_a_suite_speaks_through_the_harness(patterns: tuple[str, ...], allowed: dict[str, str]) -> None:
    """It imports little of the program, and neither reads nor replaces what is inside."""
    wrong: dict[str, set[str]] = {}
    for path in files(patterns):
        tree = ast.parse(path.read_text("utf-8"))
        found = {
            name
            for name in imports(tree)
            if name.startswith(("late_exporter.", "tests.support.inside", "tests.support.store"))
            and not any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed)
        }
        found |= set(inner_names(tree))
        if found:
            wrong[str(path.relative_to(TESTS))] = found
    assert {} == wrong


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name)
def test_each_promise_can_be_broken(promise: Promise) -> None:
    """``make promises`` finds what it replaces, and the suite that has to fail."""
    module = TESTS.parent / "late_exporter" / promise.module
    assert 1 == module.read_text("utf-8").count(promise.text)
    assert (TESTS.parent / promise.suite).exists()

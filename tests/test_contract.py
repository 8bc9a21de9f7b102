"""The suites that state what the exporter promises know nothing of how it keeps its promises.

They stay unchanged while ``late_exporter.ingest`` and ``late_exporter.store`` are replaced.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import promises

TESTS = Path(__file__).parent

BUGS = TESTS / "adversary" / "bugs.py"
"""The bugs that the adversary must find are within the program."""

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

CORE_IMPORTS = {
    "late_exporter.errors": "the errors that a client of the API raises, which fakes raise too",
    "late_exporter.protocols": "what a client of the API returns",
    "late_exporter.simulator": "the world of the fake API",
    "late_exporter.metrics.catalogue": "names, labels and buckets of the metrics",
}
"""What the suites may import of the program, and why."""

INNER = ("late_exporter.ingest.", "late_exporter.store.")
PUBLIC = ("__name__", "__file__", "__notes__", "_replace", "_asdict")
"""Attributes that begin like private ones."""


def files() -> Iterator[Path]:
    """Yield the files of the suites, without the planted bugs."""
    for pattern in CORE:
        found = [path for path in TESTS.glob(pattern) if path != BUGS]
        assert found, pattern
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


def test_a_suite_speaks_through_the_harness() -> None:
    """It imports little of the program, and neither reads nor replaces what is inside."""
    wrong: dict[str, set[str]] = {}
    for path in files():
        tree = ast.parse(path.read_text("utf-8"))
        found = {
            name
            for name in imports(tree)
            if name.startswith(("late_exporter.", "tests.support.inside", "tests.support.store"))
            and not any(f"{name}.".startswith(f"{prefix}.") for prefix in CORE_IMPORTS)
        }
        found |= set(inner_names(tree))
        if found:
            wrong[str(path.relative_to(TESTS))] = found
    assert wrong == {}


@pytest.mark.parametrize("bug", promises.BUGS, ids=lambda bug: bug.invariant)
def test_each_invariant_can_be_broken(bug: promises.Bug) -> None:
    """``make promises`` finds what it replaces."""
    module = TESTS.parent / "late_exporter" / bug.module
    assert module.read_text("utf-8").count(bug.text) == 1

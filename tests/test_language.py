"""Names of the package."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "late_exporter"


def test_no_two_classes_have_the_same_name() -> None:
    """A name has one meaning, wherever it is read."""
    modules = [ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")]
    nodes = [node for module in modules for node in ast.walk(module)]
    names = Counter(node.name.lstrip("_") for node in nodes if isinstance(node, ast.ClassDef))
    assert {name: count for name, count in names.items() if count > 1} == {}

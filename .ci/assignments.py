# ruff: noqa: INP001 - a script, not a module
"""Reject assignments of several values at once, such as ``a, b = 1, 2``: one value per line.

Unpacking a value and exchanging two names are allowed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = (".ci", "deploy", "grafana", "late_exporter")


def parallel_assignments(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of assignments of a tuple to a tuple."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
            continue
        (*_, target) = node.targets
        if not isinstance(target, ast.Tuple):
            continue
        names = sorted(ast.unparse(element) for element in target.elts)
        values = sorted(ast.unparse(element) for element in node.value.elts)
        if names != values:
            yield node.lineno


def main() -> int:
    """Print every parallel assignment; return 1 if there is one."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: several values are assigned at once"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "node_modules" not in path.parts
        for line in parallel_assignments(ast.parse(path.read_text("utf-8")))
    ]
    print("\n".join(found), file=sys.stderr)  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

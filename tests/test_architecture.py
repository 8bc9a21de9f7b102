from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import late_exporter

PACKAGE = Path(late_exporter.__file__).parent
ROOT = PACKAGE.parent


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield the name within the package and the syntax tree of every module."""
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(file.read_text(encoding="utf-8"))


def test_modules_create_no_shared_objects() -> None:
    """Importing a module creates no metric, client, connection or lock."""
    factories = {
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
    for module_name, module in sources():
        for node in module.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
                function = node.value.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                assert name not in factories, module_name


def test_import_has_no_side_effects() -> None:
    """Importing all modules prints nothing and starts no thread."""
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

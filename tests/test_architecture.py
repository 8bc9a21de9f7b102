from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import late_exporter
from tests.e2e.program import run_command

PACKAGE = Path(late_exporter.__file__).parent
ROOT = PACKAGE.parent


def test_import_has_no_side_effects() -> None:
    """Importing all modules prints nothing and starts no thread."""
    program = """
import threading, importlib, pkgutil, late_exporter
for module in pkgutil.walk_packages(late_exporter.__path__, "late_exporter."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert threading.active_count() == 1
"""
    assert run_command(sys.executable, "-W", "error", "-c", program, cwd=ROOT, stderr=subprocess.STDOUT) == ""


def test_no_two_classes_have_the_same_name() -> None:
    """A name has one meaning, wherever it is read."""
    modules = [ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")]
    nodes = [node for module in modules for node in ast.walk(module)]
    names = Counter(node.name.lstrip("_") for node in nodes if isinstance(node, ast.ClassDef))
    assert {name: count for name, count in names.items() if count > 1} == {}

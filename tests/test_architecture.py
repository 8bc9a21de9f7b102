from __future__ import annotations

import subprocess
import sys
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

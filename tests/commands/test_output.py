"""Tests of what commands have in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import late_exporter

ROOT = Path(late_exporter.__file__).parents[1]
PROGRAM = """
import sys
from late_exporter.commands.output import write_stdout

def command():
    print("one line")
    {end}

try:
    sys.exit(write_stdout(command))
except KeyboardInterrupt:
    sys.exit(1)
"""


@pytest.mark.parametrize("end", ["return 0", "return 1", "raise KeyboardInterrupt"])
def test_a_command_fails_quietly_if_no_one_reads(end: str) -> None:
    """Output that nobody has read is no success, and no message."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", PROGRAM.format(end=end)]
    # Without the environment, in which PYTHONUNBUFFERED may be set.
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, cwd=ROOT, env={}, timeout=60)
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, b"")

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


def run(end: str, output: int) -> tuple[int, bytes]:
    """Run a command that prints a short line and ends with a statement; return its exit code and its errors."""
    command = [sys.executable, "-c", PROGRAM.format(end=end)]
    # Without the environment, in which PYTHONUNBUFFERED may be set.
    result = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=False, cwd=ROOT, env={}, timeout=60)
    return result.returncode, result.stderr


def test_output_that_cannot_be_written_is_an_error() -> None:
    """Also if it is short, so that Python writes it only at exit."""
    with Path("/dev/full").open("wb") as full:
        code, errors = run("return 0", full.fileno())
    assert (code, b"cannot write to standard output: No space" in errors) == (1, True)


@pytest.mark.parametrize("end", ["return 0", "return 1", "raise KeyboardInterrupt"])
def test_a_command_fails_quietly_if_no_one_reads(end: str) -> None:
    """Output that nobody has read is no success, and no message."""
    reader, writer = os.pipe()
    os.close(reader)
    assert run(end, writer) == (1, b"")
    os.close(writer)

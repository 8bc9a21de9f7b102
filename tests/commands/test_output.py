"""Tests of what commands have in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import late_exporter

PROGRAM = """
import sys
from late_exporter.commands.output import write_stdout

def fail():
    print("one line")
    raise KeyboardInterrupt

try:
    write_stdout(fail)
except KeyboardInterrupt:
    sys.exit(1)
"""


WRITER = "from late_exporter.commands.output import write_stdout; write_stdout(lambda: print('one line') or 0)"


def test_output_that_cannot_be_written_is_an_error() -> None:
    """Also if it is short, so that Python writes it only in the end."""
    root = Path(late_exporter.__file__).parents[1]
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [sys.executable, "-c", WRITER],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            cwd=root,
            env={},
            timeout=60,
        )
    assert (1, True) == (result.returncode, b"cannot write to standard output: No space" in result.stderr)


def test_a_failed_command_keeps_its_exit_code_if_no_one_reads() -> None:
    """Output that cannot be written at the exit of Python does not replace the exit code."""
    root = Path(late_exporter.__file__).parents[1]
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", PROGRAM]
    # Without the environment, in which PYTHONUNBUFFERED may be set.
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, cwd=root, env={}, timeout=60)
    os.close(writer)
    assert (1, b"") == (result.returncode, result.stderr)

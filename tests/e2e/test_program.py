"""Tests of the helpers that run processes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.e2e.program import start_process

pytestmark = pytest.mark.e2e

PRINT_SIGINT = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"


def test_a_process_has_default_signal_handling() -> None:
    """A process can be interrupted although its parent ignores SIGINT."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with start_process([sys.executable, "-c", PRINT_SIGINT], stdout=subprocess.PIPE) as process:
            output, _ = process.communicate(timeout=30)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert b"False\n" == output


def test_a_process_is_killed_if_the_test_fails() -> None:
    """An exception in the block ends the process."""
    with pytest.raises(ZeroDivisionError), start_process(["sleep", "600"]) as process:
        _ = 1 / 0
    assert -signal.SIGKILL == process.wait(30)

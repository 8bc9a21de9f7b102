"""Tests of commands in a terminal, with a real HTTP API."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import DEFAULT_TIMEOUT, ROOT, start_process

FAILURE = {"errorCode": "RATE_LIMITED", "errorMessage": "Rate limit exceeded"}


def test_a_terminal(late: LateServer, tmp_path: Path) -> None:
    """On a terminal the output has colours, unless it is told to have none."""
    late.world.publish(postId="p1", status="failed", response=FAILURE)
    plain = {"ZERNIO_API_KEY": KEY, "LATE_EXPORTER_API__BASE_URL": late.url, "PYTHONPATH": str(ROOT)}

    assert "\x1b[31mfailed" in run_in_terminal(tmp_path, {**plain, "TERM": "xterm"})
    assert "\x1b" not in run_in_terminal(tmp_path, {**plain, "TERM": "dumb"})
    assert "\x1b" not in run_in_terminal(tmp_path, {**plain, "TERM": "xterm", "NO_COLOR": "1"})


def run_in_terminal(folder: Path, env: dict[str, str]) -> str:
    """Return what a command shows in a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "late_exporter", "post", "p1"]
    with start_process(command, stdout=theirs, env={"PATH": os.environ["PATH"], **env}, cwd=folder) as process:
        os.close(theirs)
        output = b"".join(iter(lambda: _piece(ours), b""))
        process.wait(DEFAULT_TIMEOUT)
    os.close(ours)
    assert process.returncode == 0
    return output.decode().replace("\r\n", "\n")


def _piece(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""

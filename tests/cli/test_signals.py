"""Signals that arrive before a command handles them, while modules are imported and settings are loaded."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from late_exporter.cli import interrupted_code
from tests.e2e.program import DEFAULT_TIMEOUT, start_process, wait_until

RESIDENT = ["", "run", "--config.file late.yml", "demo", "simulate"]
FINITE = ["run --once", "--poll.interval 1m --once", "state backup late.db", "logs --workspace demo"]


@pytest.mark.parametrize(("line", "code"), [*((line, 0) for line in RESIDENT), *((line, 1) for line in FINITE)])
def test_only_commands_that_run_until_a_signal_succeed(line: str, code: int) -> None:
    """A signal is the regular end of a command that runs for long; any other command has no complete result."""
    assert interrupted_code(line.split()) == code


@contextmanager
def reading_process(folder: Path, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command that reads a key file which does not end."""
    key_file = folder / "late.key"
    os.mkfifo(key_file)
    with start_process(
        [sys.executable, "-m", "late_exporter", *argv, "--api.key-file", str(key_file)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        # Opening succeeds once the file is being read, which lasts until the test closes it.
        held = wait_until(lambda: os.open(key_file, os.O_WRONLY | os.O_NONBLOCK))
        yield process
        os.close(held)


def end(process: subprocess.Popen[bytes], number: signal.Signals) -> tuple[bytes, bytes]:
    """Send a signal until the process ends, and return its output.

    Again and again: Python notices a signal that arrives right before a system call only after the call.
    """

    def has_ended() -> bool:
        process.send_signal(number)
        return process.poll() is not None

    wait_until(has_ended)
    return process.communicate(timeout=DEFAULT_TIMEOUT)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("line", "code", "number"),
    [
        ("run", 0, signal.SIGTERM),
        ("run", 0, signal.SIGINT),
        ("run --once", 1, signal.SIGTERM),
        ("logs", -signal.SIGHUP, signal.SIGHUP),  # with its terminal
    ],
)
def test_a_signal_while_settings_are_loaded(line: str, code: int, number: signal.Signals, tmp_path: Path) -> None:
    """The program ends at once, with the right code and without a message; an exporter has nothing to reload yet."""
    with reading_process(tmp_path, *line.split()) as process:
        if line == "run":
            process.send_signal(signal.SIGHUP)
        output = end(process, number)
    assert (code, (b"", b"")) == (process.returncode, output)
    assert list(tmp_path.iterdir()) == [tmp_path / "late.key"]

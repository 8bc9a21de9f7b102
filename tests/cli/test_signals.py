"""Signals that arrive before a command handles them, while modules are imported and settings are loaded."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from late_exporter.cli import interrupted_code
from tests.e2e.late import KEY
from tests.e2e.program import DEFAULT_TIMEOUT, start_process, wait_until

COMMAND_LINES = [
    ([], 0),
    (["run"], 0),
    (["--config.file", "late.yml"], 0),
    (["--poll.interval", "5s", "run"], 0),
    (["demo"], 0),
    (["simulate"], 0),
    (["logs", "--follow"], 0),
    (["-f", "logs"], 0),
    (["logs"], 1),
    (["run", "--once"], 1),
    (["--once=true"], 1),
    (["textfile", "late.prom"], 1),
    (["check"], 1),
    (["audit"], 1),
    (["backfill"], 1),
    (["state", "backup", "late.db"], 1),
    (["state", "check"], 1),
    (["post", "65f1c0a9e2b5af0012ab34cd"], 1),
    (["status"], 1),
    (["healthcheck"], 1),
    (["--workspace", "demo", "logs"], 1),
    (["help", "run"], 1),
]


@pytest.mark.parametrize(("argv", "code"), COMMAND_LINES, ids=str)
def test_only_commands_that_run_until_a_signal_succeed(argv: Sequence[str], code: int) -> None:
    """A signal is the regular end of a command that runs for long; any other command has no complete result."""
    assert code == interrupted_code(argv)


@pytest.mark.e2e
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["run"], 0),
        (["logs", "--follow"], 0),
        (["run", "--once"], 1),
        (["state", "backup", "late.db"], 1),
        (["healthcheck"], 1),
    ],
    ids=str,
)
def test_a_signal_while_settings_are_loaded(
    argv: Sequence[str], code: int, signal_number: signal.Signals, tmp_path: Path
) -> None:
    """The program ends at once, with the right code, without a message, and with its child process if it has one."""
    config = tmp_path / "late.yml"
    os.mkfifo(config)
    reader, writer = os.pipe()
    # Both processes have the writing end of the pipe, so that the pipe ends with the last of them.
    with start_process(
        [sys.executable, "-m", "late_exporter", *argv, "--config.file", str(config)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "LATE_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[writer],
    ) as process:
        os.close(writer)
        # Opening succeeds once the file is being read, which lasts until the test closes it.
        held = wait_until(lambda: os.open(config, os.O_WRONLY | os.O_NONBLOCK))

        def has_ended() -> bool:
            process.send_signal(signal_number)
            return process.poll() is not None

        # Again and again: Python notices a signal that arrives right before a system call only after the call.
        wait_until(has_ended)
        output = process.communicate(timeout=DEFAULT_TIMEOUT)
        assert b"" == os.read(reader, 1)
        os.close(held)
    os.close(reader)
    assert (code, (b"", b"")) == (process.returncode, output)
    assert [config] == list(tmp_path.iterdir())


@pytest.mark.e2e
@pytest.mark.parametrize(("argv", "code"), [(["run"], 0), (["logs", "--follow"], -signal.SIGHUP)], ids=str)
def test_a_reload_while_settings_are_loaded(argv: Sequence[str], code: int, tmp_path: Path) -> None:
    """The exporter does not end if it is to reload before it has started, other commands end with their terminal."""
    config = tmp_path / "late.yml"
    os.mkfifo(config)
    with start_process(
        [sys.executable, "-m", "late_exporter", *argv, "--config.file", str(config)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "LATE_API_KEY": KEY},
    ) as process:
        held = wait_until(lambda: os.open(config, os.O_WRONLY | os.O_NONBLOCK))
        process.send_signal(signal.SIGHUP)

        def has_ended() -> bool:
            process.send_signal(signal.SIGTERM)
            return process.poll() is not None

        if code:
            process.wait(DEFAULT_TIMEOUT)
        else:
            wait_until(has_ended)
        os.close(held)
    assert code == process.returncode

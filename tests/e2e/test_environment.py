"""Tests of what the environment of the process says wrongly: proxies, certificates, locale, standard output."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import DEFAULT_TIMEOUT, ROOT, ExporterProcess, with_default_signals
from tests.support.samples import Samples

pytestmark = pytest.mark.e2e


def options(late: LateServer, folder: Path) -> tuple[str, ...]:
    """Return the options that every command needs."""
    return (f"--api.base-url={late.url}", f"--state.url=sqlite:///{folder}/state.db")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_key_never_reaches_a_proxy_in_plain_text(late: LateServer, tmp_path: Path, name: str) -> None:
    """Requests to a plain http address of this machine bypass every proxy, whatever NO_PROXY says."""
    late.world.publish(3)
    with closing(socket.create_server(("127.0.0.1", 0))) as proxy:
        proxy.setblocking(False)  # noqa: FBT003 - standard library
        environment = {
            "LATE_API_KEY": KEY,
            name: f"http://127.0.0.1:{proxy.getsockname()[1]}",
            "NO_PROXY": "127.0.0.0/8",
        }
        program = ExporterProcess(tmp_path, "run", "--once", *options(late, tmp_path), env=environment)
        assert 0 == program.start().wait_exit(), program.stderr
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert 3 == Samples.parse(program.stdout).sum("late_publishing_logs_total")


def test_a_locale_without_unicode(late: LateServer, tmp_path: Path) -> None:
    """Output is UTF-8 in every locale."""
    environment = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "POSIX"}
    name = "caf\u00e9"
    late.world.publish(2, platform=name)
    program = ExporterProcess(
        tmp_path, "run", "--once", *options(late, tmp_path), env={**environment, "LATE_API_KEY": KEY}
    )
    assert 0 == program.start().wait_exit(), program.stderr
    assert name in program.stdout


@pytest.mark.parametrize(
    ("redirection", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")]
)
@pytest.mark.parametrize("command", [("run", "--once"), ("--version",)], ids=" ".join)
def test_standard_output_that_cannot_be_written(
    late: LateServer, tmp_path: Path, command: tuple[str, ...], redirection: str, reason: str
) -> None:
    """Output that cannot be written ends the command with exit code 1 and one line that says why."""
    arguments = command if command == ("--version",) else (*command, *options(late, tmp_path))
    line = shlex.join([sys.executable, "-m", "late_exporter", *arguments])
    result = subprocess.run(
        with_default_signals(["bash", "-c", f"{line} {redirection}"]),
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LATE_API_KEY": KEY},
        stderr=subprocess.PIPE,
        timeout=DEFAULT_TIMEOUT,
        check=False,
    )
    expected_message = f"late-exporter: error: cannot write to standard output: {reason}\n"
    lines = [line for line in result.stderr.decode().splitlines(keepends=True) if "level=info" not in line]
    assert (1, [expected_message]) == (result.returncode, lines)

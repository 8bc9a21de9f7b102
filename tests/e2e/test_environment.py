"""Tests of what the environment of the process says wrongly: proxies, locale, standard output."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, Run
from tests.support.samples import Samples


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_key_never_reaches_a_proxy_in_plain_text(late: LateServer, start_command: Run, name: str) -> None:
    """Requests to a plain http address of this machine bypass every proxy, whatever NO_PROXY says."""
    late.world.publish(3)
    with closing(socket.create_server(("127.0.0.1", 0))) as proxy:
        proxy.setblocking(False)  # noqa: FBT003 - standard library
        environment = {name: f"http://127.0.0.1:{proxy.getsockname()[1]}", "NO_PROXY": "127.0.0.0/8"}
        program = start_command("run", "--once", **environment)
        assert program.wait_exit() == 0, program.stderr
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert Samples.parse(program.stdout).sum("late_publishing_logs_total") == 3


def test_a_locale_without_unicode(late: LateServer, start_command: Run) -> None:
    """Output is UTF-8 in every locale."""
    environment = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "POSIX"}
    name = "caf\u00e9"
    late.world.publish(2, platform=name)
    program = start_command("run", "--once", **environment)
    assert program.wait_exit() == 0, program.stderr
    assert name in program.stdout


@pytest.mark.parametrize(
    ("redirection", "reason"),
    [
        (">&-", "standard output and standard error must be open"),
        (">/dev/full", "cannot write to standard output: No space left on device"),
    ],
)
@pytest.mark.parametrize("command", ["run --once", "--version"])
def test_standard_output_that_cannot_be_written(
    late: LateServer, tmp_path: Path, command: str, redirection: str, reason: str
) -> None:
    """Output that cannot be written ends the command with exit code 1 and one line that says why."""
    environment = {
        "ZERNIO_API_KEY": KEY,
        "LATE_EXPORTER_API__BASE_URL": late.url,
        "LATE_EXPORTER_STATE__URL": "sqlite://",
    }
    program = ExporterProcess(tmp_path, *command.split(), env=environment)
    program.wrapper = ("bash", "-c", f'"$@" {redirection}', "bash")
    assert program.start().wait_exit() == 1
    lines = [line for line in program.stderr.splitlines() if "level=info" not in line]
    assert lines == [f"late-exporter: error: {reason}"]

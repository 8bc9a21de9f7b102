"""The program with its state in PostgreSQL: a server that hangs, and the commands."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, wait_until
from tests.support.postgres import PASSWORD, Cluster, without_password
from tests.support.proxy import Proxy
from tests.support.samples import Samples

Start: TypeAlias = Callable[..., ExporterProcess]


@pytest.fixture
def start(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> Start:
    """Return a function that starts a command, by default an exporter, with a state at a URL."""
    password = tmp_path / "password"
    password.write_text(PASSWORD)

    def start(url: str, *command: str) -> ExporterProcess:
        state = (f"--state.password-file={password}", f"--state.url={without_password(url)}")
        if command:
            program = ExporterProcess(tmp_path, *command, *state, env={"ZERNIO_API_KEY": KEY})
        else:
            program = ExporterProcess.for_api(tmp_path, late.url, *state)
        return exit_stack.enter_context(program)

    return start


def test_a_stop_while_the_server_hangs(late: LateServer, postgres: Cluster, start: Start) -> None:
    """A process whose server does not answer is not ready, and ends when it is told to."""
    late.world.publish(50, over=86_400)
    with Proxy(postgres.port) as proxy:
        program = start(postgres.create_schema().replace(f":{postgres.port}/", f":{proxy.port}/")).wait_ready()
        proxy.hang()
        wait_until(lambda: program.get("/-/ready").status == 503, timeout=60)
        assert program.scrape().sum("late_up") == 0
        assert program.stop() == 0


def test_commands(late: LateServer, postgres: Cluster, start: Start, tmp_path: Path) -> None:
    """The commands that read or move a state work with PostgreSQL, and never show the password."""
    late.world.publish(120, over=86_400)
    url = postgres.create_schema()
    api = f"--api.base-url={late.url}"

    def run(*command: str, exit_code: int = 0) -> str:
        program = start(url, *command)
        assert exit_code == program.wait_exit(), program.stderr
        output = program.stdout + program.stderr
        assert PASSWORD not in output
        return output if exit_code else program.stdout

    assert "there is no state; it will be created" in run("check", api)
    program = start(url).wait_ready()
    in_use = run("state", "info")
    assert "in use by an exporter\n" in in_use
    assert "publishing: 120 logs" in in_use
    assert "publishing: no difference" in run("audit", api)
    assert program.stop() == 0

    assert Samples.parse(run("run", "--once", api)).sum("late_publishing_logs_total") == 120
    assert "no problems found" in run("state", "check")
    copy = ("state", "copy", without_password(url), f"sqlite:///{tmp_path}/copy.db")
    assert "copied from" in run(*copy)
    assert "already" in run(*copy, exit_code=1)
    assert "pg_dump" in run("state", "backup", "copy.db", exit_code=1)

"""The program with its state in PostgreSQL: a server that hangs, and the commands."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, wait_until
from tests.support.postgres import PASSWORD, Cluster, without_password
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


@pytest.mark.parametrize("is_standby_gone", [False, True])
def test_a_stop_while_the_server_hangs(
    late: LateServer, own_cluster: Cluster, start: Start, *, is_standby_gone: bool
) -> None:
    """A process whose server answers nothing, or no commit, is not ready, and ends when it is told to."""
    late.world.publish(50, over=86_400)
    program = start(own_cluster.create_database()).wait_ready()
    if is_standby_gone:
        standby = "ALTER SYSTEM SET synchronous_standby_names = 'gone'", "SELECT pg_reload_conf()"
        own_cluster.execute(own_cluster.url("postgres"), *standby)
    else:
        own_cluster.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: program.get("/-/ready").status == 503, timeout=60)
        assert program.scrape().sum("late_up") == 0
        assert program.stop() == 0
    finally:
        own_cluster.signal(signal.SIGCONT)


def test_commands(late: LateServer, postgres: Cluster, start: Start, tmp_path: Path) -> None:
    """The commands that read or move a state work with PostgreSQL, and never show the password."""
    late.world.publish(120, over=86_400)
    url = postgres.create_database()
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

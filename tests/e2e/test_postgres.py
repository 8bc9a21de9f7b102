"""The program with its state in PostgreSQL: kills, restarts of the server, a second exporter, and the commands."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, Run, wait_until
from tests.support.postgres import PASSWORD, Cluster, without_password
from tests.support.samples import Samples


@pytest.fixture
def start(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> Run:
    """Return a function that makes a process of the exporter with a state at a URL; it is killed after the test."""

    def start(url: str, *arguments: str, name: str = "first") -> ExporterProcess:
        folder = tmp_path / name
        folder.mkdir()
        password = folder / "password"
        password.write_text(PASSWORD)
        program = ExporterProcess.for_api(
            folder,
            late.url,
            f"--state.password-file={password}",
            *arguments,
            state=without_password(url),
        )
        exit_stack.callback(program.kill)
        return program

    return start


@pytest.mark.parametrize("is_standby_gone", [False, True])
def test_a_stop_while_the_server_hangs(
    late: LateServer, own_cluster: Cluster, start: Run, *, is_standby_gone: bool
) -> None:
    """A process whose server answers nothing, or no commit, is not ready, and ends when it is told to."""
    late.world.publish(50, over=86_400)
    program = start(own_cluster.create_database())
    program.start().wait_ready()
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


def test_commands(late: LateServer, postgres: Cluster, start: Run, tmp_path: Path) -> None:
    """The commands that read or move a state work with PostgreSQL, and never show the password."""
    late.world.publish(120, over=86_400)
    url = postgres.create_database()
    assert "there is no state; it will be created" in run_command(tmp_path, url, "check", f"--api.base-url={late.url}")
    program = start(url)
    program.start().wait_ready()
    in_use = run_command(tmp_path, url, "state", "info")
    assert "in use by an exporter\n" in in_use
    assert "publishing: 120 logs" in in_use
    assert "120" in run_command(tmp_path, url, "audit", f"--api.base-url={late.url}")
    assert program.stop() == 0

    samples = run_command(tmp_path, url, "run", "--once", f"--api.base-url={late.url}")
    assert Samples.parse(samples).sum("late_publishing_logs_total") == 120
    assert "no problems found" in run_command(tmp_path, url, "state", "check")
    here, there = without_password(url), f"sqlite:///{tmp_path}/copy.db"
    assert "copied from" in run_command(tmp_path, url, "state", "copy", here, there)
    assert "already" in run_command(tmp_path, url, "state", "copy", here, there, exit_code=1)
    assert "pg_dump" in run_command(tmp_path, url, "state", "backup", "copy.db", exit_code=1)


def run_command(folder: Path, url: str, *arguments: str, exit_code: int = 0) -> str:
    """Run a command with the state at a URL; return what it has written, without the password."""
    password = folder / "password-of-commands"
    password.write_text(PASSWORD)
    state = [f"--state.url={without_password(url)}", f"--state.password-file={password}"]
    program = ExporterProcess(folder, *arguments, *state, env={"ZERNIO_API_KEY": KEY})
    assert exit_code == program.start().wait_exit(), program.stderr
    output = program.stdout + program.stderr
    assert PASSWORD not in output
    return output if exit_code else program.stdout

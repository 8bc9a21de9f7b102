"""Tests of failing starts: exit codes, messages, and files that stay unchanged."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest

from late_exporter import __revision__, __version__
from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, wait_equal

pytestmark = pytest.mark.e2e

Run: TypeAlias = Callable[..., ExporterProcess]

LOGS = "late_publishing_logs_total"


def test_two_processes_on_one_state(late: LateServer, start_exporter: Run) -> None:
    """A second process on a state reports that it is in use and exits with 1; the first keeps counting."""
    late.world.publish(10)
    first = start_exporter().wait_ready()
    second = start_exporter()
    assert 1 == second.wait_exit()
    assert [
        "late-exporter: error: " + state(first) + " is in use by another late-exporter; every process needs a state"
        " of its own"
    ] == second.stderr.splitlines()
    late.world.publish(5)
    wait_equal(15.0, lambda: first.scrape().sum(LOGS))
    assert 0 == first.stop()


def test_the_version_is_logged_at_start(late: LateServer, start_exporter: Run) -> None:
    """The log begins with version and revision, so that an excerpt of it says what ran."""
    late.world.publish(1)
    program = start_exporter().wait_ready()
    assert 0 == program.stop()
    first = program.stderr.splitlines()[0]
    assert f"msg=starting logger=late_exporter version={__version__} revision={__revision__} python=" in first


def test_port_in_use(late: LateServer, start_exporter: Run) -> None:
    """An address in use is named, the exit code is 1, and no state is created."""
    program = start_exporter(f"--web.listen-address=127.0.0.1:{late.port}")
    assert 1 == program.wait_exit()
    assert [
        f"late-exporter: error: cannot listen on 127.0.0.1:{late.port}: Address already in use"
    ] == program.stderr.splitlines()
    assert not Path(state(program)).exists()


@pytest.mark.parametrize("limit", [5, 16, 31])
def test_few_file_descriptors(late: LateServer, tmp_path: Path, limit: int) -> None:
    """A limit with which nothing could be served is one error at the start; exit code 1, and no state is created."""
    program = ExporterProcess.for_api(tmp_path, late.url)
    program.wrapper = ("prlimit", f"--nofile={limit}:")
    with program:
        assert 1 == program.wait_exit()
    assert [
        f"late-exporter: error: RLIMIT_NOFILE is {limit}; at least 32 are needed, raise it with ulimit -n"
    ] == program.stderr.splitlines()
    assert not Path(state(program)).exists()


@pytest.mark.parametrize("content", [None, "", "two words"])
def test_unusable_key_file(start_exporter: Run, tmp_path: Path, content: str | None) -> None:
    """A key file that is missing, empty or invalid is named but not shown; exit code 2, no traceback."""
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
    program = start_exporter(env={"LATE_API_KEY_FILE": str(path)})
    assert 2 == program.wait_exit()
    assert "LATE_API_KEY_FILE" in program.stderr
    assert "Traceback" not in program.stderr
    assert "two words" not in program.stderr


def test_unreadable_key_file(start_exporter: Run, tmp_path: Path) -> None:
    """A key file without read permission is named; exit code 2."""
    program = start_exporter(env={"LATE_API_KEY_FILE": str(tmp_path)})
    assert 2 == program.wait_exit()
    assert str(tmp_path) in program.stderr
    assert "Is a directory" in program.stderr


def make_corrupt(path: Path) -> None:
    """Write a file that is not a database."""
    path.write_bytes(b"this is not a database" * 500)


def make_damaged(path: Path) -> None:
    """Damage the pages of a database after its first one."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("y" * 1000,)] * 50)
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(range(256)) * (len(content) // 256) + content[-100:])


def make_foreign(path: Path) -> None:
    """Create the database of another program."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE cookies (name, value)")


def make_later(path: Path) -> None:
    """Create a state of a later version."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA application_id = {0x4C617465}")
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE scope (id)")


@pytest.mark.parametrize(
    ("make", "expected_message"),
    [
        (make_corrupt, "is not a state of late-exporter, or is damaged; it was not changed"),
        (make_damaged, ""),
        (make_foreign, "is the database of another program; it was not changed"),
        (make_later, "is a state of another version of late-exporter (schema 99, this version uses 1); it was not"),
    ],
)
def test_an_invalid_state_is_not_changed(
    start_exporter: Run, tmp_path: Path, make: Callable[[Path], None], expected_message: str
) -> None:
    """A file that is not a valid state is named and stays unchanged; exit code 1."""
    path = tmp_path / "state.db"
    make(path)
    before = path.read_bytes()
    program = start_exporter()
    assert 1 == program.wait_exit()
    (line,) = program.stderr.splitlines()
    assert line.startswith(f"late-exporter: error: {path}")
    assert expected_message in line
    assert before == path.read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(start_exporter: Run, tmp_path: Path) -> None:
    """A folder without write permission is named; exit code 1."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    program = start_exporter(state=folder / "state.db")
    assert 1 == program.wait_exit()
    assert str(folder) in program.stderr


def test_state_below_a_file(start_exporter: Run, tmp_path: Path) -> None:
    """A state whose folder is a file is reported in one line; exit code 1."""
    (tmp_path / "file").write_text("")
    program = start_exporter(state=tmp_path / "file" / "state.db")
    assert 1 == program.wait_exit()
    (line,) = program.stderr.splitlines()
    assert str(tmp_path / "file") in line


@pytest.mark.parametrize(
    ("arguments", "expected_message"),
    [
        (("--pol.interval=1s",), "did you mean --poll.interval?"),
        (("--poll.interval", "soon"), "not a duration"),
        (("walk",), "unknown command"),
        (("--api.base-url=http://example.org",), "plain http is allowed for loopback addresses only"),
        (("--api.key", KEY), "no such flag"),
    ],
)
def test_wrong_command_line(tmp_path: Path, arguments: tuple[str, ...], expected_message: str) -> None:
    """A usage error is reported without a traceback and without the key; exit code 2."""
    with ExporterProcess(tmp_path, *arguments, env={"LATE_API_KEY": KEY}) as program:
        assert 2 == program.wait_exit()
        assert expected_message in program.stderr
        assert "Traceback" not in program.stderr
        assert KEY not in program.stderr + program.stdout


def state(program: ExporterProcess) -> str:
    """Return the path of the state of a program."""
    return str(program.folder / "state.db")

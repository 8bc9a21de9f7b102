"""The actions of the command ``state``, and their errors."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from late_exporter import cli
from late_exporter.model import Scope
from late_exporter.store import Store
from late_exporter.store.records import Coverage, Gap, ListPosition
from tests.support.exporter import open_store
from tests.support.store import LOGS, all_rows, commit, execute, observation


class CommandResult(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def state(path: Path, *args: str) -> CommandResult:
    """Run the command on a state."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = cli.main(["state", *args, f"--state.url=sqlite:///{path}"])
    return CommandResult(code, out.getvalue(), err.getvalue())


def fill(store: Store, workspace: str, count: int) -> None:
    """Count some logs of a workspace, one per minute, of which the newest is pending."""
    statuses = enumerate(["success"] * (count - 1) + ["pending"])
    logs = [observation(f"log{at:06}", status, at * 60_000, workspace=workspace) for at, status in statuses]
    gap = Gap(upper=ListPosition(created=1, key="log"), lower=0, depth=0, last_complete_at=0)
    is_synced = workspace == "acme"
    gaps = () if is_synced else (gap,)
    coverage = Coverage(retention_floor=0, complete_since=1000, is_synced=is_synced, gaps=gaps)
    commit(store, *logs, scope=Scope(workspace, "publishing"), coverage=coverage)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Isolate the test from other configuration."""
    monkeypatch.chdir(tmp_path)
    for name in ("ZERNIO_API_KEY", "ZERNIO_API_KEY_FILE", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an open state with two workspaces."""
    store = open_store(f"sqlite:///{tmp_path / 'state.db'}")
    fill(store, "acme", 61)
    fill(store, "beta", 1)
    yield store
    store.close()


@pytest.fixture
def path(store: Store, tmp_path: Path) -> Path:
    """Return the path of the same state, closed."""
    store.close()
    return tmp_path / "state.db"


def content(path: Path) -> object:
    """Return everything that a state contains."""
    return all_rows(f"sqlite:///{path}")


def test_info_summarizes_the_state(path: Path) -> None:
    """The text has the logs and the coverage of every feed."""
    code, out, _ = state(path, "info")
    assert code == 0
    assert out.splitlines() == [
        f"{path}: {path.stat().st_size:,} bytes, not in use",
        "acme/publishing: 61 logs, 1 pending, complete since 1970-01-01T00:00:01Z",
        "beta/publishing: 1 log, 1 pending, first sync not complete, 1 gap to read",
    ]


def test_info_is_one_object_of_json(path: Path) -> None:
    """The object has what the text has, by workspace and feed."""
    result = state(path, "info", "--format=json")
    assert result.code == 0
    assert json.loads(result.out) == {
        "state": str(path),
        "size_bytes": path.stat().st_size,
        "in_use": False,
        "feeds": [
            {
                "workspace": "acme",
                "feed": "publishing",
                "logs": 61,
                "pending": 1,
                "gaps": 0,
                "complete_since": "1970-01-01T00:00:01Z",
            },
            {
                "workspace": "beta",
                "feed": "publishing",
                "logs": 1,
                "pending": 1,
                "gaps": 1,
                "complete_since": "",
            },
        ],
    }


def test_check_is_one_object_of_json(path: Path) -> None:
    """The object has the problems and whether there are none; the exit code is unchanged."""
    result = state(path, "check", "--format=json")
    assert result == CommandResult(0, '{"ok": true, "problems": []}\n', "")
    execute(f"sqlite:///{path}", "DELETE FROM late_log WHERE key = 'log000007'")
    problem = "acme/publishing: the log count is 61, but the state stores 60 logs"
    result = state(path, "check", "--format=json")
    assert result == CommandResult(1, f'{{"ok": false, "problems": ["{problem}"]}}\n', "")


def test_backup_copies_a_state_in_use(store: Store, tmp_path: Path) -> None:
    """The copy never replaces another file."""
    copy = tmp_path / "copy.db"
    code, out, _ = state(tmp_path / "state.db", "backup", str(copy))
    assert code == 0
    assert out == f"{copy}: copy of {tmp_path / 'state.db'}, {copy.stat().st_size:,} bytes\n"
    assert content(copy) == content(tmp_path / "state.db")
    assert "bytes, in use by an exporter\n" in state(tmp_path / "state.db", "info").out
    again = state(tmp_path / "state.db", "backup", str(copy))
    assert again[:2] == (1, "")
    assert again.err == f"late-exporter: error: {copy}: the file exists already and was not changed\n"
    store.close()


def test_check_lists_what_is_wrong(path: Path) -> None:
    """Inconsistencies are named, or else the counters that differ from the observations; the exit code is 1."""
    assert CommandResult(0, f"{path}: no problems found\n", "") == state(path, "check")
    execute(f"sqlite:///{path}", "UPDATE late_series SET value = '2'")
    lines = [
        f"acme/publishing: {LOGS} is 4, 57 fewer than counted",
        f"beta/publishing: {LOGS} is 2, 1 more than counted",
    ]
    assert state(path, "check") == CommandResult(1, "\n".join([*lines, ""]), "")
    execute(f"sqlite:///{path}", "DELETE FROM late_log WHERE key = 'log000007'")
    line = "acme/publishing: the log count is 61, but the state stores 60 logs\n"
    assert state(path, "check").out == line


def copy(source: Path, target: Path) -> CommandResult:
    """Copy the workspaces of a state to another one."""
    return state(source, "copy", f"sqlite:///{source}", f"sqlite:///{target}")


def test_a_state_is_copied(path: Path, tmp_path: Path) -> None:
    """The copy has everything; a name that is no URL is an error."""
    before = content(path)
    assert CommandResult(0, f"{tmp_path / 'copy.db'}: copied from {path}\n", "") == copy(path, tmp_path / "copy.db")
    assert before == content(tmp_path / "copy.db")
    result = state(path, "copy", "late.db", "sqlite:///b.db")
    assert result[:2] == (2, "")
    assert result.err.startswith('late-exporter: error: SOURCE "late.db": must be sqlite:///relative/path.db')


NO_STATE = "there is no state; start the exporter first, or name its state with --state.url"


def test_a_missing_state_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the file, which is not created."""
    path = tmp_path / "none.db"
    assert CommandResult(1, "", f"late-exporter: error: {path}: {NO_STATE}\n") == state(path, "info")
    assert list(tmp_path.iterdir()) == []
    assert cli.main(["state", "check", "--state.url=sqlite://"]) == 1
    assert "in memory" in capsys.readouterr().err


def test_a_name_does_not_control_the_terminal(path: Path) -> None:
    """The name of a workspace is printed without control characters."""
    execute(f"sqlite:///{path}", "UPDATE late_workspace SET name = char(27) || '[31m' WHERE name = 'beta'")
    for result in (state(path, "info"), copy(path, path)):
        assert "\x1b" not in result.out + result.err

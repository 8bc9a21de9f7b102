"""The command ``state``: every action, and every mistake that one can make with it."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from late_exporter import cli
from late_exporter.model import Batch, Coverage, Gap, IncCounter, ListPosition, LogEntry, Observation, Scope
from late_exporter.store import Store, open_snapshot, open_store
from late_exporter.store.schema import MIGRATIONS

LOGS = "late_publishing_logs_total"


class CommandResult(NamedTuple):
    """What came of a command line."""

    code: int
    out: str
    err: str


def state(path: Path, *words: str) -> CommandResult:
    """Run the command on a state."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main(["state", *words, f"--state.url=sqlite:///{path}"])
    return CommandResult(code, out.getvalue(), err.getvalue())


def fill(store: Store, workspace: str, count: int) -> None:
    """Count some logs of a workspace, a minute each, of which the newest is pending."""
    logs = []
    for number in range(count):
        status = "pending" if number == count - 1 else "success"
        entry = LogEntry(key=f"log{number:06}", status=status, created=number * 60_000)
        logs.append(Observation(entry, (IncCounter(LOGS, (workspace, "tiktok", "publish", status)),)))
    gap = Gap(upper=ListPosition(created=1, key="log"), lower=0, depth=0, last_complete_at=0)
    coverage = Coverage(
        retention_floor=0,
        complete_since=1000,
        is_synced=workspace == "acme",
        gaps=() if workspace == "acme" else (gap,),
    )
    store.commit(Scope(workspace, "publishing"), Batch(committed_at=7.0, observations=logs, coverage=coverage))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration but that of the test."""
    monkeypatch.chdir(tmp_path)
    for name in ("LATE_API_KEY", "LATE_API_KEY_FILE", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A state with two workspaces, on which an exporter works."""
    store = open_store(f"sqlite:///{tmp_path / 'state.db'}")
    fill(store, "acme", 61)
    fill(store, "beta", 1)
    yield store
    store.close()


@pytest.fixture
def path(store: Store, tmp_path: Path) -> Path:
    """The same, at rest."""
    store.close()
    return tmp_path / "state.db"


def content(path: Path) -> object:
    """All that a state holds."""
    with open_snapshot(f"sqlite:///{path}") as records:
        return records.series_values(), {
            scope: (records.feed_state(scope), [*records.recorded_statuses(scope)]) for scope in records.scopes
        }


def test_info(path: Path) -> None:
    """People see what is counted of whom, and since when."""
    code, out, _ = state(path, "info")
    first, since = "1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"
    of_acme = f"61 logs, 1 pending, created {first} to 1970-01-01T01:00:00Z, without a gap since {since}"
    of_beta = f"1 log, 1 pending, created {first} to {first}, first sync not complete, without a gap since {since}"
    assert 0 == code
    assert [
        f"{path}: {path.stat().st_size:,} bytes, schema {len(MIGRATIONS)}, no exporter works on it",
        "acme: 2 series",
        f"  publishing: {of_acme}",
        "beta: 1 series",
        f"  publishing: {of_beta}, 1 gap still to be read",
    ] == out.splitlines()


def test_info_for_programs(store: Store, tmp_path: Path) -> None:
    """The same as JSON, beside an exporter that works on the state and has not written all of it to the file."""
    code, out, _ = state(tmp_path / "state.db", "info", "--format", "json")
    found = json.loads(out)
    sizes = [(tmp_path / name).stat().st_size for name in ("state.db", "state.db-wal")]
    assert (0, True, len(MIGRATIONS), sum(sizes)) == (code, found["in_use"], found["schema"], found["size"])
    assert {
        "workspace": "acme",
        "series": 2,
        "feeds": [
            {
                "feed": "publishing",
                "logs": 61,
                "pending": 1,
                "oldest": "1970-01-01T00:00:00Z",
                "newest": "1970-01-01T01:00:00Z",
                "since": "1970-01-01T00:00:01Z",
                "gaps": 0,
                "synced": True,
            }
        ],
    } == found["workspaces"][0]
    assert store.series_values()


def test_info_of_a_state_that_has_read_nothing(tmp_path: Path) -> None:
    """A feed of which nothing is known, and a lock that cannot be written, are no failure."""
    path = tmp_path / "state.db"
    with closing(open_store(f"sqlite:///{path}")) as store:
        store.commit(Scope("acme", "publishing"), Batch(committed_at=7.0))
    (tmp_path / "state.db.lock").unlink()
    (tmp_path / "state.db.lock").mkdir()
    code, out, _ = state(path, "info")
    assert (0, True) == (code, "may be in use" in out.splitlines()[0])
    assert "  publishing: 0 logs, first sync not complete" == out.splitlines()[-1]


def test_backup(store: Store, tmp_path: Path) -> None:
    """A copy for its owner alone is made beside a running exporter, and never over another file."""
    copy = tmp_path / "copy.db"
    code, out, _ = state(tmp_path / "state.db", "backup", str(copy))
    assert 0 == code
    assert f"{copy}: copied {tmp_path / 'state.db'}, {copy.stat().st_size:,} bytes\n" == out
    assert 0o600 == copy.stat().st_mode & 0o777
    assert content(copy) == content(tmp_path / "state.db")
    again = state(tmp_path / "state.db", "backup", str(copy))
    assert (1, "") == again[:2]
    assert f"late-exporter: error: {copy}: there is such a file already; it is left as it is\n" == again.err
    assert store.series_values()


def test_check(path: Path) -> None:
    """A good state is told to be one; what is wrong with another is told line by line, with exit code 1."""
    assert CommandResult(0, f"{path}: nothing is wrong\n", "") == state(path, "check")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE scope SET logs = logs + 1")
    assert CommandResult(
        1, "acme/publishing: 62 logs are noted, 61 are held\nbeta/publishing: 2 logs are noted, 1 are held\n", ""
    ) == state(path, "check")


def test_who_stops_reading_learns_what_was_found(path: Path) -> None:
    """The exit code of a check is that of the state, whether anybody reads what is wrong or not."""
    for expected in (0, 1):
        command = f"'{sys.executable}' -m late_exporter state check --state.url=sqlite:///{path} | true"
        root = Path(cli.__file__).parents[2]
        result = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False, cwd=root, text=True, timeout=60
        )
        assert (expected, "") == (result.returncode, result.stderr)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE scope SET logs = logs + 1")


@pytest.mark.parametrize("way", ["file", "stream"])
def test_to_another_machine(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """What is exported and imported is the same state to the last byte, and private on both sides."""
    there, lines = tmp_path / "there" / "state.db", tmp_path / "state.jsonl"
    if way == "file":
        code, out, _ = state(path, "export", str(lines))
        rows = len(lines.read_text().splitlines()) - 2
        assert CommandResult(0, f"{lines}: {rows} rows of {path}\n", "") == (code, out, "")
        assert 0o600 == lines.stat().st_mode & 0o777
        assert CommandResult(0, f"{there}: {rows} rows read in\n", "") == state(there, "import", str(lines))
    else:
        code, out, _ = state(path, "export")
        monkeypatch.setattr("sys.stdin", io.StringIO(out))
        assert (0, 0) == (code, state(there, "import", "-").code)
    assert content(path) == content(there)
    assert (0o600, 0o700) == (there.stat().st_mode & 0o777, there.parent.stat().st_mode & 0o777)


def test_a_reader_that_goes_away_has_no_state(path: Path) -> None:
    """Half of an export is a failure, not a success that a script would believe."""
    with closing(open_store(f"sqlite:///{path}")) as store:
        fill(store, "gamma", 5000)
    command = f"'{sys.executable}' -m late_exporter state export --state.url=sqlite:///{path} | head -n 1"
    root = Path(cli.__file__).parents[2]
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False, cwd=root, text=True, timeout=60
    )
    assert (1, "") == (result.returncode, result.stderr)


def test_what_cannot_be_imported(path: Path, tmp_path: Path) -> None:
    """Nothing replaces a state that is there, and what is no state makes none."""
    before = content(path)
    lines = tmp_path / "state.jsonl"
    state(path, "export", str(lines))
    for target, source, words in (
        (path, lines, f"{path}: there is such a file already; it is left as it is"),
        (tmp_path / "new.db", tmp_path / "none", f"{tmp_path / 'none'}: cannot be read: No such file or directory"),
        (tmp_path / "new.db", path, "codec can't decode"),
        (tmp_path / "new.db", Path(__file__), "line 1: this is not a JSON object"),
    ):
        ran = state(target, "import", str(source))
        assert (1, "") == ran[:2]
        assert words in ran.err
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[:-1]))
    assert "the state is cut off after" in state(tmp_path / "new.db", "import", str(lines)).err
    assert not (tmp_path / "new.db").exists()
    assert before == content(path)


def test_what_cannot_be_exported(path: Path, tmp_path: Path) -> None:
    """A file that is there is left alone, a folder that is not there is named, and half a state is not left."""
    lines = tmp_path / "state.jsonl"
    lines.write_text("precious")
    assert "there is such a file already" in state(path, "export", str(lines)).err
    assert "precious" == lines.read_text()
    nowhere = tmp_path / "nowhere" / "state.jsonl"
    ran = state(path, "export", str(nowhere))
    assert (
        CommandResult(1, "", f"late-exporter: error: {nowhere}: cannot be written: No such file or directory\n") == ran
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE series SET value = x'ff'")
    assert 1 == state(path, "export", str(tmp_path / "half.jsonl")).code
    assert not (tmp_path / "half.jsonl").exists()


def test_compact(path: Path) -> None:
    """The file gets smaller, and nothing that it holds is lost."""
    with closing(open_store(f"sqlite:///{path}")) as store:
        fill(store, "gamma", 5000)
    state(path, "drop", "gamma", "--yes")
    before, size = content(path), path.stat().st_size
    code, out, _ = state(path, "compact")
    assert CommandResult(0, f"{path}: {path.stat().st_size:,} bytes, before {size:,}\n", "") == (code, out, "")
    assert path.stat().st_size < size
    assert before == content(path)


def test_rename(path: Path) -> None:
    """Without --yes it is only told what would happen; with it the workspace goes on under the new name."""
    before = content(path)
    told = "would rename the workspace acme with 61 logs and 2 series to agency; add --yes to do so"
    assert CommandResult(2, "", f"late-exporter: error: {told}\n") == state(path, "rename", "acme", "agency")
    assert before == content(path)
    assert CommandResult(0, f"{path}: acme is agency now, with 2 series\n", "") == state(
        path, "rename", "acme", "agency", "--yes"
    )
    with open_snapshot(f"sqlite:///{path}") as records:
        assert ["agency", "beta"] == [scope.workspace for scope in records.scopes]


def test_drop(path: Path) -> None:
    """Without --yes it is only told what would happen; with it nothing of the workspace is left."""
    before = content(path)
    told = (
        "late-exporter: error: would forget the workspace beta with 1 log and 1 series, for good; add --yes to do so\n"
    )
    assert CommandResult(2, "", told) == state(path, "drop", "beta")
    assert before == content(path)
    assert CommandResult(0, f"{path}: beta is forgotten, with 1 log\n", "") == state(path, "drop", "beta", "--yes")
    with open_snapshot(f"sqlite:///{path}") as records:
        assert {"acme"} == {scope.workspace for scope in records.scopes} | {
            labels[0] for _, labels in records.series_values()
        }


@pytest.mark.parametrize(
    "words", [["compact"], ["rename", "acme", "agency", "--yes"], ["drop", "acme", "--yes"]], ids=str
)
def test_a_running_exporter_is_left_alone(store: Store, tmp_path: Path, words: list[str]) -> None:
    """Whatever changes the state is refused while an exporter works on it, with what to do."""
    path = tmp_path / "state.db"
    before = content(path)
    told = f"late-exporter: error: {path}: an exporter works on it; stop it first\n"
    assert CommandResult(1, "", told) == state(path, *words)
    assert before == content(path)
    assert store.series_values()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "ACTION is missing"),
        (["backup"], 2, "FILE is missing"),
        (["import"], 2, "FILE is missing"),
        (["rename", "acme"], 2, "NEW is missing"),
        (["drop"], 2, "NAME is missing"),
        (["info", "more"], 2, 'unexpected argument "more"'),
        (["rename", "a", "b", "c"], 2, 'unexpected argument "c"'),
        (
            ["erase", "acme"],
            2,
            'ACTION "erase": must be one of info, backup, check, export, import, compact, rename, drop',
        ),
        (["check", "--format", "json"], 2, "--format: only state info prints json, not state check"),
        (["info", "--yes"], 2, "--yes: is for state rename and state drop, not for state info"),
        (["rename", "acme", "Große Firma", "--yes"], 2, 'NEW "Große Firma": must be 1 to 64 letters, digits, or _ . -'),
        (["rename", "acne", "new"], 1, "there is no workspace acne in the state; there are acme, beta"),
        (["rename", "acme", "beta", "--yes"], 1, "{path}: there is a workspace beta already"),
        (["drop", "acne", "--yes"], 1, "there is no workspace acne in the state; there are acme, beta"),
        (["info", "--poll.interval", "1s"], 2, "--poll.interval: not an option of state, but of run"),
    ],
    ids=str,
)
def test_mistakes(path: Path, words: list[str], code: int, message: str) -> None:
    """Each is told in a line, and changes nothing."""
    before = content(path)
    ran = state(path, *words)
    assert (code, "") == ran[:2]
    assert ran.err.startswith(f"late-exporter: error: {message.format(path=path)}")
    assert 1 == len(ran.err.splitlines())
    assert before == content(path)


@pytest.mark.parametrize("action", ["info", "check", "export", "compact"])
def test_no_state(tmp_path: Path, action: str) -> None:
    """A state that is not there is named and not made; one in memory is none."""
    path = tmp_path / "none.db"
    assert CommandResult(1, "", f"late-exporter: error: {path}: there is no state\n") == state(path, action)
    assert [] == list(tmp_path.iterdir())
    err = io.StringIO()
    with redirect_stderr(err):
        assert 1 == cli.main(["state", action, "--state.url=sqlite://"])
    assert "in memory" in err.getvalue()


def test_the_configuration_names_the_state(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The state is found where the exporter's own file says, and the keys that it names need not be readable."""
    (tmp_path / "late.yml").write_text(
        "workspaces: [{name: acme, api_key_file: /nowhere/key}]\nstate: {url: 'sqlite:///state.db'}\n"
    )
    assert 0 == cli.main(["state", "info", "--config.file", "late.yml"])
    assert "acme: 2 series" in capsys.readouterr().out
    assert path.exists()


def test_a_name_steers_no_terminal(path: Path) -> None:
    """A workspace of a state that somebody made up is shown without what a terminal would obey."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE scope SET workspace = char(27) || '[31m' WHERE workspace = 'beta'")
    for words in (["info"], ["info", "--format", "json"], ["drop", "none"]):
        ran = state(path, *words)
        assert "\x1b" not in ran.out + ran.err


def test_help_has_every_action(capsys: pytest.CaptureFixture[str]) -> None:
    """The help says what each action takes and does."""
    cli.main(["state", "--help"])
    shown = capsys.readouterr().out
    assert "\n  rename OLD NEW  Rename a workspace" in shown
    assert "\nACTION is one of:\n" in shown

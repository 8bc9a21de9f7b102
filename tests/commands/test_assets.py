"""The command ``assets``, run from the source tree; tests/test_release.py runs it from the wheel."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from late_exporter import __url__, __version__
from late_exporter.cli import main
from late_exporter.commands.assets import write_assets
from late_exporter.errors import LateError

ROOT = Path(__file__).parents[2]
NOT_ASSETS = {"deploy/alertmanager/secrets/.gitignore"}
"""Tracked files below the folders of the assets that are of use in the source tree only, as Python files are."""

BRANCH = f"{__url__}/blob/main/".encode()
VERSION = f"{__url__}/blob/v{__version__}/".encode()

FOLDERS = ("deploy/alertmanager", "deploy/systemd", "grafana/dashboards")


def written_files(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below a folder by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_files_for_an_installation_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rules, dashboards, routes and units are written and listed.

    They are those of the source, but link the documents of the version.
    """
    assert main(["assets", str(tmp_path / "new" / "folder")]) == 0
    files = written_files(tmp_path / "new" / "folder")
    listed = capsys.readouterr().out.splitlines()
    assert sorted(listed) == sorted(str(tmp_path / "new" / "folder" / name) for name in files)
    for name in ("late-exporter.alerts.yml", "prometheus.yml", "runbooks/LatePollStale.md"):
        source = (ROOT / "deploy" / "prometheus" / name).read_bytes()
        assert files[f"prometheus/{name}"] == source.replace(BRANCH, VERSION), name


def test_no_asset_links_the_branch(tmp_path: Path) -> None:
    """The branch may have other alerts than this version, and so no runbook of one."""
    write_assets(tmp_path)
    files = written_files(tmp_path)
    assert VERSION in files["prometheus/late-exporter.alerts.yml"]
    assert VERSION in files["grafana/late-overview.json"]
    assert [name for name, content in files.items() if BRANCH in content] == []


def test_no_link_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is a link is replaced; a folder that is one is refused, with all that would be written below it."""
    victim = tmp_path / "victim"
    victim.write_text("private")
    rules = tmp_path / "assets" / "prometheus" / "late-exporter.rules.yml"
    rules.parent.mkdir(parents=True)
    rules.symlink_to(victim)
    rules.with_name(f".{rules.name}.new").symlink_to(victim)
    assert main(["assets", str(tmp_path / "assets")]) == 0
    assert victim.read_text() == "private"
    assert rules.read_bytes() == (ROOT / "deploy" / "prometheus" / rules.name).read_bytes()
    assert not [path for path in rules.parent.iterdir() if path.is_symlink() or path.suffix == ".new"]

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "prometheus").symlink_to(elsewhere)
    for name, folder in (("link", "link"), ("below", "below/prometheus")):
        assert main(["assets", str(tmp_path / name)]) == 1
        reason = f"{tmp_path / folder}: is a link; name the folder that it leads to"
        assert capsys.readouterr().err == f"late-exporter: error: {reason}\n"
    assert not list(elsewhere.iterdir())


def test_a_failure_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is replaced as a whole, so that Prometheus never reads half of it."""
    write_assets(tmp_path)
    before = written_files(tmp_path)
    with pytest.raises(LateError, match="cannot be written: Not a directory"):
        write_assets(tmp_path / "prometheus" / "prometheus.yml")

    def fail(path: Path, target: Path) -> None:
        assert path.stat().st_size == target.stat().st_size
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(LateError, match="cannot be written: No space left on device"):
        write_assets(tmp_path)
    assert written_files(tmp_path) == before


def test_runbooks_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A runbook is printed by the name of its alert; for another name there is a hint."""
    assert main(["runbook", "LatePollStale"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# LatePollStale\n")
    assert f"({__url__}/blob/v{__version__}/docs/commands.md#where-to-run-commands)" in out
    assert main(["runbook"]) == 0
    assert "LatePollStale" in capsys.readouterr().out.splitlines()
    assert main(["runbook", "LatePolStale"]) == 2
    assert capsys.readouterr().err.endswith("no runbook LatePolStale; did you mean LatePollStale?\n")


def test_every_file_of_the_folders_is_an_asset(tmp_path: Path) -> None:
    """A file that is added to a folder of the assets has to be added to them in pyproject.toml, or named here."""
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, check=False, capture_output=True).returncode:
        pytest.skip("not a git repository")
    output = subprocess.run(["git", "ls-files", *FOLDERS], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    write_assets(tmp_path)
    contents = set(written_files(tmp_path).values())
    names = {name for name in output.splitlines() if not name.endswith(".py")} - NOT_ASSETS
    assert len(names) > 5
    sources = {name: (ROOT / name).read_bytes().replace(BRANCH, VERSION) for name in names}
    assert [name for name, content in sources.items() if content not in contents] == []

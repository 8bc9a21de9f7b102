"""The file of the command ``textfile``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from late_exporter import cli
from late_exporter.commands.run import replace_file
from late_exporter.errors import LateError


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    """Open readers see the old content, everyone can read the new file, and no temporary file remains."""
    path = tmp_path / "late.prom"
    replace_file(path, b"late_up 1\n")
    with path.open("rb") as reading:
        replace_file(path, b"late_up 0\n")
        assert b"late_up 1\n" == reading.read()
    assert b"late_up 0\n" == path.read_bytes()
    assert 0o644 == path.stat().st_mode & 0o777
    assert [path] == list(tmp_path.iterdir())


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    """A pipe or a folder stays, also behind a symbolic link; nothing is left behind, and the error names the file."""
    pipe, folder, link = tmp_path / "pipe.prom", tmp_path / "folder.prom", tmp_path / "link.prom"
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to(pipe)
    for path in (pipe, folder, link):
        with pytest.raises(LateError, match=f"^{path}: cannot be written: it is not a regular file$"):
            replace_file(path, b"late_up 1\n")
    with pytest.raises(LateError, match=r"nowhere/late\.prom: cannot be written: No such file or directory"):
        replace_file(tmp_path / "nowhere" / "late.prom", b"")
    assert {pipe, folder, link} == set(tmp_path.iterdir())


def test_the_name_must_end_in_prom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The collector would not read any other file."""
    monkeypatch.setenv("LATE_API_KEY", "sk_" + "0" * 64)
    assert 2 == cli.main(["textfile", "late.prom.tmp", "--state.url", "sqlite://"])
    assert "whose names end in .prom" in capsys.readouterr().err

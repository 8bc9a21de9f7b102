from __future__ import annotations

import os
from pathlib import Path

import pytest

from late_exporter.commands.textfile import require_textfile, write_textfile
from late_exporter.errors import ConfigError, LateError


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    """Open readers see the old content, everyone can read the new file, and no temporary file remains."""
    path = tmp_path / "late.prom"
    write_textfile(path, b"late_up 1\n")
    with path.open("rb") as reading:
        write_textfile(path, b"late_up 0\n")
        assert b"late_up 1\n" == reading.read()
    assert b"late_up 0\n" == path.read_bytes()
    assert 0o644 == path.stat().st_mode & 0o777
    assert [path] == list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_previous_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No temporary file remains."""
    path = tmp_path / "late.prom"
    write_textfile(path, b"late_up 1\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LateError, match=r"late.prom: cannot be written: No space left on device$"):
        write_textfile(path, b"late_up 0\n")
    assert b"late_up 1\n" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    """A pipe or a folder stays, also behind a symbolic link, as would a device."""
    pipe, folder, link = tmp_path / "pipe.prom", tmp_path / "folder.prom", tmp_path / "link.prom"
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to(pipe)
    for path in (pipe, folder, link):
        with pytest.raises(LateError, match=f"^{path}: cannot be written: it is not a regular file$"):
            write_textfile(path, b"late_up 1\n")
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert {pipe, folder, link} == set(tmp_path.iterdir())


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(LateError, match=r"nowhere/late\.prom: cannot be written: No such file or directory"):
        write_textfile(tmp_path / "nowhere" / "late.prom", b"")


def test_the_name_must_end_in_prom() -> None:
    """The collector would not read any other file."""
    require_textfile(Path("a.b.prom"))
    for name in ("late.txt", "prom", "late.prom.tmp"):
        with pytest.raises(ConfigError, match=r"end in \.prom"):
            require_textfile(Path(name))

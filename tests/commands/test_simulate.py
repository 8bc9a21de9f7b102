from __future__ import annotations

import sys
from pathlib import Path

import pytest

from late_exporter.commands.simulate import program_path


def test_printed_commands_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a clone, the program is not on PATH: its path is printed, or else how Python runs it."""
    script = tmp_path / ".venv" / "bin" / "late-exporter"
    script.parent.mkdir(parents=True)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(script.parent))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert program_path() == f"{sys.executable} -m late_exporter"
    script.touch(mode=0o755)
    assert program_path() == ".venv/bin/late-exporter"
    monkeypatch.chdir(Path(__file__).parent)
    assert program_path() == str(script)
    monkeypatch.setenv("PATH", str(script.parent))
    assert program_path() == "late-exporter"

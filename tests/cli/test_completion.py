import os
import subprocess
import sys
from pathlib import Path

import pytest

from late_exporter import cli
from tests.e2e.program import run_command


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        (["hea"], ["healthcheck"]),
        (["run", "--poll.i"], ["--poll.interval"]),
        (["run", "--log.level", "w"], ["warn"]),
        (["state", "co"], ["copy"]),
        (["check", "--config.file", "la"], ["file,la"]),
    ],
    ids=str,
)
def test_completions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], completions: list[str]
) -> None:
    """Commands, their flags and the values of these are completed, files by the shell."""
    monkeypatch.setenv("_LATE_EXPORTER_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(("late-exporter", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert not end.value.code
    assert [item.removeprefix("plain,") for item in capsys.readouterr().out.split()] == completions


@pytest.mark.e2e
def test_bash_completes(tmp_path: Path) -> None:
    """A bash that has read the script of the documents completes commands, flags and values."""
    program = tmp_path / "late-exporter"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m late_exporter "$@"\n')
    program.chmod(0o755)
    script = """source <(_LATE_EXPORTER_COMPLETE=bash_source late-exporter)
COMP_WORDS=(late-exporter run --log.level w); COMP_CWORD=3
_late_exporter_completion late-exporter; printf '%s\\n' "${COMPREPLY[@]}"
"""
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert run_command("bash", "-c", script, env=environ, stderr=subprocess.STDOUT) == "warn\n"

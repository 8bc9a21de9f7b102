import os
import subprocess
import sys
from pathlib import Path

import pytest

from late_exporter import cli
from late_exporter.cli.commands import COMMANDS
from late_exporter.cli.parser import COMPLETION_VARIABLE, completion_script
from late_exporter.config.settings import ALL_OPTIONS
from tests.e2e.program import run_command


class Completer:
    """Asks the program for completions as the script of a shell does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def complete(self, *words: str, shell: str = "bash") -> list[str]:
        """Return the completions of the last word, as bash gets them: type and value."""
        self._monkeypatch.setenv(COMPLETION_VARIABLE, f"{shell}_complete")
        self._monkeypatch.setenv("COMP_WORDS", " ".join(("late-exporter", *words)))
        self._monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words)))
        with pytest.raises(SystemExit) as end:
            cli.main([])
        assert not end.value.code
        return self._capsys.readouterr().out.split()


@pytest.fixture
def completer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Completer:
    """Return a completer of this process."""
    return Completer(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        (["hea"], ["healthcheck"]),
        (["--poll.i"], ["--poll.interval"]),
        (["run", "--log.level", "w"], ["warn"]),
        (["metrics", "--format", ""], ["table", "json"]),
        (["state", "co"], ["copy"]),
        (["--poll.interval", ""], []),
        (["check", "--config.file", "la"], ["file,la"]),
        (["--poll.interval", "5s", "check", "--poll.loo"], ["--poll.lookback"]),
    ],
    ids=str,
)
def test_completions(completer: Completer, words: list[str], completions: list[str]) -> None:
    """Commands, their flags and the values of these are completed, files by the shell."""
    assert completions == [item.removeprefix("plain,") for item in completer.complete(*words)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_a_command_is_completed(completer: Completer, command: str) -> None:
    """The completions of a command are its flags."""
    flags = {option.flag for option in ALL_OPTIONS if option.flag and command in option.commands}
    completions = {item.removeprefix("plain,") for item in completer.complete(command, "--")}
    assert flags | {"--help"} == {flag for flag in completions if not flag.startswith("--no-")}


@pytest.mark.e2e
def test_bash_completes(tmp_path: Path) -> None:
    """A bash that has read the script completes commands, flags and values."""
    program = tmp_path / "late-exporter"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m late_exporter "$@"\n')
    program.chmod(0o755)
    script = f"""{completion_script("bash")}
COMP_WORDS=(late-exporter run --log.level w); COMP_CWORD=3
_late_exporter_completion late-exporter; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert "warn\n" == run_command("bash", "-c", script, env=environ, stderr=subprocess.STDOUT)

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from late_exporter.cli.completion import completion
from late_exporter.cli.manpage import EXIT_CODES, manual
from late_exporter.config.commands import COMMANDS
from late_exporter.config.flags import ASKED
from late_exporter.config.options import OPTIONS

FLAGS = [option for option in (*ASKED, *OPTIONS) if option.flag]


def complete(*words: str) -> list[str]:
    """What bash offers for the last word."""
    script = f"""{completion("bash")}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _late_exporter; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script, "bash", *words], check=True, capture_output=True, text=True)
    assert "" == done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["late-exporter", "hea"], ["healthcheck"]),
        (["late-exporter", "--poll.i"], ["--poll.interval"]),
        (["late-exporter", "--log.level", ""], ["debug", "info", "warn", "error"]),
        (["late-exporter", "run", "--log.level", "w"], ["warn"]),
        (["late-exporter", "metrics", "--"], ["--help", "--format"]),
        (["late-exporter", "metrics", "--format", ""], ["table", "markdown", "json"]),
        (["late-exporter", "completion", "z"], ["zsh"]),
        (["late-exporter", "--poll.interval", ""], []),
        (["late-exporter", "simulate", "--simulate.incident", "r"], ["revoked-token", "rate-limit-storm"]),
    ],
)
def test_bash(words: list[str], offered: list[str]) -> None:
    """Commands, their flags and the values of those are offered, and nothing that would be refused."""
    assert offered == complete(*words)


def test_bash_offers_files(tmp_path: Path) -> None:
    """After a flag that takes a file, files are offered."""
    (tmp_path / "late.yml").touch()
    assert [f"{tmp_path}/late.yml"] == complete("late-exporter", "check", "--config.file", f"{tmp_path}/la")


@pytest.mark.parametrize("name", COMMANDS)
def test_bash_offers_every_flag_of_a_command(name: str) -> None:
    """No flag of a command is left out."""
    flags = {option.flag for option in FLAGS if name in option.commands}
    assert flags <= set(complete("late-exporter", name, "-"))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str) -> None:
    """Every command and every flag is in the script, quotes are balanced, and nothing is left to be expanded."""
    script = completion(shell)
    flags = [option.flag if shell == "zsh" else f"-l {option.flag[2:]} " for option in FLAGS]
    assert [] == [word for word in (*COMMANDS, *flags) if word not in script]
    for line in script.splitlines():
        bare = re.sub(r"'(?:[^']|'\\'')*'", "", line)
        assert "'" not in bare
        assert not re.search(r"[`$]\(", bare)


def test_manual() -> None:
    """The page has every command, flag and exit code, and no line that roff would take for a command of its own."""
    page = manual()
    names = [*COMMANDS, *(option.flag or option.variable for option in (*ASKED, *OPTIONS))]
    assert [] == [name for name in names if name.replace("-", "\\-") not in page]
    assert [] == [code for code, _ in EXIT_CODES if f"\\fB{code}\\fR" not in page]
    requests = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert requests <= {".TH", ".SH", ".TP", ".br", ".sp", ".UR", ".UE"}

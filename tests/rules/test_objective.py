"""Changing the success objective or the scrape job as documented changes everything that depends on it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ("late-exporter.rules.yml", "late-exporter.alerts.yml")


OBJECTIVE = ("thresholds.py", "SUCCESS_OBJECTIVE = 0.99\n", "SUCCESS_OBJECTIVE = 0.995\n")
JOBS = ("rules.py", 'EXPORTER_JOBS = "late|late-.*"\n', 'EXPORTER_JOBS = "social|social-.*"\n')


def _copy_with_change(folder: Path, name: str, before: str, after: str) -> Path:
    for source in ("deploy", "grafana/source", "grafana/dashboards"):
        shutil.copytree(ROOT / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "deploy" / "prometheus" / name
    text = module.read_text("utf-8")
    assert before in text
    module.write_text(text.replace(before, after), "utf-8")
    return folder


def _run(folder: Path, *command: str) -> None:
    process = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert 0 == process.returncode, process.stderr


@pytest.mark.parametrize(("number", "change"), [(0, OBJECTIVE), (1, JOBS)], ids=["objective", "jobs"])
def test_sed_and_generator_write_the_same_rules(number: int, change: tuple[str, str, str], tmp_path: Path) -> None:
    """A documented sed command on the shipped files and the generator produce the same rules."""
    commands = re.findall(r"^```sh\n(sed -i .*)\n```", (ROOT / "docs" / "alerts.md").read_text("utf-8"), re.MULTILINE)
    assert 2 == len(commands)
    by_hand, sources = tmp_path / "by-hand", tmp_path / "sources"
    by_hand.mkdir()
    for name in RULES:
        shutil.copy(ROOT / "deploy" / "prometheus" / name, by_hand)
    _run(by_hand, "sh", "-c", commands[number])
    _run(_copy_with_change(sources, *change), sys.executable, "-m", "deploy.prometheus")
    generated = [(sources / "deploy" / "prometheus" / name).read_text("utf-8") for name in RULES]
    assert generated == [(by_hand / name).read_text("utf-8") for name in RULES]

"""Changing the success objective or the scrape job as documented changes everything that depends on it."""

from __future__ import annotations

import json
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


@pytest.fixture
def copy_with_other_objective(tmp_path: Path) -> Path:
    """Return a copy of the sources and generated files with another objective."""
    return _copy_with_change(tmp_path, *OBJECTIVE)


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


def test_dashboards_follow_the_objective(copy_with_other_objective: Path) -> None:
    """Texts and colors of the dashboards follow the objective."""
    pytest.importorskip("grafana_foundation_sdk")
    _run(copy_with_other_objective, sys.executable, "-W", "ignore", "-m", "grafana.source")
    before, after = (
        (folder / "grafana" / "dashboards" / "late-overview.json").read_text("utf-8")
        for folder in (ROOT, copy_with_other_objective)
    )
    assert before.count(" 99 %") == after.count(" 99.5 %") > 0
    (panel,) = (panel for panel in json.loads(after)["panels"] if panel["title"] == "Success, 1 h")
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [0.928, 0.97, 0.995] == [step["value"] for step in steps[1:]], "14.4 times, 6 times, and as fast as it may"

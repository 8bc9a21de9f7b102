"""Changing the success objective as documented changes everything that depends on it."""

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


@pytest.fixture
def copy_with_other_objective(tmp_path: Path) -> Path:
    """Return a copy of the sources and generated files with another objective."""
    for folder in ("deploy", "grafana/source", "grafana/dashboards"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    thresholds = tmp_path / "deploy" / "prometheus" / "thresholds.py"
    before = thresholds.read_text("utf-8")
    after = before.replace("SUCCESS_OBJECTIVE = 0.99\n", "SUCCESS_OBJECTIVE = 0.995\n")
    assert before != after
    thresholds.write_text(after, "utf-8")
    return tmp_path


def _run(folder: Path, *command: str) -> None:
    process = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert 0 == process.returncode, process.stderr


def test_sed_and_generator_write_the_same_rules(copy_with_other_objective: Path, tmp_path: Path) -> None:
    """The documented sed command on the shipped files and the generator produce the same rules."""
    (command,) = re.findall(r"^```sh\n(sed -i .*)\n```", (ROOT / "docs" / "alerts.md").read_text("utf-8"), re.MULTILINE)
    by_hand = tmp_path / "by-hand"
    by_hand.mkdir()
    for name in RULES:
        shutil.copy(ROOT / "deploy" / "prometheus" / name, by_hand)
    _run(by_hand, "sh", "-c", command)
    _run(copy_with_other_objective, sys.executable, "-m", "deploy.prometheus")
    for name in RULES:
        assert (copy_with_other_objective / "deploy" / "prometheus" / name).read_text("utf-8") == (
            by_hand / name
        ).read_text("utf-8")


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

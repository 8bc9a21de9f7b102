"""Releases wait for all tests, and zizmor finds no hole in a workflow: no moved tag, permission or untrusted text."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from tests.e2e.program import run_command

ROOT = Path(__file__).parents[1]

Document: TypeAlias = dict[Any, Any]

CI_WORKFLOW = "./.github/workflows/ci.yml"


def _jobs(workflow: str) -> dict[str, Document]:
    jobs: dict[str, Document] = yaml.safe_load((ROOT / workflow).read_text("utf-8"))["jobs"]
    return jobs


def test_release_needs_tests_and_approval() -> None:
    """Nothing is published before all tests have passed and someone has approved it."""
    jobs, tests = _jobs(".github/workflows/release.yml"), _jobs(CI_WORKFLOW)
    waits = {name: set(job.get("needs", ())) for name, job in jobs.items()}
    assert {"test", "deploy", "build"} == waits["attest"] == waits["image"]
    assert waits["verify"] == {"image"}
    assert waits["publish"] == {"attest", "verify"}
    assert {"publish"} <= waits["tag"] & waits["chart"] & waits["announce"]
    assert {"tag", "chart"} <= waits["announce"]
    assert jobs["publish"]["environment"] == "pypi"
    assert (jobs["test"]["uses"], jobs["deploy"]["uses"]) == (CI_WORKFLOW, "./.github/workflows/deploy.yml")
    steps = [step for job in tests.values() for step in job.get("steps", ())]
    assert len(tests) == len([step for step in steps if step.get("run") in (".ci/run", "make versions")])


@pytest.mark.e2e
def test_zizmor_finds_nothing(require_tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Zizmor reports nothing with its strictest persona."""
    monkeypatch.setenv("PATH", f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    run_command(require_tool("zizmor"), "--offline", "--no-progress", "--persona=auditor", ".", cwd=ROOT)

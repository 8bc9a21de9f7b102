"""Releases wait for all tests, and zizmor finds no hole in a workflow: no moved tag, permission or untrusted text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from tests.e2e.program import run_command

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

Document: TypeAlias = dict[Any, Any]

CI_WORKFLOW = "./.github/workflows/ci.yml"
DEPLOY_WORKFLOW = "./.github/workflows/deploy.yml"


def _load_workflow(path: Path) -> Document:
    """Return the workflow; YAML parses its key ``on`` as a boolean."""
    document: Document = yaml.safe_load(path.read_text("utf-8"))
    document["on"] = document.pop(True)
    return document


def _jobs(path: Path) -> dict[str, Document]:
    jobs: dict[str, Document] = _load_workflow(path)["jobs"]
    return jobs


def _steps(path: Path) -> Iterator[Document]:
    for job in _jobs(path).values():
        yield from job.get("steps", ())


def test_release_needs_tests_and_approval() -> None:
    """Nothing is published before all tests have passed and someone has approved it."""
    (release,) = (path for path in WORKFLOWS if path.name == "release.yml")
    jobs = _jobs(release)
    waits = {name: set(job.get("needs", ())) for name, job in jobs.items()}
    assert {"test", "deploy", "build"} == waits["attest"] == waits["image"]
    assert {"image"} == waits["verify"]
    assert {"attest", "verify"} == waits["publish"]
    assert {"publish"} <= waits["tag"] & waits["chart"] & waits["announce"]
    assert {"tag", "chart"} <= waits["announce"]
    assert "pypi" == jobs["publish"]["environment"]
    assert (CI_WORKFLOW, DEPLOY_WORKFLOW) == (jobs["test"]["uses"], jobs["deploy"]["uses"])
    (tests,) = (path for path in WORKFLOWS if path.name == "ci.yml")
    runs = [step["run"] for step in _steps(tests) if step.get("run") in (".ci/run", "make versions")]
    assert len(_jobs(tests)) == len(runs)


@pytest.mark.e2e
def test_zizmor_finds_nothing(require_tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Zizmor reports nothing with its strictest persona."""
    monkeypatch.setenv("PATH", f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    run_command(require_tool("zizmor"), "--offline", "--no-progress", "--persona=auditor", ".", cwd=ROOT)

"""The workflows have minimal permissions, and untrusted text or moved tags cannot change what they run."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

Document: TypeAlias = dict[Any, Any]

PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
CI_WORKFLOW = "./.github/workflows/ci.yml"
UNTRUSTED_EXPRESSION = re.compile(r"\$\{\{[^}]*\b(github\.event|github\.head_ref|github\.ref_name|inputs\.)")
"""Expressions with values chosen by the author of a pull request or branch."""

WRITE_PERMISSIONS = {
    ("release.yml", "attest"): {"attestations", "id-token"},
    ("release.yml", "image"): {"attestations", "id-token", "packages"},
    ("release.yml", "publish"): {"id-token"},
    ("release.yml", "announce"): {"contents"},
}
"""The only jobs with write permissions, and their scopes."""


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def path(request: pytest.FixtureRequest) -> Path:
    """Return each workflow."""
    found: Path = request.param
    return found


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


def _uses(path: Path, action: str) -> list[Document]:
    return [step for step in _steps(path) if step.get("uses", "").startswith(f"{action}@")]


def test_every_workflow_is_here() -> None:
    """The workflows are those for changes, for the daily audit, and for releases."""
    assert ["audit.yml", "ci.yml", "release.yml"] == [path.name for path in WORKFLOWS]


def test_actions_are_pinned(path: Path) -> None:
    """Actions are pinned to a commit with the version as a comment, because tags can be moved."""
    used = re.findall(r"^\s*(?:- )?uses: (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert used
    assert [] == [action for action in used if not PINNED.fullmatch(action) and action.split()[0] != CI_WORKFLOW]


def test_an_action_has_one_version() -> None:
    """All workflows use the same commit of an action."""
    texts = "\n".join(path.read_text("utf-8") for path in WORKFLOWS)
    used = set(re.findall(r"uses: ([^@\s]+)@(\S+ # \S+)", texts))
    assert len(used) == len({action for action, _ in used})


def test_permissions(path: Path) -> None:
    """Workflows have no permissions; jobs may read the code, and have the write permissions listed here."""
    assert {} == _load_workflow(path)["permissions"]
    for name, job in _jobs(path).items():
        granted = {scope for scope, access in job["permissions"].items() if access == "write"}
        assert WRITE_PERMISSIONS.get((path.name, name), set()) == granted
        others = {scope: access for scope, access in job["permissions"].items() if scope not in granted}
        assert others in ({}, {"contents": "read"})


def test_jobs_end(path: Path) -> None:
    """Every job has a timeout, and superseded runs are grouped."""
    own = [job for job in _jobs(path).values() if job.get("uses") != CI_WORKFLOW]
    assert all(0 < job["timeout-minutes"] <= 45 for job in own)
    assert "github.ref" in _load_workflow(path)["concurrency"]["group"]


def test_a_release_is_not_interrupted() -> None:
    """A release run is not cancelled by a second tag."""
    interrupted = {path.name: _load_workflow(path)["concurrency"]["cancel-in-progress"] for path in WORKFLOWS}
    assert {"audit.yml": True, "ci.yml": True, "release.yml": False} == interrupted


def test_nothing_is_triggered_with_the_rights_of_the_project(path: Path) -> None:
    """No trigger runs untrusted code with the permissions of the project."""
    assert set(_load_workflow(path)["on"]) <= {"pull_request", "push", "schedule", "workflow_call"}


def test_no_credentials_are_left(path: Path) -> None:
    """The checkout token is not left in the repository."""
    assert all(step["with"]["persist-credentials"] is False for step in _uses(path, "actions/checkout"))


def test_no_foreign_text_becomes_code(path: Path) -> None:
    """Shell steps contain no expressions, and action inputs no untrusted values."""
    for step in _steps(path):
        assert "${{" not in step.get("run", "")
        assert not any(UNTRUSTED_EXPRESSION.search(str(value)) for value in step.get("with", {}).values())


def test_no_secret_but_the_token_of_the_run(path: Path) -> None:
    """GITHUB_TOKEN is the only secret."""
    assert set(re.findall(r"secrets\.(\w+)", path.read_text("utf-8"))) <= {"GITHUB_TOKEN"}


def test_a_release_is_of_a_tag() -> None:
    """Only a version tag starts a release."""
    (release,) = (path for path in WORKFLOWS if path.name == "release.yml")
    assert {"push": {"tags": ["v*"]}} == _load_workflow(release)["on"]


def test_a_release_has_passed_every_test_and_an_approval() -> None:
    """Nothing is published before all tests have passed and someone has approved it."""
    (release,) = (path for path in WORKFLOWS if path.name == "release.yml")
    jobs = _jobs(release)
    waits = {name: set(job.get("needs", ())) for name, job in jobs.items()}
    assert {"test", "build"} == waits["attest"] == waits["image"]
    assert {"attest", "image"} == waits["publish"]
    assert {"publish"} == waits["announce"]
    assert "pypi" == jobs["publish"]["environment"]
    assert CI_WORKFLOW == jobs["test"]["uses"]
    (tests,) = (path for path in WORKFLOWS if path.name == "ci.yml")
    assert len(_jobs(tests)) == [step.get("run") for step in _steps(tests)].count(".ci/run")


def test_a_release_does_not_wait_for_itself() -> None:
    """Workflows that run together have different concurrency groups, compared case-insensitively as GitHub does."""
    groups = [_load_workflow(path)["concurrency"]["group"].lower() for path in WORKFLOWS]
    assert len(groups) == len(set(groups))
    assert not any("github.workflow" in group for group in groups)


def test_what_is_published_says_where_it_is_from() -> None:
    """Wheel, sdist and image have provenance and an SBOM, and the image is built for both architectures."""
    (release,) = (path for path in WORKFLOWS if path.name == "release.yml")
    (image,) = _uses(release, "docker/build-push-action")
    assert "linux/amd64,linux/arm64" == image["with"]["platforms"]
    assert image["with"]["sbom"] is True
    assert "mode=max" == image["with"]["provenance"]
    provenance = [step["with"] for step in _uses(release, "actions/attest-build-provenance")]
    assert ["dist/*"] == [told["subject-path"] for told in provenance if "subject-path" in told]
    assert [True] == [told["push-to-registry"] for told in provenance if "subject-name" in told]
    assert ["build/sbom.cdx.json"] == [step["with"]["sbom-path"] for step in _uses(release, "actions/attest-sbom")]
    assert not any("password" in step.get("with", {}) for step in _uses(release, "pypa/gh-action-pypi-publish"))


@pytest.mark.e2e
def test_zizmor_finds_nothing(require_tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Zizmor reports nothing with its strictest persona."""
    monkeypatch.setenv("PATH", f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    command = [require_tool("zizmor"), "--offline", "--no-progress", "--persona=auditor", "."]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "") == (found.returncode, "" if not found.returncode else found.stdout)


@pytest.mark.parametrize(
    "text",
    ["echo ${{ github.event.pull_request.title }}", "git switch ${{ github.head_ref }}", "${{ format(inputs.tag) }}"],
)
def test_foreign_text_is_noticed(text: str) -> None:
    """The patterns of these tests match what they look for."""
    assert UNTRUSTED_EXPRESSION.search(text)
    assert not PINNED.fullmatch("actions/checkout@v6")
    assert not PINNED.fullmatch("actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd")

"""The workflows have minimal permissions, and untrusted text or moved tags cannot change what they run."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
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
DEPLOY_WORKFLOW = "./.github/workflows/deploy.yml"
OWN_WORKFLOWS = {CI_WORKFLOW, DEPLOY_WORKFLOW}
UNTRUSTED_EXPRESSION = re.compile(r"\$\{\{[^}]*\b(github\.event|github\.head_ref|github\.ref_name|inputs\.)")
"""Expressions with values chosen by the author of a pull request or branch."""

WRITE_PERMISSIONS = {
    ("release.yml", "attest"): {"attestations", "id-token"},
    ("release.yml", "image"): {"attestations", "id-token", "packages"},
    ("release.yml", "publish"): {"id-token"},
    ("release.yml", "tag"): {"packages"},
    ("release.yml", "chart"): {"attestations", "id-token", "packages"},
    ("release.yml", "announce"): {"contents"},
}
"""The only jobs with write permissions, and their scopes."""

READ_PERMISSIONS = {("release.yml", "verify"): {"contents": "read", "packages": "read"}}
"""The only jobs that may read more than the code."""


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def path(request: pytest.FixtureRequest) -> Path:
    """Return each workflow."""
    workflow: Path = request.param
    return workflow


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


def test_workflow_files() -> None:
    """The workflows are those for changes, for the daily audit, for deployments, and for releases."""
    assert ["audit.yml", "ci.yml", "deploy.yml", "release.yml"] == [path.name for path in WORKFLOWS]


def test_actions_are_pinned(path: Path) -> None:
    """Actions are pinned to a commit with the version as a comment, because tags can be moved."""
    references = re.findall(r"^\s*(?:- )?uses: (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert references
    assert [] == [
        action for action in references if not PINNED.fullmatch(action) and action.split()[0] not in OWN_WORKFLOWS
    ]


def test_action_versions_are_consistent() -> None:
    """All workflows use the same commit of an action."""
    texts = "\n".join(path.read_text("utf-8") for path in WORKFLOWS)
    references = set(re.findall(r"uses: ([^@\s]+)@(\S+ # \S+)", texts))
    assert len(references) == len({action for action, _ in references})


def test_permissions_are_minimal(path: Path) -> None:
    """Workflows have no permissions; jobs may read the code, and have the write permissions listed here."""
    assert {} == _load_workflow(path)["permissions"]
    for name, job in _jobs(path).items():
        written_scopes = {scope for scope, access in job["permissions"].items() if access == "write"}
        assert WRITE_PERMISSIONS.get((path.name, name), set()) == written_scopes
        others = {scope: access for scope, access in job["permissions"].items() if scope not in written_scopes}
        assert others in ({}, READ_PERMISSIONS.get((path.name, name), {"contents": "read"}))


def test_jobs_have_timeouts(path: Path) -> None:
    """Every job has a timeout, and superseded runs are grouped."""
    own = [job for job in _jobs(path).values() if job.get("uses") not in OWN_WORKFLOWS]
    assert all(0 < job["timeout-minutes"] <= 45 for job in own)
    assert "github.ref" in _load_workflow(path)["concurrency"]["group"]


def test_release_is_not_cancelled() -> None:
    """A release run is not cancelled by a second tag."""
    cancels = {path.name: _load_workflow(path)["concurrency"]["cancel-in-progress"] for path in WORKFLOWS}
    assert {"audit.yml": True, "ci.yml": True, "deploy.yml": True, "release.yml": False} == cancels


def test_no_privileged_trigger(path: Path) -> None:
    """No trigger runs untrusted code with the permissions of the project."""
    assert set(_load_workflow(path)["on"]) <= {"pull_request", "push", "schedule", "workflow_call"}


def test_checkout_keeps_no_credentials(path: Path) -> None:
    """The checkout token is not left in the repository."""
    assert all(step["with"]["persist-credentials"] is False for step in _uses(path, "actions/checkout"))


def test_untrusted_text_is_not_interpolated(path: Path) -> None:
    """Shell steps contain no expressions, and action inputs no untrusted values."""
    for step in _steps(path):
        assert "${{" not in step.get("run", "")
        assert not any(UNTRUSTED_EXPRESSION.search(str(value)) for value in step.get("with", {}).values())


def test_github_token_is_the_only_secret(path: Path) -> None:
    """GITHUB_TOKEN is the only secret."""
    assert set(re.findall(r"secrets\.(\w+)", path.read_text("utf-8"))) <= {"GITHUB_TOKEN"}


def test_only_tags_start_a_release() -> None:
    """Only a version tag starts a release."""
    (release,) = (path for path in WORKFLOWS if path.name == "release.yml")
    assert {"push": {"tags": ["v*"]}} == _load_workflow(release)["on"]


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


def test_versions() -> None:
    """The tests run with every supported Python, and with the lowest and newest versions of all dependencies."""
    (tests,) = (path for path in WORKFLOWS if path.name == "ci.yml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    prefix = "Programming Language :: Python :: 3."
    supported = [name.rpartition(" ")[2] for name in project["classifiers"] if name.startswith(prefix)]
    assert supported == _jobs(tests)["test"]["strategy"]["matrix"]["python"]
    assert [{"versions": "lowest", "python": supported[0]}, {"versions": "newest", "python": supported[-1]}] == (
        _jobs(tests)["versions"]["strategy"]["matrix"]["include"]
    )
    assert all(">=" in requirement for requirement in project["dependencies"])


def test_concurrency_groups_differ() -> None:
    """Workflows that run together have different concurrency groups, compared case-insensitively as GitHub does."""
    groups = [_load_workflow(path)["concurrency"]["group"].lower() for path in WORKFLOWS]
    assert len(groups) == len(set(groups))
    assert not any("github.workflow" in group for group in groups)


def test_artifacts_have_provenance() -> None:
    """Wheel, sdist and image have provenance and an SBOM, and the image is built for both architectures."""
    (release,) = (path for path in WORKFLOWS if path.name == "release.yml")
    (image,) = _uses(release, "docker/build-push-action")
    assert "linux/amd64,linux/arm64" == image["with"]["platforms"]
    assert "push-by-digest=true" in image["with"]["outputs"]
    assert "tags" not in image["with"]
    assert ["ubuntu-24.04", "ubuntu-24.04-arm"] == _jobs(release)["verify"]["strategy"]["matrix"]["runner"]
    assert image["with"]["sbom"] is True
    assert "mode=max" == image["with"]["provenance"]
    provenance = [step["with"] for step in _uses(release, "actions/attest-build-provenance")]
    assert ["dist/*\nbuild/bundle/*\n"] == [inputs["subject-path"] for inputs in provenance if "subject-path" in inputs]
    assert [True, True] == [inputs["push-to-registry"] for inputs in provenance if "subject-name" in inputs]
    assert ["build/sbom.cdx.json"] == [step["with"]["sbom-path"] for step in _uses(release, "actions/attest-sbom")]
    assert not any("password" in step.get("with", {}) for step in _uses(release, "pypa/gh-action-pypi-publish"))


@pytest.mark.e2e
def test_zizmor_finds_nothing(require_tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Zizmor reports nothing with its strictest persona."""
    monkeypatch.setenv("PATH", f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    command = [require_tool("zizmor"), "--offline", "--no-progress", "--persona=auditor", "."]
    workflow = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "") == (workflow.returncode, "" if not workflow.returncode else workflow.stdout)


@pytest.mark.parametrize(
    "text",
    ["echo ${{ github.event.pull_request.title }}", "git switch ${{ github.head_ref }}", "${{ format(inputs.tag) }}"],
)
def test_patterns_match(text: str) -> None:
    """The patterns of these tests match what they look for."""
    assert UNTRUSTED_EXPRESSION.search(text)
    assert not PINNED.fullmatch("actions/checkout@v6")
    assert not PINNED.fullmatch("actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd")

"""The workflows: what they may do, and that nobody else's text or moved tag can make them do more."""

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
"""What whoever opens a pull request or names a branch chooses."""

WRITE_PERMISSIONS = {
    ("release.yml", "attest"): {"attestations", "id-token"},
    ("release.yml", "image"): {"attestations", "id-token", "packages"},
    ("release.yml", "publish"): {"id-token"},
    ("release.yml", "announce"): {"contents"},
}
"""The only jobs that may write, and what."""


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def path(request: pytest.FixtureRequest) -> Path:
    """Each workflow."""
    found: Path = request.param
    return found


def _load_workflow(path: Path) -> Document:
    """The workflow; YAML takes its key ``on`` for a truth value."""
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
    """There is one for changes, one for every day, and one for releases."""
    assert ["audit.yml", "ci.yml", "release.yml"] == [path.name for path in WORKFLOWS]


def test_actions_are_pinned(path: Path) -> None:
    """Every action is a commit, beside which its version stands: a tag can be moved."""
    used = re.findall(r"^\s*(?:- )?uses: (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert used
    assert [] == [action for action in used if not PINNED.fullmatch(action) and action.split()[0] != CI_WORKFLOW]


def test_an_action_has_one_version() -> None:
    """All workflows use the same commit of an action."""
    texts = "\n".join(path.read_text("utf-8") for path in WORKFLOWS)
    used = set(re.findall(r"uses: ([^@\s]+)@(\S+ # \S+)", texts))
    assert len(used) == len({action for action, _ in used})


def test_permissions(path: Path) -> None:
    """A workflow may nothing; a job may read the code, and what else it may is listed here."""
    assert {} == _load_workflow(path)["permissions"]
    for name, job in _jobs(path).items():
        granted = {scope for scope, access in job["permissions"].items() if access == "write"}
        assert WRITE_PERMISSIONS.get((path.name, name), set()) == granted
        others = {scope: access for scope, access in job["permissions"].items() if scope not in granted}
        assert others in ({}, {"contents": "read"})


def test_jobs_end(path: Path) -> None:
    """Every job has a time after which it is ended, and what was overtaken does not go on for long."""
    own = [job for job in _jobs(path).values() if job.get("uses") != CI_WORKFLOW]
    assert all(0 < job["timeout-minutes"] <= 45 for job in own)
    assert "github.ref" in _load_workflow(path)["concurrency"]["group"]


def test_a_release_is_not_interrupted() -> None:
    """A second tag does not end a release half way."""
    interrupted = {path.name: _load_workflow(path)["concurrency"]["cancel-in-progress"] for path in WORKFLOWS}
    assert {"audit.yml": True, "ci.yml": True, "release.yml": False} == interrupted


def test_nothing_is_triggered_with_the_rights_of_the_project(path: Path) -> None:
    """No workflow runs a stranger's code with more rights than the stranger has."""
    assert set(_load_workflow(path)["on"]) <= {"pull_request", "push", "schedule", "workflow_call"}


def test_no_credentials_are_left(path: Path) -> None:
    """The token for checking out is gone before anything of the repository runs."""
    assert all(step["with"]["persist-credentials"] is False for step in _uses(path, "actions/checkout"))


def test_no_foreign_text_becomes_code(path: Path) -> None:
    """What runs in a shell holds no expression at all, and no input of an action holds what a stranger may choose."""
    for step in _steps(path):
        assert "${{" not in step.get("run", "")
        assert not any(UNTRUSTED_EXPRESSION.search(str(value)) for value in step.get("with", {}).values())


def test_no_secret_but_the_token_of_the_run(path: Path) -> None:
    """There is no lasting secret to steal."""
    assert set(re.findall(r"secrets\.(\w+)", path.read_text("utf-8"))) <= {"GITHUB_TOKEN"}


def test_a_release_is_of_a_tag() -> None:
    """Only a tag with a version begins a release."""
    (release,) = (path for path in WORKFLOWS if path.name == "release.yml")
    assert {"push": {"tags": ["v*"]}} == _load_workflow(release)["on"]


def test_a_release_has_passed_every_test_and_an_approval() -> None:
    """Nothing is published before every test has passed and somebody has approved it."""
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
    """Workflows that run together are in groups of their own; GitHub does not tell large letters from small ones."""
    groups = [_load_workflow(path)["concurrency"]["group"].lower() for path in WORKFLOWS]
    assert len(groups) == len(set(groups))
    assert not any("github.workflow" in group for group in groups)


def test_what_is_published_says_where_it_is_from() -> None:
    """Wheel, sdist and image carry provenance and a list of what is in them; the image is for both kinds of machine."""
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
    """An auditor of workflows has nothing to object to, at its strictest."""
    monkeypatch.setenv("PATH", f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    command = [require_tool("zizmor"), "--offline", "--no-progress", "--persona=auditor", "."]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "") == (found.returncode, "" if not found.returncode else found.stdout)


@pytest.mark.parametrize(
    "text",
    ["echo ${{ github.event.pull_request.title }}", "git switch ${{ github.head_ref }}", "${{ format(inputs.tag) }}"],
)
def test_foreign_text_is_noticed(text: str) -> None:
    """What these tests look for is found where it is."""
    assert UNTRUSTED_EXPRESSION.search(text)
    assert not PINNED.fullmatch("actions/checkout@v6")
    assert not PINNED.fullmatch("actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd")

"""Release artifacts, versions, changelog and the vulnerability audit."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from late_exporter import __version__
from tests.e2e.program import run_command

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "late_exporter"
STEM = f"late_exporter-{__version__}"


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release, audit = (_script(name) for name in ("release", "audit"))


def _build(folder: Path, **env: str) -> Path:
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, check=False, capture_output=True).returncode:
        pytest.skip("not a git repository")
    run_command(ROOT / ".ci" / "dist", folder, env={"PATH": os.environ["PATH"], **env})
    return folder


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with wheel and sdist."""
    return _build(tmp_path_factory.mktemp("dist"))


@pytest.mark.e2e
def test_wheel_contains_only_the_package(dist: Path) -> None:
    """The wheel contains every file of the package, the assets and the licence, and nothing else."""
    package = {
        f"late_exporter/{path.relative_to(PACKAGE)}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    about = {f"{STEM}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    assert {"late_exporter/web/status_page.css", "late_exporter/py.typed"} <= package
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assets = {
        str(target / path.relative_to(ROOT / source))
        for source, target in ((source, Path(target)) for source, target in table["force-include"].items())
        for path in (ROOT / source, *(ROOT / source).rglob("*"))
        if path.is_file()
    }
    assert {
        "late_exporter/assets/systemd/late-exporter.service",
        "late_exporter/assets/grafana/late-overview.json",
    } <= assets
    with zipfile.ZipFile(dist / f"{STEM}-py3-none-any.whl") as archive:
        assert package | assets | about | {f"{STEM}.dist-info/licenses/LICENSE"} == {*archive.namelist()}


@pytest.mark.e2e
def test_sdist_contains_only_tracked_files(dist: Path) -> None:
    """The sdist contains tracked files only."""
    with tarfile.open(dist / f"{STEM}.tar.gz") as archive:
        sdist = {name.partition("/")[2] for name in archive.getnames()}
    assert sdist - {*run_command("git", "ls-files", "-z", cwd=ROOT).split("\0")} == {"PKG-INFO"}


@pytest.mark.e2e
def test_build_is_reproducible(dist: Path, tmp_path: Path) -> None:
    """The build is reproducible regardless of clock, time zone, locale and umask."""
    again = _build(tmp_path / "again", TZ="Pacific/Chatham", LC_ALL="C", HOME=str(tmp_path))
    digests = [
        {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} for folder in (dist, again)
    ]
    assert len(digests[0]) == 2
    assert digests[0] == digests[1]


@pytest.mark.e2e
def test_wheel_runs_with_the_pinned_packages(dist: Path, tmp_path: Path) -> None:
    """The program runs in a fresh environment with the pinned packages and the wheel."""
    run_command(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    install = [sys.executable, "-m", "pip", "--python", str(tmp_path / "venv"), "--disable-pip-version-check"]
    install += ["--no-input", "install", "--quiet", "--no-deps"]
    run_command(*install, "--require-hashes", "-r", ROOT / ".requirements" / "run.txt")
    run_command(*install, "--no-index", dist / f"{STEM}-py3-none-any.whl")
    program = tmp_path / "venv" / "bin" / "late-exporter"
    assert __version__ in run_command(program, "--version", cwd=tmp_path, env={})
    code = (
        "import late_exporter.commands.run; from late_exporter.web.findings import StatusDocument; "
        "from late_exporter.web.status_page import render_page; "
        "render_page(StatusDocument(version='', now=0.0, workspaces=()), set(), ['/metrics'])"
    )
    assert run_command(program.with_name("python"), "-c", code, cwd=tmp_path, stderr=subprocess.STDOUT) == ""
    from_wheel, from_source = (
        run_command(*command, "assets", tmp_path / folder, cwd=cwd, env={}).splitlines()
        for command, folder, cwd in (
            ([program], "wheel", tmp_path),
            ([sys.executable, "-m", "late_exporter"], "source", ROOT),
        )
    )
    contents = [[Path(name).read_bytes() for name in names] for names in (from_wheel, from_source)]
    assert len(from_wheel) > 10
    assert contents[0] == contents[1]


def test_archives_of_rules_and_dashboards(tmp_path: Path) -> None:
    """The archives have all rules with their runbooks, and all dashboards with their ids.

    They are reproducible, and link the documents of their version.
    """
    for folder in ("first", "second"):
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        run_command(sys.executable, ".ci/bundle.py", tmp_path / folder, cwd=ROOT, env=environment)
    contents = {}
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
        with tarfile.open(path) as archive:
            files = {name.partition("/")[2]: archive.extractfile(name) for name in archive.getnames()}
            contents[path.name.split("-")[2]] = {name: file.read() for name, file in files.items() if file}
    rules = contents["rules"]
    assert {"prometheus/late-exporter.rules.yml", "alertmanager/alertmanager.yml", "LICENSE"} <= rules.keys()
    assert "prometheus/runbooks/LatePostStuck.md" in rules
    assert [name for name in rules if "secrets" in name] == []
    links = ("/blob/main/", f"/blob/v{__version__}/")
    alerts = (ROOT / "deploy/prometheus/late-exporter.alerts.yml").read_text("utf-8")
    assert rules["prometheus/late-exporter.alerts.yml"].decode() == alerts.replace(*links)
    dashboards = {name: json.loads(text) for name, text in contents["dashboards"].items()}
    assert {path.name for path in (ROOT / "grafana/dashboards").glob("*.json")} == dashboards.keys()
    ids = json.loads((ROOT / "grafana/grafana-com.json").read_text("utf-8"))
    for name, dashboard in dashboards.items():
        text = (ROOT / "grafana/dashboards" / name).read_text("utf-8")
        original = json.loads(text.replace(*links))
        assert original == {key: dashboard[key] for key in original}
        assert (ids[original["uid"]], None) == (dashboard["gnetId"], dashboard["id"])
        required = {row["id"] for row in dashboard["__requires"]}
        assert {"grafana", "prometheus", *(panel["type"] for panel in original["panels"])} - {"row"} <= required


NOTES = f"""# Changelog

## [Unreleased]

## [{__version__}] - 2026-11-24

### Added

- Much.

## [0.0.1] - 2026-01-01
"""


def test_release_notes() -> None:
    """The release notes are the changelog section of the version."""
    assert release.notes(f"v{__version__}", __version__, NOTES) == "### Added\n\n- Much."


@pytest.mark.parametrize(
    ("tag", "changelog", "message"),
    [
        ("v9.9.9", NOTES, "the tag is v9.9.9"),
        (f"v{__version__}", "## [Unreleased]\n", "must have exactly one section"),
        (f"v{__version__}", NOTES + NOTES, "must have exactly one section"),
        (f"v{__version__}", f"## [{__version__}] - 2026-11-24\n\n## [0.0.1] - 2026-01-01\n", "is empty"),
    ],
)
def test_release_is_refused(tag: str, changelog: str, message: str) -> None:
    """A release is refused if tag, version and changelog disagree."""
    with pytest.raises(ValueError, match=message):
        release.notes(tag, __version__, changelog)


@pytest.mark.parametrize(
    ("tag", "tags"),
    [
        ("v1.10.0", ["1.10.0", "1.10", "latest"]),
        ("v1.9.3", ["1.9.3", "1.9"]),
        ("v1.9.1", ["1.9.1"]),
        ("v2.0.0rc1", ["2.0.0rc1"]),
    ],
)
def test_tags_of_an_image(tag: str, tags: list[str]) -> None:
    """Only the newest release is the latest one, and the newest of a series has its tag; no candidate has either."""
    assert release.image_tags(tag, ["v1.9.0", "v1.9.2", "v1.10.0", "v2.0.0rc1", tag]) == tags


def _package(**fields: Any) -> dict[str, Any]:
    return {"name": "yarn", "version": "1.0", "vulns": [], **fields}


@pytest.mark.parametrize(
    ("exit_code", "result", "message"),
    [
        (0, [_package()], "no known vulnerability in 1 packages"),
        (1, [_package(vulns=[{"id": "PYSEC-1", "fix_versions": ["1.1"]}])], "yarn 1.0: PYSEC-1, fixed in 1.1"),
        (1, [_package(vulns=[{"id": "PYSEC-1", "fix_versions": []}])], "fixed in no version yet"),
        (75, "no route", "NOT AUDITED, the advisory service could not be reached: no route"),
    ],
)
def test_audit_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, exit_code: int, result: object, message: str
) -> None:
    """The exit code of the audit reflects vulnerabilities and unavailable services."""
    monkeypatch.setattr(audit, "audit_file", lambda _: result)
    assert exit_code == audit.main()
    assert message in capsys.readouterr().out

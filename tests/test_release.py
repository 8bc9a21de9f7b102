"""What is released: the files, the bytes, the version, and that the advisories are asked."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from late_exporter import __version__

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


release, audit = _script("release"), _script("audit")


def _build(folder: Path, **env: str) -> Path:
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, check=False, capture_output=True).returncode:
        pytest.skip("not a git repository")
    command = [str(ROOT / ".ci" / "dist"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"], **env})
    return folder


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist."""
    return _build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(dist: Path) -> set[str]:
    """The files in the wheel."""
    with zipfile.ZipFile(dist / f"{STEM}-py3-none-any.whl") as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def sdist(dist: Path) -> set[str]:
    """The files in the sdist, below its own folder."""
    with tarfile.open(dist / f"{STEM}.tar.gz") as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.mark.e2e
def test_the_wheel_is_the_package_and_nothing_else(wheel: set[str]) -> None:
    """The wheel holds every file of the package, the licence, and no test, tool or cache."""
    package = {
        f"late_exporter/{path.relative_to(PACKAGE)}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    about = {f"{STEM}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    assert {"late_exporter/web/landing.css", "late_exporter/py.typed"} <= package
    assert package | about | {f"{STEM}.dist-info/licenses/LICENSE"} == wheel


@pytest.mark.e2e
def test_the_sdist_holds_what_it_takes_to_build_and_test(sdist: set[str]) -> None:
    """The sdist holds sources, tests, tools, pins and documents."""
    wanted = {
        ".ci/run",
        ".requirements/run.txt",
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "late_exporter/web/landing.css",
        "late_exporter/py.typed",
        "pyproject.toml",
        "tests/conftest.py",
    }
    assert set() == wanted - sdist


@pytest.mark.e2e
def test_the_sdist_holds_only_what_git_tracks(sdist: set[str]) -> None:
    """No key, state, cache or other file that lies about gets into the sdist."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    assert {"PKG-INFO"} == sdist - set(tracked.split("\0"))


@pytest.mark.e2e
def test_a_build_can_be_repeated(dist: Path, tmp_path: Path) -> None:
    """The same commit gives the same bytes, whatever the clock, the time zone and the mask of the user are."""
    again = _build(tmp_path / "again", TZ="Pacific/Chatham", LC_ALL="C", HOME=str(tmp_path))
    digests = [
        {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} for folder in (dist, again)
    ]
    assert 2 == len(digests[0])
    assert digests[0] == digests[1]


@pytest.mark.e2e
def test_the_wheel_runs_on_the_pins_alone(dist: Path, tmp_path: Path) -> None:
    """A fresh environment with the pinned hashes and the wheel runs the program."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    install = [sys.executable, "-m", "pip", "--python", str(tmp_path / "venv"), "--disable-pip-version-check"]
    install += ["--no-input", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--require-hashes", "-r", str(ROOT / ".requirements" / "run.txt")], check=True)
    subprocess.run([*install, "--no-index", str(dist / f"{STEM}-py3-none-any.whl")], check=True)
    program = tmp_path / "venv" / "bin" / "late-exporter"
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True, cwd=tmp_path, env={})
    assert __version__ in said.stdout
    code = (
        "import late_exporter.commands.run; from late_exporter.web.landing import render_page; "
        "render_page([], now=0.0, version='', telemetry_path='/metrics', documentation='')"
    )
    checked = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (0, "") == (checked.returncode, checked.stderr)


NOTES = f"""# Changelog

## [Unreleased]

## [{__version__}] - 2026-11-24

### Added

- Much.

## [0.0.1] - 2026-01-01
"""


def test_the_notes_of_a_release() -> None:
    """The page of a release says what the changelog says of it."""
    assert "### Added\n\n- Much." == release.notes(f"v{__version__}", __version__, NOTES)


@pytest.mark.parametrize(
    ("tag", "changelog", "words"),
    [
        ("v9.9.9", NOTES, "the tag is v9.9.9"),
        (__version__, NOTES, "the tag is"),
        (f"v{__version__}", "## [Unreleased]\n", "must have one section"),
        (f"v{__version__}", NOTES + NOTES, "must have one section"),
        (f"v{__version__}", f"## [{__version__}] - 2026-11-24\n\n## [0.0.1] - 2026-01-01\n", "says nothing"),
    ],
)
def test_no_release(tag: str, changelog: str, words: str) -> None:
    """There is no release where tag, version and changelog disagree."""
    with pytest.raises(ValueError, match=words):
        release.notes(tag, __version__, changelog)


def test_the_changelog_is_ready() -> None:
    """The version of the program could be released."""
    assert release.notes(f"v{__version__}", __version__, (ROOT / "CHANGELOG.md").read_text("utf-8"))


def _package(**facts: Any) -> dict[str, Any]:
    return {"name": "yarn", "version": "1.0", "vulns": [], **facts}


@pytest.mark.parametrize(
    ("code", "answer", "words"),
    [
        (0, [_package()], "no known vulnerability in 1 packages"),
        (1, [_package(vulns=[{"id": "PYSEC-1", "fix_versions": ["1.1"]}])], "yarn 1.0: PYSEC-1, fixed in 1.1"),
        (1, [_package(vulns=[{"id": "PYSEC-1", "fix_versions": []}])], "fixed in no version yet"),
        (75, "no route", "NOT AUDITED, the advisory service could not be asked: no route"),
    ],
)
def test_the_verdict_of_an_audit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: int, answer: object, words: str
) -> None:
    """What nobody could be asked about is not taken for safe."""
    monkeypatch.setattr(audit, "ask", lambda _: answer)
    assert code == audit.main()
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            json.dumps({"dependencies": [{"name": "yarn", "skip_reason": "unknown"}]}),
            "1 of 1 packages, as yarn: unknown",
        ),
        ("", "no route"),
    ],
)
def test_an_audit_without_an_answer(monkeypatch: pytest.MonkeyPatch, said: str, reason: str) -> None:
    """A package that the service does not know was not audited, and nor was anything where there is no service."""
    done = subprocess.CompletedProcess([], 1, said, "Traceback\nno route\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert reason == audit.ask(ROOT / ".requirements" / "run.txt")


@pytest.mark.e2e
def test_no_pinned_package_has_a_known_vulnerability() -> None:
    """The advisory service knows of none; where it cannot be reached, that is no fault of the change being tested."""
    subprocess.run([ROOT / ".ci" / "venv", "audit"], check=True, capture_output=True)
    asked = subprocess.run([sys.executable, ROOT / ".ci" / "audit.py"], check=False, capture_output=True, text=True)
    if asked.returncode == audit.UNASKED:
        pytest.skip(asked.stdout.partition("\n")[0])
    assert (0, "") == (asked.returncode, "" if not asked.returncode else asked.stdout)

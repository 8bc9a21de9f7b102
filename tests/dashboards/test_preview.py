"""The preview uses pinned dependencies with acceptable licences, and its pictures exist."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.dashboards.screenshots import DASHBOARDS, PICTURES, PREVIEW, THEMES
from tests.e2e.program import run_command

MAX_PICTURE_BYTES = 300_000
"""Maximum size of a picture; the repository keeps every version of it."""


def test_dependencies_are_pinned() -> None:
    """Dependencies are pinned, and the lock file has no registry URLs and no AGPL packages."""
    dependencies = json.loads((PREVIEW / "package.json").read_text("utf-8"))["dependencies"]
    lock_packages = json.loads((PREVIEW / "package-lock.json").read_text("utf-8"))["packages"]
    assert [name for name, version in dependencies.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []
    assert [name for name, package in lock_packages.items() if "resolved" in package] == []
    assert [name for name, package in lock_packages.items() if "AGPL" in str(package.get("license"))] == []


@pytest.mark.e2e
@pytest.mark.thorough
def test_preview_type_checks(require_tool: Callable[[str], str]) -> None:
    """The TypeScript compiler accepts the preview."""
    compiler = require_tool(str(PREVIEW / "node_modules" / ".bin" / "tsc"))
    assert run_command(compiler, "--noEmit", cwd=PREVIEW) == ""


def test_every_dashboard_has_pictures() -> None:
    """There are a dark and a light picture of each dashboard, none too large, and no others."""
    sizes = {picture.stem: picture.stat().st_size for picture in PICTURES.iterdir()}
    assert sizes.keys() == {f"{uid}-{theme}" for uid in DASHBOARDS for theme in THEMES}
    assert [name for name, size in sizes.items() if size > MAX_PICTURE_BYTES] == []

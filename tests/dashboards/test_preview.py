"""The preview is made of what may be used, at versions that stay, and its pictures are there."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable

import pytest

from tests.dashboards.stage import DASHBOARDS, PREVIEW, ROOT

PICTURES = ROOT / "grafana" / "screenshots"
LARGEST = 300_000
"""Bytes of a picture: the repository keeps every version of it."""


def test_versions_stay() -> None:
    """Every dependency is pinned, and the lock file names neither a registry nor what is AGPL."""
    wanted = json.loads((PREVIEW / "package.json").read_text("utf-8"))["dependencies"]
    locked = json.loads((PREVIEW / "package-lock.json").read_text("utf-8"))["packages"]
    assert [] == [name for name, version in wanted.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)]
    assert {"13.2.2"} == {version for name, version in wanted.items() if name.startswith("@grafana/")}
    assert [] == [name for name, package in locked.items() if "resolved" in package]
    assert [] == [name for name, package in locked.items() if "AGPL" in str(package.get("license"))]
    assert "node_modules/@grafana/prometheus" not in locked


@pytest.mark.e2e
def test_types(require_tool: Callable[[str], str]) -> None:
    """The preview's types are right."""
    compiler = require_tool(str(PREVIEW / "node_modules" / ".bin" / "tsc"))
    checked = subprocess.run([compiler, "--noEmit"], cwd=PREVIEW, capture_output=True, text=True, check=False)
    assert (0, "") == (checked.returncode, checked.stdout)


def test_pictures() -> None:
    """There is a picture of each dashboard, dark and light, none too large, and no other."""
    sizes = {picture.stem: picture.stat().st_size for picture in PICTURES.iterdir()}
    assert {f"{uid}-{theme}" for uid in DASHBOARDS for theme in ("dark", "light")} == sizes.keys()
    assert [] == [name for name, size in sizes.items() if size > LARGEST]

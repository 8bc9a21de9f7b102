"""The monitoring mixin rejects what would have no effect."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MISSPELT = """
local late = (import 'grafana/mixin.libsonnet') {
  _config+:: { exclude: ['LatePostOverdue'] },
};
late.prometheusAlerts
"""


@pytest.mark.e2e
def test_an_unknown_alert_cannot_be_excluded(require_tool: Callable[[str], str]) -> None:
    """A misspelt name is an error that lists the alerts, because its alert would fire on."""
    command = [require_tool("jsonnet"), "-e", MISSPELT]
    process = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert process.returncode == 1
    message = "_config.exclude: there is no alert LatePostOverdue; the alerts are LateAccount"
    assert message in process.stderr

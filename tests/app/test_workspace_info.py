"""The labels of the configuration file, as an info metric."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from late_exporter.app.exporter import WorkspaceInfo
from late_exporter.config.settings import Workspace


@pytest.mark.parametrize(
    ("labels", "lines"),
    [((), []), ((("team", 'b"x'),), [r'late_workspace_info{team="b\"x",workspace="a"} 1.0'])],
)
def test_labels_of_workspaces(labels: tuple[tuple[str, str], ...], lines: list[str]) -> None:
    """A workspace with labels has a series; without any there is no metric."""
    workspace = Workspace("a", "https://zernio.com/api", labels=labels)
    text = generate_latest(WorkspaceInfo(lambda: {"a": workspace})).decode()
    assert lines == [line for line in text.splitlines() if not line.startswith("#")]

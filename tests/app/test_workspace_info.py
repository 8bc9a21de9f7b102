"""The labels of the configuration file, as an info metric."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from late_exporter.app.exporter import WorkspaceInfo
from late_exporter.config.settings import Workspace

URL = "https://zernio.com/api"


@pytest.mark.parametrize(
    ("workspaces", "lines"),
    [
        ([Workspace("a", URL)], []),
        (
            [
                Workspace("a", URL, labels=(("team", 'b"x'),)),
                Workspace("b", URL, labels=(("tier", "gold"),)),
                Workspace("c", URL),
            ],
            [
                r'late_workspace_info{team="b\"x",workspace="a"} 1.0',
                'late_workspace_info{tier="gold",workspace="b"} 1.0',
            ],
        ),
    ],
)
def test_labels_of_workspaces(workspaces: list[Workspace], lines: list[str]) -> None:
    """A workspace with labels has a series; without any there is no metric."""
    text = generate_latest(WorkspaceInfo(lambda: {each.name: each for each in workspaces})).decode()
    assert lines == [line for line in text.splitlines() if not line.startswith("#")]

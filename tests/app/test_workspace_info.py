"""The labels of the configuration file, as an info metric."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest
from prometheus_client.registry import Collector

from late_exporter.app.workspace_info import collect_workspace_info
from late_exporter.config.settings import Workspace

URL = "https://zernio.com/api"


class Workspaces(Collector):
    """Collector of the info metric of some workspaces."""

    def __init__(self, *workspaces: Workspace) -> None:
        self.workspaces = workspaces

    def collect(self) -> list[object]:  # type: ignore[override]
        return [*collect_workspace_info(self.workspaces)]


@pytest.mark.parametrize(
    ("workspaces", "lines"),
    [
        ([Workspace("a", URL)], []),
        (
            [Workspace("a", URL, labels=(("team", 'b"x'),)), Workspace("b", URL, labels=(("tier", "gold"),))],
            [
                r'late_workspace_info{team="b\"x",tier="",workspace="a"} 1.0',
                'late_workspace_info{team="",tier="gold",workspace="b"} 1.0',
            ],
        ),
    ],
)
def test_labels_of_workspaces(workspaces: list[Workspace], lines: list[str]) -> None:
    """All workspaces have the same labels; without any there is no metric."""
    text = generate_latest(Workspaces(*workspaces)).decode()
    assert lines == [line for line in text.splitlines() if not line.startswith("#")]

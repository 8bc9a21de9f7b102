"""The labels of the configuration file, as an info metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from late_exporter.config.settings import Workspace

WORKSPACE_INFO = "late_workspace_info"


class WorkspaceInfo(Collector):
    """Collector of the info metric of those workspaces that have labels."""

    def __init__(self, workspaces: Callable[[], Iterable[Workspace]]) -> None:
        self._workspaces = workspaces

    def collect(self) -> Iterator[Metric]:
        """Yield the info metric, unless no workspace has labels."""
        metric = Metric(WORKSPACE_INFO, "1, labelled with the labels of a workspace in the configuration.", "gauge")
        for workspace in self._workspaces():
            if workspace.labels:
                metric.add_sample(WORKSPACE_INFO, {"workspace": workspace.name, **dict(workspace.labels)}, 1)
        if metric.samples:
            yield metric

"""The labels of the configuration file, as an info metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from late_exporter.config.settings import Workspace

WORKSPACE_INFO = "late_workspace_info"


def collect_workspace_info(workspaces: Sequence[Workspace]) -> Iterator[Metric]:
    """Yield the info metric, unless no workspace has labels; a label that a workspace lacks is empty."""
    names = sorted({name for workspace in workspaces for name, _ in workspace.labels})
    if not names:
        return
    family = GaugeMetricFamily(
        WORKSPACE_INFO, "1, labelled with the labels of a workspace in the configuration.", labels=["workspace", *names]
    )
    for workspace in workspaces:
        labels = dict(workspace.labels)
        family.add_metric([workspace.name, *(labels.get(name, "") for name in names)], 1)
    yield family

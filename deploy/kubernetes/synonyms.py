"""Names that other charts give to values, which the chart accepts too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

__all__ = ["SYNONYMS", "UNUSED_VALUES", "synonyms_markdown", "synonyms_yaml"]

SYNONYMS: tuple[tuple[str, str], ...] = (
    # Sections first, because what they contain may have synonyms.
    ("serviceMonitor.defaults", "serviceMonitor"),
    ("serviceMonitor.selfMonitor", "serviceMonitor"),
    ("podMonitoring.defaults", "podMonitoring"),
    ("podMonitoring.selfMonitor", "podMonitoring"),
    ("dashboards", "grafanaDashboards"),
    ("dashboard", "grafanaDashboards"),
    ("args", "extraArgs"),
    ("env", "extraEnv"),
    ("extraEnvs", "extraEnv"),
    ("extraEnvVars", "extraEnv"),
    ("envFrom", "extraEnvFrom"),
    ("extraEnvFromSecret", "extraEnvFrom"),
    ("volumes", "extraVolumes"),
    ("volumeMounts", "extraVolumeMounts"),
    ("sidecars", "extraContainers"),
    ("extraInitContainers", "initContainers"),
    ("extraDeploy", "extraManifests"),
    ("extraObjects", "extraManifests"),
    ("image.pullSecrets", "imagePullSecrets"),
    ("customLabels", "commonLabels"),
    ("replicaCount", "replicas"),
    ("deploymentAnnotations", "annotations"),
    ("deployment.annotations", "annotations"),
    ("containerSecurityContext", "securityContext"),
    ("labels", "podLabels"),
    ("pod.labels", "podLabels"),
    ("persistence.storageClass", "persistence.storageClassName"),
    ("persistence.accessMode", "persistence.accessModes"),
    *(
        (f"{monitor}.{name}", f"{monitor}.{value}")
        for monitor in ("serviceMonitor", "podMonitor", "podMonitoring")
        for name, value in (
            ("additionalLabels", "labels"),
            ("timeout", "scrapeTimeout"),
            ("additionalRelabeling", "relabelings"),
            ("additionalMetricsRelabels", "metricRelabelings"),
        )
        if (monitor, value) != ("podMonitoring", "relabelings")
    ),
    ("serviceMonitor.telemetryPath", "config.web.telemetry_path"),
    ("serviceMonitor.path", "config.web.telemetry_path"),
    ("podMonitoring.path", "config.web.telemetry_path"),
    ("prometheusRule.additionalLabels", "prometheusRule.labels"),
)
"""Path of a synonym, and path of the value that it stands for. Lists are joined, and maps merged."""

DISABLED = {"type": "object", "properties": {"enabled": {"const": False}}}
NO_API = "no effect: the exporter does not use the API of Kubernetes"
FIXED_PORT = "no effect: the port of the container is fixed, and called `metrics`"

UNUSED_VALUES: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "enabled": ({"type": "boolean"}, "no effect: for the `condition` of a chart that depends on this one"),
    "kind": (
        {"enum": ["StatefulSet", "Deployment"]},
        "no effect: it is a Deployment if `state.url` is set, and a StatefulSet otherwise",
    ),
    "strategy": ({"type": "object"}, "no effect: it follows from `state.url` and `replicas`"),
    "restartPolicy": ({"const": "Always"}, "must be `Always`"),
    "command": ({"type": "array", "maxItems": 0}, "must be empty: the image has a command"),
    "rbac": ({"type": "object"}, NO_API),
    "automountServiceAccountToken": (
        {"const": False},
        "must be false: the exporter does not use the API of Kubernetes",
    ),
    "serviceAccount.automountServiceAccountToken": ({"const": False}, "must be false, as above"),
    "serviceMonitor.apiVersion": ({"const": "monitoring.coreos.com/v1"}, "must be `monitoring.coreos.com/v1`"),
    "apiKey.value": ({"type": "string"}, "must be empty: values are stored with the release, so keys are in a Secret"),
    "containerPort": ({"type": "integer"}, FIXED_PORT),
    "hostPort": ({"const": 0}, "must be 0"),
    "service.targetPort": ({"type": ["integer", "string"]}, FIXED_PORT),
    "service.name": ({"type": "string"}, FIXED_PORT),
    "service.portName": ({"type": "string"}, FIXED_PORT),
    "podDisruptionBudget.enabled": (
        {"type": "boolean"},
        "if false, there is none; if true, set `minAvailable` or `maxUnavailable`",
    ),
    "serviceMonitor.jobLabel": ({"type": "string"}, "no effect: set `job`"),
    "serviceMonitor.scheme": ({"type": "string"}, "no effect: `webConfig` decides it"),
    "podMonitoring.scheme": ({"type": "string"}, "no effect: `webConfig` decides it"),
    "serviceMonitor.targets": ({"type": "array", "maxItems": 0}, "must be empty: the exporter has `workspaces`"),
    "podMonitoring.targets": ({"type": "array", "maxItems": 0}, "must be empty: the exporter has `workspaces`"),
    "serviceMonitor.multipleTarget": ({"const": False}, "must be false: the exporter has `workspaces`"),
    "networkPolicy.allowMonitoringNamespace": ({"type": "boolean"}, "no effect: set `networkPolicy.namespaces`"),
    "ingress": ({"type": "object"}, "must not be enabled: metrics are not public"),
    "verticalPodAutoscaler": (DISABLED, "must not be enabled: use `extraManifests`"),
    "configReloader": (DISABLED, "must not be enabled: the exporter itself reads files again that have changed"),
}
"""Schema of values of other charts that are accepted without need, with the reason."""


def synonyms_yaml() -> str:
    """Return the synonyms as the templates read them, in their order."""
    return yaml.safe_dump([{"name": name, "value": value} for name, value in SYNONYMS], sort_keys=False)


def synonyms_markdown() -> str:
    """Return the table of the names of other charts in Markdown."""
    rows = ["| name | here |", "|---|---|", *(f"| `{name}` | `{value}` |" for name, value in SYNONYMS)]
    return "\n".join([*rows, *(f"| `{name}` | {reason} |" for name, (_, reason) in UNUSED_VALUES.items())])

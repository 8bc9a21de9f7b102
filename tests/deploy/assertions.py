"""Assertions that hold for every rendered chart and for the plain manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import trustme

from late_exporter.metrics.catalogue import CATALOGUE
from tests.deploy.manifests import (
    VERSIONS,
    Manifest,
    container_spec,
    find_resource,
    find_workload,
    load_settings,
    pod_spec,
    volumes_by_path,
)

SAME_IN_EVERY_POD = [
    {"sourceLabels": ["workspace"], "regex": ".+", "targetLabel": label, "replacement": replacement}
    for label, replacement in (("instance", "late-exporter"), ("pod", ""))
]
"""Relabelings by which another pod shows the same series of a workspace, but other series of its process."""

OPERATOR_LABELS = {"container", "endpoint", "instance", "job", "namespace", "pod", "service"}
"""Target labels set by Prometheus Operator."""

POD_SECURITY = {
    "fsGroup": 65532,
    "fsGroupChangePolicy": "OnRootMismatch",
    "runAsGroup": 65532,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
"""What the restricted profile of Kubernetes needs, and that only volumes can be written."""

CUSTOM_RESOURCES = {"ServiceMonitor", "PrometheusRule"}
"""Kinds whose schemas are not available offline."""


def assert_sound(resources: Sequence[Manifest]) -> None:
    """Assert that a deployment is one restricted exporter with matching selectors, which Kubernetes accepts."""
    assert_valid(resources)
    assert_restricted(resources)
    assert_one_writer(resources)
    assert_selectors(resources)


def assert_valid(resources: Sequence[Manifest]) -> None:
    """Assert that built-in resources match the schemas of the oldest and the newest version, without unknown fields."""
    for resource in resources:
        if resource["kind"] not in CUSTOM_RESOURCES:
            for version in VERSIONS:
                kubernetes_validate.validate(resource, version, strict=True)


def assert_restricted(resources: Sequence[Manifest]) -> None:
    """Assert that the pod fulfils the restricted profile, writes to its own volumes only, and has no API access."""
    spec = pod_spec(resources)
    assert spec["securityContext"] == POD_SECURITY
    assert container_spec(resources)["securityContext"] == CONTAINER_SECURITY
    assert spec.keys() & {"hostNetwork", "hostPID", "hostIPC"} == set()
    assert {key for volume in spec["volumes"] for key in volume} & {"hostPath", "nfs"} == set()
    state = {"/var/lib/late-exporter"} if find_workload(resources)["kind"] == "StatefulSet" else set[str]()
    mounts = container_spec(resources)["volumeMounts"]
    writable_paths = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    assert writable_paths == {"/tmp", *state}  # noqa: S108 - an expected value
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    assert find_resource(resources, "ServiceAccount")["automountServiceAccountToken"] is False
    assert find_resource(resources, "ServiceAccount")["metadata"]["name"] == spec["serviceAccountName"]
    assert container_spec(resources)["resources"]["limits"].keys() == {"memory"}
    secrets = [volume["secret"] for volume in volumes_by_path(resources).values() if "secret" in volume]
    assert {secret["defaultMode"] for secret in secrets} == {0o440}
    assert [resource for resource in resources if resource["kind"] == "Secret"] == []


def assert_one_writer(resources: Sequence[Manifest]) -> None:
    """Assert that each state has one pod that stops before its replacement starts, unless the pods are replicas.

    A single pod is a replica, too: without it, the pods that replace it when there are to be more would not start.
    """
    workload = find_workload(resources)
    spec = workload["spec"]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > 5
    environment = {row["name"]: row.get("value", "") for row in container_spec(resources)["env"]}
    if workload["kind"] == "Deployment":
        assert (environment["LATE_EXPORTER_STATE__REPLICAS"], spec["strategy"]["type"]) == ("true", "RollingUpdate")
        return
    (claim,) = spec["volumeClaimTemplates"]
    assert spec["replicas"] == 1
    assert (spec["updateStrategy"]["type"], spec["podManagementPolicy"]) == ("RollingUpdate", "Parallel")
    assert claim["spec"]["accessModes"] in (["ReadWriteOnce"], ["ReadWriteOncePod"])


def assert_probes(resources: Sequence[Manifest]) -> None:
    """Assert that probes check liveness and never readiness, so that scrapes always reach the exporter."""
    spec = container_spec(resources)
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert spec[name]["httpGet"] == {"path": "/-/healthy", "port": "metrics"}, name


def assert_selectors(resources: Sequence[Manifest]) -> None:
    """Assert that all selectors match the exporter's pod and use an existing port."""
    workload = find_workload(resources)
    spec = workload["spec"]
    labels = spec["template"]["metadata"]["labels"]
    service = find_resource(resources, "Service")
    policies = [resource for resource in resources if resource["kind"] == "NetworkPolicy"]
    for selector in (
        spec["selector"]["matchLabels"],
        service["spec"]["selector"],
        *(policy["spec"]["podSelector"]["matchLabels"] for policy in policies),
    ):
        assert selector.items() <= labels.items()
    assert [port["name"] for port in container_spec(resources)["ports"]] == ["metrics"]
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["metrics"]
    for policy in policies:
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == {"metrics"}
    for monitor in resources:
        if monitor["kind"] == "ServiceMonitor":
            assert_scrape_config(monitor, service)


def assert_scrape_config(monitor: Manifest, service: Manifest) -> None:
    """Assert that the job name matches the rules, and that no target label hides a metric label."""
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (scrape,) = monitor["spec"]["endpoints"]
    assert scrape["port"] == "metrics"
    assert re.fullmatch("late|late-.*", scrape["relabelings"][0]["replacement"])
    assert scrape["metricRelabelings"][:2] == SAME_IN_EVERY_POD
    metric_labels = {label for family in CATALOGUE.values() for label in family.labels}
    assert metric_labels & OPERATOR_LABELS == set()


def certificates() -> dict[str, str]:
    """Return the contents of a Secret created by cert-manager."""
    authority = trustme.CA()
    certificate = authority.issue_cert("late-exporter")
    return {
        "ca.crt": authority.cert_pem.bytes().decode(),
        "tls.crt": "".join(part.bytes().decode() for part in certificate.cert_chain_pems),
        "tls.key": certificate.private_key_pem.bytes().decode(),
    }


def assert_web_config(resources: Sequence[Manifest], root: Path, secrets: dict[str, dict[str, str]]) -> None:
    """Assert that the program finds its web configuration and the certificate in it, and lets the probes in."""
    settings = load_settings(resources, root, secrets)
    assert settings.web_config.ssl_context is not None
    assert settings.web.unauthenticated_paths == ("/-/healthy",)
    assert {"web.yml", "tls.crt", "tls.key"} <= {file.name for file in settings.web_config.files}

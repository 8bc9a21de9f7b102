"""Assertions that hold for the kustomize manifests and for the Helm chart."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trustme
import yaml

from deploy.kubernetes.files import DASHBOARDS, RULES
from late_exporter.metrics.catalogue import CATALOGUE
from tests.deploy.manifests import (
    VERSIONS,
    Manifest,
    container_spec,
    find_resource,
    find_workload,
    load_settings,
    parse_documents,
    pod_spec,
    profile_violations,
    volumes_by_path,
)

__all__ = [
    "CUSTOM_RESOURCES",
    "MONITORS",
    "OTHER_MONITORS",
    "assert_dashboards",
    "assert_one_writer",
    "assert_probes",
    "assert_restricted",
    "assert_rules",
    "assert_same_in_every_pod",
    "assert_scrape_config",
    "assert_selectors",
    "assert_valid",
    "assert_web_config",
    "certificates",
    "check_rules",
]

MONITORS = {"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}
"""Monitor kinds of Prometheus Operator, with the field that lists their scrapes."""

OTHER_MONITORS = {"VMServiceScrape": "endpoints", "PodMonitoring": "endpoints"}
"""Those of VictoriaMetrics and Google Cloud."""

OPERATOR_LABELS = {"container", "endpoint", "instance", "job", "namespace", "pod", "service"}
"""Target labels set by Prometheus Operator."""

CUSTOM_RESOURCES = {*MONITORS, *OTHER_MONITORS, "PrometheusRule", "VMRule", "HTTPRoute", "GrafanaDashboard"}
"""Kinds whose schemas are not available offline."""

MAX_APPLY_BYTES = 1 << 18
"""Size limit of annotations; ``kubectl apply`` stores the whole object in one."""


def assert_valid(text: str, folder: Path) -> None:
    """Assert that built-in resources match the schemas of the oldest and the newest version, without unknown fields."""
    file = folder / "manifests.yaml"
    builtin = [document for document in parse_documents(text) if document["kind"] not in CUSTOM_RESOURCES]
    file.write_text(yaml.safe_dump_all(builtin), "utf-8")
    program = Path(sys.executable).parent / "kubernetes-validate"
    for version in VERSIONS:
        command: list[str | Path] = [program, "--strict", "--kubernetes-version", version, file]
        process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        output = process.stdout + process.stderr
        assert (0, len(builtin)) == (process.returncode, output.count(" passed for resource ")), output


def assert_restricted(resources: Sequence[Manifest]) -> None:
    """Assert that the pod fulfils the restricted profile, writes to its own volumes only, and has no API access."""
    spec = pod_spec(resources)
    assert [] == profile_violations(spec)
    assert spec["securityContext"]["runAsUser"] > 0
    assert container_spec(resources)["securityContext"]["readOnlyRootFilesystem"] is True
    state = {"/var/lib/late-exporter"} if find_workload(resources)["kind"] == "StatefulSet" else set[str]()
    assert {"/tmp", *state} == {  # noqa: S108 - a mount path
        mount["mountPath"] for mount in container_spec(resources)["volumeMounts"] if not mount.get("readOnly")
    }
    assert (False, False) == (spec["automountServiceAccountToken"], spec["enableServiceLinks"])
    assert find_resource(resources, "ServiceAccount")["automountServiceAccountToken"] is False
    assert find_resource(resources, "ServiceAccount")["metadata"]["name"] == spec["serviceAccountName"]
    assert {"memory"} == container_spec(resources)["resources"]["limits"].keys()
    secrets = [volume["secret"] for volume in volumes_by_path(resources).values() if "secret" in volume]
    assert {0o440} == {secret["defaultMode"] for secret in secrets}
    assert [] == [resource for resource in resources if resource["kind"] == "Secret"]


def assert_one_writer(resources: Sequence[Manifest]) -> None:
    """Assert that each state has one pod that stops before its replacement starts, unless the pods are replicas.

    A single pod is a replica, too: without it, the pods that replace it when there are to be more would not start.
    """
    workload = find_workload(resources)
    spec = workload["spec"]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > 5
    environment = {row["name"]: row.get("value", "") for row in container_spec(resources)["env"]}
    if workload["kind"] == "Deployment":
        assert ("true", "RollingUpdate") == (environment["LATE_EXPORTER_STATE__REPLICAS"], spec["strategy"]["type"])
        return
    (claim,) = spec["volumeClaimTemplates"]
    assert environment.get("LATE_EXPORTER_SHARDING__TOTAL_SHARDS", "1") == str(spec["replicas"])
    assert ("RollingUpdate", "Parallel") == (spec["updateStrategy"]["type"], spec["podManagementPolicy"])
    assert claim["spec"]["accessModes"] in (["ReadWriteOnce"], ["ReadWriteOncePod"])


def assert_probes(resources: Sequence[Manifest], scheme: str | None = None) -> None:
    """Assert that probes check liveness and never readiness, so that scrapes always reach the exporter."""
    spec = container_spec(resources)
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        expected = {"path": "/-/healthy", "port": "metrics"} | ({"scheme": scheme} if scheme else {})
        assert expected == spec[name]["httpGet"], name


def assert_selectors(resources: Sequence[Manifest]) -> None:
    """Assert that all selectors match the exporter's pod and use an existing port."""
    workload = find_workload(resources)
    spec = workload["spec"]
    labels = spec["template"]["metadata"]["labels"]
    services = {resource["metadata"]["name"]: resource for resource in resources if resource["kind"] == "Service"}
    service = services[spec.get("serviceName", workload["metadata"]["name"])]
    policies = [resource for resource in resources if resource["kind"] == "NetworkPolicy"]
    scrapes = MONITORS | OTHER_MONITORS
    monitors = [resource for resource in resources if resource["kind"] in scrapes]
    for selector in (
        spec["selector"]["matchLabels"],
        *(each["spec"]["selector"] for each in services.values()),
        *(policy["spec"]["podSelector"]["matchLabels"] for policy in policies),
        *(monitor["spec"]["selector"]["matchLabels"] for monitor in monitors if monitor["kind"].startswith("Pod")),
    ):
        assert selector.items() <= labels.items()
    for monitor in monitors:
        if not monitor["kind"].startswith("Pod"):
            assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for port in container_spec(resources)["ports"]}
    assert ports == {port["targetPort"] for each in services.values() for port in each["spec"]["ports"]}
    for policy in policies:
        assert ports == {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert {"metrics"} >= {
        scrape["port"] for monitor in monitors for scrape in monitor["spec"][scrapes[monitor["kind"]]]
    }
    assert {"metrics"} == {port["targetPort"] for port in service["spec"]["ports"]}


def assert_scrape_config(monitor: Manifest, labels: Manifest) -> None:
    """Assert that the job name matches the rules, and that no target label hides a metric label."""
    (scrape,) = monitor["spec"][MONITORS[monitor["kind"]]]
    relabelings = scrape.get("relabelings", [])
    replacements = [rule["replacement"] for rule in relabelings if rule.get("targetLabel") == "job"]
    (job,) = replacements or [labels[monitor["spec"]["jobLabel"]]]
    assert re.fullmatch("late|late-.*", job)
    assert_same_in_every_pod(scrape["metricRelabelings"])
    metric_labels = {label for family in CATALOGUE.values() for label in family.labels}
    assert set() == metric_labels & OPERATOR_LABELS


def assert_same_in_every_pod(rules: Sequence[Manifest]) -> None:
    """Assert that another pod shows the same series of a workspace, but other series of its process."""
    pods = [
        {"instance": f"10.0.0.{number}:10077", "pod": f"late-exporter-{number}", "namespace": "late"}
        for number in (1, 2)
    ]
    first, second = (_relabel({**pod, "workspace": "acme"}, rules) for pod in pods)
    assert {"instance": "late-exporter", "namespace": "late", "workspace": "acme"} == first == second
    assert pods == [_relabel(pod, rules) for pod in pods]


def _relabel(labels: Mapping[str, str], rules: Sequence[Manifest]) -> dict[str, str]:
    """Return labels after the relabelings that replace a label by a constant."""
    result = dict(labels)
    for rule in rules:
        if rule.get("action", "replace") == "replace" and "regex" in rule:
            source = ";".join(result.get(label, "") for label in rule["sourceLabels"])
            if re.fullmatch(rule["regex"], source):
                result[rule["targetLabel"]] = rule["replacement"]
    return {label: value for label, value in result.items() if value}


def assert_rules(resources: Sequence[Manifest], promtool: str, folder: Path, kind: str = "PrometheusRule") -> None:
    """Assert that the resources contain all Prometheus rules, and that promtool accepts them."""
    specs = [resource["spec"] for resource in resources if resource["kind"] == kind]
    expected = [yaml.safe_load(path.read_text("utf-8")) for path in RULES]
    assert _comparable_specs(expected) == _comparable_specs(specs)
    check_rules(resources, promtool, folder, kind)


def check_rules(resources: Sequence[Manifest], promtool: str, folder: Path, kind: str = "PrometheusRule") -> None:
    """Assert that promtool accepts the rules of the resources."""
    specs = [resource["spec"] for resource in resources if resource["kind"] == kind]
    file = folder / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [group for spec in specs for group in spec["groups"]]}), "utf-8")
    process = subprocess.run(
        [promtool, "check", "rules", file], check=False, capture_output=True, text=True, timeout=60
    )
    count = sum(len(group["rules"]) for spec in specs for group in spec["groups"])
    assert f"SUCCESS: {count} rules found" in process.stdout, process.stderr


def _comparable_specs(specs: Iterable[Any]) -> list[str]:
    """Return the specs in a fixed order, with paths of dashboards in place of their URLs."""
    texts = (json.dumps(spec, sort_keys=True) for spec in specs)
    return sorted(re.sub(r'dashboard_url": "https?://[\w.:]+/d/', 'dashboard_path": "/d/', text) for text in texts)


def assert_dashboards(resources: Sequence[Manifest]) -> None:
    """Assert that each dashboard is in its own ConfigMap, unchanged and small enough to apply."""
    maps = {
        name: resource
        for resource in resources
        if resource["kind"] == "ConfigMap"
        for name in resource["data"]
        if name.endswith(".json")
    }
    assert {path.name for path in DASHBOARDS} == maps.keys()
    for path in DASHBOARDS:
        resource = maps[path.name]
        assert path.read_text("utf-8") == resource["data"][path.name]
        assert len(json.dumps(resource, ensure_ascii=False).encode()) < MAX_APPLY_BYTES
    for resource in resources:
        if resource["kind"] == "GrafanaDashboard":
            source = resource["spec"]["configMapRef"]
            assert source["name"] == maps[source["key"]]["metadata"]["name"]


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
    assert ("/-/healthy",) == settings.web.unauthenticated_paths
    assert {"web.yml", "tls.crt", "tls.key"} <= {file.name for file in settings.web_config.files}

"""What holds for the manifests of kustomize and for those of the chart alike."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
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
    field_paths,
    find_resource,
    load_settings,
    parse_documents,
    pod_spec,
    profile_violations,
    volumes_by_path,
)

__all__ = [
    "CUSTOM_RESOURCES",
    "MONITORS",
    "assert_dashboards",
    "assert_known_fields",
    "assert_one_writer",
    "assert_probes",
    "assert_restricted",
    "assert_rules",
    "assert_scrape_config",
    "assert_selectors",
    "assert_valid",
    "assert_web_config",
    "certificates",
]

MONITORS = {"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}
"""The kinds that tell Prometheus Operator to scrape, and where they list what."""

OPERATOR_LABELS = {"container", "endpoint", "instance", "job", "namespace", "pod", "service"}
"""The labels that Prometheus Operator gives to a target."""

SCRAPE_FIELDS = {
    *("port", "path", "interval", "scrapeTimeout", "scheme", "tlsConfig.serverName"),
    *(f"tlsConfig.{part}.secret.{key}" for part in ("ca", "cert") for key in ("name", "key")),
    *(f"tlsConfig.keySecret.{key}" for key in ("name", "key")),
    *(f"basicAuth.{part}.{key}" for part in ("username", "password") for key in ("name", "key")),
    *(f"relabelings[].{key}" for key in ("replacement", "targetLabel")),
}
RULE_FIELDS = {"alert", "record", "expr", "for", "keep_firing_for"}

CUSTOM_RESOURCES = {
    **{kind: {"jobLabel", *(f"{scrapes}[].{path}" for path in SCRAPE_FIELDS)} for kind, scrapes in MONITORS.items()},
    "PrometheusRule": {"groups[].name", "groups[].interval", *(f"groups[].rules[].{path}" for path in RULE_FIELDS)},
    "GrafanaDashboard": {"allowCrossNamespaceImport", "configMapRef.key", "configMapRef.name", "folder"},
}
"""What the custom resources know of what is said in them here; their schemas are not at hand."""

FREE_FORM_FIELDS = re.compile(
    r"^(selector|instanceSelector)\.matchLabels\.|^groups\[\]\.rules\[\]\.(labels|annotations)\."
)
"""Maps of any keys."""

MAX_APPLY_BYTES = 1 << 18
"""The limit on annotations: ``kubectl apply`` puts the whole of an object into one."""


def assert_valid(text: str, folder: Path) -> None:
    """Every resource that is Kubernetes' own keeps to the schemas of old and new versions, with no key too many."""
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
    """The pod keeps to the restricted profile, writes to its own volumes alone, and knows nothing of the cluster."""
    spec = pod_spec(resources)
    assert [] == profile_violations(spec)
    assert spec["securityContext"]["runAsUser"] > 0
    assert container_spec(resources)["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"/tmp", "/var/lib/late-exporter"} == {  # noqa: S108 - a mount
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
    """There is one pod, which ends in peace before there is another, and whose volume comes back to it."""
    spec = find_resource(resources, "StatefulSet")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert (1, "RollingUpdate", "Parallel") == (
        spec["replicas"],
        spec["updateStrategy"]["type"],
        spec["podManagementPolicy"],
    )
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > 5
    assert claim["spec"]["accessModes"] in (["ReadWriteOnce"], ["ReadWriteOncePod"])


def assert_probes(resources: Sequence[Manifest], scheme: str | None = None) -> None:
    """The kubelet asks whether the exporter lives and never whether it is ready, so that a scrape always arrives."""
    spec = container_spec(resources)
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        expected = {"path": "/-/healthy", "port": "metrics"} | ({"scheme": scheme} if scheme else {})
        assert expected == spec[name]["httpGet"], name


def assert_selectors(resources: Sequence[Manifest]) -> None:
    """Whatever selects pods selects the exporter's, and names a port that it has."""
    spec = find_resource(resources, "StatefulSet")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    service = find_resource(resources, "Service")
    monitors = [resource for resource in resources if resource["kind"] in MONITORS]
    for selector in (
        spec["selector"]["matchLabels"],
        service["spec"]["selector"],
        find_resource(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(monitor["spec"]["selector"]["matchLabels"] for monitor in monitors if monitor["kind"] == "PodMonitor"),
    ):
        assert selector.items() <= labels.items()
    for monitor in monitors:
        if monitor["kind"] == "ServiceMonitor":
            assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert spec["serviceName"] == service["metadata"]["name"]
    ports = {
        *(port["targetPort"] for port in service["spec"]["ports"]),
        *(
            port["port"]
            for rule in find_resource(resources, "NetworkPolicy")["spec"]["ingress"]
            for port in rule["ports"]
        ),
        *(scrape["port"] for monitor in monitors for scrape in monitor["spec"][MONITORS[monitor["kind"]]]),
    }
    assert ports == {port["name"] for port in container_spec(resources)["ports"]} == {"metrics"}


def assert_known_fields(resources: Iterable[Manifest]) -> None:
    """Custom resources say nothing that their kinds do not know."""
    for resource in resources:
        if resource["kind"] in CUSTOM_RESOURCES:
            paths = {path for path in field_paths(resource["spec"]) if not FREE_FORM_FIELDS.match(path)}
            assert paths <= CUSTOM_RESOURCES[resource["kind"]], resource["kind"]


def assert_scrape_config(monitor: Manifest, labels: Manifest) -> None:
    """The job is one that the rules know, and no label of a metric is pushed aside by one of the target."""
    (scrape,) = monitor["spec"][MONITORS[monitor["kind"]]]
    relabelings = scrape.get("relabelings", [])
    replacements = [rule["replacement"] for rule in relabelings if rule.get("targetLabel") == "job"]
    (job,) = replacements or [labels[monitor["spec"]["jobLabel"]]]
    assert re.fullmatch("late|late-.*", job)
    metric_labels = {label for family in CATALOGUE.values() for label in family.labels}
    assert set() == metric_labels & OPERATOR_LABELS


def assert_rules(resources: Sequence[Manifest], promtool: str, folder: Path) -> None:
    """The rules are all of those for Prometheus, which accepts them."""
    specs = [resource["spec"] for resource in resources if resource["kind"] == "PrometheusRule"]
    expected = [yaml.safe_load(path.read_text("utf-8")) for path in RULES]
    assert _comparable_specs(expected) == _comparable_specs(specs)
    file = folder / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [group for spec in specs for group in spec["groups"]]}), "utf-8")
    process = subprocess.run(
        [promtool, "check", "rules", file], check=False, capture_output=True, text=True, timeout=60
    )
    count = sum(len(group["rules"]) for spec in specs for group in spec["groups"])
    assert f"SUCCESS: {count} rules found" in process.stdout, process.stderr


def _comparable_specs(specs: Iterable[Any]) -> list[str]:
    """In an order of their own, and without where Grafana is."""
    return sorted(re.sub(r"https?://[\w.:]+/d/", "/d/", json.dumps(spec, sort_keys=True)) for spec in specs)


def assert_dashboards(resources: Sequence[Manifest]) -> None:
    """Each dashboard is in a ConfigMap of its own, as it is in its file, and within what may be applied."""
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
    """What cert-manager puts into a Secret."""
    authority = trustme.CA()
    certificate = authority.issue_cert("late-exporter")
    return {
        "ca.crt": authority.cert_pem.bytes().decode(),
        "tls.crt": "".join(part.bytes().decode() for part in certificate.cert_chain_pems),
        "tls.key": certificate.private_key_pem.bytes().decode(),
    }


def assert_web_config(resources: Sequence[Manifest], root: Path, secrets: dict[str, dict[str, str]]) -> None:
    """The program finds its web configuration, and the certificate that it names."""
    settings = load_settings(resources, root, secrets)
    assert settings.web_config.ssl_context is not None
    assert {"web.yml", "tls.crt", "tls.key"} <= {file.name for file in settings.web_config.files}

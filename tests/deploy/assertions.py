"""Assertions that hold for every rendered chart and for the plain manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import trustme

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
    """Assert that a deployment is a restricted exporter that Kubernetes accepts; golden files pin the rest."""
    assert_valid(resources)
    assert_restricted(resources)


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

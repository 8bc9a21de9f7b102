"""Assertions that hold for every rendered chart and for the plain manifest."""

from __future__ import annotations

from collections.abc import Sequence

import kubernetes_validate  # type: ignore[import-untyped]

from tests.deploy.manifests import (
    VERSIONS,
    Manifest,
    container_spec,
    find_resource,
    find_workload,
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
    """Assert that the oldest and the newest Kubernetes accept the resources, and that the pod is restricted.

    The pod fulfils the restricted profile, writes to its own volumes only, and has no access to the API of Kubernetes.
    """
    for resource in resources:
        if resource["kind"] not in CUSTOM_RESOURCES:
            for version in VERSIONS:
                kubernetes_validate.validate(resource, version, strict=True)
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

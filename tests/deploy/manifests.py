"""Manifests as kubectl and helm make them of what is below deploy/, and what may be asked of them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any, TypeAlias

import yaml

from deploy.kubernetes.files import CHART, DASHBOARDS, ROOT, RULES
from late_exporter.config import sources
from late_exporter.config.settings import Settings

__all__ = [
    "VERSIONS",
    "Manifest",
    "abridged",
    "container",
    "documents",
    "fields",
    "kustomize",
    "loaded",
    "named",
    "offences",
    "pod",
    "readme",
    "shell",
    "template",
    "volumes",
]

Manifest: TypeAlias = Mapping[str, Any]

GRAFANA = "http://localhost:3000/"
"""Where the rules believe Grafana."""

VERSIONS = ("1.25", "1.37")
"""The oldest and the newest Kubernetes that manifests are checked against."""

SOURCES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
"""The volumes that the restricted profile allows."""


def _said(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stderr
    return done.stdout


def readme(heading: str) -> str:
    """Return the commands below a heading of docs/install.md."""
    section = (ROOT / "docs" / "install.md").read_text("utf-8").partition(f"\n## {heading}\n")[2]
    return section.partition("```sh\n")[2].partition("```")[0]


def shell(script: str, folder: Path, *programs: str) -> str:
    """What commands print that run in a folder, with programs found beside those of the system."""
    path = ":".join([*(str(Path(program).parent) for program in programs), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-euc", script], cwd=folder, env={"PATH": path}, check=False, capture_output=True, text=True, timeout=60
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def kustomize(kubectl: str, folder: Path) -> str:
    """What ``kubectl apply -k`` would apply."""
    return _said(kubectl, "kustomize", folder)


def template(helm: str, *arguments: str | Path, name: str = "late", namespace: str = "monitored") -> str:
    """What ``helm install`` would apply."""
    return _said(helm, "template", name, CHART, "--namespace", namespace, *arguments)


def documents(text: str) -> list[Manifest]:
    """The resources of a stream."""
    return [document for document in yaml.safe_load_all(text) if document]


def named(resources: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one resource of a kind, and of a name where it is given."""
    (found,) = (
        resource for resource in resources if resource["kind"] == kind and name in (None, resource["metadata"]["name"])
    )
    return found


def pod(resources: Sequence[Manifest]) -> dict[str, Any]:
    """What the StatefulSet makes its pod of."""
    spec: dict[str, Any] = named(resources, "StatefulSet")["spec"]["template"]["spec"]
    return spec


def container(resources: Sequence[Manifest]) -> dict[str, Any]:
    """The one container of the pod."""
    (only,) = pod(resources)["containers"]
    found: dict[str, Any] = only
    return found


def volumes(resources: Sequence[Manifest]) -> dict[str, dict[str, Any]]:
    """The volumes of the pod by the paths where the container has them; those of claims have no source."""
    known = {
        volume["name"]: {key: volume[key] for key in volume if key != "name"} for volume in pod(resources)["volumes"]
    }
    claims = named(resources, "StatefulSet")["spec"].get("volumeClaimTemplates", ())
    known |= {claim["metadata"]["name"]: {} for claim in claims}
    mounts = container(resources)["volumeMounts"]
    assert known.keys() == {mount["name"] for mount in mounts}
    return {mount["mountPath"]: known[mount["name"]] for mount in mounts}


def loaded(resources: Sequence[Manifest], root: Path, secrets: Mapping[str, Mapping[str, str]]) -> Settings:
    """What the program understands in the pod, whose file system is below a folder.

    Args:
        resources: Of which the pod is one.
        root: An empty folder.
        secrets: What the Secrets hold, by their names and keys.
    """

    def files(volume: Mapping[str, Any]) -> Mapping[str, str]:
        if source := volume.get("secret"):
            return secrets[source["secretName"]]
        if source := volume.get("configMap"):
            found = [
                each for each in resources if each["kind"] == "ConfigMap" and each["metadata"]["name"] == source["name"]
            ]
            return found[0]["data"] if found else {}
        parts = volume.get("projected", {}).get("sources", ())
        return {key: text for part in parts for key, text in secrets[part["secret"]["name"]].items()}

    paths = volumes(resources)
    for path, volume in paths.items():
        folder = root / path[1:]
        folder.mkdir(parents=True)
        for name, text in files(volume).items():
            (folder / name).write_text(_below(root, text, paths), "utf-8")
    environ = {row["name"]: _below(root, row["value"], paths) for row in container(resources)["env"]}
    return sources.load("run", {}, environ)


def _below(root: Path, text: str, paths: Mapping[str, object]) -> str:
    return re.sub("|".join(map(re.escape, paths)), lambda found: f"{root}{found[0]}", text)


def offences(spec: Mapping[str, Any]) -> list[str]:
    """Where a pod leaves the restricted profile of https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    return [*_of_pod(spec), *(offence for each in spec["containers"] for offence in _of_container(each, spec))]


def _of_pod(spec: Mapping[str, Any]) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    for volume in spec.get("volumes", ()):
        if volume.keys() - {"name"} - SOURCES:
            yield f"volume {volume['name']}"


def _of_container(each: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    security: Mapping[str, Any] = {**spec.get("securityContext", {}), **each.get("securityContext", {})}
    if security.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if security.get("runAsUser") == 0:
        yield "runAsUser"
    if security.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "seccompProfile"
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield "allowPrivilegeEscalation"
    capabilities = security.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if any("hostPort" in port for port in each.get("ports", ())):
        yield "hostPort"


def fields(value: object, prefix: str = "") -> set[str]:
    """The paths to all that a resource says, as in ``spec.endpoints[].port``."""
    if isinstance(value, Mapping):
        return {path for key, part in value.items() for path in fields(part, f"{prefix}.{key}" if prefix else key)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {path for part in value for path in fields(part, f"{prefix}[]")}
    return {prefix}


def abridged(text: str, grafana: str = GRAFANA) -> str:
    """With the name of a rule file or a dashboard in place of what it holds, where Grafana is at another URL too."""
    for path, depth in [*((path, 2) for path in RULES), *((path, 4) for path in DASHBOARDS)]:
        copy = indent(path.read_text("utf-8").replace(GRAFANA, grafana), " " * depth)
        text = text.replace(copy, f"{' ' * depth}# All of {path.relative_to(ROOT)}\n")
    return text

"""Manifests rendered by helm, and helpers to inspect them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from deploy.chart import CHART, ROOT
from late_exporter.cli.parser import parse
from late_exporter.config import sources
from late_exporter.config.settings import Settings
from tests.e2e.program import run_command

Manifest: TypeAlias = Mapping[str, Any]

SECRET_SETTING = "apiKey.existingSecret=late-api-key"
VERSIONS = ("1.25", "1.37")
"""Oldest and newest supported Kubernetes version."""


def install_commands(heading: str) -> str:
    """Return the commands below a heading of docs/install.md."""
    section = (ROOT / "docs" / "install.md").read_text("utf-8").partition(f"\n## {heading}\n")[2]
    return section.partition("```sh\n")[2].partition("```")[0]


def run_script(script: str, folder: Path, *programs: str) -> str:
    """Run a script in a folder and return its output; ``programs`` are added to the PATH."""
    path = ":".join([*(str(Path(program).parent) for program in programs), os.environ["PATH"]])
    return run_command("sh", "-euc", script, cwd=folder, env={"PATH": path})


def helm_template(helm: str, *arguments: str | Path, name: str = "late") -> str:
    """Return what ``helm install`` would apply."""
    return run_command(helm, "template", name, CHART, "--namespace", "monitored", *arguments)


def render_release(helm: str, *flags: str | Path) -> list[Manifest]:
    """Return the resources of a release with the name of the Secret and further flags."""
    return parse_documents(helm_template(helm, f"--set={SECRET_SETTING}", *flags))


def parse_documents(text: str) -> list[Manifest]:
    """Return the resources of a YAML stream."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def find_resource(resources: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the only resource of a kind, and of a name if one is given."""
    (resource,) = (
        resource for resource in resources if resource["kind"] == kind and name in (None, resource["metadata"]["name"])
    )
    return resource


def find_workload(resources: Sequence[Manifest]) -> Manifest:
    """Return the StatefulSet or the Deployment."""
    (workload,) = (resource for resource in resources if resource["kind"] in ("StatefulSet", "Deployment"))
    return workload


def pod_spec(resources: Sequence[Manifest]) -> dict[str, Any]:
    """Return the pod spec of the StatefulSet or the Deployment."""
    spec: dict[str, Any] = find_workload(resources)["spec"]["template"]["spec"]
    return spec


def container_spec(resources: Sequence[Manifest]) -> dict[str, Any]:
    """Return the container of the exporter."""
    (own,) = (each for each in pod_spec(resources)["containers"] if each["name"] == "late-exporter")
    result: dict[str, Any] = own
    return result


def volumes_by_path(resources: Sequence[Manifest]) -> dict[str, dict[str, Any]]:
    """Return the volumes of the pod by mount path; volumes of claims have no source."""
    sources = {
        volume["name"]: {key: volume[key] for key in volume if key != "name"}
        for volume in pod_spec(resources)["volumes"]
    }
    claims = find_workload(resources)["spec"].get("volumeClaimTemplates", ())
    sources |= {claim["metadata"]["name"]: {} for claim in claims}
    mounts = container_spec(resources)["volumeMounts"]
    assert sources.keys() == {mount["name"] for mount in mounts}
    return {mount["mountPath"]: sources[mount["name"]] for mount in mounts}


def load_settings(resources: Sequence[Manifest], root: Path, secrets: Mapping[str, Mapping[str, str]]) -> Settings:
    """Return the settings that the program would load in the pod.

    Args:
        resources: Manifests that include the pod.
        root: Empty folder for the file system of the pod.
        secrets: Contents of the Secrets by name and key.
    """

    def volume_files(volume: Mapping[str, Any]) -> Mapping[str, str]:
        if source := volume.get("secret"):
            return secrets.get(source["secretName"], {})
        if source := volume.get("configMap"):
            match = [
                each for each in resources if each["kind"] == "ConfigMap" and each["metadata"]["name"] == source["name"]
            ]
            return match[0]["data"] if match else {}
        parts = volume.get("projected", {}).get("sources", ())
        return {key: text for part in parts for key, text in secrets.get(part["secret"]["name"], {}).items()}

    paths = volumes_by_path(resources)
    for path, volume in paths.items():
        folder = root / path[1:]
        folder.mkdir(parents=True)
        for name, text in volume_files(volume).items():
            (folder / name).write_text(_rebase_paths(root, text, paths), "utf-8")
    spec = container_spec(resources)
    environ = {row["name"]: _rebase_paths(root, row["value"], paths) for row in spec["env"] if "value" in row}
    arguments = parse(spec.get("args", ["run"]))
    assert arguments is not None
    return sources.load(arguments.command, arguments.flags, environ)


def _rebase_paths(root: Path, text: str, paths: Mapping[str, object]) -> str:
    return re.sub("|".join(map(re.escape, paths)), lambda match: f"{root}{match[0]}", text)


def abridge(text: str) -> str:
    """Replace the contents of rule files and dashboards, which other tests compare."""
    text = re.sub(r"^(  late-[a-z]+\.json: \|\n)(    .*\n)+", r"\1    # Dashboard\n", text, flags=re.MULTILINE)
    return re.sub(r"^(spec:\n  groups:\n)(    .*\n)+", r"\1    # Rules\n", text, flags=re.MULTILINE)

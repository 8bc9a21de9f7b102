"""The documented commands for systemd, Docker, Compose and Kubernetes use the names of the shipped files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMMAND = "late-exporter logs --status failed --since 1h"


@pytest.fixture(scope="module")
def rows() -> dict[str, str]:
    """Return the documented command for each way to run the exporter."""
    text = (ROOT / "docs" / "commands.md").read_text("utf-8").partition("## Where to run commands\n")[2]
    return dict(re.findall(r"^\| (\w+)[^|]* \| `([^`]+)` \|$", text, re.MULTILINE))


def test_systemd(rows: dict[str, str]) -> None:
    """The installation puts the script where sudo finds it, and the script runs the installed program."""
    assert f"sudo {COMMAND}" == rows["systemd"]
    install = (ROOT / "docs" / "install.md").read_text("utf-8")
    assert "sudo install deploy/systemd/late-exporter.sh /usr/local/bin/late-exporter\n" in install
    script = (ROOT / "deploy" / "systemd" / "late-exporter.sh").read_text("utf-8")
    unit = (ROOT / "deploy" / "systemd" / "late-exporter.service").read_text("utf-8")
    for option in ("DynamicUser", "StateDirectory", "StateDirectoryMode", "UMask", "EnvironmentFile", "LoadCredential"):
        (value,) = re.findall(rf"^{option}=(.+)$", unit, re.MULTILINE)
        assert f"--property={option}={value}" in script
    (program,) = re.findall(r"^ExecStart=(\S+)", unit, re.MULTILINE)
    assert f"exec {program} " in script


def test_docker(rows: dict[str, str]) -> None:
    """The container has the documented name."""
    assert f"docker exec late-exporter {COMMAND}" == rows["Docker"]
    assert "docker run --detach --name late-exporter " in (ROOT / "docs" / "install.md").read_text("utf-8")


def test_compose(rows: dict[str, str]) -> None:
    """The service has the documented name, and its environment has the key."""
    assert f"docker compose exec exporter {COMMAND}" == rows["Compose"]
    services = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.yml").read_text("utf-8"))["services"]
    assert "LATE_API_KEY_FILE" in services["exporter"]["environment"]


def test_kubernetes(rows: dict[str, str]) -> None:
    """The StatefulSet has the documented name; key and configuration are variables, which other processes have too."""
    assert f"kubectl exec statefulset/late-exporter -- {COMMAND}" == rows["Kubernetes"]
    document = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "base" / "statefulset.yaml").read_text("utf-8"))
    assert ("StatefulSet", "late-exporter") == (document["kind"], document["metadata"]["name"])
    (container,) = document["spec"]["template"]["spec"]["containers"]
    assert ["run"] == container["args"]
    assert "LATE_API_KEY_FILE" in [variable["name"] for variable in container["env"]]

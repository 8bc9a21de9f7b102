"""The kustomize manifests are valid, restricted, and understood by the program."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from deploy.kubernetes.files import COMPONENTS, DASHBOARDS, ROOT
from late_exporter import __url__, __version__
from tests.deploy.assertions import (
    MONITORS,
    assert_scrape_config,
    assert_sound,
    assert_web_config,
    certificates,
)
from tests.deploy.manifests import (
    container_spec,
    find_resource,
    find_workload,
    install_commands,
    load_settings,
    parse_documents,
    pod_spec,
    run_script,
)
from tests.e2e.program import run_command

pytestmark = pytest.mark.kubernetes

FOLDER = ROOT / "deploy/kubernetes"
BASE = FOLDER / "base"
EXAMPLE = FOLDER / "example"

ASSEMBLIES: Mapping[str, Sequence[str]] = {
    "base": (),
    "sidecar": ("service-monitor", "prometheus-rule", "dashboards"),
    "operators": ("pod-monitor", "prometheus-rule", "grafana-operator"),
    "secured": ("service-monitor", "web-config"),
    "secured-pod": ("pod-monitor", "web-config"),
    "policy": ("service-monitor", "network-policy"),
    "postgres": ("pod-monitor", "postgres"),
}
MAX_APPLY_BYTES = 1 << 18
"""Size limit of annotations; ``kubectl apply`` stores the whole object in one."""

KEYS = {"late-api-key": {"api-key": "sk_single\n", "brand": "sk_brand\n", "agency": "sk_agency\n"}}

Build = Callable[..., str]


@pytest.fixture
def build(tmp_path: Path, require_tool: Callable[[str], str]) -> Build:
    """Return a function that builds the base with components, or another folder."""
    kubectl = require_tool("kubectl")

    def make(*components: str, of: Path = BASE) -> str:
        folder = tmp_path / "kustomization"
        folder.mkdir()
        kustomization = {
            "resources": [os.path.relpath(of, folder)],
            "components": [os.path.relpath(COMPONENTS / name, folder) for name in components],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), "utf-8")
        return run_command(kubectl, "kustomize", folder)

    return make


def test_every_component_is_tested() -> None:
    """Every component is part of an assembly or of the example."""
    example = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text("utf-8"))["components"]
    component_names = {name for names in ASSEMBLIES.values() for name in names} | {Path(path).name for path in example}
    assert component_names == {path.name for path in COMPONENTS.iterdir()}


@pytest.mark.e2e
@pytest.mark.parametrize("name", [*ASSEMBLIES, "example"])
def test_assemblies_are_restricted(build: Build, name: str) -> None:
    """Every assembly is one restricted exporter with matching selectors, which Kubernetes accepts."""
    resources = parse_documents(build(of=EXAMPLE) if name == "example" else build(*ASSEMBLIES[name]))
    assert_sound(resources)
    for resource in resources:
        if resource["kind"] in MONITORS:
            labels = find_workload(resources)["spec"]["template"]["metadata"]["labels"]
            assert_scrape_config(resource, labels)


@pytest.mark.e2e
def test_image_has_the_program_version(build: Build) -> None:
    """The image tag is set in one place and has the version of the program."""
    project = __url__.removeprefix("https://github.com/")
    assert container_spec(parse_documents(build()))["image"] == f"ghcr.io/{project}:{__version__}"
    assert "image: late-exporter\n" in (BASE / "statefulset.yaml").read_text("utf-8")


@pytest.mark.e2e
def test_example_has_two_workspaces(build: Build, tmp_path: Path) -> None:
    """In the example the program finds two workspaces with separate keys; a changed file restarts the pod."""
    resources = parse_documents(build(of=EXAMPLE))
    settings = load_settings(resources, tmp_path / "pod", KEYS)
    assert [(workspace.name, workspace.key_file.name) for workspace in settings.workspaces if workspace.key_file] == [
        ("brand", "brand"),
        ("agency", "agency"),
    ]
    (config,) = (volume["configMap"]["name"] for volume in pod_spec(resources)["volumes"] if "configMap" in volume)
    assert config.startswith("late-exporter-config-")
    assert {resource["metadata"].get("namespace", "late") for resource in resources} == {"late"}
    assert (
        find_resource(resources, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        == "restricted"
    )


@pytest.mark.e2e
@pytest.mark.parametrize("kind", MONITORS)
def test_program_finds_the_web_config(build: Build, tmp_path: Path, kind: str) -> None:
    """The program finds its certificate, and Prometheus scrapes over TLS and trusts the same CA."""
    monitor = {"ServiceMonitor": "service-monitor", "PodMonitor": "pod-monitor"}[kind]
    resources = parse_documents(build(monitor, "web-config"))
    web = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
    assert_web_config(
        resources,
        tmp_path / "pod",
        {**KEYS, "late-exporter-web": {"web.yml": web}, "late-exporter-tls": certificates()},
    )
    (scrape,) = find_resource(resources, kind)["spec"][MONITORS[kind]]
    assert scrape["scheme"] == "https"
    assert scrape["tlsConfig"]["ca"]["secret"] == {"name": "late-exporter-tls", "key": "ca.crt"}


@pytest.mark.e2e
def test_network_policy_is_minimal(build: Build) -> None:
    """Only the namespace of Prometheus can connect, and egress is limited to DNS and HTTPS to the internet."""
    spec = find_resource(parse_documents(build("network-policy")), "NetworkPolicy")["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    ((peer,),) = (rule["from"] for rule in spec["ingress"])
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
    names, internet = spec["egress"]
    assert {(port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")} == {
        (port["port"], port["protocol"]) for port in names["ports"]
    }
    assert internet["ports"] == [{"port": 443}]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(internet["to"][0]["ipBlock"]["except"])


@pytest.mark.e2e
def test_dashboards_are_provided(build: Build) -> None:
    """Every dashboard is in a ConfigMap of its own, which the sidecar and Grafana Operator find, and can be applied."""
    resources = parse_documents(build("grafana-operator"))
    maps = {name: each for each in resources if each["kind"] == "ConfigMap" for name in each["data"]}
    assert {path.name: path.read_text("utf-8") for path in DASHBOARDS} == {
        name: resource["data"][name] for name, resource in maps.items()
    }
    for resource in maps.values():
        assert "grafana_dashboard" in resource["metadata"]["labels"]
        assert len(json.dumps(resource, ensure_ascii=False).encode()) < MAX_APPLY_BYTES
    sources = [each["spec"]["configMapRef"] for each in resources if each["kind"] == "GrafanaDashboard"]
    assert {name: each["metadata"]["name"] for name, each in maps.items()} == {
        source["key"]: source["name"] for source in sources
    }


@pytest.mark.e2e
def test_install_commands_work(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The kubectl commands of docs/install.md work, as far as possible without a cluster."""
    script = install_commands("Kubernetes").replace("kubectl apply --kustomize", "echo ---; kubectl kustomize")
    assert "echo ---" in script
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    offline = script.replace("=late-api-key\n", "=late-api-key --dry-run=client --output=yaml\n")
    resources = parse_documents(run_script(offline, tmp_path, require_tool("kubectl")))
    secret = find_resource(resources, "Secret")
    assert secret["metadata"]["name"] in {
        volume["secret"]["secretName"] for volume in pod_spec(resources)["volumes"][:1]
    }
    key = base64.b64decode(secret["data"]["api-key"]).decode()
    settings = load_settings(resources, tmp_path / "pod", {"late-api-key": {"api-key": key}})
    assert [workspace.name for workspace in settings.workspaces] == ["default"]

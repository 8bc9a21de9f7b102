"""The manifests for kustomize: valid, confined, and understood by the program that they run."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from deploy.kubernetes import __main__ as generator
from deploy.kubernetes.files import COMPONENTS, ROOT, written
from late_exporter import __url__, __version__
from tests.deploy.checks import (
    CUSTOM,
    MONITORS,
    assert_confined,
    assert_dashboards,
    assert_known_fields,
    assert_one_writer,
    assert_probes,
    assert_rules,
    assert_scraped,
    assert_secured,
    assert_selectors,
    assert_valid,
    certificates,
)
from tests.deploy.manifests import (
    Manifest,
    container,
    documents,
    kustomize,
    loaded,
    named,
    offences,
    pod,
    readme,
    shell,
)

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
}
KEYS = {"late-api-key": {"api-key": "sk_single\n", "brand": "sk_brand\n", "agency": "sk_agency\n"}}

Build = Callable[..., str]


@pytest.fixture
def build(tmp_path: Path, require_tool: Callable[[str], str]) -> Build:
    """Makes manifests of the base with components, or of a folder."""
    kubectl = require_tool("kubectl")

    def make(*components: str, of: Path = BASE) -> str:
        folder = tmp_path / "kustomization"
        folder.mkdir()
        kustomization = {
            "resources": [os.path.relpath(of, folder)],
            "components": [os.path.relpath(COMPONENTS / name, folder) for name in components],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), "utf-8")
        return kustomize(kubectl, folder)

    return make


@pytest.fixture(params=[*ASSEMBLIES, "example"])
def manifests(request: pytest.FixtureRequest, build: Build) -> str:
    """Each assembly as text."""
    if request.param == "example":
        return build(of=EXAMPLE)
    return build(*ASSEMBLIES[request.param])


def test_files_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made of other files is as they are, and it is noticed where it is not, or where a copy is left over."""
    assert [] == generator.stale()
    files = dict(written())
    changed, dropped = (path for path in sorted(files) if "files/rules" in str(path))
    files[changed] += "# changed\n"
    del files[dropped]
    monkeypatch.setattr(generator, "written", lambda: files)
    assert [changed, dropped] == generator.stale()


def test_every_component_is_tried() -> None:
    """No component is left out of the assemblies and the example."""
    example = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text("utf-8"))["components"]
    tried = {name for names in ASSEMBLIES.values() for name in names} | {Path(path).name for path in example}
    assert tried == {path.name for path in COMPONENTS.iterdir()}


def test_dashboards_are_all_listed() -> None:
    """Every dashboard is in the list of ConfigMaps to make."""
    listed = yaml.safe_load((ROOT / "grafana/kustomization.yaml").read_text("utf-8"))["configMapGenerator"]
    files = [file for row in listed for file in row["files"]]
    assert sorted(files) == sorted(f"dashboards/{path.name}" for path in (ROOT / "grafana/dashboards").glob("*.json"))


@pytest.mark.e2e
def test_valid(manifests: str, tmp_path: Path) -> None:
    """Kubernetes accepts every resource."""
    assert_valid(manifests, tmp_path)


@pytest.mark.e2e
def test_valid_is_strict(tmp_path: Path) -> None:
    """A key that Kubernetes does not know is found."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "late"}, "automount": False}
    with pytest.raises(AssertionError, match="'automount' was unexpected"):
        assert_valid(yaml.safe_dump(account), tmp_path)


@pytest.mark.e2e
def test_what_is_deployed(manifests: str) -> None:
    """However it is assembled, it is one confined exporter that is found by those who look for it."""
    resources = documents(manifests)
    assert_confined(resources)
    assert_one_writer(resources)
    assert_selectors(resources)
    assert_known_fields(resources)
    for resource in resources:
        if resource["kind"] in MONITORS:
            labels = named(resources, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
            assert_scraped(resource, labels)


def test_what_the_restricted_profile_forbids() -> None:
    """An ordinary pod leaves the profile in every way that is looked for."""
    ordinary = {
        "hostNetwork": True,
        "volumes": [{"name": "docker", "hostPath": {"path": "/"}}],
        "containers": [{"securityContext": {"runAsUser": 0}, "ports": [{"hostPort": 1}]}],
    }
    assert [
        "hostNetwork",
        "volume docker",
        "runAsNonRoot",
        "runAsUser",
        "seccompProfile",
        "allowPrivilegeEscalation",
        "capabilities",
        "hostPort",
    ] == offences(ordinary)


@pytest.mark.e2e
@pytest.mark.parametrize(("components", "scheme"), [((), None), (("web-config",), "HTTPS")])
def test_probes(build: Build, components: Sequence[str], scheme: str | None) -> None:
    """Probes ask whether it lives, by TLS where it is served by TLS."""
    assert_probes(documents(build(*components)), scheme)


@pytest.mark.e2e
def test_image(build: Build) -> None:
    """The image is that of this version, named after the project, in the one place where kustomize is told of it."""
    project = __url__.removeprefix("https://github.com/")
    assert f"ghcr.io/{project}:{__version__}" == container(documents(build()))["image"]
    assert "image: late-exporter\n" in (BASE / "statefulset.yaml").read_text("utf-8")


@pytest.mark.e2e
def test_one_key(build: Build, tmp_path: Path) -> None:
    """The program finds the key in its file, and the place of the state on the volume."""
    given = loaded(documents(build()), tmp_path / "pod", KEYS)
    assert [("default", tmp_path / "pod/etc/late-exporter/keys/api-key")] == [
        (workspace.name, workspace.key_file) for workspace in given.workspaces
    ]
    assert given.state.url.startswith(f"sqlite:///{tmp_path}/pod/var/lib/late-exporter/")


@pytest.mark.e2e
def test_several_workspaces(build: Build, tmp_path: Path) -> None:
    """In the example the program finds two workspaces, each with a key of its own; another file is another pod."""
    resources = documents(build(of=EXAMPLE))
    given = loaded(resources, tmp_path / "pod", KEYS)
    assert [("brand", "brand"), ("agency", "agency")] == [
        (workspace.name, workspace.key_file.name) for workspace in given.workspaces if workspace.key_file
    ]
    (config,) = (volume["configMap"]["name"] for volume in pod(resources)["volumes"] if "configMap" in volume)
    assert config.startswith("late-exporter-config-")
    assert {"late"} == {resource["metadata"].get("namespace", "late") for resource in resources}
    assert "restricted" == named(resources, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]


@pytest.mark.e2e
@pytest.mark.parametrize("kind", MONITORS)
def test_web_config(build: Build, tmp_path: Path, kind: str) -> None:
    """The program finds its certificate beside the file, and Prometheus comes by TLS and trusts the same authority."""
    monitor = {"ServiceMonitor": "service-monitor", "PodMonitor": "pod-monitor"}[kind]
    resources = documents(build(monitor, "web-config"))
    web = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
    assert_secured(
        resources,
        tmp_path / "pod",
        {**KEYS, "late-exporter-web": {"web.yml": web}, "late-exporter-tls": certificates()},
    )
    (scrape,) = named(resources, kind)["spec"][MONITORS[kind]]
    assert "https" == scrape["scheme"]
    assert {"name": "late-exporter-tls", "key": "ca.crt"} == scrape["tlsConfig"]["ca"]["secret"]


@pytest.mark.e2e
def test_network(build: Build) -> None:
    """Only the namespace of Prometheus gets in, and nothing in a cluster or a cloud is reached but names."""
    spec = named(documents(build()), "NetworkPolicy")["spec"]
    assert {"Ingress", "Egress"} == set(spec["policyTypes"])
    ((peer,),) = (rule["from"] for rule in spec["ingress"])
    assert {"kubernetes.io/metadata.name": "monitoring"} == peer["namespaceSelector"]["matchLabels"]
    names, internet = spec["egress"]
    assert {(53, "UDP"), (53, "TCP")} == {(port["port"], port["protocol"]) for port in names["ports"]}
    assert [{"port": 443}] == internet["ports"]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(internet["to"][0]["ipBlock"]["except"])


@pytest.mark.e2e
def test_rules(build: Build, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """Prometheus Operator gets all rules and alerts, and promtool accepts them."""
    assert_rules(documents(build("prometheus-rule")), require_tool("promtool"), tmp_path)


@pytest.mark.e2e
@pytest.mark.parametrize(("component", "kinds"), [("dashboards", set()), ("grafana-operator", {"GrafanaDashboard"})])
def test_dashboards(build: Build, component: str, kinds: set[str]) -> None:
    """Grafana gets every dashboard, by its sidecar or by its operator."""
    resources = documents(build(component))
    assert_dashboards(resources)
    assert kinds == {str(resource["kind"]) for resource in resources} & CUSTOM.keys()
    labelled = [resource for resource in resources if "grafana_dashboard" in labels_of(resource)]
    assert 4 == len(labelled)


@pytest.mark.e2e
def test_readme(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """What the README says works as it is written, as far as it can without a cluster."""
    script = readme("Kubernetes").replace("kubectl apply --kustomize", "echo ---; kubectl kustomize")
    assert "echo ---" in script
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    offline = script.replace("=late-api-key\n", "=late-api-key --dry-run=client --output=yaml\n")
    resources = documents(shell(offline, tmp_path, require_tool("kubectl")))
    secret = named(resources, "Secret")
    assert secret["metadata"]["name"] in {volume["secret"]["secretName"] for volume in pod(resources)["volumes"][:1]}
    key = base64.b64decode(secret["data"]["api-key"]).decode()
    given = loaded(resources, tmp_path / "pod", {"late-api-key": {"api-key": key}})
    assert ["default"] == [workspace.name for workspace in given.workspaces]


def labels_of(resource: Manifest) -> Mapping[str, str]:
    """The labels of a resource."""
    labels: Mapping[str, str] = resource["metadata"].get("labels", {})
    return labels

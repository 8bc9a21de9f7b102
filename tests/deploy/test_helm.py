"""The Helm chart: rendered resources, rejected values, documentation; and the plain manifest made of it."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import trustme
import yaml

from deploy.chart import CHART, ROOT
from late_exporter import __url__, __version__
from tests.deploy.golden import FOLDER, PLAIN_MANIFEST, VALUES_FILES, render, render_plain
from tests.deploy.manifests import (
    SECRET_SETTING,
    VERSIONS,
    Manifest,
    container_spec,
    find_resource,
    find_workload,
    helm_template,
    install_commands,
    load_settings,
    parse_documents,
    pod_spec,
    render_release,
    run_script,
    volumes_by_path,
)
from tests.e2e.program import run_command

pytestmark = pytest.mark.helm

RULES = ROOT / "deploy/prometheus"
DASHBOARDS = sorted((ROOT / "grafana/dashboards").glob("*.json"))
MAX_APPLY_BYTES = 1 << 18
"""Size limit of annotations; ``kubectl apply`` stores the whole object in one."""

CUSTOM_RESOURCES = {"ServiceMonitor", "PrometheusRule"}
"""Kinds whose schemas are not available offline."""

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


@pytest.fixture(scope="module", autouse=True)
def _packaged_files() -> None:
    """Copy rules and dashboards into the chart, as its package has them."""
    run_command(ROOT / ".ci/chart")


@pytest.fixture(scope="module")
def workspaces(helm: str) -> Sequence[Manifest]:
    """Return the resources of the release that has several workspaces, rules and dashboards."""
    return parse_documents(helm_template(helm, "--values", VALUES_FILES["workspaces"]))


def assert_sound(resources: Sequence[Manifest]) -> None:
    """Assert that the oldest and the newest Kubernetes accept the resources, and that the pod is restricted.

    The pod writes to its own volumes only, reads no Secret of the release, and has no access to the API of Kubernetes.
    """
    for resource in resources:
        if resource["kind"] not in CUSTOM_RESOURCES:
            for version in VERSIONS:
                kubernetes_validate.validate(resource, version, strict=True)
    spec = pod_spec(resources)
    assert spec["securityContext"] == POD_SECURITY
    assert container_spec(resources)["securityContext"] == CONTAINER_SECURITY
    state = {"/var/lib/late-exporter"} if find_workload(resources)["kind"] == "StatefulSet" else set[str]()
    mounts = container_spec(resources)["volumeMounts"]
    writable_paths = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    assert writable_paths == {"/tmp", *state}  # noqa: S108 - an expected value
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    assert find_resource(resources, "ServiceAccount")["automountServiceAccountToken"] is False
    secrets = [volume["secret"] for volume in volumes_by_path(resources).values() if "secret" in volume]
    assert {secret["defaultMode"] for secret in secrets} == {0o440}
    assert [resource for resource in resources if resource["kind"] == "Secret"] == []


# Rendered resources


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES_FILES)
def test_typical_values_render_valid_resources(helm: str, name: str) -> None:
    """Typical values render a restricted exporter; ``python -m tests.deploy.golden`` updates the golden files."""
    assert_sound(parse_documents(helm_template(helm, "--values", VALUES_FILES[name])))
    assert render(helm, name) == (FOLDER / f"{name}.yaml").read_text("utf-8")


@pytest.mark.e2e
def test_program_reads_workspaces_and_options(workspaces: Sequence[Manifest], tmp_path: Path) -> None:
    """The program gets workspaces and options from the values."""
    settings = load_settings(workspaces, tmp_path, {"late-api-keys": {"brand": "sk_1", "agency": "sk_2"}})
    assert [(each.name, each.base_url, each.profile_id, each.labels) for each in settings.workspaces] == [
        ("brand", "https://zernio.com/api", "6507a1b2c3d4e5f6a7b8c9d0", (("team", "social"),)),
        ("agency", "https://late.example.com/api", None, ()),
    ]
    assert settings.poll.interval == 60.0
    assert settings.poll.feeds == ("publishing",)
    assert settings.metrics.max_accounts == 2_000_000
    assert settings.metrics.created_timestamps
    (scrape,) = find_resource(workspaces, "ServiceMonitor")["spec"]["endpoints"]
    assert scrape["path"] == settings.web.telemetry_path


@pytest.mark.e2e
def test_program_finds_the_web_config(helm: str, tmp_path: Path) -> None:
    """The program finds the web configuration and its certificate, from two Secrets, and lets the probes in."""
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES["tls"]))
    certificate = trustme.CA().issue_cert("late-exporter")
    pem = certificate.private_key_and_cert_chain_pem.bytes().decode()
    web = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
    secrets = {
        "late-api-key": {"api-key": "sk_1"},
        "late-web": {"web.yml": web},
        "late-tls": {"tls.crt": pem, "tls.key": pem},
    }
    settings = load_settings(resources, tmp_path, secrets)
    assert settings.web_config.ssl_context is not None
    assert settings.web.unauthenticated_paths == ("/-/healthy",)


@pytest.mark.e2e
def test_probes_use_tls_if_the_exporter_does(helm: str) -> None:
    """Probes use TLS; golden files have those without it, and those of an exporter that wants client certificates."""
    resources = render_release(helm, "--set=webConfig.existingSecret=late-web")
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container_spec(resources)[name]["httpGet"]["scheme"] == "HTTPS"


@pytest.mark.e2e
def test_network_policy_is_minimal(helm: str) -> None:
    """Without peers only the pod of helm test can connect, and only DNS and HTTPS get out; not to private networks."""
    resources = render_release(helm, "--set=networkPolicy.enabled=true", "--set-json=networkPolicy.namespaces=[]")
    spec = find_resource(resources, "NetworkPolicy")["spec"]
    test = find_resource(resources, "Pod")["metadata"]["labels"]
    assert [rule["from"] for rule in spec["ingress"]] == [[{"podSelector": {"matchLabels": test}}]]
    assert not find_resource(resources, "Service")["spec"]["selector"].items() <= test.items()
    names, internet = spec["egress"]
    assert {port["port"] for port in names["ports"]} == {53, 5353}
    assert internet["ports"] == [{"port": 443}]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(internet["to"][0]["ipBlock"]["except"])


# Rules and dashboards


@pytest.mark.e2e
def test_rules_are_the_shipped_ones(workspaces: Sequence[Manifest]) -> None:
    """The PrometheusRules have the rules of the files, without an alert, with one more and a label."""
    rules = find_resource(workspaces, "PrometheusRule", "late-exporter-rules")["spec"]["groups"]
    assert rules == yaml.safe_load((RULES / "late-exporter.rules.yml").read_text("utf-8"))["groups"]

    *groups, additional = find_resource(workspaces, "PrometheusRule", "late-exporter-alerts")["spec"]["groups"]
    text = (RULES / "late-exporter.alerts.yml").read_text("utf-8")
    shipped = yaml.safe_load(text.replace("/blob/main/", f"/blob/v{__version__}/"))["groups"]
    for group in shipped:
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] != "LateScheduleEmpty"]
        for rule in group["rules"]:
            rule["labels"]["team"] = "social"
    assert groups == shipped
    assert additional["rules"] == [{"alert": "Own", "expr": "late_up == 0"}]


def scrape_labels(resources: Sequence[Manifest], kind: str) -> list[object]:
    """Return the labels that the ServiceMonitor sets, on the target or on its metrics."""
    (endpoint,) = find_resource(resources, "ServiceMonitor")["spec"]["endpoints"]
    return [rule["targetLabel"] for rule in endpoint.get(kind, ())]


@pytest.mark.e2e
def test_instance_is_constant_only_for_pods_that_share_workspaces(helm: str) -> None:
    """Messages name the pod of a StatefulSet; series of a Deployment continue in its next pod."""
    scrape = "--set=serviceMonitor.enabled=true"
    single = render_release(helm, scrape)
    shared = render_release(helm, scrape, "--set=state.url=postgresql://late@db/late")
    assert scrape_labels(single, "relabelings") == ["job", "instance"]
    assert scrape_labels(single, "metricRelabelings") == []
    assert scrape_labels(shared, "relabelings") == ["job", "instance"]
    assert scrape_labels(shared, "metricRelabelings") == ["instance", "pod"]


@pytest.mark.e2e
def test_job_is_the_name_of_the_release(helm: str) -> None:
    """The rules know no job by its name, so it is that of the release."""
    settings = (f"--set={SECRET_SETTING}", "--set=serviceMonitor.enabled=true")
    resources = parse_documents(helm_template(helm, *settings, name="social"))
    (endpoint,) = find_resource(resources, "ServiceMonitor")["spec"]["endpoints"]
    job = {"targetLabel": "job", "replacement": "social-late-exporter"}
    assert endpoint["relabelings"][0] == job


@pytest.mark.e2e
def test_dashboards_are_the_shipped_ones(workspaces: Sequence[Manifest]) -> None:
    """Every dashboard is in a ConfigMap of its own, which the sidecar finds, and which can be applied."""
    maps = [each for each in workspaces if "grafana_dashboard" in each["metadata"]["labels"]]
    dashboards = {name: text for each in maps for name, text in each["data"].items()}
    links = ("/blob/main/", f"/blob/v{__version__}/")
    assert dashboards == {path.name: path.read_text("utf-8").replace(*links) for path in DASHBOARDS}
    assert all(len(text.encode()) < MAX_APPLY_BYTES for text in dashboards.values())


# Values and documents


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("apiKey.existingSecret=", "apiKey.existingSecret has to name a Secret with the API key of Zernio"),
        ("config.poll.intervall=1m", "additional properties 'intervall' not allowed"),
        ("config.poll.interval=abc", "'/config/poll/interval': 'abc' does not match pattern"),
        ("config.poll.feeds={publishing,conections}", "'/config/poll/feeds/1': value must be one of"),
        ("config.api.quota_share=80", "'/config/api/quota_share': maximum: got 80, want 1"),
        ("replicas=2", "replicas share a state in PostgreSQL: set state.url"),
        ("state.url=postgresql://late:secret@db/late", "'/state/url'"),
        ("state.existingSecret=late-database", "of no use without state.url"),
        (
            "workspaces[0].name=a,workspaces[0].key=b,workspaces[1].name=a,workspaces[1].key=c",
            "workspaces: two are called a; give each another name",
        ),
        (
            "prometheusRule.enabled=true,prometheusRule.rules.exclude={LatePostOverdue}",
            "prometheusRule.rules.exclude: there is no alert LatePostOverdue; the alerts are Late",
        ),
        (
            "prometheusRule.rules.additional[0].alert=Own",
            "'/prometheusRule/rules/additional/0': missing property 'expr'",
        ),
        (
            "prometheusRule.rules.additional[0].expr=late_up == 0",
            "'/prometheusRule/rules/additional/0': missing property 'alert'",
        ),
    ],
)
def test_wrong_values_are_rejected(helm: str, setting: str, message: str) -> None:
    """Wrong values are rejected with a message that names them, before they replace a running pod."""
    command = [helm, "template", "late", str(CHART), f"--set={SECRET_SETTING}", f"--set={setting}"]
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert process.returncode != 0
    assert message in process.stderr


@pytest.mark.e2e
def test_values_in_the_readme_render(helm: str, tmp_path: Path) -> None:
    """Every example of the README renders, each with a resource that the defaults do not have."""
    blocks = re.findall(r"^```yaml\n(.+?)^```$", (CHART / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 1
    defaults = render_release(helm)
    for block in blocks:
        file = tmp_path / "values.yaml"
        file.write_text(block, "utf-8")
        assert len(render_release(helm, "--values", file)) > len(defaults)


def test_chart_and_program_versions_match() -> None:
    """Chart and program have the same version, and the minimum Kubernetes version is tested."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"], chart["home"]) == (__version__, __version__, __url__)
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"


# Commands of docs/install.md, and the plain manifest


@pytest.mark.e2e
def test_install_command_works(helm: str) -> None:
    """The install command of docs/install.md creates everything it promises."""
    commands = install_commands("Helm").removesuffix("helm test late-exporter\n")
    install = commands.partition("helm install ")[2]
    # The chart of this version is in the registry only after its release.
    local = install.replace(f"oci://ghcr.io/late-exporter/charts/late-exporter --version {__version__}", str(CHART))
    assert local != install
    resources = parse_documents(run_script(f"helm template {local}", ROOT, helm))
    kinds = {resource["kind"] for resource in resources}
    assert {"StatefulSet", "Service", "ServiceMonitor", "PrometheusRule", "ConfigMap"} <= kinds
    assert find_resource(resources, "StatefulSet")["metadata"]["name"] == "late-exporter"


@pytest.mark.e2e
def test_plain_manifest_is_the_chart(helm: str) -> None:
    """The plain manifest is the chart with default values; ``python -m tests.deploy.golden`` updates it."""
    assert render_plain(helm) == PLAIN_MANIFEST.read_text("utf-8")
    assert_sound(parse_documents(PLAIN_MANIFEST.read_text("utf-8")))


@pytest.mark.e2e
def test_kubectl_commands_work(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The kubectl commands of docs/install.md work, as far as possible without a cluster."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    script = install_commands("Kubernetes").replace("kubectl apply --filename", "echo ---; cat")
    assert "echo ---" in script
    offline = script.replace("=late-api-key\n", "=late-api-key --dry-run=client --output=yaml\n")
    resources = parse_documents(run_script(offline, tmp_path, require_tool("kubectl")))
    secret = find_resource(resources, "Secret")
    keys = next(volume for volume in pod_spec(resources)["volumes"] if volume["name"] == "keys")
    assert keys["secret"]["secretName"] == secret["metadata"]["name"]
    key = base64.b64decode(secret["data"]["api-key"]).decode()
    settings = load_settings(resources, tmp_path / "pod", {"late-api-key": {"api-key": key}})
    assert [workspace.name for workspace in settings.workspaces] == ["default"]

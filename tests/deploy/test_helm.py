"""The Helm chart: rendered resources, rejected values, documentation; and the plain manifest made of it."""

from __future__ import annotations

import base64
import re
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trustme
import yaml

from deploy.chart import CHART, ROOT, parse_values
from late_exporter import __url__, __version__
from tests.deploy.assertions import assert_sound
from tests.deploy.golden import FOLDER, PLAIN_MANIFEST, VALUES_FILES, render, render_plain
from tests.deploy.manifests import (
    SECRET_SETTING,
    VERSIONS,
    container_spec,
    find_resource,
    helm_template,
    install_commands,
    load_settings,
    parse_documents,
    pod_spec,
    render_release,
    run_script,
)
from tests.e2e.program import run_command

pytestmark = pytest.mark.helm

RULES = ROOT / "deploy/prometheus"
DASHBOARDS = sorted((ROOT / "grafana/dashboards").glob("*.json"))
MAX_APPLY_BYTES = 1 << 18
"""Size limit of annotations; ``kubectl apply`` stores the whole object in one."""


@pytest.fixture(scope="module", autouse=True)
def _packaged_files() -> None:
    """Copy rules and dashboards into the chart, as its package has them."""
    run_command(ROOT / ".ci/chart")


# Rendered resources


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES_FILES)
def test_typical_values_render_valid_resources(helm: str, name: str) -> None:
    """Typical values render a restricted exporter; ``python -m tests.deploy.golden`` updates the golden files."""
    assert_sound(parse_documents(helm_template(helm, "--values", VALUES_FILES[name])))
    assert render(helm, name) == (FOLDER / f"{name}.yaml").read_text("utf-8")


@pytest.mark.e2e
def test_program_reads_workspaces_and_options(helm: str, tmp_path: Path) -> None:
    """The program gets workspaces and options from the values."""
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES["workspaces"]))
    settings = load_settings(resources, tmp_path, {"late-api-keys": {"brand": "sk_1", "agency": "sk_2"}})
    assert [(each.name, each.base_url, each.profile_id, each.labels) for each in settings.workspaces] == [
        ("brand", "https://zernio.com/api", "6507a1b2c3d4e5f6a7b8c9d0", (("team", "social"),)),
        ("agency", "https://late.example.com/api", None, ()),
    ]
    assert settings.poll.interval == 60.0
    assert settings.poll.feeds == ("publishing",)
    assert settings.metrics.max_accounts == 2_000_000
    assert settings.metrics.created_timestamps
    (scrape,) = find_resource(resources, "ServiceMonitor")["spec"]["endpoints"]
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
@pytest.mark.parametrize(
    ("settings", "probe"),
    [
        ((), {"httpGet": {"path": "/-/healthy", "port": "metrics", "scheme": "HTTPS"}}),
        (("webConfig.tls=false",), {"httpGet": {"path": "/-/healthy", "port": "metrics"}}),
        (("webConfig.clientCertificates=true",), {"tcpSocket": {"port": "metrics"}}),
    ],
)
def test_probes_match_the_tls_settings(helm: str, settings: Sequence[str], probe: dict[str, object]) -> None:
    """Probes use TLS if the exporter does, and only open the port if client certificates are required."""
    resources = render_release(helm, "webConfig.existingSecret=late-web", *settings)
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert probe.items() <= container_spec(resources)[name].items()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "settings", "job"),
    [
        ("late", (), "late-late-exporter"),
        ("late-exporter", (), "late-exporter"),
        ("metrics", (), "late-metrics-late-exporter"),
        ("metrics", ("fullnameOverride=late",), "late"),
        ("metrics", ("serviceMonitor.job=late-brand",), "late-brand"),
    ],
)
def test_job_name_matches_the_rules(helm: str, name: str, settings: Sequence[str], job: str) -> None:
    """For any release name, the job name matches the rules."""
    resources = render_release(helm, "serviceMonitor.enabled=true", *settings, name=name)
    (scrape,) = find_resource(resources, "ServiceMonitor")["spec"]["endpoints"]
    assert scrape["relabelings"] == [{"targetLabel": "job", "replacement": job}]


@pytest.mark.e2e
def test_network_policy_is_minimal(helm: str) -> None:
    """Without peers only the pod of helm test can connect, and egress is limited to DNS and HTTPS to the internet."""
    resources = render_release(helm, "networkPolicy.enabled=true", values={"networkPolicy.namespaces": []})
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
def test_rules_are_the_shipped_ones(helm: str) -> None:
    """The PrometheusRules have the rules of the files; alerts can be left out and added."""
    exclude = "prometheusRule.rules.exclude={LatePollStale}"
    own = {"alert": "Own", "expr": "late_up == 0"}
    values = {"prometheusRule.rules.additional": [own]}
    resources = render_release(helm, "prometheusRule.enabled=true", exclude, values=values)

    rules = find_resource(resources, "PrometheusRule", "late-exporter-rules")["spec"]["groups"]
    assert rules == yaml.safe_load((RULES / "late-exporter.rules.yml").read_text("utf-8"))["groups"]

    *groups, additional = find_resource(resources, "PrometheusRule", "late-exporter-alerts")["spec"]["groups"]
    alerts = [rule for group in groups for rule in group["rules"]]
    shipped = yaml.safe_load((RULES / "late-exporter.alerts.yml").read_text("utf-8"))["groups"]
    all_alerts = [rule for group in shipped for rule in group["rules"]]
    assert alerts == [rule for rule in all_alerts if rule["alert"] != "LatePollStale"]
    assert additional["rules"] == [own]


@pytest.mark.e2e
def test_dashboards_are_the_shipped_ones(helm: str) -> None:
    """Every dashboard is in a ConfigMap of its own, which the sidecar finds, and which can be applied."""
    resources = render_release(helm, "grafanaDashboards.enabled=true")
    maps = [resource for resource in resources if resource["kind"] == "ConfigMap"]
    dashboards = {name: text for each in maps for name, text in each["data"].items()}
    assert dashboards == {path.name: path.read_text("utf-8") for path in DASHBOARDS}
    for each in maps:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert all(len(text.encode()) < MAX_APPLY_BYTES for text in each["data"].values())


@pytest.mark.e2e
def test_package_contents(helm: str, tmp_path: Path) -> None:
    """The package has the program's version, the rules and the dashboards, and no examples."""
    run_command(helm, "package", CHART, "--destination", tmp_path)
    with tarfile.open(tmp_path / f"late-exporter-{__version__}.tgz") as archive:
        names = {name.removeprefix("late-exporter/") for name in archive.getnames()}
    assert {"files/rules/late-exporter.alerts.yml", "files/dashboards/late-overview.json"} <= names
    assert [name for name in names if name.startswith("ci/")] == []


# Values and documents


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("apiKey.existingSecret=",), "apiKey.existingSecret has to name a Secret with the API key of Zernio"),
        (("config.poll.intervall=1m",), "additional properties 'intervall' not allowed"),
        (("config.poll.interval=abc",), "'/config/poll/interval': 'abc' does not match pattern"),
        (("config.poll.feeds={publishing,conections}",), "'/config/poll/feeds/1': value must be one of"),
        (("config.api.quota_share=80",), "'/config/api/quota_share': maximum: got 80, want 1"),
        (("config.log.level=verbose",), "'/config/log/level': value must be one of"),
        (("replicas=2",), "replicas share a state in PostgreSQL: set state.url"),
        (("state.url=postgresql://late:secret@db/late",), "'/state/url'"),
        (("state.existingSecret=late-database",), "of no use without state.url"),
        (("webConfig.certificateSecret=late-tls",), "of no use without webConfig.existingSecret"),
        (("podDisruptionBudget.minAvailable=1", "podDisruptionBudget.maxUnavailable=1"), "maxProperties"),
    ],
)
def test_wrong_values_are_rejected(helm: str, settings: Sequence[str], message: str) -> None:
    """Wrong values are rejected with a message that names them, before they replace a running pod."""
    flags = [f"--set={setting}" for setting in (SECRET_SETTING, *settings)]
    process = subprocess.run(
        [helm, "template", "late", CHART, *flags], check=False, capture_output=True, text=True, timeout=60
    )
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
        text = helm_template(helm, f"--set={SECRET_SETTING}", "--values", file)
        assert len(parse_documents(text)) > len(defaults)


def test_every_value_has_a_description() -> None:
    """Each value has a sentence in values.yaml and thus a row in the table."""
    values = list(parse_values((CHART / "values.yaml").read_text("utf-8")))
    assert [value.name for value in values if not value.description.endswith(".")] == []
    assert len({value.name for value in values}) == len(values)


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

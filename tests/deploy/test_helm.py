"""The Helm chart: rendered resources, rejected values, and documentation."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from deploy.kubernetes.files import CHART, ROOT
from late_exporter import __url__, __version__
from tests.deploy.assertions import (
    MONITORS,
    assert_probes,
    assert_scrape_config,
    assert_sound,
    assert_web_config,
    certificates,
)
from tests.deploy.golden import FOLDER, VALUES_FILES, render
from tests.deploy.manifests import (
    VERSIONS,
    container_spec,
    find_resource,
    helm_template,
    install_commands,
    load_settings,
    parse_documents,
    render_release,
    run_script,
)
from tests.e2e.program import run_command

pytestmark = pytest.mark.helm


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES_FILES)
def test_render_equals_golden_file(helm: str, name: str) -> None:
    """The rendered chart equals the golden files; ``python -m tests.deploy.golden`` updates them."""
    assert (FOLDER / f"{name}.yaml").read_text("utf-8") == render(helm, name)


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES_FILES)
def test_typical_values_render_valid_resources(helm: str, name: str) -> None:
    """Typical values render valid resources of one restricted exporter with matching selectors."""
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES[name]))
    assert_sound(resources)
    assert {"monitored", "monitoring"} >= {resource["metadata"]["namespace"] for resource in resources}


@pytest.mark.e2e
def test_defaults_need_only_a_secret(helm: str) -> None:
    """Defaults need only a Secret, and use built-in resources."""
    resources = render_release(helm)
    kinds = ["Pod", "Service", "ServiceAccount", "StatefulSet"]  # the Pod is that of helm test
    assert kinds == sorted(resource["kind"] for resource in resources)
    assert_probes(resources)
    assert container_spec(resources)["image"] == f"ghcr.io/{__url__.removeprefix('https://github.com/')}:{__version__}"


@pytest.mark.e2e
def test_program_reads_workspaces_and_options(helm: str, tmp_path: Path) -> None:
    """The program gets workspaces and options from the values."""
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES["workspaces"]))
    settings = load_settings(resources, tmp_path, {"late-api-keys": {"brand": "sk_1", "agency": "sk_2"}})
    assert [(each.name, each.base_url, each.profile_id, each.labels) for each in settings.workspaces] == [
        ("brand", "https://zernio.com/api", "6507a1b2c3d4e5f6a7b8c9d0", (("team", "social"),)),
        ("agency", "https://late.example.com/api", None, ()),
    ]
    assert (
        settings.poll.interval,
        settings.poll.feeds,
        settings.metrics.max_accounts,
    ) == (60.0, ("publishing",), 2_000_000)
    assert settings.metrics.created_timestamps
    (scrape,) = find_resource(resources, "ServiceMonitor")["spec"]["endpoints"]
    assert settings.web.telemetry_path == scrape["path"]


@pytest.mark.e2e
def test_program_finds_the_web_config(helm: str, tmp_path: Path) -> None:
    """The program finds the web configuration and its certificate, which come from two Secrets."""
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES["tls"]))
    web = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
    secrets = {"late-api-key": {"api-key": "sk_1"}, "late-web": {"web.yml": web}, "late-tls": certificates()}
    assert_web_config(resources, tmp_path, secrets)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "probe"),
    [
        ((), "HTTPS"),
        (("webConfig.tls=false",), None),
        (("webConfig.clientCertificates=true",), "TCP"),
    ],
)
def test_probes_match_the_tls_settings(helm: str, settings: Sequence[str], probe: str | None) -> None:
    """Probes use TLS if the exporter does, and only open the port if client certificates are required."""
    resources = render_release(helm, "webConfig.existingSecret=late-web", *settings)
    if probe == "TCP":
        assert container_spec(resources)["livenessProbe"]["tcpSocket"] == {"port": "metrics"}
        assert container_spec(resources)["readinessProbe"]["tcpSocket"] == {"port": "metrics"}
    else:
        assert_probes(resources, probe)


@pytest.mark.e2e
@pytest.mark.parametrize("kind", MONITORS)
@pytest.mark.parametrize(
    ("name", "settings", "job"),
    [
        ("late", (), "late-late-exporter"),
        ("late-exporter", (), "late-exporter"),
        ("metrics", (), "late-metrics-late-exporter"),
        ("metrics", ("fullnameOverride=late",), "late"),
        ("metrics", ("fullnameOverride=latest",), "late-latest"),
        ("metrics", ("job=late-brand",), "late-brand"),
    ],
)
def test_job_name_matches_the_rules(helm: str, kind: str, name: str, settings: Sequence[str], job: str) -> None:
    """For any release name, the job name matches the rules."""
    value = f"{kind[0].lower()}{kind[1:]}.enabled=true"
    resources = render_release(helm, value, *settings, name=name)
    monitor = find_resource(resources, kind)
    assert_scrape_config(monitor, monitor["metadata"]["labels"])
    (scrape,) = monitor["spec"][MONITORS[kind]]
    assert job == scrape["relabelings"][0]["replacement"]


@pytest.mark.e2e
def test_empty_peer_list_denies_scrapes(helm: str) -> None:
    """Without peers the network policy allows only the pod of helm test to connect."""
    resources = render_release(helm, "networkPolicy.enabled=true", values={"networkPolicy.namespaces": []})
    (rule,) = find_resource(resources, "NetworkPolicy")["spec"]["ingress"]
    test = find_resource(resources, "Pod")["metadata"]["labels"]
    assert rule["from"] == [{"podSelector": {"matchLabels": test}}]
    assert not find_resource(resources, "Service")["spec"]["selector"].items() <= test.items()


@pytest.mark.e2e
def test_package_contents(helm: str, tmp_path: Path) -> None:
    """The package has the program's version, the rules and the dashboards, and no examples."""
    run_command(helm, "package", CHART, "--destination", tmp_path)
    with tarfile.open(tmp_path / f"late-exporter-{__version__}.tgz") as archive:
        names = set(archive.getnames())
    assert {"files/rules/late-exporter.alerts.yml", "files/dashboards/late-overview.json"} <= {
        name.removeprefix("late-exporter/") for name in names
    }
    assert [name for name in names if "/ci/" in name] == []


@pytest.mark.e2e
def test_install_commands_work(helm: str) -> None:
    """The install command of docs/install.md creates everything it promises."""
    secret, install = install_commands("Helm").removesuffix("helm test late-exporter\n").split("helm install ")
    assert install_commands("Kubernetes").startswith(secret)
    # The chart of this version is in the registry only after its release.
    local = install.replace(f"oci://ghcr.io/late-exporter/charts/late-exporter --version {__version__}", str(CHART))
    assert local != install
    script = f"helm template {local}"
    resources = parse_documents(run_script(script, ROOT, helm))
    kinds = {resource["kind"] for resource in resources}
    assert {"StatefulSet", "Service", "ServiceMonitor", "PrometheusRule", "ConfigMap"} <= kinds
    assert find_resource(resources, "StatefulSet")["metadata"]["name"] == "late-exporter"


def test_chart_and_program_versions_match() -> None:
    """Chart and program have the same version, and the minimum Kubernetes version is tested."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (__version__, __version__, __url__) == (chart["version"], chart["appVersion"], chart["home"])
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("repository", "settings", "image"),
    [
        ("a/b", (), "ghcr.io/a/b:0.1.0"),
        ("a/b", ("image.registry=r.example:5000", "image.tag=v2"), "r.example:5000/a/b:v2"),
        ("a/b", ("global.imageRegistry=mirror.example",), "mirror.example/a/b:0.1.0"),
        ("quay.io/a/b", (), "quay.io/a/b:0.1.0"),
        ("localhost/b", (), "localhost/b:0.1.0"),
    ],
)
def test_image_names(helm: str, repository: str, settings: Sequence[str], image: str) -> None:
    """Registry, repository and tag make the name of the image, for the exporter and for helm test."""
    resources = render_release(helm, f"image.repository={repository}", *settings)
    (test,) = find_resource(resources, "Pod")["spec"]["containers"]
    assert (image, image) == (container_spec(resources)["image"], test["image"])

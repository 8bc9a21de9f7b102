"""The Helm chart: rendered resources, rejected values, and documentation."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.chart import parse_values
from deploy.kubernetes.files import CHART, ROOT
from late_exporter import __url__, __version__
from tests.deploy.assertions import (
    MONITORS,
    assert_dashboards,
    assert_known_fields,
    assert_one_writer,
    assert_probes,
    assert_restricted,
    assert_rules,
    assert_scrape_config,
    assert_selectors,
    assert_valid,
    assert_web_config,
    certificates,
)
from tests.deploy.golden import FOLDER, VALUES_FILES, render
from tests.deploy.manifests import (
    GRAFANA,
    VERSIONS,
    Manifest,
    container_spec,
    find_resource,
    helm_template,
    install_commands,
    load_settings,
    parse_documents,
    pod_spec,
    run_script,
)

pytestmark = pytest.mark.helm

VALUES_YAML = (CHART / "values.yaml").read_text("utf-8")
SECRET_SETTING = "apiKey.existingSecret=late-api-key"


@pytest.fixture(scope="session")
def helm(require_tool: Callable[[str], str]) -> str:
    """Return the path of helm."""
    return require_tool("helm")


def render_release(helm: str, *settings: str, name: str = "late") -> list[Manifest]:
    """Return the resources of a release with the given values and the name of the Secret."""
    return parse_documents(
        helm_template(helm, *(f"--set={setting}" for setting in (SECRET_SETTING, *settings)), name=name)
    )


def helm_error(helm: str, *settings: str) -> str:
    """Return the error message of helm for invalid values."""
    command = [helm, "template", "late", str(CHART), *(f"--set={setting}" for setting in settings)]
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert 0 != process.returncode
    return process.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES_FILES)
def test_render_equals_golden_file(helm: str, name: str) -> None:
    """The rendered chart equals the golden files; ``python -m tests.deploy.golden`` updates them."""
    assert (FOLDER / f"{name}.yaml").read_text("utf-8") == render(helm, name)


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES_FILES)
def test_chart_passes_helm_lint(helm: str, name: str) -> None:
    """Helm lint reports no warnings."""
    command = [helm, "lint", "--strict", str(CHART), "--values", str(VALUES_FILES[name])]
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (0, 0) == (process.returncode, process.stdout.count("[WARNING]")), process.stdout + process.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES_FILES)
def test_typical_values_render_valid_resources(helm: str, name: str, tmp_path: Path) -> None:
    """Typical values render valid resources of one restricted exporter with matching selectors."""
    text = helm_template(helm, "--values", VALUES_FILES[name])
    resources = parse_documents(text)
    assert_valid(text, tmp_path)
    assert_restricted(resources)
    assert_one_writer(resources)
    assert_selectors(resources)
    assert_known_fields(resources)
    assert {"monitored"} == {resource["metadata"]["namespace"] for resource in resources}


@pytest.mark.e2e
def test_defaults_need_only_a_secret(helm: str) -> None:
    """Defaults need only a Secret, use built-in resources, and let only Prometheus connect."""
    resources = render_release(helm)
    kinds = ["NetworkPolicy", "Service", "ServiceAccount", "StatefulSet"]
    assert kinds == sorted(resource["kind"] for resource in resources)
    assert_probes(resources)
    assert f"ghcr.io/{__url__.removeprefix('https://github.com/')}:{__version__}" == container_spec(resources)["image"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "apiKey.existingSecret has to name a Secret with the API key of Zernio"),
        ((SECRET_SETTING, "apiKey.value=sk_1"), "additional properties 'value' not allowed"),
        ((SECRET_SETTING, "replicas=2"), "additional properties 'replicas' not allowed"),
        ((SECRET_SETTING, "config.pol.interval=1m"), "additional properties 'pol' not allowed"),
        ((SECRET_SETTING, "config.poll.intervall=1m"), "additional properties 'intervall' not allowed"),
        ((SECRET_SETTING, "config.state.url=sqlite://"), "additional properties 'state' not allowed"),
        ((SECRET_SETTING, "monitor.job=late|x"), "'/monitor/job'"),
        ((SECRET_SETTING, "monitor.kind=Probe"), "'/monitor/kind'"),
        ((SECRET_SETTING, "persistence.accessMode=ReadWriteMany"), "'/persistence/accessMode'"),
        ((SECRET_SETTING, "terminationGracePeriodSeconds=1"), "'/terminationGracePeriodSeconds'"),
        ((SECRET_SETTING, "workspaces[0].name=brand"), "missing property 'key'"),
        ((SECRET_SETTING, "webConfig.certificateSecret=late-tls"), "of no use without webConfig.existingSecret"),
    ],
)
def test_invalid_values_are_rejected(helm: str, settings: Sequence[str], message: str) -> None:
    """Invalid values are rejected with a message that names them."""
    assert message in helm_error(helm, *settings)


@pytest.mark.e2e
def test_program_finds_the_api_key(helm: str, tmp_path: Path) -> None:
    """The program finds the API key named in the values and stores its state on the volume."""
    settings = load_settings(render_release(helm, "apiKey.key=token"), tmp_path, {"late-api-key": {"token": "sk_1"}})
    assert [tmp_path / "etc/late-exporter/keys/token"] == [each.key_file for each in settings.workspaces]
    assert settings.state.url.startswith(f"sqlite:///{tmp_path}/var/lib/late-exporter/")


@pytest.mark.e2e
def test_program_reads_workspaces_and_options(helm: str, tmp_path: Path) -> None:
    """The program gets workspaces and options from the values."""
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES["workspaces"]))
    settings = load_settings(resources, tmp_path, {"late-api-keys": {"brand": "sk_1", "agency": "sk_2"}})
    assert [("brand", "https://zernio.com/api"), ("agency", "https://late.example.com/api")] == [
        (each.name, each.base_url) for each in settings.workspaces
    ]
    assert (60.0, ("publishing",), 2_000_000) == (
        settings.poll.interval,
        settings.poll.feeds,
        settings.metrics.max_accounts,
    )
    assert settings.metrics.created_timestamps
    (scrape,) = find_resource(resources, "ServiceMonitor")["spec"]["endpoints"]
    assert settings.web.telemetry_path == scrape["path"]


@pytest.mark.e2e
def test_changed_option_restarts_the_pod(helm: str) -> None:
    """Changing an option restarts the pod; the same options do not."""

    def annotations(*settings: str) -> Any:
        return find_resource(render_release(helm, *settings), "StatefulSet")["spec"]["template"]["metadata"][
            "annotations"
        ]

    assert annotations("config.poll.interval=1m") == annotations("config.poll.interval=1m")
    assert annotations("config.poll.interval=1m") != annotations("config.poll.interval=2m")


@pytest.mark.e2e
def test_program_finds_the_web_config(helm: str, tmp_path: Path) -> None:
    """The program finds the web configuration and its certificate, which come from two Secrets."""
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES["tls"]))
    web = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
    secrets = {"late-api-key": {"api-key": "sk_1"}, "late-web": {"web.yml": web}, "late-tls": certificates()}
    assert_web_config(resources, tmp_path, secrets)


@pytest.mark.e2e
def test_own_unauthenticated_paths_replace_that_of_the_probes(helm: str, tmp_path: Path) -> None:
    """Paths in ``config`` are in force, although a variable would win over the file."""
    path = "config.web.unauthenticated_paths=/metrics"
    resources = render_release(helm, "webConfig.existingSecret=late-web", path)
    secrets = {"late-api-key": {"api-key": "sk_1"}, "late-web": {"web.yml": "basic_auth_users: {}\n"}}
    assert ("/metrics",) == load_settings(resources, tmp_path, secrets).web.unauthenticated_paths


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
        assert {"port": "metrics"} == container_spec(resources)["livenessProbe"]["tcpSocket"]
        assert {"port": "metrics"} == container_spec(resources)["readinessProbe"]["tcpSocket"]
    else:
        assert_probes(resources, probe)


@pytest.mark.e2e
@pytest.mark.parametrize("kind", MONITORS)
@pytest.mark.parametrize(
    ("name", "settings", "job"),
    [
        ("late", (), "late-late-exporter"),
        ("late-exporter", (), "late-exporter"),
        ("late-exporter-brand", (), "late-exporter-brand"),
        ("metrics", (), "late-metrics-late-exporter"),
        ("metrics", ("fullnameOverride=late",), "late"),
        ("metrics", ("fullnameOverride=latest",), "late-latest"),
        ("metrics", ("monitor.job=late-brand",), "late-brand"),
    ],
)
def test_job_name_matches_the_rules(helm: str, kind: str, name: str, settings: Sequence[str], job: str) -> None:
    """For any release name, the job name matches the rules."""
    resources = render_release(helm, "monitor.enabled=true", f"monitor.kind={kind}", *settings, name=name)
    monitor = find_resource(resources, kind)
    assert_scrape_config(monitor, monitor["metadata"]["labels"])
    (scrape,) = monitor["spec"][MONITORS[kind]]
    assert job == scrape["relabelings"][0]["replacement"]


@pytest.mark.e2e
@pytest.mark.parametrize(("job", "jobs"), [("social", "social"), ("late-brand", "late|late-.*"), ("", "late|late-.*")])
def test_rules_know_the_job(helm: str, job: str, jobs: str) -> None:
    """A job of another name is known to the rules, too."""
    settings = (SECRET_SETTING, "prometheusRule.enabled=true", f"monitor.job={job}")
    text = helm_template(helm, f"--set={','.join(settings)}")
    assert {jobs} == set(re.findall(r'\bup\{job=~"([^"]+)"\}', text))


@pytest.mark.e2e
def test_rules_are_complete(helm: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The PrometheusRules contain all rules and alerts, and link to the configured Grafana."""
    url = "https://grafana.example.com"
    text = helm_template(helm, f"--set={SECRET_SETTING},prometheusRule.enabled=true,prometheusRule.grafanaUrl={url}")
    assert_rules(parse_documents(text), require_tool("promtool"), tmp_path)
    assert f"dashboard_url: {url}/d/late-overview?" in text
    assert GRAFANA not in text


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("setting", "labelled_count", "operator_count"),
    [
        ("dashboards.enabled=true", 4, 0),
        ("grafanaOperator.enabled=true", 0, 4),
        ("dashboards.enabled=true,grafanaOperator.enabled=true", 4, 4),
    ],
)
def test_dashboards_are_provided(helm: str, setting: str, labelled_count: int, operator_count: int) -> None:
    """Every dashboard is provided for the sidecar, for Grafana Operator, or for both."""
    resources = render_release(helm, setting)
    assert_dashboards(resources)
    assert labelled_count == sum(
        resource["metadata"]["labels"].get("grafana_dashboard") == "1" for resource in resources
    )
    assert operator_count == sum(resource["kind"] == "GrafanaDashboard" for resource in resources)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "volume"),
    [
        (("persistence.enabled=false",), {"emptyDir": {"sizeLimit": "1Gi"}}),
        (("persistence.existingClaim=mine",), {"persistentVolumeClaim": {"claimName": "mine"}}),
    ],
)
def test_state_volume_can_be_replaced(helm: str, settings: Sequence[str], volume: dict[str, Any]) -> None:
    """The state can use an existing claim, or an emptyDir."""
    resources = render_release(helm, *settings)
    assert "volumeClaimTemplates" not in find_resource(resources, "StatefulSet")["spec"]
    assert {"name": "state", **volume} in pod_spec(resources)["volumes"]


@pytest.mark.e2e
def test_platform_can_choose_user_ids(helm: str) -> None:
    """The chart can leave user ids to the platform, and still requires a non-root user."""
    numbers = ("runAsUser", "runAsGroup", "fsGroup")
    security = pod_spec(render_release(helm, *(f"podSecurityContext.{number}=null" for number in numbers)))[
        "securityContext"
    ]
    assert set() == set(numbers) & security.keys()
    assert security["runAsNonRoot"] is True


@pytest.mark.e2e
def test_empty_peer_list_denies_scrapes(helm: str) -> None:
    """Without peers the network policy allows no one to scrape."""
    text = helm_template(helm, f"--set={SECRET_SETTING}", "--set-json=networkPolicy.scrapeFrom=[]")
    assert [] == find_resource(parse_documents(text), "NetworkPolicy")["spec"]["ingress"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "present", "absent"),
    [
        ((), "Prometheus does not scrape it yet", "WITHOUT A VOLUME"),
        (("monitor.enabled=true", "persistence.enabled=false"), "WITHOUT A VOLUME", "Prometheus does not scrape it"),
    ],
)
def test_notes_mention_missing_steps(helm: str, settings: Sequence[str], present: str, absent: str) -> None:
    """The notes mention missing steps and risks."""
    command = [
        helm,
        "install",
        "late",
        str(CHART),
        "--dry-run=client",
        *(f"--set={each}" for each in (SECRET_SETTING, *settings)),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    notes = output.partition("NOTES:")[2]
    assert present in notes
    assert absent not in notes


@pytest.mark.e2e
def test_package_contents(helm: str, tmp_path: Path) -> None:
    """The package has the program's version, the rules and the dashboards, and no examples."""
    subprocess.run([helm, "package", CHART, "--destination", tmp_path], check=True, capture_output=True, timeout=60)
    with tarfile.open(tmp_path / f"late-exporter-{__version__}.tgz") as archive:
        names = set(archive.getnames())
    assert {"files/rules/late-exporter.alerts.yml", "files/dashboards/late-overview.json"} <= {
        name.removeprefix("late-exporter/") for name in names
    }
    assert [] == [name for name in names if "/ci/" in name]


@pytest.mark.e2e
def test_install_commands_work(helm: str) -> None:
    """The install command of docs/install.md creates everything it promises."""
    secret, install = install_commands("Helm").split("helm install ")
    assert install_commands("Kubernetes").startswith(secret)
    script = f"helm template {install}"
    resources = parse_documents(run_script(script, ROOT, helm))
    kinds = {resource["kind"] for resource in resources}
    assert {"StatefulSet", "NetworkPolicy", "ServiceMonitor", "PrometheusRule", "ConfigMap"} <= kinds
    assert "late-exporter" == find_resource(resources, "StatefulSet")["metadata"]["name"]


def test_chart_and_program_versions_match() -> None:
    """Chart and program have the same version, and the minimum Kubernetes version is tested."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (__version__, __version__, __url__) == (chart["version"], chart["appVersion"], chart["home"])
    assert f">={VERSIONS[0]}.0-0" == chart["kubeVersion"]


def test_every_value_has_a_description() -> None:
    """Each value has a sentence in values.yaml and thus a row in the table."""
    assert [] == [value.name for value in parse_values(VALUES_YAML) if not value.description.endswith(".")]
    assert len({value.name for value in parse_values(VALUES_YAML)}) > 50


def test_value_without_comment_has_no_description() -> None:
    """A key without a comment has no description; a key with a comment includes its children."""
    text = "a:\n  # What b is,\n  # and why.\n  b:\n    c: 1\n  d: []\n"
    rows = [(value.name, value.default, value.description) for value in parse_values(text)]
    assert [("a.b", {"c": 1}, "What b is, and why."), ("a.d", [], "")] == rows


def test_schema_covers_every_value() -> None:
    """The schema allows exactly the values in values.yaml, plus Helm's globals."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    settings = yaml.safe_load(VALUES_YAML)
    assert {*settings, "global"} == schema["properties"].keys()
    assert schema["additionalProperties"] is False
    for name, part in schema["properties"].items():
        if part.get("properties") and settings[name]:
            assert settings[name].keys() == part["properties"].keys(), name
            assert part["additionalProperties"] is False

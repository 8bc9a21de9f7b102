"""The Helm chart: what it renders, what it refuses, and what it says of itself."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.chart import values
from deploy.kubernetes.files import CHART, ROOT
from late_exporter import __url__, __version__
from tests.deploy.checks import (
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
    GRAFANA,
    VERSIONS,
    Manifest,
    container,
    documents,
    loaded,
    named,
    pod,
    readme,
    shell,
    template,
)
from tests.deploy.renders import FOLDER, VALUES, render

pytestmark = pytest.mark.helm

TEXT = (CHART / "values.yaml").read_text("utf-8")
NAMED = "apiKey.existingSecret=late-api-key"


@pytest.fixture(scope="session")
def helm(require_tool: Callable[[str], str]) -> str:
    """The program."""
    return require_tool("helm")


def rendered(helm: str, *settings: str, name: str = "late") -> list[Manifest]:
    """The resources of a release with some values, beside the name of the Secret."""
    return documents(template(helm, *(f"--set={setting}" for setting in (NAMED, *settings)), name=name))


def refusal(helm: str, *settings: str) -> str:
    """What helm says of values that it does not render."""
    command = [helm, "template", "late", str(CHART), *(f"--set={setting}" for setting in settings)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert 0 != done.returncode
    return done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES)
def test_golden(helm: str, name: str) -> None:
    """Nothing in what is rendered has changed unawares; ``python -m tests.deploy.renders`` writes the copies anew."""
    assert (FOLDER / f"{name}.yaml").read_text("utf-8") == render(helm, name)


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES)
def test_lint(helm: str, name: str) -> None:
    """Helm's linter has nothing to complain of."""
    command = [helm, "lint", "--strict", str(CHART), "--values", str(VALUES[name])]
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (0, 0) == (said.returncode, said.stdout.count("[WARNING]")), said.stdout + said.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES)
def test_what_is_deployed(helm: str, name: str, tmp_path: Path) -> None:
    """Typical values make valid resources of one confined exporter that is found by those who look for it."""
    text = template(helm, "--values", VALUES[name])
    resources = documents(text)
    assert_valid(text, tmp_path)
    assert_confined(resources)
    assert_one_writer(resources)
    assert_selectors(resources)
    assert_known_fields(resources)
    assert {"monitored"} == {resource["metadata"]["namespace"] for resource in resources}


@pytest.mark.e2e
def test_defaults(helm: str) -> None:
    """With nothing but a Secret it is made of what every cluster knows, and closed to all but Prometheus."""
    resources = rendered(helm)
    kinds = ["NetworkPolicy", "Service", "ServiceAccount", "StatefulSet"]
    assert kinds == sorted(resource["kind"] for resource in resources)
    assert_probes(resources)
    assert f"ghcr.io/{__url__.removeprefix('https://github.com/')}:{__version__}" == container(resources)["image"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "apiKey.existingSecret has to name a Secret with the API key of Late"),
        ((NAMED, "apiKey.value=sk_1"), "additional properties 'value' not allowed"),
        ((NAMED, "replicas=2"), "additional properties 'replicas' not allowed"),
        ((NAMED, "config.pol.interval=1m"), "additional properties 'pol' not allowed"),
        ((NAMED, "config.poll.intervall=1m"), "additional properties 'intervall' not allowed"),
        ((NAMED, "config.state.url=sqlite://"), "additional properties 'state' not allowed"),
        ((NAMED, "monitor.job=blackbox"), "'/monitor/job'"),
        ((NAMED, "monitor.kind=Probe"), "'/monitor/kind'"),
        ((NAMED, "persistence.accessMode=ReadWriteMany"), "'/persistence/accessMode'"),
        ((NAMED, "terminationGracePeriodSeconds=1"), "'/terminationGracePeriodSeconds'"),
        ((NAMED, "workspaces[0].name=brand"), "missing property 'key'"),
        ((NAMED, "webConfig.certificateSecret=late-tls"), "of no use without webConfig.existingSecret"),
    ],
)
def test_what_is_refused(helm: str, settings: Sequence[str], message: str) -> None:
    """Values that are wrong are refused by name."""
    assert message in refusal(helm, *settings)


@pytest.mark.e2e
def test_one_key(helm: str, tmp_path: Path) -> None:
    """The program finds the key that the values name, and the place of the state on the volume."""
    given = loaded(rendered(helm, "apiKey.key=token"), tmp_path, {"late-api-key": {"token": "sk_1"}})
    assert [tmp_path / "etc/late-exporter/keys/token"] == [each.key_file for each in given.workspaces]
    assert given.state.url.startswith(f"sqlite:///{tmp_path}/var/lib/late-exporter/")


@pytest.mark.e2e
def test_several_workspaces(helm: str, tmp_path: Path) -> None:
    """The program reads workspaces and options as the values have them."""
    resources = documents(template(helm, "--values", VALUES["workspaces"]))
    given = loaded(resources, tmp_path, {"late-api-keys": {"brand": "sk_1", "agency": "sk_2"}})
    assert [("brand", "https://getlate.dev/api"), ("agency", "https://late.example.com/api")] == [
        (each.name, each.base_url) for each in given.workspaces
    ]
    assert (60.0, ("publishing",), 2_000_000) == (given.poll.interval, given.poll.feeds, given.metrics.max_accounts)
    assert given.metrics.created_timestamps
    (scrape,) = named(resources, "ServiceMonitor")["spec"]["endpoints"]
    assert given.web.telemetry_path == scrape["path"]


@pytest.mark.e2e
def test_a_changed_option_is_a_new_pod(helm: str) -> None:
    """Options are read when the program starts, so that their change starts another; the same options do not."""

    def annotations(*settings: str) -> Any:
        return named(rendered(helm, *settings), "StatefulSet")["spec"]["template"]["metadata"]["annotations"]

    assert annotations("config.poll.interval=1m") == annotations("config.poll.interval=1m")
    assert annotations("config.poll.interval=1m") != annotations("config.poll.interval=2m")


@pytest.mark.e2e
def test_web_config(helm: str, tmp_path: Path) -> None:
    """The program finds the web configuration and its certificate, which come from two Secrets."""
    resources = documents(template(helm, "--values", VALUES["tls"]))
    web = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
    secrets = {"late-api-key": {"api-key": "sk_1"}, "late-web": {"web.yml": web}, "late-tls": certificates()}
    assert_secured(resources, tmp_path, secrets)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "probe"),
    [
        ((), "HTTPS"),
        (("webConfig.tls=false",), None),
        (("webConfig.clientCertificates=true",), "TCP"),
    ],
)
def test_probes(helm: str, settings: Sequence[str], probe: str | None) -> None:
    """Probes come by TLS where there is, and only knock where they would have to show a certificate."""
    resources = rendered(helm, "webConfig.existingSecret=late-web", *settings)
    if probe == "TCP":
        assert {"port": "metrics"} == container(resources)["livenessProbe"]["tcpSocket"]
        assert {"port": "metrics"} == container(resources)["readinessProbe"]["tcpSocket"]
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
def test_job(helm: str, kind: str, name: str, settings: Sequence[str], job: str) -> None:
    """Whatever the release is called, its job is one that the rules know."""
    resources = rendered(helm, "monitor.enabled=true", f"monitor.kind={kind}", *settings, name=name)
    monitor = named(resources, kind)
    assert_scraped(monitor, monitor["metadata"]["labels"])
    (scrape,) = monitor["spec"][MONITORS[kind]]
    assert job == scrape["relabelings"][0]["replacement"]


@pytest.mark.e2e
def test_rules(helm: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """Prometheus Operator gets all rules and alerts, which lead to the Grafana of the values."""
    url = "https://grafana.example.com"
    text = template(helm, f"--set={NAMED},prometheusRule.enabled=true,prometheusRule.grafanaUrl={url}")
    assert_rules(documents(text), require_tool("promtool"), tmp_path)
    assert f"dashboard_url: {url}/d/late-overview?" in text
    assert GRAFANA not in text


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("setting", "labelled", "kinds"),
    [
        ("dashboards.enabled=true", 4, 0),
        ("grafanaOperator.enabled=true", 0, 4),
        ("dashboards.enabled=true,grafanaOperator.enabled=true", 4, 4),
    ],
)
def test_dashboards(helm: str, setting: str, labelled: int, kinds: int) -> None:
    """Grafana gets every dashboard, by its sidecar, by its operator, or by both."""
    resources = rendered(helm, setting)
    assert_dashboards(resources)
    assert labelled == sum(resource["metadata"]["labels"].get("grafana_dashboard") == "1" for resource in resources)
    assert kinds == sum(resource["kind"] == "GrafanaDashboard" for resource in resources)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "volume"),
    [
        (("persistence.enabled=false",), {"emptyDir": {"sizeLimit": "1Gi"}}),
        (("persistence.existingClaim=mine",), {"persistentVolumeClaim": {"claimName": "mine"}}),
    ],
)
def test_volumes(helm: str, settings: Sequence[str], volume: dict[str, Any]) -> None:
    """The state may be in a claim that is there, or end with its pod."""
    resources = rendered(helm, *settings)
    assert "volumeClaimTemplates" not in named(resources, "StatefulSet")["spec"]
    assert {"name": "state", **volume} in pod(resources)["volumes"]


@pytest.mark.e2e
def test_users_of_the_platform(helm: str) -> None:
    """Where the platform chooses users, the chart names none, and still wants one that is not root."""
    numbers = ("runAsUser", "runAsGroup", "fsGroup")
    security = pod(rendered(helm, *(f"podSecurityContext.{number}=null" for number in numbers)))["securityContext"]
    assert set() == set(numbers) & security.keys()
    assert security["runAsNonRoot"] is True


@pytest.mark.e2e
def test_nobody_may_scrape(helm: str) -> None:
    """Without peers nobody gets in, and not everybody."""
    text = template(helm, f"--set={NAMED}", "--set-json=networkPolicy.scrapeFrom=[]")
    assert [] == named(documents(text), "NetworkPolicy")["spec"]["ingress"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "said", "unsaid"),
    [
        ((), "Nothing tells Prometheus to scrape it", "WITHOUT A VOLUME"),
        (("monitor.enabled=true", "persistence.enabled=false"), "WITHOUT A VOLUME", "Nothing tells Prometheus"),
    ],
)
def test_notes(helm: str, settings: Sequence[str], said: str, unsaid: str) -> None:
    """After an installation helm says what is still to be done, and what is at risk."""
    command = [
        helm,
        "install",
        "late",
        str(CHART),
        "--dry-run=client",
        *(f"--set={each}" for each in (NAMED, *settings)),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    notes = output.partition("NOTES:")[2]
    assert said in notes
    assert unsaid not in notes


@pytest.mark.e2e
def test_package(helm: str, tmp_path: Path) -> None:
    """The package has the version of the program, the rules and the dashboards, and no examples."""
    subprocess.run([helm, "package", CHART, "--destination", tmp_path], check=True, capture_output=True, timeout=60)
    with tarfile.open(tmp_path / f"late-exporter-{__version__}.tgz") as archive:
        names = set(archive.getnames())
    assert {"files/rules/late-exporter.alerts.yml", "files/dashboards/late-overview.json"} <= {
        name.removeprefix("late-exporter/") for name in names
    }
    assert [] == [name for name in names if "/ci/" in name]


@pytest.mark.e2e
def test_readme(helm: str) -> None:
    """What the README says installs all that it promises."""
    secret, install = readme("Helm").split("helm install ")
    assert readme("Kubernetes").startswith(secret)
    script = f"helm template {install}"
    resources = documents(shell(script, ROOT, helm))
    kinds = {resource["kind"] for resource in resources}
    assert {"StatefulSet", "NetworkPolicy", "ServiceMonitor", "PrometheusRule", "ConfigMap"} <= kinds
    assert "late-exporter" == named(resources, "StatefulSet")["metadata"]["name"]


def test_versions() -> None:
    """Chart and program have one version, and the chart asks for a Kubernetes that it is checked against."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (__version__, __version__, __url__) == (chart["version"], chart["appVersion"], chart["home"])
    assert f">={VERSIONS[0]}.0-0" == chart["kubeVersion"]


def test_every_value_is_explained() -> None:
    """Each value has a sentence in values.yaml, and with it a row in the table."""
    assert [] == [value.name for value in values(TEXT) if not value.meaning.endswith(".")]
    assert len({value.name for value in values(TEXT)}) > 50


def test_a_value_without_a_comment_is_noticed() -> None:
    """A key that nobody explains is a row without a meaning; one that is explained keeps what is below it."""
    text = "a:\n  # What b is,\n  # and why.\n  b:\n    c: 1\n  d: []\n"
    rows = [(value.name, value.default, value.meaning) for value in values(text)]
    assert [("a.b", {"c": 1}, "What b is, and why."), ("a.d", [], "")] == rows


def test_the_schema_knows_every_value() -> None:
    """What values.yaml has is what the schema lets through, and nothing else; globals are Helm's."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    given = yaml.safe_load(TEXT)
    assert {*given, "global"} == schema["properties"].keys()
    assert schema["additionalProperties"] is False
    for name, part in schema["properties"].items():
        if part.get("properties") and given[name]:
            assert given[name].keys() == part["properties"].keys(), name
            assert part["additionalProperties"] is False

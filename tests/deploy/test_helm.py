"""The Helm chart: rendered resources, rejected values, and documentation."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.chart import parse_values
from deploy.kubernetes.files import CHART, ROOT
from deploy.kubernetes.rule_templates import render_rules
from deploy.kubernetes.synonyms import SYNONYMS, UNUSED_VALUES
from late_exporter import __url__, __version__
from late_exporter.cli.parser import parse
from late_exporter.config.settings import OPTIONS
from late_exporter.config.sources import health_check_target
from late_exporter.config.types import Address
from tests.deploy.assertions import (
    MONITORS,
    OTHER_MONITORS,
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
    check_rules,
)
from tests.deploy.golden import FOLDER, VALUES_FILES, render
from tests.deploy.manifests import (
    VERSIONS,
    Manifest,
    container_spec,
    find_resource,
    helm_template,
    install_commands,
    load_settings,
    parse_documents,
    pod_spec,
    profile_violations,
    run_script,
)
from tests.rules.promql import selectors

pytestmark = pytest.mark.helm

VALUES_YAML = (CHART / "values.yaml").read_text("utf-8")
NORMALIZE = '{{- include "late-exporter.normalize" . -}}'
SECRET_SETTING = "apiKey.existingSecret=late-api-key"


@pytest.fixture(scope="session")
def helm(require_tool: Callable[[str], str]) -> str:
    """Return the path of helm."""
    return require_tool("helm")


def render_release(
    helm: str, *settings: str, name: str = "late", values: Mapping[str, object] | None = None
) -> list[Manifest]:
    """Return the resources of a release with the given values and the name of the Secret."""
    flags = [f"--set={setting}" for setting in (SECRET_SETTING, *settings)]
    flags += [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
    return parse_documents(helm_template(helm, *flags, name=name))


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
    assert {"monitored", "monitoring"} >= {resource["metadata"]["namespace"] for resource in resources}


@pytest.mark.e2e
def test_defaults_need_only_a_secret(helm: str) -> None:
    """Defaults need only a Secret, and use built-in resources."""
    resources = render_release(helm)
    kinds = ["Pod", "Service", "ServiceAccount", "StatefulSet"]  # the Pod is that of helm test
    assert kinds == sorted(resource["kind"] for resource in resources)
    assert_probes(resources)
    assert f"ghcr.io/{__url__.removeprefix('https://github.com/')}:{__version__}" == container_spec(resources)["image"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "apiKey.existingSecret has to name a Secret with the API key of Zernio"),
        ((SECRET_SETTING, "apiKey.value=sk_1"), "additional properties 'value' not allowed"),
        ((SECRET_SETTING, "config.pol.interval=1m"), "additional properties 'pol' not allowed"),
        ((SECRET_SETTING, "config.poll.intervall=1m"), "additional properties 'intervall' not allowed"),
        ((SECRET_SETTING, "config.state.url=sqlite://"), "additional properties 'state' not allowed"),
        ((SECRET_SETTING, "replicas=2"), "at '/replicas': value must be 1"),
        ((SECRET_SETTING, "serviceMonitor.intervall=1m"), "additional properties 'intervall' not allowed"),
        ((SECRET_SETTING, "serviceMonitor.defaults.intervall=1m"), "additional properties 'intervall' not allowed"),
        ((SECRET_SETTING, "job=late|x"), "'/job'"),
        ((SECRET_SETTING, "persistence.accessModes={ReadWriteMany}"), "'/persistence/accessModes/0'"),
        ((SECRET_SETTING, "prometheusRule.objective=99"), "'/prometheusRule/objective'"),
        ((SECRET_SETTING, "prometheusRule.objective=1.5"), "'/prometheusRule/objective'"),
        ((SECRET_SETTING, "prometheusRule.disabled={LateNothing}"), "there is no alert LateNothing"),
        ((SECRET_SETTING, "prometheusRule.overrides.LateNothing.for=1m"), "there is no alert LateNothing"),
        ((SECRET_SETTING, "prometheusRule.overrides.LateApiDrift.fro=1m"), "additional properties 'fro' not allowed"),
        ((SECRET_SETTING, "ingress.enabled=true"), "at '/ingress/enabled': value must be false"),
        ((SECRET_SETTING, "webhook.enabled=true"), "webhook.existingSecret has to name a Secret"),
        ((SECRET_SETTING, "webhook.ingress.enabled=true"), "set webhook.enabled too"),
        ((SECRET_SETTING, "config.webhook.path=/hook"), "additional properties 'path' not allowed"),
        ((SECRET_SETTING, "terminationGracePeriodSeconds=1"), "'/terminationGracePeriodSeconds'"),
        ((SECRET_SETTING, "workspaces[0].name=brand"), "missing property 'key'"),
        ((SECRET_SETTING, "webConfig.certificateSecret=late-tls"), "of no use without webConfig.existingSecret"),
    ],
)
def test_invalid_values_are_rejected(helm: str, settings: Sequence[str], message: str) -> None:
    """Invalid values are rejected with a message that names them."""
    assert message in helm_error(helm, *settings, "prometheusRule.enabled=true")


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
    assert [
        ("brand", "https://zernio.com/api", "6507a1b2c3d4e5f6a7b8c9d0"),
        ("agency", "https://late.example.com/api", None),
    ] == [(each.name, each.base_url, each.profile_id) for each in settings.workspaces]
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
@pytest.mark.parametrize("kind", MONITORS | OTHER_MONITORS)
def test_monitors_reach_the_exporter(helm: str, kind: str) -> None:
    """Every kind of monitor scrapes the path of the metrics, sets the job, and relabels as the values say."""
    value = f"{kind[:2].lower()}{kind[2:]}" if kind.startswith("VM") else f"{kind[0].lower()}{kind[1:]}"
    drop = {"sourceLabels": ["__name__"], "regex": "late_connection_.*", "action": "drop"}
    resources = render_release(
        helm,
        f"{value}.enabled=true",
        f"{value}.scrapeTimeout=7s",
        "config.web.telemetry_path=/late",
        values={f"{value}.metricRelabelings": [drop]},
    )
    assert_selectors(resources)
    assert_known_fields(resources)
    monitor = find_resource(resources, kind)
    (scrape,) = monitor["spec"][(MONITORS | OTHER_MONITORS)[kind]]
    assert ("/late", "30s", "7s") == (
        scrape["path"],
        scrape["interval"],
        scrape.get("scrapeTimeout", scrape.get("timeout")),
    )
    assert [drop] in [value for name, value in scrape.items() if name.startswith("metricRelabel")]
    jobs = [rule["replacement"] for name in scrape if name.startswith("relabel") for rule in scrape[name]]
    assert ["late-late-exporter"] == (jobs or [monitor["metadata"]["name"]])


@pytest.mark.e2e
def test_monitor_in_another_namespace_finds_the_exporter(helm: str) -> None:
    """A monitor in another namespace names that of the exporter; in the same one it needs not."""
    settings = ("serviceMonitor.enabled=true", "namespaceOverride=observed")
    monitor = find_resource(render_release(helm, *settings, "serviceMonitor.namespace=monitoring"), "ServiceMonitor")
    assert ("monitoring", ["observed"]) == (
        monitor["metadata"]["namespace"],
        monitor["spec"]["namespaceSelector"]["matchNames"],
    )
    monitor = find_resource(render_release(helm, *settings), "ServiceMonitor")
    assert ("observed", False) == (monitor["metadata"]["namespace"], "namespaceSelector" in monitor["spec"])


@pytest.mark.e2e
@pytest.mark.parametrize(("job", "jobs"), [("social", "social"), ("late-brand", "late|late-.*"), ("", "late|late-.*")])
def test_rules_know_the_job(helm: str, job: str, jobs: str) -> None:
    """A job of another name is known to the rules, too."""
    settings = (SECRET_SETTING, "prometheusRule.enabled=true", f"job={job}")
    text = helm_template(helm, f"--set={','.join(settings)}")
    assert {jobs} == set(re.findall(r'\bup\{job=~"([^"]+)"\}', text))


@pytest.mark.e2e
@pytest.mark.parametrize("setting", ["prometheusRule", "vmRule"])
def test_rules_are_complete(helm: str, setting: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The resources contain all rules and alerts as they are in the files, and link to the configured Grafana."""
    url = "https://grafana.example.com"
    text = helm_template(helm, f"--set={SECRET_SETTING},{setting}.enabled=true,prometheusRule.grafanaUrl={url}")
    kind = setting[:1].upper() + setting[1:] if setting != "vmRule" else "VMRule"
    assert_rules(parse_documents(text), require_tool("promtool"), tmp_path, kind=kind)
    assert f"dashboard_url: {url}/d/late-overview?" in text
    assert "localhost" not in text


@pytest.mark.e2e
@pytest.mark.parametrize("objective", ["0.995", "0.95", "0.9999"])
def test_rules_have_the_objective(helm: str, objective: str) -> None:
    """Another objective gives the rules that their source gives with it, to the last digit."""
    resources = render_release(helm, "prometheusRule.enabled=true", f"prometheusRule.objective={objective}")
    specs = {each["metadata"]["name"]: each["spec"] for each in resources if each["kind"] == "PrometheusRule"}
    for name, text in render_rules(float(objective)).items():
        expected = yaml.safe_load(text)
        assert objective in str(expected) + str(specs["late-late-exporter-rules"])
        assert comparable(expected) == comparable(specs[f"late-late-exporter-{name.split('.')[1]}"])


def comparable(rules: Any) -> str:
    """Return rules as text, with numbers of equal value written alike."""
    return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.10g}", json.dumps(rules, sort_keys=True))


@pytest.mark.e2e
def test_rules_select_the_exporters(helm: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """A selector is in all series of the exporters, and in none that rules record."""
    selector = 'namespace="it\'s, late", env!~"a|b{2}"'
    values = {"prometheusRule.selector": selector}
    resources = render_release(helm, "prometheusRule.enabled=true", values=values)
    groups = [group for each in resources if each["kind"] == "PrometheusRule" for group in each["spec"]["groups"]]
    exprs = [rule["expr"] for group in groups for rule in group["rules"]]
    plain = [expr.replace(f"{selector}, ", "").replace(f"{{{selector}}}", "") for expr in exprs]
    defaults = render_release(helm, "prometheusRule.enabled=true")
    groups = [group for each in defaults if each["kind"] == "PrometheusRule" for group in each["spec"]["groups"]]
    assert [rule["expr"] for group in groups for rule in group["rules"]] == plain
    found = [(series.name, "namespace" in series.matchers) for expr in exprs for series in selectors(expr)]
    assert len(found) > 250
    assert [] == [name for name, is_selected in found if (":" not in name) != is_selected]
    check_rules(resources, require_tool("promtool"), tmp_path)


def alerts_of(resources: Sequence[Manifest], name: str) -> list[Any]:
    """Return the alerts of a name."""
    groups = [group for each in resources if each["kind"] == "PrometheusRule" for group in each["spec"]["groups"]]
    return [rule for group in groups for rule in group["rules"] if rule.get("alert") == name]


@pytest.mark.e2e
def test_alerts_can_be_changed(helm: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """Alerts can be left out and changed one by one, all can get labels, and own ones be added."""
    override = {"for": "1h", "labels": {"severity": "info"}, "annotations": {"summary": "The API differs."}}
    own = {
        "alert": "LateOwn",
        "expr": "late_up == 0",
        "annotations": {"summary": '{{ "{{ $value }}" }} {{ .Release.Name }}'},
    }
    resources = render_release(
        helm,
        "prometheusRule.enabled=true",
        "prometheusRule.alertLabels.team=social",
        "prometheusRule.runbookUrl=https://wiki.example.com/late/",
        values={
            "prometheusRule.disabled": ["LateErrorBudgetBurningFast"],
            "prometheusRule.overrides": {"LateApiDrift": override},
            "prometheusRule.rules": [own],
        },
    )
    assert [] == alerts_of(resources, "LateErrorBudgetBurningFast")
    assert alerts_of(resources, "LateErrorBudgetBurningSlowly")
    (drift,) = alerts_of(resources, "LateApiDrift")
    assert ("1h", "info", "late", "social", "The API differs.") == (
        drift["for"],
        *(drift["labels"][name] for name in ("severity", "exporter", "team")),
        drift["annotations"]["summary"],
    )
    assert "https://wiki.example.com/late/LateApiDrift.md" == drift["annotations"]["runbook_url"]
    assert "{{ $value }} late" == alerts_of(resources, "LateOwn")[0]["annotations"]["summary"]
    check_rules(resources, require_tool("promtool"), tmp_path)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("setting", "labelled_count", "operator_count"),
    [
        ("grafanaDashboards.enabled=true", 4, 0),
        ("grafanaOperator.enabled=true", 0, 4),
        ("grafanaDashboards.enabled=true,grafanaOperator.enabled=true", 4, 4),
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
    """Without peers the network policy allows only the pod of helm test to connect."""
    resources = render_release(helm, "networkPolicy.enabled=true", values={"networkPolicy.namespaces": []})
    (rule,) = find_resource(resources, "NetworkPolicy")["spec"]["ingress"]
    test = find_resource(resources, "Pod")["metadata"]["labels"]
    assert [{"podSelector": {"matchLabels": test}}] == rule["from"]
    assert not find_resource(resources, "Service")["spec"]["selector"].items() <= test.items()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "present", "absent"),
    [
        ((), "Prometheus does not scrape it yet", "WITHOUT A VOLUME"),
        (
            ("serviceMonitor.enabled=true", "persistence.enabled=false"),
            "WITHOUT A VOLUME",
            "Prometheus does not scrape it",
        ),
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
    commands = [line.strip() for line in notes.splitlines() if line.startswith("  kubectl ")]
    target = "kubectl --namespace default {} statefulset/late-late-exporter{}"
    assert commands == [
        target.format(*words)
        for words in (("exec", " -- late-exporter check"), ("port-forward", " 10077"), ("logs", " --follow"))
    ]
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
    secret, install = install_commands("Helm").removesuffix("helm test late-exporter\n").split("helm install ")
    assert install_commands("Kubernetes").startswith(secret)
    # The chart of this version is in the registry only after its release.
    local = install.replace(f"oci://ghcr.io/late-exporter/charts/late-exporter --version {__version__}", str(CHART))
    assert local != install
    script = f"helm template {local}"
    resources = parse_documents(run_script(script, ROOT, helm))
    kinds = {resource["kind"] for resource in resources}
    assert {"StatefulSet", "Service", "ServiceMonitor", "PrometheusRule", "ConfigMap"} <= kinds
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
    """The schema allows exactly the values in values.yaml and the names of other charts."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    settings = yaml.safe_load(VALUES_YAML)
    others = {name.partition(".")[0] for name in (*dict(SYNONYMS), *UNUSED_VALUES)}
    assert settings.keys() | others == schema["properties"].keys()
    assert schema["additionalProperties"] is False
    assert [] == list(_open_sections(schema, ""))
    for name, value in SYNONYMS:
        assert _schema_at(schema, name), name
        assert _schema_at(schema, value), value


def _schema_at(schema: Any, name: str) -> Any:
    for part in name.split("."):
        schema = schema["properties"][part]
    return schema


def _open_sections(schema: Any, name: str) -> Iterator[str]:
    """Yield the sections with known keys that accept unknown ones."""
    for key, part in schema.get("properties", {}).items():
        yield from _open_sections(part, f"{name}{key}.")
    is_free = name in ("global.", "podDisruptionBudget.", *(f"{unused}." for unused in UNUSED_VALUES))
    if schema.get("properties") and schema.get("additionalProperties") is not False and not is_free:
        yield name


def test_templates_know_the_names_of_other_charts() -> None:
    """Every template begins with the synonyms, whichever is rendered first."""
    templates = [path for path in (CHART / "templates").rglob("*") if path.suffix in (".yaml", ".txt")]
    assert len(templates) > 10
    assert [] == [path.name for path in templates if not path.read_text("utf-8").startswith(NORMALIZE)]


VOCABULARY = sorted((ROOT / "tests/deploy/values").glob("*.yaml"))


@pytest.fixture(params=VOCABULARY, ids=lambda path: path.stem)
def familiar(request: pytest.FixtureRequest, helm: str) -> tuple[str, str]:
    """Return the name of another chart, and what values in its vocabulary render."""
    return request.param.stem, helm_template(helm, f"--set={SECRET_SETTING}", "--values", request.param)


@pytest.mark.e2e
def test_values_of_other_charts_render_valid_resources(familiar: tuple[str, str], tmp_path: Path) -> None:
    """Values in the vocabulary of another chart render valid resources that belong together."""
    resources = parse_documents(familiar[1])
    assert_valid(familiar[1], tmp_path)
    assert_selectors(resources)
    assert_known_fields(resources)
    secrets = {"late-api-key": {"api-key": "sk_1"}}
    assert ["default"] == [each.name for each in load_settings(resources, tmp_path / "pod", secrets).workspaces]


EFFECTS: Mapping[str, Mapping[str, object]] = {
    "blackbox": {
        "StatefulSet.spec.template.metadata.labels.tier": "monitoring",
        "StatefulSet.spec.template.metadata.annotations.example~com/scrape": "false",
        "StatefulSet.metadata.annotations.reloader~example~com/auto": "true",
        "pod.containers.1": {"name": "proxy", "image": "mirror.example.com/oauth2-proxy:7"},
        "pod.initContainers.0.name": "wait",
        "pod.imagePullSecrets": [{"name": "registry"}],
        "pod.securityContext.fsGroup": 1000,
        "own.image": f"mirror.example.com/example/late-exporter:{__version__}",
        "own.args": ["run", "--log.level=debug"],
        "own.envFrom": [{"secretRef": {"name": "proxy-login"}}],
        "own.env.3": {"name": "HTTPS_PROXY", "value": "http://10.1.2.3:3128"},
        "own.livenessProbe.httpGet": {"path": "/-/healthy", "port": "metrics"},
        "own.livenessProbe.failureThreshold": 3,
        "own.volumeMounts.4.mountPath": "/etc/files",
        "own.volumeMounts.5.subPath": "own.crt",
        "own.volumeMounts.6.mountPath": "/etc/ca",
        "Service.spec.ipFamilyPolicy": "PreferDualStack",
        "ServiceMonitor.metadata.labels.prometheus": "main",
        "ServiceMonitor.metadata.labels.release": "late",
        "ServiceMonitor.spec.endpoints.0.interval": "1m",
        "ServiceMonitor.spec.endpoints.0.relabelings.1.targetLabel": "node",
        "ServiceMonitor.spec.endpoints.0.metricRelabelings": [
            {"replacement": "production", "targetLabel": "environment"}
        ],
        "PodMonitoring.spec.endpoints.0.timeout": "30s",
        "PrometheusRule.metadata.namespace": "rules",
        "PrometheusRule.metadata.labels.prometheus": "main",
        "PrometheusRule.spec.groups.-1.rules.0.annotations.summary": "{{ $labels.workspace }} of late is down.",
    },
    "postgres": {
        "StatefulSet.metadata.annotations.example~com/owner": "social",
        "pod.serviceAccountName": "late",
        "pod.initContainers.0.name": "wait",
        "own.image": "quay.io/example/late-exporter:v1.2.3",
        "own.env.3": {"name": "SSL_CERT_FILE", "value": "/etc/ca/ca.crt"},
        "own.envFrom": [{"configMapRef": {"name": "options"}}],
        "own.readinessProbe.timeoutSeconds": 3,
        "NetworkPolicy.metadata.labels.team": "social",
        "PodDisruptionBudget.spec.maxUnavailable": 1,
        "Service.spec.ports.0.port": 80,
        "ServiceMonitor.metadata.namespace": "monitoring",
        "ServiceMonitor.spec.targetLabels": ["team"],
        "ServiceMonitor.spec.endpoints.0.path": "/late/metrics",
        "ServiceMonitor.spec.endpoints.0.scrapeTimeout": "10s",
        "ServiceMonitor.spec.endpoints.0.metricRelabelings.0.action": "drop",
        "PrometheusRule.metadata.labels.release": "prometheus",
    },
    "redis": {
        "StatefulSet.spec.template.metadata.labels.tier": "monitoring",
        "pod.serviceAccountName": "monitoring",
        "own.args": ["run", "--log.level=debug", "--metrics.created-timestamps=true"],
        "own.env.3": {"name": "HTTPS_PROXY", "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url"}}},
        "Service.metadata.labels.team": "social",
        "ServiceMonitor.spec.endpoints.0.relabelings.1.targetLabel": "namespace",
        "ServiceMonitor.spec.endpoints.0.metricRelabelings.0.targetLabel": "environment",
        "PrometheusRule.metadata.namespace": "rules",
    },
}
"""What the values in the vocabulary of other charts lead to; a tilde stands for a dot in a name."""


@pytest.mark.e2e
def test_values_of_other_charts_have_their_effect(familiar: tuple[str, str]) -> None:
    """No value is accepted and lost: labels, variables, volumes, containers, relabelings and rules arrive."""
    name, text = familiar
    resources = parse_documents(text)
    roots: dict[str, Any] = {resource["kind"]: resource for resource in reversed(resources)}
    roots |= {"pod": pod_spec(resources), "own": container_spec(resources)}
    assert EFFECTS[name] == {path: value_at(roots, path) for path in EFFECTS[name]}


def value_at(value: Any, path: str) -> Any:
    """Return the value at a path of keys and indices."""
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part.replace("~", ".")]
    return value


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["secret", "HTTPRoute", "Ingress"])
def test_webhooks_have_a_port_of_their_own(helm: str, tmp_path: Path, name: str) -> None:
    """The program receives webhooks at a port that only their Service, route and Ingress lead to."""
    settings = ["webhook.enabled=true", "webhook.existingSecret=late-webhook", "webhook.path=/hooks/late"]
    settings += [f"webhook.{name[0].lower()}{name[1:]}.enabled=true"] if name != "secret" else []
    settings = [setting.replace("hTTPRoute", "httpRoute") for setting in settings]
    resources = render_release(helm, *settings, values={"webhook.httpRoute.parentRefs": [{"name": "public"}]})
    secrets = {"late-api-key": {"api-key": "sk_1"}, "late-webhook": {"secret": "whsec_0123456789"}}
    webhook = load_settings(resources, tmp_path, secrets).webhook
    assert ("/hooks/late", [Address("", 10079)]) == (webhook.path, list(webhook.listen_address))
    assert webhook.secret_file
    assert "whsec_0123456789" == webhook.secret_file.key.get_secret_value()
    ports = {port["name"]: port["containerPort"] for port in container_spec(resources)["ports"]}
    assert {"metrics": 10077, "webhooks": 10079} == ports
    services = {each["metadata"]["name"]: each["spec"]["ports"] for each in resources if each["kind"] == "Service"}
    assert [{"name": "metrics", "port": 10077, "targetPort": "metrics"}] == services["late-late-exporter"]
    assert [{"name": "webhooks", "port": 10079, "targetPort": "webhooks"}] == services["late-late-exporter-webhook"]
    assert_known_fields(resources)
    if name == "Ingress":
        (rule,) = find_resource(resources, name)["spec"]["rules"]
        backend = {"service": {"name": "late-late-exporter-webhook", "port": {"name": "webhooks"}}}
        assert [{"path": "/hooks/late", "pathType": "Prefix", "backend": backend}] == rule["http"]["paths"]
    if name == "HTTPRoute":
        (rule,) = find_resource(resources, name)["spec"]["rules"]
        assert [{"name": "late-late-exporter-webhook", "port": 10079}] == rule["backendRefs"]
        assert [{"path": {"type": "PathPrefix", "value": "/hooks/late"}}] == rule["matches"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("repository", "settings", "image"),
    [
        ("a/b", (), "ghcr.io/a/b:0.1.0"),
        ("a/b", ("image.registry=",), "a/b:0.1.0"),
        ("a/b", ("image.registry=r.example:5000", "image.tag=v2"), "r.example:5000/a/b:v2"),
        ("a/b", ("global.imageRegistry=mirror.example",), "mirror.example/a/b:0.1.0"),
        ("quay.io/a/b", (), "quay.io/a/b:0.1.0"),
    ],
)
def test_image_names(helm: str, repository: str, settings: Sequence[str], image: str) -> None:
    """Registry, repository and tag make the name of the image, for the exporter and for helm test."""
    resources = render_release(helm, f"image.repository={repository}", *settings)
    (test,) = find_resource(resources, "Pod")["spec"]["containers"]
    assert (image, image) == (container_spec(resources)["image"], test["image"])


@pytest.mark.e2e
def test_values_for_a_cluster_of_kind(helm: str, tmp_path: Path) -> None:
    """The exporter of .ci/kind reads from the simulated API in its own pod, which is restricted as the exporter is."""
    text = helm_template(helm, "--values", ROOT / "tests/deploy/kind/simulated-values.yaml")
    resources = parse_documents(text)
    assert_valid(text, tmp_path)
    assert [] == profile_violations(pod_spec(resources))
    exporter, simulator = pod_spec(resources)["containers"]
    assert exporter["image"] == simulator["image"]
    assert "simulate" == parse(simulator["args"]).command
    secrets = {"late-api-key": {"api-key": "sk_1"}, "late-webhook": {"secret": "whsec_0123456789"}}
    (workspace,) = load_settings(resources, tmp_path / "pod", secrets).workspaces
    assert f"http://{settings_default('simulate', 'simulate.listen-address')}/api" == workspace.base_url


def settings_default(command: str, name: str) -> str | None:
    """Return the default of an option."""
    (option,) = (option for option in OPTIONS if option.name == name)
    return option.default_for(command)


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES_FILES)
def test_cluster_of_kind_has_what_values_refer_to(helm: str, name: str) -> None:
    """Every Secret, ConfigMap and priority class that the values files refer to is made by .ci/kind."""
    made = parse_documents((ROOT / "tests/deploy/kind/prerequisites.yaml").read_text("utf-8"))
    script = (ROOT / ".ci/kind").read_text("utf-8")
    names = {each["metadata"]["name"] for each in made} | set(
        re.findall(r"create (?:secret generic|configmap) (\S+)", script)
    )
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES[name]))
    spec = pod_spec(resources)
    own = {each["metadata"]["name"] for each in resources}
    used = {spec.get("priorityClassName")} | {
        source.get("secretName", source.get("name"))
        for volume in spec["volumes"]
        for source in (volume.get("secret", {}), volume.get("configMap", {}))
    }
    used |= {
        part["secret"]["name"] for volume in spec["volumes"] for part in volume.get("projected", {}).get("sources", ())
    }
    assert set() == used - names - own - {None}


@pytest.mark.e2e
def test_helm_test_checks_the_service(helm: str) -> None:
    """The pod of helm test is restricted, and requests the health of the exporter at its Service."""
    pod = find_resource(render_release(helm, "service.port=80"), "Pod")
    assert [] == profile_violations(pod["spec"])
    assert "test" == pod["metadata"]["annotations"]["helm.sh/hook"]
    (container,) = pod["spec"]["containers"]
    arguments = parse(container["args"])
    assert "healthcheck" == arguments.command
    target = health_check_target(arguments.flags)
    assert (Address("late-late-exporter.monitored", 80), False) == target

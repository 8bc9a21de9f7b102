"""The Helm chart: rendered resources, rejected values, and documentation."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.files import CHART, ROOT
from late_exporter import __url__, __version__
from late_exporter.cli.health import quick_target
from late_exporter.config.types import Address
from tests.deploy.assertions import (
    MONITORS,
    OTHER_MONITORS,
    assert_dashboards,
    assert_known_fields,
    assert_one_writer,
    assert_probes,
    assert_restricted,
    assert_same_in_every_pod,
    assert_scrape_config,
    assert_selectors,
    assert_valid,
    assert_web_config,
    certificates,
)
from tests.deploy.golden import FOLDER, VALUES_FILES, render
from tests.deploy.helm import SECRET_SETTING, render_release
from tests.deploy.manifests import (
    VERSIONS,
    container_spec,
    find_resource,
    find_workload,
    helm_template,
    install_commands,
    load_settings,
    parse_documents,
    pod_spec,
    profile_violations,
    run_script,
)

pytestmark = pytest.mark.helm


@pytest.mark.e2e
@pytest.mark.parametrize("name", VALUES_FILES)
def test_render_equals_golden_file(helm: str, name: str) -> None:
    """The rendered chart equals the golden files; ``python -m tests.deploy.golden`` updates them."""
    assert (FOLDER / f"{name}.yaml").read_text("utf-8") == render(helm, name)


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
def test_shards_have_a_volume_each(helm: str, tmp_path: Path) -> None:
    """Each pod of the StatefulSet is the shard with its number, and has some of the workspaces."""
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES["shards"]))
    settings = load_settings(resources, tmp_path, {"late-api-keys": dict.fromkeys(("brand", "agency", "shop"), "sk_1")})
    sharding = settings.sharding
    assert (0, 3, 3) == (sharding.shard, sharding.total_shards, len(settings.all_workspaces))
    assert settings.state.url.startswith(f"sqlite:///{tmp_path}/var/lib/late-exporter/")
    assert 1 == find_resource(resources, "PodDisruptionBudget")["spec"]["maxUnavailable"]
    (spread,) = pod_spec(resources)["topologySpreadConstraints"]
    assert find_workload(resources)["spec"]["selector"] == spread["labelSelector"]


@pytest.mark.e2e
def test_program_finds_the_database(helm: str, tmp_path: Path) -> None:
    """The program has the URL and the password of PostgreSQL, and may connect to the ports of all hosts."""
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES["postgres"]))
    secrets = {"late-api-key": {"api-key": "sk_1"}, "late-database": {"password": "secret"}}
    settings = load_settings(resources, tmp_path, secrets)
    assert settings.state.url.startswith("postgresql://late@db1.example:5433,db2.example/late?target_session_attrs=")
    assert tmp_path / "etc/late-exporter/state/password" == settings.state.password_path
    ports = [{"port": 5433}, {"port": 5432}]
    assert {"ports": ports} in find_resource(resources, "NetworkPolicy")["spec"]["egress"]


@pytest.mark.e2e
def test_replicas_share_the_database(helm: str, tmp_path: Path) -> None:
    """Replicas know that they share the state, and one is replaced after the other."""
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES["replicas"]))
    secrets = {"late-api-keys": dict.fromkeys(("brand", "agency"), "sk_1"), "late-database": {"secret": "password"}}
    settings = load_settings(resources, tmp_path, secrets)
    assert (True, 2) == (settings.state.replicas, len(settings.workspaces))
    spec = find_workload(resources)["spec"]
    assert (2, 1, 0) == (spec["replicas"], *spec["strategy"]["rollingUpdate"].values())
    assert 1 == find_resource(resources, "PodDisruptionBudget")["spec"]["maxUnavailable"]


@pytest.mark.e2e
def test_more_replicas_change_no_pod(helm: str) -> None:
    """Adding replicas to one leaves its template: a pod of another kind could not start beside the one that runs."""
    database = "state.url=postgresql://late@db.example/late"
    one, two = (render_release(helm, database, f"replicas={count}") for count in (1, 2))
    pods = [find_workload(resources)["spec"]["template"]["spec"] for resources in (one, two)]
    for pod in pods:
        pod.pop("topologySpreadConstraints", None)
    assert pods[0] == pods[1]


@pytest.mark.e2e
def test_program_reads_workspaces_and_options(helm: str, tmp_path: Path) -> None:
    """The program gets workspaces and options from the values."""
    resources = parse_documents(helm_template(helm, "--values", VALUES_FILES["workspaces"]))
    settings = load_settings(resources, tmp_path, {"late-api-keys": {"brand": "sk_1", "agency": "sk_2"}})
    assert [
        ("brand", "https://zernio.com/api", "6507a1b2c3d4e5f6a7b8c9d0", (("team", "social"),)),
        ("agency", "https://late.example.com/api", None, ()),
    ] == [(each.name, each.base_url, each.profile_id, each.labels) for each in settings.workspaces]
    assert (60.0, ("publishing",), 2_000_000) == (
        settings.poll.interval,
        settings.poll.feeds,
        settings.metrics.max_accounts,
    )
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
    limits = (f"{value}.sampleLimit=5000", f"{value}.honorLabels=true") if kind in MONITORS else ()
    resources = render_release(
        helm,
        *limits,
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
    if limits:
        assert (5000, True) == (monitor["spec"]["sampleLimit"], scrape["honorLabels"])
    (rules,) = (value for name, value in scrape.items() if name.startswith("metricRelabel"))
    assert drop == rules[-1]
    if kind == "PodMonitoring":  # Google Cloud does not allow to change the instance
        assert [drop] == rules
    else:
        assert_same_in_every_pod(rules)
    jobs = [rule["replacement"] for name in scrape if name.startswith("relabel") for rule in scrape[name]]
    assert ["late-late-exporter"] == (jobs or [monitor["metadata"]["name"]])


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
    notes = render_notes(helm, *settings)
    commands = [line.strip() for line in notes.splitlines() if line.startswith("  kubectl ")]
    target = "kubectl --namespace default {} statefulset/late-late-exporter{}"
    assert commands == [
        target.format(*words)
        for words in (("exec", " -- late-exporter check"), ("port-forward", " 10077"), ("logs", " --follow"))
    ]
    assert present in notes
    assert absent not in notes


def render_notes(helm: str, *settings: str) -> str:
    """Return what helm prints after an installation."""
    flags = [f"--set={each}" for each in (SECRET_SETTING, *settings)]
    command = [helm, "install", "late", str(CHART), "--dry-run=client", *flags]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return output.partition("NOTES:")[2]


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


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["HTTPRoute", "Ingress"])
def test_only_the_path_of_webhooks_is_public(helm: str, tmp_path: Path, name: str) -> None:
    """Route and Ingress forward only the path at which the program receives webhooks."""
    settings = ["webhook.enabled=true", "webhook.existingSecret=late-webhook", "webhook.path=/hooks/late"]
    settings += [f"webhook.{'httpRoute' if name == 'HTTPRoute' else 'ingress'}.enabled=true"]
    resources = render_release(helm, *settings, values={"webhook.httpRoute.parentRefs": [{"name": "public"}]})
    secrets = {"late-api-key": {"api-key": "sk_1"}, "late-webhook": {"secret": "whsec_0123456789"}}
    webhook = load_settings(resources, tmp_path, secrets).webhook
    assert "/hooks/late" == webhook.path
    assert webhook.secret_file
    assert "whsec_0123456789" == webhook.secret_file.key.get_secret_value()
    assert_known_fields(resources)
    (rule,) = find_resource(resources, name)["spec"]["rules"]
    if name == "Ingress":
        backend = {"service": {"name": "late-late-exporter", "port": {"name": "metrics"}}}
        assert [{"path": "/hooks/late", "pathType": "Prefix", "backend": backend}] == rule["http"]["paths"]
    else:
        assert [{"name": "late-late-exporter", "port": 10077}] == rule["backendRefs"]
        assert [{"path": {"type": "PathPrefix", "value": "/hooks/late"}}] == rule["matches"]


@pytest.mark.e2e
@pytest.mark.parametrize("enabled", ["true", "false"])
def test_whoever_forwards_webhooks_may_connect(helm: str, enabled: str) -> None:
    """The NetworkPolicy admits the peers of webhooks beside those that scrape, if webhooks are received."""
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}
    settings = (f"webhook.enabled={enabled}", "webhook.existingSecret=late-webhook", "networkPolicy.enabled=true")
    resources = render_release(helm, *settings, values={"webhook.from": [peer]})
    (rule,) = find_resource(resources, "NetworkPolicy")["spec"]["ingress"]
    assert [{"port": "metrics"}] == rule["ports"]
    assert (enabled == "true") == (peer in rule["from"])


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("repository", "settings", "image"),
    [
        ("a/b", (), "ghcr.io/a/b:0.1.0"),
        ("a/b", ("image.registry=",), "a/b:0.1.0"),
        ("a/b", ("image.registry=r.example:5000", "image.tag=v2"), "r.example:5000/a/b:v2"),
        ("a/b", ("global.imageRegistry=mirror.example",), "mirror.example/a/b:0.1.0"),
        ("quay.io/a/b", (), "quay.io/a/b:0.1.0"),
        ("registry:5000/b", (), "registry:5000/b:0.1.0"),
        ("localhost/b", (), "localhost/b:0.1.0"),
    ],
)
def test_image_names(helm: str, repository: str, settings: Sequence[str], image: str) -> None:
    """Registry, repository and tag make the name of the image, for the exporter and for helm test."""
    resources = render_release(helm, f"image.repository={repository}", *settings)
    (test,) = find_resource(resources, "Pod")["spec"]["containers"]
    assert (image, image) == (container_spec(resources)["image"], test["image"])


@pytest.mark.e2e
def test_helm_test_checks_the_service(helm: str) -> None:
    """The pod of helm test is restricted, and requests the health of the exporter at its Service."""
    pod = find_resource(render_release(helm, "service.port=80"), "Pod")
    assert [] == profile_violations(pod["spec"])
    assert "test" == pod["metadata"]["annotations"]["helm.sh/hook"]
    (container,) = pod["spec"]["containers"]
    command, *words = container["args"]
    assert "healthcheck" == command
    target = quick_target(words, {})
    assert (Address("late-late-exporter.monitored", 80), False) == target

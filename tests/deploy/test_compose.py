"""The compose file is valid, restricts its services, and connects them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.container_engine import BASE, CACHE, ROOT, ContainerEngine, run_engine
from tests.e2e.program import run_command, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.compose]

FOLDER = ROOT / "deploy" / "compose"
FILE = FOLDER / "compose.yml"
SOCKET = CACHE / "run" / "podman.sock"
STAND_INS = {
    # Debian packages replace the public images; Grafana has none.
    "prometheus": {"prometheus": "prometheus", "promtool": "promtool"},
    "alertmanager": {"prometheus-alertmanager": "alertmanager", "amtool": "amtool"},
}
STAND_IN = """
FROM {base}
COPY bin /bin/
COPY share /usr/share/prometheus
RUN mkdir -m 777 /{name}
USER 65534
ENTRYPOINT ["/bin/{name}"]
"""
DEMO = ("simulator", "demo", "prometheus", "alertmanager")
PROMETHEUS = "http://127.0.0.1:9090"
ALERTMANAGER = "http://127.0.0.1:9093"


def load_compose_file() -> dict[str, Any]:
    """Return the compose file with anchors resolved."""
    return dict(yaml.safe_load(FILE.read_text("utf-8")))


CHECK = "alertmanager-check"
"""The service that ends with an error if a secret of Alertmanager is missing."""


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], {CHECK, "exporter", "prometheus"}),
        (["--profile", "demo"], {"demo", "simulator", "prometheus"}),
        (["--profile", "postgres"], {CHECK, "exporter-postgres", "postgres", "prometheus"}),
        (["--profile", "ha"], {CHECK, "exporter-1", "exporter-2", "postgres", "prometheus-ha"}),
    ],
)
def test_prometheus_scrapes_the_exporters_of_the_profile(
    options: list[str], names: set[str], require_tool: Callable[[str], str]
) -> None:
    """A profile starts its services, and a Prometheus whose targets are its exporters.

    The default profile has one exporter. Without secrets, the demo has no check of them.
    """
    document = json.loads(run_command(require_tool("docker-compose"), "-f", FILE, *options, "config", "--format=json"))
    assert document["services"].keys() == {"alertmanager", "grafana", *names}
    scraped = set[str]()
    for name, service in document["services"].items():
        if "scrape" in service.get("networks", {}) and "configs" not in service:
            scraped.update((service["networks"]["scrape"] or {}).get("aliases", [name]))
    (config,) = document["configs"].values()
    (job,) = yaml.safe_load(Path(config["file"]).read_text("utf-8"))["scrape_configs"]
    (targets,) = job["static_configs"]
    assert set(targets["targets"]) == {f"{name}:10077" for name in scraped}


@pytest.mark.parametrize(("profile", "is_constant"), [("exporter", False), ("replicas", True)])
def test_instance_is_constant_only_for_replicas(
    profile: str,
    is_constant: bool,  # noqa: FBT001
) -> None:
    """Messages name the address of a single exporter; series continue in another replica."""
    text = (FOLDER / "prometheus/scrape" / f"{profile}.yml").read_text("utf-8")
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert ("metric_relabel_configs" in job) == is_constant


@pytest.mark.parametrize("profile", ["exporter", "replicas"])
def test_promtool_accepts_the_configuration(
    profile: str,
    require_tool: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """Prometheus accepts the configuration of each profile, with the files at their mounts."""
    text = (FOLDER / "prometheus/prometheus.yml").read_text("utf-8")
    scrape = FOLDER / "prometheus/scrape" / f"{profile}.yml"
    text = text.replace("/scrape.yml", str(scrape)).replace("/rules/", f"{ROOT}/deploy/prometheus/")
    config = tmp_path / "prometheus.yml"
    config.write_text(text, "utf-8")
    run_command(require_tool("promtool"), "check", "config", config)


def write_alertmanager_config(folder: Path, receiver: str) -> Path:
    """Write the example with one receiver in all routes; return its path."""
    text = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text("utf-8")
    text = re.sub(r"( receiver:) \w+", rf"\1 {receiver}", text)
    config = folder / "alertmanager.yml"
    config.write_text(text.replace("/etc/alertmanager", str(folder)), "utf-8")
    (folder / "secrets").mkdir()
    return config


def check_secrets(config: Path) -> subprocess.CompletedProcess[str]:
    """Run the script of the service that checks the secrets."""
    script = FOLDER / "alertmanager/check-secrets.sh"
    command = ["sh", str(script), str(config)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("receiver", "secrets"),
    [
        ("critical", ["pagerduty.key", "slack.url"]),
        ("warning", ["slack.url"]),
        ("opsgenie", ["opsgenie.key"]),
        ("msteams", ["msteams.url"]),
        ("email", ["smtp.password"]),
        ("webhook", ["webhook.url"]),
    ],
)
def test_alertmanager_needs_the_secrets_of_its_receivers(
    receiver: str,
    secrets: list[str],
    tmp_path: Path,
) -> None:
    """Without a secret of a receiver in use, the check fails and names it; no other is needed."""
    config = write_alertmanager_config(tmp_path, receiver)
    process = check_secrets(config)
    assert process.returncode == 1
    line = rf"^Receiver {receiver}: {tmp_path}/secrets/(\S+) is missing"
    named = re.findall(line, process.stderr, re.MULTILINE)
    assert named == secrets

    for secret in secrets:
        (tmp_path / "secrets" / secret).write_text("secret\n")
    process = check_secrets(config)
    assert process.stderr == ""
    assert process.returncode == 0


def test_values_of_the_configuration_may_have_quotes(tmp_path: Path) -> None:
    """Names and paths are found with and without quotes."""
    config = write_alertmanager_config(tmp_path, "webhook")
    text = config.read_text("utf-8").replace("receiver: webhook", "receiver: 'webhook'")
    text = re.sub(r"url_file: (\S+)", r'url_file: "\1"', text)
    config.write_text(text, "utf-8")
    assert f"Receiver webhook: {tmp_path}/secrets/webhook.url is" in check_secrets(config).stderr


def test_an_empty_secret_is_missing(tmp_path: Path) -> None:
    """The check names user and remedy, also for an empty file."""
    config = write_alertmanager_config(tmp_path, "warning")
    (tmp_path / "secrets/slack.url").touch()
    process = check_secrets(config)
    assert process.stderr == (
        f"Receiver warning: {tmp_path}/secrets/slack.url is missing, empty, or not readable"
        f" by user {os.geteuid()}.\n"
        "Write these files to deploy/alertmanager/secrets,"
        " or choose other receivers in deploy/alertmanager/alertmanager.yml.\n"
    )


def test_services_are_restricted() -> None:
    """Every service is pinned, restarted, health-checked and limited, and can write to its volumes only."""
    services = load_compose_file()["services"]
    check = services.pop(CHECK)
    assert check["restart"] == "no"
    assert check["read_only"]
    assert check["network_mode"] == "none"
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"]), name
        assert (service["restart"], service["read_only"]) == ("unless-stopped", True), name
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"]), name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
        assert "healthcheck" in service or service["image"].startswith("late-exporter:"), name


def test_ports_and_networks_are_isolated() -> None:
    """Ports are bound to loopback, and internal services have no route to the outside."""
    document = load_compose_file()
    ports = [port for service in document["services"].values() for port in service.get("ports", [])]
    assert len(ports) > 5
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    internal = {name for name, network in document["networks"].items() if network and network["internal"]}
    assert internal == {"alerts", "database", "scrape"}


def test_secrets_are_read_from_files() -> None:
    """Key and password come from files; the only key in the compose file is that of the simulator."""
    environments = [service.get("environment", {}) for service in load_compose_file()["services"].values()]
    pairs = [pair for environment in environments for pair in environment.items()]
    assert {value for name, value in pairs if re.search("KEY|PASSWORD", name)} == {
        "/run/secrets/late-api-key",
        "/run/secrets/late-database-password",
        f"sk_{'0' * 64}",
    }


@contextmanager
def run_compose(engine: ContainerEngine, folder: Path) -> Iterator[Callable[..., str]]:
    """Serve podman's Docker-compatible API; yield a function that runs docker-compose with the project in a folder."""
    log = folder / "background.log"
    serve = engine.command("podman", "system", "service", "--time=0", f"unix://{SOCKET}")
    # Podman relies on systemd timers for health checks, which are not available here.
    podman = " ".join(engine.command("podman"))
    look = f"while sleep 1; do for id in $({podman} ps -q); do {podman} healthcheck run $id; done; done"
    compose = ("env", f"DOCKER_HOST=unix://{SOCKET}", "docker-compose", f"--file={folder}/deploy/compose/compose.yml")
    run_in_background = engine.sandbox.run_in_background
    with run_in_background(*serve, log=log), run_in_background("sh", "-c", look, log=log):
        wait_until(lambda: engine.sandbox.run("ls", SOCKET, check=False) == f"{SOCKET}\n")
        yield lambda *arguments: engine.sandbox.run(*compose, *arguments)


def stand_in(service: str, programs: Mapping[str, str], folder: Path) -> Path:
    """Create the build context of an image with Debian's programs; return its folder."""
    context = folder / service
    shutil.copytree(Path(next(iter(programs))).parents[1] / "share" / "prometheus", context / "share", symlinks=True)
    (context / "bin").mkdir()
    for program, name in programs.items():
        shutil.copy(program, context / "bin" / name)
    (context / "Dockerfile").write_text(STAND_IN.format(base=BASE, name=service))
    return context


def copy_project(folder: Path) -> None:
    """Copy the project without local secrets, with short intervals."""
    ignore_secrets = shutil.ignore_patterns("secrets", "compose.override.yml")
    for part in ("deploy", "grafana"):
        shutil.copytree(ROOT / part, folder / part, ignore=ignore_secrets)
    for name, pattern, replacement in (
        ("compose/prometheus/prometheus.yml", "30s", "1s"),
        ("prometheus/late-exporter.alerts.yml", r"\bfor: \w+", "for: 0s"),
    ):
        file = folder / "deploy" / name
        file.write_text(re.sub(pattern, replacement, file.read_text("utf-8")))


@pytest.mark.thorough
def test_demo_alerts(image: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The demo becomes healthy, is isolated, is scraped by Prometheus, and its alerts reach Alertmanager."""
    require_tool("docker-compose")
    services = load_compose_file()["services"]
    with run_engine(network=False) as engine:
        engine.buildah("tag", image, f"docker.io/library/{services['demo']['image']}")
        for service, programs in STAND_INS.items():
            names_by_path = {require_tool(program): name for program, name in programs.items()}
            engine.build(f"docker.io/{services[service]['image']}", stand_in(service, names_by_path, tmp_path))
    copy_project(tmp_path / "project")
    with run_engine(network=True) as engine, run_compose(engine, tmp_path / "project") as compose:
        get = engine.sandbox.get

        def is_healthy() -> bool:
            services = [json.loads(line) for line in compose("ps", "--format=json").splitlines()]
            return {service["Health"] for service in services} == {"healthy"}

        compose("--profile=demo", "up", "--detach", "--no-build", "--pull=never", *DEMO)
        wait_until(is_healthy, describe=lambda: compose("ps", "--all"))
        query = f"{PROMETHEUS}/api/v1/query?query=sum(late_publishing_logs_total)"
        wait_until(lambda: json.loads(get(query))["data"]["result"], describe=lambda: get(query))
        rules = json.loads(get(f"{PROMETHEUS}/api/v1/rules"))["data"]["groups"]
        rule_files = {path.name for path in (ROOT / "deploy/prometheus").glob("late-exporter.*.yml")}
        assert {Path(group["file"]).name for group in rules} == rule_files
        reach = "import socket; socket.create_connection(('exporter', 10077), 5)"
        with pytest.raises(AssertionError, match="gaierror"):
            compose("exec", "-T", "alertmanager", "python", "-c", reach)

        compose("stop", "demo")
        alerts = f"{ALERTMANAGER}/api/v2/alerts"
        wait_until(lambda: "LateExporterDown" in get(alerts), timeout=60, describe=lambda: get(alerts))
        compose("--profile=demo", "down", "--volumes", "--timeout=1")

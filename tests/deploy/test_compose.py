"""The compose file is valid, restricts its services, and connects them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.container_engine import BASE, CACHE, ROOT, ContainerEngine, run_engine
from tests.deploy.namespaces import run
from tests.e2e.program import wait_until

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
EXPORTER = "http://127.0.0.1:10077"
PROMETHEUS = "http://127.0.0.1:9090"
ALERTMANAGER = "http://127.0.0.1:9093"


def load_compose_file() -> dict[str, Any]:
    """Return the compose file with anchors resolved."""
    return dict(yaml.safe_load(FILE.read_text("utf-8")))


@pytest.mark.parametrize(
    ("profiles", "exporters"),
    [
        ([], {"exporter", "prometheus"}),
        (["--profile", "demo"], {"demo", "simulator", "prometheus"}),
        (["--profile", "postgres"], {"exporter-postgres", "postgres", "prometheus"}),
        (["--profile", "ha"], {"exporter-1", "exporter-2", "postgres", "prometheus-ha"}),
    ],
)
def test_profile_selects_the_services(
    profiles: list[str], exporters: set[str], require_tool: Callable[[str], str]
) -> None:
    """Without a profile the exporter starts, with one those of the profile and a Prometheus; the others always do."""
    services = run(require_tool("docker-compose"), "-f", FILE, *profiles, "config", "--services").split()
    assert {"alertmanager", "grafana"} | exporters == set(services)


def test_services_are_restricted() -> None:
    """Every service is pinned, restarted, health-checked and limited, and can write to its volumes only."""
    for name, service in load_compose_file()["services"].items():
        assert re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"]), name
        assert tuple(service[key] for key in ("restart", "read_only", "cap_drop")) == (
            "unless-stopped",
            True,
            ["ALL"],
        ), name
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
        assert "healthcheck" in service or service["image"].startswith("late-exporter:"), name


def test_ports_and_networks_are_isolated() -> None:
    """Ports are bound to loopback, and internal services have no route to the outside."""
    document = load_compose_file()
    ports = [port for service in document["services"].values() for port in service.get("ports", [])]
    assert {port.rpartition(":")[2] for port in ports} == {"3000", "9090", "9093", "10077"}
    assert {port.split(":")[1] for port in ports} == {"3000", "9090", "9093", "10077", "10079"}
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    internal = {name for name, network in document["networks"].items() if network and network["internal"]}
    assert internal == {"alerts", "database", "scrape"}


def test_api_key_is_read_from_a_file() -> None:
    """The key comes from a file; the only key in the compose file is that of the simulator."""
    services = load_compose_file()["services"]
    assert services["exporter"]["secrets"] == ["late-api-key"]
    assert services["exporter"]["environment"] == {"ZERNIO_API_KEY_FILE": "/run/secrets/late-api-key"}
    password = "/run/secrets/late-database-password"
    assert password == services["exporter-postgres"]["environment"]["LATE_EXPORTER_STATE__PASSWORD_FILE"]
    assert password == services["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"]
    keys = set(re.findall(r"sk_\w+", FILE.read_text("utf-8")))
    assert {f"sk_{'0' * 64}"} == keys == {services["demo"]["environment"]["ZERNIO_API_KEY"]}


@pytest.mark.parametrize("profile", ["live", "demo", "postgres", "ha"])
def test_prometheus_scrapes_the_exporters_of_the_profile(profile: str) -> None:
    """The targets are the containers of the profile that listen for scrapes, by name or alias, and no others."""
    document = load_compose_file()
    services = {name: each for name, each in document["services"].items() if profile in each.get("profiles", [profile])}
    (prometheus,) = (each for each in services.values() if each["image"].startswith("prom/prometheus:"))
    (config,) = prometheus["configs"]
    (row,) = yaml.safe_load((FOLDER / document["configs"][config["source"]]["file"]).read_text("utf-8"))
    scraped = {
        alias
        for name, service in services.items()
        if service is not prometheus and "scrape" in (networks := service.get("networks", []))
        for alias in (networks["scrape"]["aliases"] if isinstance(networks, dict) else [name])
    }
    assert {f"{name}:10077" for name in scraped} == set(row["targets"])
    assert len(row["targets"]) == (2 if profile == "ha" else 1)
    settings = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert settings["scrape_configs"][0]["file_sd_configs"] == [{"files": [config["target"]]}]


class ComposeStack:
    """The compose project, run by podman's Docker-compatible API.

    Args:
        engine: Engine with the images.
        folder: Folder with the project.
        exit_stack: Stops background processes.
    """

    def __init__(self, engine: ContainerEngine, folder: Path, exit_stack: ExitStack) -> None:
        self.engine = engine
        self.file = folder / "deploy" / "compose" / "compose.yml"
        log = folder / "background.log"
        serve = engine.command("podman", "system", "service", "--time=0", f"unix://{SOCKET}")
        exit_stack.enter_context(engine.sandbox.run_in_background(*serve, log=log))
        wait_until(lambda: engine.sandbox.run("ls", SOCKET, check=False) == f"{SOCKET}\n")
        # Podman relies on systemd timers for health checks, which are not available here.
        podman = " ".join(engine.command("podman"))
        look = f"while sleep 1; do for id in $({podman} ps -q); do {podman} healthcheck run $id; done; done"
        exit_stack.enter_context(engine.sandbox.run_in_background("sh", "-c", look, log=log))

    def compose(self, *arguments: str) -> str:
        """Run docker-compose and return its output."""
        command = ("env", f"DOCKER_HOST=unix://{SOCKET}", "docker-compose", f"--file={self.file}", *arguments)
        return self.engine.sandbox.run(*command)

    def health(self) -> set[str]:
        """Return the health states of the running services."""
        return {json.loads(line)["Health"] for line in self.compose("ps", "--format=json").splitlines()}


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
    with run_engine(network=True) as engine, ExitStack() as exit_stack:
        stack = ComposeStack(engine, tmp_path / "project", exit_stack)
        get = engine.sandbox.get
        stack.compose("--profile=demo", "up", "--detach", "--no-build", "--pull=never", *DEMO)
        wait_until(lambda: stack.health() == {"healthy"}, describe=lambda: stack.compose("ps", "--all"))
        wait_until(lambda: "late_publishing_logs_total" in get(f"{EXPORTER}/metrics"))
        query = f"{PROMETHEUS}/api/v1/query?query=sum(late_publishing_logs_total)"
        wait_until(lambda: json.loads(get(query))["data"]["result"], describe=lambda: get(query))
        rules = json.loads(get(f"{PROMETHEUS}/api/v1/rules"))["data"]["groups"]
        rule_files = {path.name for path in (ROOT / "deploy/prometheus").glob("late-exporter.*.yml")}
        assert {Path(group["file"]).name for group in rules} == rule_files
        reach = "import socket; socket.create_connection(('exporter', 10077), 5)"
        with pytest.raises(AssertionError, match="gaierror"):
            stack.compose("exec", "-T", "alertmanager", "python", "-c", reach)

        stack.compose("stop", "demo")
        alerts = f"{ALERTMANAGER}/api/v2/alerts"
        wait_until(lambda: "LateExporterDown" in get(alerts), timeout=60, describe=lambda: get(alerts))
        stack.compose("--profile=demo", "down", "--volumes", "--timeout=1")

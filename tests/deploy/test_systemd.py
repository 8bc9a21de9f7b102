"""The systemd unit is tightly sandboxed, and systemd restarts the exporter after failures."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.container_engine import ROOT, run_engine
from tests.deploy.namespaces import LOGS, Sandbox, assert_confined, run
from tests.deploy.systemd_machine import TOOLS, SystemdMachine, boot
from tests.e2e.late import KEY
from tests.e2e.program import wait_until
from tests.support.documents import blocks, document

pytestmark = [pytest.mark.e2e, pytest.mark.systemd]

FOLDER = ROOT / "deploy" / "systemd"
SERVICE = FOLDER / "late-exporter.service"
COMMAND = FOLDER / "late-exporter.sh"
API = "http://127.0.0.1:10078/api"
DYNAMIC_USERS = range(61184, 65520)
COVERAGE = "late_exporter_coverage_start_timestamp_seconds"


def test_exposure_level_is_low(require_tool: Callable[[str], str]) -> None:
    """The exposure level reported by systemd-analyze is at most 1.5 of 10."""
    run(require_tool("systemd-analyze"), "security", "--offline=true", "--threshold=15", SERVICE)


def test_unit_has_no_recent_specifiers() -> None:
    """The unit finds the key by the name of the unit, because older versions of systemd ignore lines with %d."""
    lines = [line for line in SERVICE.read_text("utf-8").splitlines() if not line.startswith("#")]
    assert set(re.findall(r"%.", "\n".join(lines))) == {"%n"}


def install(root: Path, image: str) -> None:
    """Install the files as an administrator would; the program is copied from the image."""
    units, etc, local = (root / name for name in ("etc/systemd/system", "etc/late-exporter", "usr/local/bin"))
    for folder in (units, etc, local, root / "opt"):
        folder.mkdir(parents=True)
    shutil.copy(SERVICE, units)
    shutil.copy(COMMAND, local / "late-exporter")
    key = etc / "late-api-key"
    key.touch(0o600)
    key.write_text(f"{KEY}\n")
    options = {"LATE_EXPORTER_API__BASE_URL": API, "LATE_EXPORTER_POLL__INTERVAL": "1s"}
    (etc / "late-exporter.env").write_text("".join(f"{name}={value}\n" for name, value in options.items()))
    with run_engine(network=False) as engine:
        container = engine.buildah("from", image)
        mount_point = engine.buildah("mount", container)
        engine.sandbox.run("cp", "--archive", f"{mount_point}/opt/late-exporter", root / "opt")


@pytest.fixture(scope="module")
def machine(
    image: str, require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SystemdMachine]:
    """Boot a machine with the exporter installed and a simulated API; each test leaves the service stopped."""
    for tool in TOOLS:
        require_tool(tool)
    folder = tmp_path_factory.mktemp("machine")
    changes = folder / "changes"
    install(changes, image)
    simulate = (sys.executable, "-m", "late_exporter", "simulate", "--simulate.history=1h", "--simulate.seed=3")
    with (
        Sandbox(volatile=[Path("/run/systemd")]) as sandbox,
        sandbox.run_in_background(*simulate, log=folder / "simulator.log", env={"PYTHONPATH": str(ROOT)}),
        boot(sandbox, changes) as machine,
    ):
        yield machine


def test_service_restarts_and_stops(machine: SystemdMachine) -> None:
    """Systemd accepts the unit, starts the sandboxed exporter, restarts it after a kill, and stops it cleanly."""
    assert machine.run("systemd-analyze", "verify", "--man=no", "late-exporter.service") == ""
    assert machine.run("systemctl", "start", "late-exporter.service") == ""
    before = machine.scrape_when_ready()
    assert before.sum(LOGS) > 10  # at night, the simulated hour has fewer than a hundred
    assert before["process_start_time_seconds", ()] > 1e9
    assert_restricted(machine)

    machine.systemctl("kill", "--signal=KILL", "late-exporter.service")
    wait_until(lambda: machine.unit_property("late-exporter", "NRestarts") == "1")
    after_kill = machine.scrape_when_ready()
    machine.run("systemctl", "restart", "late-exporter.service")
    after_restart = machine.scrape_when_ready()
    assert before.sum(LOGS) <= after_kill.sum(LOGS) <= after_restart.sum(LOGS)
    assert after_restart.sum(COVERAGE) == before.sum(COVERAGE)

    machine.run("systemctl", "stop", "late-exporter.service")
    assert machine.unit_property("late-exporter", "Result") == "success"
    assert machine.unit_property("late-exporter", "ExecMainStatus") == "0"
    journal = machine.run("journalctl", "--unit=late-exporter", "--no-pager", "--output=cat")
    assert "listening" in journal
    assert "Traceback" not in journal
    assert KEY not in journal


def test_commands_have_the_key_and_the_state_of_the_service(machine: SystemdMachine) -> None:
    """An administrator's commands read the API with the key of the service, and its state, also while it is stopped."""
    machine.run("systemctl", "start", "late-exporter.service")
    machine.scrape_when_ready()
    command = ("env", "PATH=/usr/local/bin:/usr/bin:/bin", "late-exporter")
    assert "success" in machine.run(*command, "logs", "--workspace", "default", "--limit", "5", "--since", "1h")
    assert ", in use by an exporter" in machine.run(*command, "state", "info")
    machine.run("systemctl", "stop", "late-exporter.service")

    info = machine.run(*command, "state", "info")
    assert "/late-exporter.db" in info
    assert "not in use" in info
    machine.run(*command, "state", "backup", "backup.db")
    assert machine.run("ls", "/var/lib/late-exporter/backup.db")
    machine.run("systemctl", "start", "late-exporter.service")
    machine.scrape_when_ready()
    machine.run("systemctl", "stop", "late-exporter.service")


def test_several_workspaces(machine: SystemdMachine) -> None:
    """With the user that docs/install.md creates, service and commands read the key files of several workspaces."""
    lines = ["workspaces:", *(f"  - {{name: {name}, api_key_file: {name}.key}}" for name in ("brand", "agency"))]
    files = {"late.yml": "\n".join(lines), "brand.key": KEY, "agency.key": f"sk_{'1' * 64}", "late-api-key": ""}
    for name, text in files.items():
        path = f"/etc/late-exporter/{name}"
        mode = "644" if name == "late.yml" else "600"
        machine.run("sh", "-euc", f"umask 077; echo '{text}' >{path}; chmod {mode} {path}")
    section = document("docs/install.md").partition("\n### Several workspaces\n")[2].partition("\n## ")[0]
    (script,) = blocks(section, "sh")
    machine.run("sh", "-euc", script.replace("sudo ", ""))
    samples = machine.scrape_when_ready()
    assert samples.sum(LOGS, workspace="brand") > 10
    assert samples.sum(LOGS, workspace="agency") > 10
    command = ("env", "PATH=/usr/local/bin:/usr/bin:/bin", "late-exporter")
    assert "success" in machine.run(*command, "logs", "--workspace", "brand", "--limit", "5", "--since", "1h")
    machine.run("systemctl", "stop", "late-exporter.service")


def assert_restricted(machine: SystemdMachine) -> None:
    """Assert that the kernel restricts the service, its state is private, and its environment lacks the key."""
    process = f"/proc/{machine.unit_property('late-exporter', 'MainPID')}"
    assert_confined(machine.run("cat", f"{process}/status"))
    user = int(machine.run("stat", "--format=%u", process))
    assert user in DYNAMIC_USERS
    assert machine.run("stat", "--format=%u %a", "/var/lib/private/late-exporter") == f"{user} 700"
    environment = machine.run("cat", f"{process}/environ")
    assert "ZERNIO_API_KEY_FILE=/run/credentials/late-exporter.service/late-api-key" in environment.split("\0")
    assert KEY not in environment


def test_configuration_error_is_not_retried(machine: SystemdMachine) -> None:
    """A configuration error is not retried, and the journal names it."""
    machine.run("sh", "-c", "echo LATE_EXPORTER_POLL__INTERVAL=often >>/etc/late-exporter/late-exporter.env")
    machine.systemctl("start", "late-exporter.service")
    wait_until(lambda: machine.unit_property("late-exporter", "ActiveState") == "failed")
    assert machine.unit_property("late-exporter", "NRestarts") == "0"
    journal = machine.run("journalctl", "--unit=late-exporter", "--no-pager", "--output=cat")
    assert 'LATE_EXPORTER_POLL__INTERVAL "often": not a duration' in journal

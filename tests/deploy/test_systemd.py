"""The systemd unit: as confined as it can be, and run by a real systemd that starts it again whatever happens."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.containers import ROOT, engine
from tests.deploy.machine import TOOLS, Machine, boot
from tests.deploy.sandbox import Sandbox, run
from tests.e2e.late import KEY
from tests.e2e.program import wait_until
from tests.support.samples import Samples

pytestmark = [pytest.mark.e2e, pytest.mark.systemd]

FOLDER = ROOT / "deploy" / "systemd"
SERVICE = FOLDER / "late-exporter.service"
MOST_EXPOSED = 1.5
URL = "http://127.0.0.1:10077"
API = "http://127.0.0.1:10078/api"
DYNAMIC_USERS = range(61184, 65520)
LOGS = "late_publishing_logs_total"


def test_exposure(require_tool: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    """What systemd thinks of the confinement, from 0 to 10, is better than 1.5."""
    analyze = require_tool("systemd-analyze")
    said = run(
        analyze, "security", "--offline=true", "--no-pager", SERVICE, env={"SYSTEMD_EMOJI": "0", "LANG": "C.UTF-8"}
    )
    (exposure,) = re.findall(r"Overall exposure level for late-exporter.service: ([\d.]+)", said)
    with capsys.disabled():
        sys.stdout.write(f"\nthe exposure of the unit is {exposure} of 10\n")
    assert float(exposure) < MOST_EXPOSED, said


def install(root: Path, image: str) -> None:
    """Lay out what an administrator installs; the program is that of the image, made for the same Debian."""
    units, etc, local = (root / name for name in ("etc/systemd/system", "etc/late-exporter", "usr/local/bin"))
    for folder in (units, etc, local, root / "opt"):
        folder.mkdir(parents=True)
    for unit in FOLDER.iterdir():
        shutil.copy(unit, units)
    key = etc / "late-api-key"
    key.touch(0o600)
    key.write_text(f"{KEY}\n")
    options = {"LATE_EXPORTER_API__BASE_URL": API, "LATE_EXPORTER_POLL__INTERVAL": "1s"}
    (etc / "late-exporter.env").write_text("".join(f"{name}={value}\n" for name, value in options.items()))
    (local / "python").symlink_to("/usr/bin/python3")
    with engine(network=False) as building:
        container = building.buildah("from", image)
        mounted = building.buildah("mount", container)
        building.sandbox.run("cp", "--archive", f"{mounted}/opt/late-exporter", root / "opt")


@pytest.fixture
def sandbox(require_root: Callable[[], None], require_tool: Callable[[str], str]) -> Iterator[Sandbox]:
    """Where the machine boots; what serves in here serves for it."""
    require_root()
    for tool in TOOLS:
        require_tool(tool)
    with Sandbox(volatile=[Path("/run/systemd")]) as sandbox:
        yield sandbox


@pytest.fixture
def machine(sandbox: Sandbox, image: str, tmp_path: Path) -> Iterator[Machine]:
    """A machine on which the exporter is installed, and a simulated API that it can ask."""
    changes = tmp_path / "changes"
    install(changes, image)
    simulate = (sys.executable, "-m", "late_exporter", "simulate", "--simulate.history=1h", "--simulate.seed=3")
    with (
        sandbox.running(*simulate, log=tmp_path / "simulator.log", env={"PYTHONPATH": str(ROOT)}),
        boot(sandbox, changes) as booted,
    ):
        yield booted


def test_service(machine: Machine, sandbox: Sandbox) -> None:
    """Systemd finds no fault in the units, starts the exporter confined, again when killed, and stops it in peace."""
    assert "" == machine.run("systemd-analyze", "verify", "--man=no", "late-exporter.service", "late-exporter.socket")
    assert "" == machine.run("systemctl", "start", "late-exporter.service")
    before = ready(machine, sandbox)
    assert before.sum(LOGS) > 100
    assert before["process_start_time_seconds", ()] > 1e9
    assert_confined(machine)

    machine.systemctl("kill", "--signal=KILL", "late-exporter.service")
    wait_until(lambda: machine.shown("late-exporter", "NRestarts") == "1")
    killed = ready(machine, sandbox)
    machine.run("systemctl", "restart", "late-exporter.service")
    restarted = ready(machine, sandbox)
    assert before.sum(LOGS) <= killed.sum(LOGS) <= restarted.sum(LOGS)
    assert 1 == len({samples.sum("late_exporter_coverage_start_timestamp_seconds") for samples in (before, restarted)})

    machine.run("systemctl", "stop", "late-exporter.service")
    assert ("success", "0") == tuple(machine.shown("late-exporter", name) for name in ("Result", "ExecMainStatus"))
    journal = machine.run("journalctl", "--unit=late-exporter", "--no-pager", "--output=cat")
    assert "listening" in journal
    assert "Traceback" not in journal
    assert KEY not in journal


def test_reload(machine: Machine, sandbox: Sandbox) -> None:
    """A reload is the exporter's own: the process stays, and says when it took over its configuration."""
    machine.run("systemctl", "start", "late-exporter.service")
    reloaded = ("late_exporter_config_last_reload_success_timestamp_seconds", ())
    before, pid = ready(machine, sandbox), machine.shown("late-exporter", "MainPID")
    machine.run("systemctl", "reload", "late-exporter.service")
    wait_until(lambda: ready(machine, sandbox)[reloaded] > before[reloaded])
    assert pid == machine.shown("late-exporter", "MainPID")


def test_socket(machine: Machine, sandbox: Sandbox) -> None:
    """With the socket beside it a scrape that comes while the service is down waits for it, and is answered."""
    machine.run("systemctl", "start", "late-exporter.socket", "late-exporter.service")
    before = ready(machine, sandbox)
    machine.systemctl("kill", "--signal=KILL", "late-exporter.service")
    wait_until(lambda: machine.shown("late-exporter", "ActiveState") != "active")
    waited = sandbox.run("curl", "--silent", "--show-error", "--fail", "--max-time", "30", f"{URL}/metrics")
    assert Samples.parse(waited).sum(LOGS) >= before.sum(LOGS)
    machine.run("systemctl", "stop", "late-exporter.socket", "late-exporter.service")


def ready(machine: Machine, sandbox: Sandbox) -> Samples:
    """What the exporter serves once it is ready."""
    wait_until(
        lambda: "is ready" in sandbox.get(f"{URL}/-/ready"),
        describe=lambda: machine.systemctl("status", "late-exporter"),
    )
    return Samples.parse(sandbox.get(f"{URL}/metrics"))


def assert_confined(machine: Machine) -> None:
    """The kernel says what the service may do; its state is nobody else's, and the key is not in its environment."""
    process = f"/proc/{machine.shown('late-exporter', 'MainPID')}"
    status = machine.run("cat", f"{process}/status")
    kept = dict(re.findall(r"^(CapEff|CapBnd|NoNewPrivs|Seccomp):\s+(\w+)", status, re.MULTILINE))
    assert {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"} == kept
    user = int(machine.run("stat", "--format=%u", process))
    assert user in DYNAMIC_USERS
    assert f"{user} 700" == machine.run("stat", "--format=%u %a", "/var/lib/private/late-exporter")
    environment = machine.run("cat", f"{process}/environ")
    assert "LATE_API_KEY_FILE=/run/credentials/late-exporter.service/late-api-key" in environment.split("\0")
    assert KEY not in environment


def test_wrong_configuration(machine: Machine) -> None:
    """What a restart cannot heal is not tried again, and the journal says what is wrong."""
    machine.run("sh", "-c", "echo LATE_EXPORTER_POLL__INTERVAL=often >>/etc/late-exporter/late-exporter.env")
    machine.systemctl("start", "late-exporter.service")
    wait_until(lambda: machine.shown("late-exporter", "ActiveState") == "failed")
    assert "0" == machine.shown("late-exporter", "NRestarts")
    journal = machine.run("journalctl", "--unit=late-exporter", "--no-pager", "--output=cat")
    assert 'LATE_EXPORTER_POLL__INTERVAL "often": not a duration' in journal

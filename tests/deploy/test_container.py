"""The container image: what it holds, and that it runs with as little as it may be given."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.deploy.containers import BASE, IMAGE, ROOT, Engine, engine
from tests.deploy.sandbox import run
from tests.e2e.late import KEY
from tests.e2e.program import wait_until
from tests.support.worlds import Samples

pytestmark = [pytest.mark.e2e, pytest.mark.container]

API = "http://127.0.0.1:10078/api"
EXPORTER = "http://127.0.0.1:10077"
CONFINED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--memory=256m", "--network=host")
MEGABYTE = 1_000_000


@pytest.fixture
def running(image: str) -> Iterator[Engine]:
    """An engine that has the image, and a network of its own."""
    assert IMAGE == image
    with engine(network=True) as alone:
        yield alone


def test_dockerfile_is_good_style() -> None:
    """Hadolint has nothing to say."""
    assert "" == run(Path(sys.executable).parent / "hadolint", ROOT / "Dockerfile")


def revision() -> str:
    """The commit of which the image is made."""
    return run("git", "-C", ROOT, "rev-parse", "HEAD").strip()


def test_what_the_image_says(running: Engine) -> None:
    """It says what it is, runs as a user with a number, keeps its state in a volume, and can tell whether it lives."""
    said = running.inspect(IMAGE)
    config, labels = said["Config"], said["Config"]["Labels"]
    kind = "org.opencontainers.image."
    version = run(sys.executable, "-m", "late_exporter", "--version", cwd=ROOT).split()[1]
    assert "65532:65532" == config["User"]
    assert (["late-exporter"], ["run"]) == (config["Entrypoint"], config["Cmd"])
    assert ["/var/lib/late-exporter"] == list(config["Volumes"])
    assert ["10077/tcp"] == list(config["ExposedPorts"])
    assert ["CMD", "late-exporter", "healthcheck"] == said["Healthcheck"]["Test"]
    assert (version, revision(), BASE) == tuple(labels[kind + name] for name in ("version", "revision", "base.name"))
    assert {"title", "description", "source", "documentation", "licenses"} <= {
        name.removeprefix(kind) for name in labels
    }


def test_what_the_image_holds(running: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    """To its base it adds the program, with its bytecode, and an empty place for the state: nothing that builds."""
    own = running.inspect(IMAGE)["Size"] - running.inspect(BASE)["Size"]
    with capsys.disabled():
        sys.stdout.write(f"\nthe image adds {own / MEGABYTE:.0f} MB to its base\n")
    assert own < 40 * MEGABYTE
    paths = [Path(line[2:]) for line in running.podman("diff", IMAGE, BASE).splitlines() if line.startswith("A ")]
    program = [path for path in paths if path.is_relative_to("/opt/late-exporter")]
    assert [Path("/var/lib/late-exporter")] == [path for path in paths if path not in program]
    names = {path.name for path in program}
    assert {"late-exporter", "late_exporter", "pydantic"} <= names
    assert set() == names & {"pip", "setuptools", "hatchling", "wheel", ".cache", "gcc"}
    count = Counter(path.suffix for path in program)
    assert count[".py"] == count[".pyc"] > 300
    assert 0 == count[".whl"]


@pytest.mark.usefixtures("image")
def test_a_version_that_is_not_the_programs() -> None:
    """An image cannot be labelled with a version that its program has not."""
    with engine(network=False) as building, pytest.raises(AssertionError, match="exit status 1"):
        building.build("localhost/late-exporter:wrong", ROOT, VERSION="9.9.9")


def start(running: Engine, name: str, *arguments: str, options: Sequence[str] = ()) -> None:
    """Start a container that may do next to nothing."""
    running.podman("run", "--detach", f"--name={name}", *CONFINED, *options, IMAGE, *arguments)


def test_run(running: Engine, tmp_path: Path) -> None:
    """Confined and with a key from a file it serves, is healthy, stops at once, and goes on from its volume."""
    key = tmp_path / "late-api-key"
    key.write_text(f"{KEY}\n")
    start(running, "late", "simulate", "--simulate.history=1h", "--simulate.seed=3")
    options = [
        f"--volume={key}:/run/secrets/late-api-key:ro",
        "--env=LATE_API_KEY_FILE=/run/secrets/late-api-key",
        "--volume=state:/var/lib/late-exporter",
    ]
    arguments = ("run", f"--api.base-url={API}", "--poll.interval=1s")
    start(running, "exporter", *arguments, options=options)
    wait_until(
        lambda: "is ready" in running.sandbox.get(f"{EXPORTER}/-/ready"),
        describe=lambda: running.podman("logs", "exporter"),
    )
    assert "" == running.podman("healthcheck", "run", "exporter")
    assert_confined(running, "exporter")
    before = scrape(running)
    assert before.sum("late_publishing_logs_total") > 100
    assert 1 == before.sum("late_exporter_build_info", revision=revision())

    running.podman("stop", "--time=20", "exporter")
    assert "0" == running.podman("inspect", "--format={{.State.ExitCode}}", "exporter")
    log = running.podman("logs", "exporter")
    assert KEY not in log
    assert "Traceback" not in log

    start(running, "again", *arguments, options=options)
    wait_until(lambda: "is ready" in running.sandbox.get(f"{EXPORTER}/-/ready"))
    again = scrape(running)
    assert again.sum("late_publishing_logs_total") >= before.sum("late_publishing_logs_total")
    assert again.sum("late_exporter_coverage_start_timestamp_seconds") == before.sum(
        "late_exporter_coverage_start_timestamp_seconds"
    )


def scrape(running: Engine) -> Samples:
    """What the exporter serves."""
    return Samples.parse(running.sandbox.get(f"{EXPORTER}/metrics"))


def assert_confined(running: Engine, name: str) -> None:
    """The kernel says what a container may do, and it can write nothing but its state."""
    status = running.podman("exec", name, "cat", "/proc/1/status")
    kept = dict(re.findall(r"^(Uid|Gid|CapEff|CapBnd|NoNewPrivs|Seccomp):\s+(\w+)", status, re.MULTILINE))
    none = "0" * 16
    assert {"Uid": "65532", "Gid": "65532", "CapEff": none, "CapBnd": none, "NoNewPrivs": "1", "Seccomp": "2"} == kept
    for path in ("/opt/late-exporter/x", "/x", "/etc/x"):
        assert "Read-only file system" in running.podman("exec", name, "touch", path, check=False)


def test_unhealthy(running: Engine) -> None:
    """A container whose exporter does not answer is unhealthy, and its log of health says why."""
    start(running, "idle", "infinity", options=["--entrypoint=sleep"])
    running.podman("healthcheck", "run", "idle", check=False)
    log = running.podman("inspect", "--format={{json .State.Health.Log}}", "idle")
    assert "127.0.0.1:10077 gives no answer: Connection refused" in log


def test_readme(running: Engine, tmp_path: Path) -> None:
    """What the README says of containers works as it is written, with podman under the name of docker."""
    readme = (ROOT / "docs" / "install.md").read_text("utf-8")
    (block,) = re.findall(r"^```sh\nmake image\n(.+?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert IMAGE.rpartition("/")[2] in block
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\nexec {" ".join(running.command("podman"))} "$@"\n')
    docker.chmod(0o700)
    script = f"cd {tmp_path} && PATH={tmp_path}:$PATH && {block}"
    running.sandbox.run("sh", "-euc", script)
    wait_until(lambda: "healthy" in running.sandbox.get(f"{EXPORTER}/-/healthy"))
    assert "" == running.podman("healthcheck", "run", "late-exporter")
    assert_confined(running, "late-exporter")

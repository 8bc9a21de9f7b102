"""The container image: its contents, and that it runs with minimal privileges."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.deploy.container_engine import BASE, IMAGE, ROOT, ContainerEngine, run_engine
from tests.deploy.namespaces import run
from tests.e2e.late import KEY
from tests.e2e.program import wait_until
from tests.support.samples import Samples

pytestmark = [pytest.mark.e2e, pytest.mark.container]

API = "http://127.0.0.1:10078/api"
EXPORTER = "http://127.0.0.1:10077"
RESTRICTED_OPTIONS = (
    "--read-only",
    "--read-only-tmpfs=false",  # as in Docker, which lets nothing be written but volumes
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--memory=256m",
    "--network=host",
)
MEGABYTE = 1_000_000


@pytest.fixture
def container_engine(image: str) -> Iterator[ContainerEngine]:
    """Start an engine with the image and an isolated network."""
    assert image == IMAGE
    with run_engine(network=True) as container_engine:
        yield container_engine


def test_image_metadata(container_engine: ContainerEngine, revision: str) -> None:
    """The image has a numeric user, a volume for the state, a health check, and the OCI labels."""
    details = container_engine.inspect_image(IMAGE)
    config, labels = details["Config"], details["Config"]["Labels"]
    kind = "org.opencontainers.image."
    version = run(sys.executable, "-m", "late_exporter", "--version", cwd=ROOT).split()[2]
    assert config["User"] == "65532:65532"
    assert (config["Entrypoint"], config["Cmd"]) == (["late-exporter"], ["run"])
    assert list(config["Volumes"]) == ["/var/lib/late-exporter"]
    assert list(config["ExposedPorts"]) == ["10077/tcp"]
    assert details["Healthcheck"]["Test"] == ["CMD", "late-exporter", "healthcheck"]
    assert tuple(labels[kind + name] for name in ("version", "revision", "base.name")) == (version, revision, BASE)
    assert {"title", "description", "source", "documentation", "licenses", "url", "authors", "vendor"} <= {
        name.removeprefix(kind) for name in labels
    }


def test_image_contents(container_engine: ContainerEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """The image adds the program, its bytecode and an empty state folder to its base, but no build tools."""
    own = container_engine.inspect_image(IMAGE)["Size"] - container_engine.inspect_image(BASE)["Size"]
    with capsys.disabled():
        sys.stdout.write(f"\nthe image adds {own / MEGABYTE:.0f} MB to its base\n")
    assert own < 45 * MEGABYTE
    paths = [
        Path(line[2:]) for line in container_engine.podman("diff", IMAGE, BASE).splitlines() if line.startswith("A ")
    ]
    program = [path for path in paths if path.is_relative_to("/opt/late-exporter")]
    assert [path for path in paths if path not in program] == [Path("/var/lib/late-exporter")]
    names = {path.name for path in program}
    assert {"late-exporter", "late_exporter", "pydantic"} <= names
    assert names & {"pip", "setuptools", "hatchling", "wheel", ".cache", "gcc"} == set()
    count = Counter(path.suffix for path in program)
    assert count[".py"] == count[".pyc"] > 300
    assert count[".whl"] == 0


def start_container(container_engine: ContainerEngine, name: str, *arguments: str, options: Sequence[str] = ()) -> None:
    """Start a container with minimal privileges."""
    container_engine.podman("run", "--detach", f"--name={name}", *RESTRICTED_OPTIONS, *options, IMAGE, *arguments)


def test_restricted_container_runs(container_engine: ContainerEngine, revision: str, tmp_path: Path) -> None:
    """A restricted container serves, is healthy, stops quickly, and continues from its volume."""
    key = tmp_path / "late-api-key"
    key.write_text(f"{KEY}\n")
    start_container(container_engine, "late", "simulate", "--simulate.history=1h", "--simulate.seed=3")
    options = [
        f"--volume={key}:/run/secrets/late-api-key:ro",
        "--env=ZERNIO_API_KEY_FILE=/run/secrets/late-api-key",
        "--volume=state:/var/lib/late-exporter",
    ]
    arguments = ("run", f"--api.base-url={API}", "--poll.interval=1s")
    start_container(container_engine, "exporter", *arguments, options=options)
    wait_until(
        lambda: "is ready" in container_engine.sandbox.get(f"{EXPORTER}/-/ready"),
        describe=lambda: container_engine.podman("logs", "exporter"),
    )
    assert container_engine.podman("healthcheck", "run", "exporter") == ""
    assert_restricted(container_engine, "exporter")
    before = scrape(container_engine)
    assert before.sum("late_publishing_logs_total") > 10  # at night, the simulated hour has fewer than a hundred
    assert before.sum("late_exporter_build_info", revision=revision) == 1

    container_engine.podman("stop", "--time=20", "exporter")
    assert container_engine.podman("inspect", "--format={{.State.ExitCode}}", "exporter") == "0"
    log = container_engine.podman("logs", "exporter")
    assert KEY not in log
    assert "Traceback" not in log

    start_container(container_engine, "again", *arguments, options=options)
    wait_until(lambda: "late_publishing_logs_total{" in container_engine.sandbox.get(f"{EXPORTER}/metrics"))
    again = scrape(container_engine)
    assert again.sum("late_publishing_logs_total") >= before.sum("late_publishing_logs_total")
    assert again.sum("late_exporter_coverage_start_timestamp_seconds") == before.sum(
        "late_exporter_coverage_start_timestamp_seconds"
    )


VACUUM_SCRIPT = """
import sqlite3
state = sqlite3.connect("/var/lib/late-exporter/large.db")
state.execute("CREATE TABLE rows (text)")
state.executemany("INSERT INTO rows VALUES (?)", [("x" * 1000,)] * 20_000)
state.commit()
state.execute("VACUUM")
"""


def test_sqlite_finds_room_for_temporary_files(container_engine: ContainerEngine) -> None:
    """A state that does not fit into SQLite's cache can be compacted in a container that can write its volume only."""
    options = (*RESTRICTED_OPTIONS, "--rm", "--entrypoint=/opt/late-exporter/bin/python")
    container_engine.podman("run", *options, IMAGE, "-c", VACUUM_SCRIPT)


def scrape(container_engine: ContainerEngine) -> Samples:
    """Return the metrics of the exporter."""
    return Samples.parse(container_engine.sandbox.get(f"{EXPORTER}/metrics"))


def assert_restricted(container_engine: ContainerEngine, name: str) -> None:
    """Assert that the kernel restricts the container, and that only the state is writable."""
    status = container_engine.podman("exec", name, "cat", "/proc/1/status")
    restrictions = dict(re.findall(r"^(Uid|Gid|CapEff|CapBnd|NoNewPrivs|Seccomp):\s+(\w+)", status, re.MULTILINE))
    none = "0" * 16
    assert restrictions == {
        "Uid": "65532",
        "Gid": "65532",
        "CapEff": none,
        "CapBnd": none,
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }
    for path in ("/opt/late-exporter/x", "/x", "/etc/x"):
        assert "Read-only file system" in container_engine.podman("exec", name, "touch", path, check=False)


def test_install_commands_work(container_engine: ContainerEngine, tmp_path: Path) -> None:
    """The container commands of docs/install.md work, with podman under the name docker."""
    page = (ROOT / "docs" / "install.md").read_text("utf-8")
    (block,) = re.findall(r"^```sh\nmake image\n(.+?)^```$", page, re.DOTALL | re.MULTILINE)
    assert IMAGE.rpartition("/")[2] in block
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\nexec {" ".join(container_engine.command("podman"))} "$@"\n')
    docker.chmod(0o700)
    script = f"cd {tmp_path} && PATH={tmp_path}:$PATH && {block}"
    container_engine.sandbox.run("sh", "-euc", script)
    wait_until(lambda: "healthy" in container_engine.sandbox.get(f"{EXPORTER}/-/healthy"))
    assert container_engine.podman("healthcheck", "run", "late-exporter") == ""
    assert_restricted(container_engine, "late-exporter")

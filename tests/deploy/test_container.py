"""The container image: its contents, and that it runs with minimal privileges."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.container_engine import BASE, IMAGE, ROOT, ContainerEngine, run_engine
from tests.deploy.namespaces import run
from tests.e2e.late import KEY
from tests.e2e.program import wait_until
from tests.support.samples import Samples

pytestmark = [pytest.mark.e2e, pytest.mark.container]

EXPORTER = "http://127.0.0.1:10077"
OPTIONS = (
    "--read-only-tmpfs=false",  # as in Docker, which lets nothing be written but volumes
    "--memory=256m",
    "--network=host",
    "--env=LATE_EXPORTER_API__BASE_URL=http://127.0.0.1:10078/api",
    "--env=LATE_EXPORTER_POLL__INTERVAL=1s",
)
"""Options of the tests beside those of docs/install.md."""

DOCKER = """\
#!/bin/sh
[ "$1" != run ] || {{ shift && set -- run {options} "$@"; }}
exec {podman} "$@"
"""
"""Podman under the name docker."""

LOGS = "late_publishing_logs_total"
COVERAGE = "late_exporter_coverage_start_timestamp_seconds"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
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


def test_install_commands_work(container_engine: ContainerEngine, revision: str, tmp_path: Path) -> None:
    """By docs/install.md, a restricted container serves, is healthy, stops quickly, and continues from its volume."""
    page = (ROOT / "docs" / "install.md").read_text("utf-8")
    (block,) = re.findall(r"^```sh\nmake image\n(.+?)^```$", page, re.DOTALL | re.MULTILINE)
    assert IMAGE.rpartition("/")[2] in block
    docker = tmp_path / "docker"
    docker.write_text(DOCKER.format(options=" ".join(OPTIONS), podman=" ".join(container_engine.command("podman"))))
    docker.chmod(0o700)
    script = f"cd {tmp_path} && PATH={tmp_path}:$PATH && {block.replace('zrk_...', KEY)}"
    simulate = ("simulate", "--simulate.history=1h", "--simulate.seed=3")
    container_engine.podman("run", "--detach", "--network=host", IMAGE, *simulate)

    container_engine.sandbox.run("sh", "-euc", script)
    before = scrape_when_ready(container_engine)
    assert container_engine.podman("healthcheck", "run", "late-exporter") == ""
    assert_restricted(container_engine, "late-exporter")
    assert before.sum(LOGS) > 10  # at night, the simulated hour has fewer than a hundred
    assert before.sum("late_exporter_build_info", revision=revision) == 1

    container_engine.podman("stop", "--time=20", "late-exporter")
    assert container_engine.podman("inspect", "--format={{.State.ExitCode}}", "late-exporter") == "0"
    log = container_engine.podman("logs", "late-exporter")
    assert KEY not in log
    assert "Traceback" not in log

    container_engine.podman("rm", "late-exporter")
    container_engine.sandbox.run("sh", "-euc", script)
    again = scrape_when_ready(container_engine)
    assert again.sum(LOGS) >= before.sum(LOGS)
    assert again.sum(COVERAGE) == before.sum(COVERAGE)


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
    options = ("--read-only", "--read-only-tmpfs=false", "--rm", "--entrypoint=/opt/late-exporter/bin/python")
    container_engine.podman("run", *options, IMAGE, "-c", VACUUM_SCRIPT)


def scrape_when_ready(container_engine: ContainerEngine) -> Samples:
    """Return the metrics of the exporter once it is ready and shows logs."""
    get = container_engine.sandbox.get
    wait_until(
        lambda: "is ready" in get(f"{EXPORTER}/-/ready") and f"{LOGS}{{" in get(f"{EXPORTER}/metrics"),
        describe=lambda: container_engine.podman("logs", "late-exporter"),
    )
    return Samples.parse(get(f"{EXPORTER}/metrics"))


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

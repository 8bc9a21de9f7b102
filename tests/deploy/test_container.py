"""The container image: its contents, and that it runs with minimal privileges."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.container_engine import BASE, IMAGE, ROOT, ContainerEngine, run_engine
from tests.deploy.namespaces import LOGS, assert_confined
from tests.e2e.late import KEY

pytestmark = [pytest.mark.e2e, pytest.mark.container]

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

COVERAGE = "late_exporter_coverage_start_timestamp_seconds"


@pytest.fixture(scope="module")
def container_engine(image: str) -> Iterator[ContainerEngine]:
    """Start an engine with the image and an isolated network."""
    assert image == IMAGE
    with run_engine(network=True) as container_engine:
        yield container_engine


def test_image_contents(container_engine: ContainerEngine) -> None:
    """The image adds the program and its bytecode to its base, but no build tools."""
    assert _size(container_engine, IMAGE) - _size(container_engine, BASE) < 45_000_000
    lines = container_engine.podman("diff", IMAGE, BASE).splitlines()
    paths = [Path(line[2:]) for line in lines if line.startswith("A ")]
    assert {path.name for path in paths} & {"pip", "setuptools", "hatchling", "wheel", ".cache", "gcc"} == set()
    count = Counter(path.suffix for path in paths)
    assert count[".py"] == count[".pyc"] > 300


def _size(container_engine: ContainerEngine, image: str) -> int:
    return int(container_engine.podman("image", "inspect", "--format={{.Size}}", image))


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
    before = container_engine.scrape_when_ready()
    assert container_engine.podman("healthcheck", "run", "late-exporter") == ""
    assert_restricted(container_engine)
    assert before.sum(LOGS) > 10  # at night, the simulated hour has fewer than a hundred
    assert before.sum("late_exporter_build_info", revision=revision) == 1

    container_engine.podman("stop", "--time=20", "late-exporter")
    assert container_engine.podman("inspect", "--format={{.State.ExitCode}}", "late-exporter") == "0"
    log = container_engine.podman("logs", "late-exporter")
    assert KEY not in log
    assert "Traceback" not in log

    container_engine.podman("rm", "late-exporter")
    container_engine.sandbox.run("sh", "-euc", script)
    again = container_engine.scrape_when_ready()
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


def assert_restricted(container_engine: ContainerEngine) -> None:
    """Assert that the kernel restricts the container, and that only the state is writable."""
    status = container_engine.podman("exec", "late-exporter", "cat", "/proc/1/status")
    assert_confined(status)
    assert re.findall(r"^[UG]id:\s+(\d+)", status, re.MULTILINE) == ["65532", "65532"]
    for path in ("/opt/late-exporter/x", "/x", "/etc/x"):
        touched = container_engine.podman("exec", "late-exporter", "touch", path, check=False)
        assert "Read-only file system" in touched

"""A full disk: the feed is down, the counts stay, nothing is counted twice or lost once there is room again."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal, wait_until

pytestmark = pytest.mark.e2e

LOGS = "late_publishing_logs_total"
POLLS = "late_exporter_polls_total"

Full: TypeAlias = Callable[[ExporterProcess], None]


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of two mebibytes."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system of its own: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def assert_survives(late: LateServer, program: ExporterProcess, fill: Full, free: Full) -> None:
    """Assert that a program gets over a full disk with exact totals, also when it is restarted later."""
    wait_equal(200.0, lambda: program.scrape().sum(LOGS))
    fill(program)
    late.world.publish(3000, over=30)
    wait_until(lambda: program.scrape().sum(POLLS, outcome="store_error") > 0, describe=lambda: program.stderr)
    wait_equal(0.0, lambda: program.scrape().sum("late_up", feed="publishing"))
    assert 200 <= program.scrape().sum(LOGS) < 3200
    assert 200 == program.get("/-/healthy").status
    free(program)
    wait_equal(3200.0, lambda: program.scrape().sum(LOGS))
    wait_equal(2.0, lambda: program.scrape().sum("late_up"))
    assert 0 == program.stop()
    assert "Traceback" not in program.stderr
    program.start().wait_ready()
    wait_equal(3200.0, lambda: program.scrape().sum(LOGS))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_disk_full(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> None:
    """A disk that is full makes polls fail with store_error, and they succeed again when there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    exit_stack.enter_context(small_disk(disk))
    late.world.publish(200, over=600)
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url, state=disk / "state.db"))
    ballast = disk / "ballast"

    def fill(_: ExporterProcess) -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                return

    assert_survives(late, program, fill, lambda _: ballast.unlink())


def test_file_cannot_grow(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> None:
    """A limit on the size of files does what a full disk does, and raising it heals."""
    late.world.publish(200, over=600)
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url))

    def fill(running: ExporterProcess) -> None:
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    def free(running: ExporterProcess) -> None:
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    assert_survives(late, program, fill, free)


def test_disk_full_at_the_start(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> None:
    """A state that cannot be created is named; exit 1, no traceback."""
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url, file_limit=2000))
    assert 1 == program.wait_exit()
    assert str(tmp_path / "state.db") in program.stderr
    assert "Traceback" not in program.stderr

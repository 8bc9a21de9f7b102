"""Tests with a full disk: the feed is down, counters stay, and nothing is counted twice or lost after it."""

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
    """Mount a file system of 2 MiB."""
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
    """Assert that the counters are exact after a full disk, and after a later restart."""
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
    """Polls fail with store_error while the disk is full, and succeed when there is space again."""
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
    """A limit of the file size has the same effect as a full disk, and raising it recovers."""
    late.world.publish(200, over=600)
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url))

    def fill(running: ExporterProcess) -> None:
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    def free(running: ExporterProcess) -> None:
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    assert_survives(late, program, fill, free)


def test_disk_full_at_the_start(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> None:
    """A state that cannot be created is an error that names it, with exit code 1 and no traceback."""
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url, file_limit=2000))
    assert 1 == program.wait_exit()
    assert str(tmp_path / "state.db") in program.stderr
    assert "Traceback" not in program.stderr

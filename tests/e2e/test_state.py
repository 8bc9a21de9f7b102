"""Tests of inspecting, copying and moving a state while logs are counted, and of counting from a copy."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.late import LateServer, respond_with
from tests.e2e.program import ROOT, ExporterProcess, wait_equal

pytestmark = pytest.mark.e2e

LOGS = "late_publishing_logs_total"


def run_state(folder: Path, *words: str) -> tuple[int, str]:
    """Run the state command in a folder, and return its exit code and output."""
    command = [sys.executable, "-m", "late_exporter", "state", *words]
    env = {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, check=False, text=True, timeout=60)
    return result.returncode, result.stdout + result.stderr


@contextmanager
def traffic(late: LateServer) -> Iterator[None]:
    """Publish logs during the block."""
    is_done = threading.Event()

    def publish() -> None:
        while not is_done.wait(0.01):
            with late.lock:
                late.world.publish(3)

    publishing = threading.Thread(target=publish)
    publishing.start()
    try:
        yield
    finally:
        is_done.set()
        publishing.join()


def test_a_backup_of_a_running_exporter(
    late: LateServer, start_exporter: Callable[..., ExporterProcess], tmp_path: Path, exit_stack: ExitStack
) -> None:
    """Backups do not disturb the exporter, and an exporter that continues from one counts each log once."""
    late.world.publish(2000, over=3600)
    program = start_exporter().wait_ready()
    here = "--state.url=sqlite:///state.db"
    with traffic(late):
        for number in range(3):
            assert 0 == run_state(tmp_path, "backup", f"copy-{number}.db", here)[0]
            code, exposed = run_state(tmp_path, "info", "--format=json", here)
            assert (0, True) == (code, json.loads(exposed)["in_use"])
            assert (0, f"copy-{number}.db: no problems found\n") == run_state(
                tmp_path, "check", f"--state.url=sqlite:///copy-{number}.db"
            )
            assert 0 == run_state(tmp_path, "check", here)[0]
        assert 1 == run_state(tmp_path, "copy", "sqlite:///state.db", "sqlite:///other.db")[0]
    wait_equal(float(len(late.world.rows)), lambda: program.scrape().sum(LOGS))
    assert 0 == program.scrape().sum("late_exporter_polls_total", outcome="store_error")
    again = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url, state=tmp_path / "copy-0.db"))
    wait_equal(float(len(late.world.rows)), lambda: again.scrape().sum(LOGS))
    late.world.publish(7)
    wait_equal(float(len(late.world.rows)), lambda: again.scrape().sum(LOGS))


def test_a_restored_copy_shows_no_fallen_counter(
    late: LateServer, start_exporter: Callable[..., ExporterProcess], tmp_path: Path
) -> None:
    """After an older copy was restored, the counters appear once they have caught up with what was served before."""
    late.world.publish(300, over=600)
    program = start_exporter().wait_ready()
    wait_equal(300.0, lambda: program.scrape().sum(LOGS))
    assert 0 == run_state(tmp_path, "backup", "copy.db", "--state.url=sqlite:///state.db")[0]
    late.world.publish(150)
    wait_equal(450.0, lambda: program.scrape().sum(LOGS))
    assert 0 == program.stop()
    (tmp_path / "copy.db").replace(tmp_path / "state.db")
    late.fault = respond_with(503, "closed")
    program.start()
    wait_equal(1.0, lambda: min(1.0, program.scrape().sum("late_exporter_polls_total", outcome="unavailable")))
    assert 0 == program.scrape().sum(LOGS)
    late.fault = None
    wait_equal(1.0, lambda: min(1.0, program.scrape().sum(LOGS)))
    assert 450 == program.scrape().sum(LOGS)

"""Tests of the soak: a short one passes, stops all its processes, and would report a problem."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.model import Batch, LogEntry, Observation, Scope
from late_exporter.store import open_store
from late_exporter.store.snapshot import Snapshot
from tests.e2e.program import ROOT, start_process, wait_until
from tests.e2e.prometheus import PrometheusApi, ResultRow
from tests.soak.checks import (
    MemoryHistory,
    ProcessMemory,
    check_state,
    find_count_differences,
    find_counter_resets,
    slope,
)
from tests.soak.world import SoakWorld
from tests.support.store import commit_batch

pytestmark = pytest.mark.e2e

SOAK = [sys.executable, "tests/soak/run.py", "--rate=20", "--seed=1"]
KIND = ("tiktok", "publish", "success")


@pytest.fixture
def environ(require_tool: Callable[[str], str]) -> dict[str, str]:
    """Return an environment in which Prometheus is found."""
    return {**os.environ, "PATH": f"{Path(require_tool('prometheus')).parent}{os.pathsep}{os.environ['PATH']}"}


def test_a_short_soak(environ: dict[str, str]) -> None:
    """Ten seconds of faults, kills and reloads end with every log counted once, and the audit compared logs."""
    result = subprocess.run(
        SOAK, cwd=ROOT, env={**environ, "SOAK": "10s"}, capture_output=True, check=False, text=True, timeout=300
    )
    assert 0 == result.returncode, result.stdout + result.stderr
    assert "every log was counted exactly once, and no counter fell" in result.stdout
    assert re.search(r"^audit: [0-9,]{4,} logs compared, 0 missing, 0 extra$", result.stdout, re.MULTILINE)
    assert "kill 1" in result.stdout


def test_an_interrupted_soak(environ: dict[str, str], tmp_path: Path) -> None:
    """SIGINT ends a soak and all its processes, and no file is left."""
    output = tmp_path / "output.txt"
    env = {**environ, "SOAK": "1h", "TMPDIR": str(tmp_path)}
    with (
        output.open("wb") as file,
        start_process(SOAK, cwd=ROOT, env=env, stdout=file, stderr=file) as soak,
    ):
        wait_until(lambda: " events" in output.read_text(), describe=output.read_text)
        soak.send_signal(signal.SIGINT)
        assert 130 == soak.wait(60), output.read_text()
        # Processes that were killed stay in the group until init has waited for them.
        wait_until(lambda: not _group_exists(soak.pid))
    assert [output] == list(tmp_path.iterdir())


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("text", "message"), [("4s", "must be at least 5s"), ("soon", "not a duration")])
def test_an_invalid_duration_is_rejected(environ: dict[str, str], text: str, message: str) -> None:
    """An invalid SOAK is rejected with a message before anything is started."""
    result = subprocess.run(
        SOAK, cwd=ROOT, env={**environ, "SOAK": text}, capture_output=True, check=False, text=True, timeout=60
    )
    assert (2, True) == (result.returncode, f"SOAK={text}: {message}" in result.stderr)


def test_the_world_has_the_requested_rate() -> None:
    """The number of logs per second is about the requested one at any time of day."""
    world = SoakWorld(1, 50)
    now = time.time()
    before = len(world.publishing)
    world.advance(now + 60)
    assert 0.6 * 50 * 60 < len(world.publishing) - before < 1.6 * 50 * 60
    late = [row for row in world.publishing.rows if "1a7e0" in row["_id"]]
    assert 1 == len(late)
    world.is_stopped = True
    rows = world.rows
    world.advance(now + 120)
    assert rows == world.rows


def test_count_differences_are_reported() -> None:
    """A series with a log too many or too few is reported."""
    assert [] == list(find_count_differences(Counter({KIND: 2}), Counter({KIND: 2})))
    assert ["tiktok/publish/success: there are 2 logs, /metrics shows 3"] == list(
        find_count_differences(Counter({KIND: 2}), Counter({KIND: 3}))
    )
    assert ["tiktok/publish/success: there are 2 logs, /metrics shows 0"] == list(
        find_count_differences(Counter({KIND: 2}), Counter())
    )


def test_wrong_states_are_reported(tmp_path: Path) -> None:
    """A missing log, one counted twice and an unknown one are reported; a deleted log may be counted or not."""
    world = SoakWorld(1, 2)
    rows = {log_id: row for log_id, row in world.rows.items() if row["status"] == "success"}
    missing, twice, deleted, unseen, *_ = rows
    for log_id in (deleted, unseen):
        world.publishing.delete(log_id)
    statuses = [(log_id, row["status"]) for log_id, row in world.rows.items() if log_id not in (missing, unseen)]
    statuses += [(twice, "failed"), ("nobody", "success")]
    url = f"sqlite:///{tmp_path / 'state.db'}"
    with closing(open_store(url)) as store:
        observations = [Observation(LogEntry(key=log_id, status=status), ()) for log_id, status in statuses]
        commit_batch(store, Scope("acme", "publishing"), Batch(committed_at=1.0, observations=observations))
    with Snapshot(url) as snapshot:
        check = check_state(world, snapshot, "acme")
    assert {
        f"acme: {missing} is success, but not counted",
        f"acme: {twice} is success, counted as failed, success",
        "acme: nobody was counted but never existed",
    } == set(check.problems)
    assert len(rows) - 3 == sum(count for (_, _, status), count in check.counts.items() if status == "success")


def test_memory_growth_is_reported() -> None:
    """A second half with much more memory than the first one is reported."""
    assert 2.0 == slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)])
    assert 0.0 == slope([]) == slope([(1.0, 2.0)])
    flat, growing = MemoryHistory(), MemoryHistory()
    flat.processes.append(ProcessMemory([(float(second), 60_000.0) for second in range(100)]))
    growing.processes.append(ProcessMemory([(float(second), 60_000.0 + 1000 * second) for second in range(100)]))
    assert [] == list(flat.find_problems())
    assert ["memory grows: 82.5 MiB in the first half, 131.3 MiB in the second"] == list(growing.find_problems())
    assert 60_000 == pytest.approx(growing.processes[0].kib_per_minute)


def test_a_slow_memory_leak_is_reported() -> None:
    """Growth at the start of a process is allowed; steady growth later is a leak, however small."""
    memory = MemoryHistory()
    filling = [(float(second), 70_000.0 + min(second, 500) * 16) for second in range(1300)]
    in_steps = [(float(second), 77_000.0 + second // 180 * 1024) for second in range(1000)]
    memory.processes += [ProcessMemory(filling), ProcessMemory(in_steps)]
    assert [] == list(memory.find_problems())
    memory.processes.append(ProcessMemory([(float(second), 75_000.0 + second * 5) for second in range(1400)]))
    assert ["memory leaks: +300 KiB/min in the last 699 s of a process"] == list(memory.find_problems())


class FakePrometheus(PrometheusApi):
    """Prometheus with fixed query results."""

    def __init__(self, rows: dict[str, list[ResultRow]]) -> None:
        super().__init__("")
        self._rows = rows

    def call_api(self, path: str, **_: str) -> list[str]:
        """Return metric names."""
        assert "label/__name__/values" == path
        return ["late_publishing_logs_total", "late_up", "up"]

    def query(self, expression: str) -> list[ResultRow]:
        """Return the rows of an expression."""
        return self._rows.get(expression, [])


def test_counter_resets_are_reported() -> None:
    """Every counter that fell or vanished in Prometheus is reported."""
    assert [] == list(find_counter_resets(FakePrometheus({}), 60))
    reset_rows: list[ResultRow] = [{"metric": {"a": "b"}, "value": [0, "2"]}]
    database = FakePrometheus(
        {
            "resets(late_publishing_logs_total[60s]) > 0": reset_rows,
            "last_over_time(late_publishing_logs_total[60s]) unless late_publishing_logs_total": reset_rows,
        }
    )
    assert [
        "late_publishing_logs_total{'a': 'b'} fell 2 times",
        "late_publishing_logs_total{'a': 'b'} vanished",
    ] == list(find_counter_resets(database, 60))

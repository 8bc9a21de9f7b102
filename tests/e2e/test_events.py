"""Log events reach their output at least once, through kills and faults."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from random import Random

from late_exporter.events.output import MAX_BATCH_EVENTS
from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal
from tests.e2e.traffic import Traffic, in_thread

KILLS = 5
SEED = 20261127


def expected_ids(late: LateServer) -> set[str]:
    """Return the ids of the events of all logs that were ever failed; none was before the first sync."""
    with late.lock:
        failed = {
            f"default/publishing/{log_id}/{status}" for log_id, status in late.world.history if status == "failed"
        }
        connections = {
            f"default/connections/{log_id}/connect_failed"
            for log_id, row in late.world.connection_history.items()
            if row["eventType"] == "connect_failed"
        }
    return failed | connections


def test_every_event_is_in_a_file(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> None:
    """Through kills and rotations each failure is a line in one of the files; a kill may repeat a batch."""
    path, numbers = tmp_path / "events.jsonl", count(1)
    late.world.publish(300, over=86_400)
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url, f"--events.output=file:{path}"))
    program.wait_ready()  # What it finds first is history.

    def rotate(number: int) -> None:
        if path.exists() and number % 2:
            path.rename(path.with_name(f"{path.name}.{next(numbers)}"))
        if number % 4 == 1:
            program.send_signal(signal.SIGHUP)

    def lines() -> list[bytes]:
        # The exporter may be writing the last line.
        return [line for file in tmp_path.glob("events.jsonl*") for line in file.read_bytes().split(b"\n")[:-1]]

    random = Random(SEED)
    with in_thread(Traffic(late, SEED).run):
        for number in range(KILLS):
            threading.Event().wait(random.uniform(0.1, 0.9))
            rotate(number)
            program.kill()
            program.start()
            assert program.url
    wait_equal(expected_ids(late), lambda: {json.loads(line)["id"] for line in lines()})
    assert 0 == program.stop()
    repeated = Counter(json.loads(line)["id"] for line in lines()) - Counter(expected_ids(late))
    assert repeated.total() <= KILLS * MAX_BATCH_EVENTS
    assert {b""} == {file.read_bytes().rpartition(b"\n")[2] for file in tmp_path.glob("events.jsonl*")}
    assert next(numbers) > 2


def test_run_once_delivers(late: LateServer, tmp_path: Path) -> None:
    """A run for a cron job delivers what it finds; it cannot do so on standard output, where the metrics are."""
    path = tmp_path / "events.jsonl"
    arguments = ("--once", f"--events.output=file:{path}", "--events.include=all", "--events.captions")
    late.world.publish(10, over=60)
    metrics = ""
    for _ in range(3):
        program = ExporterProcess.for_api(tmp_path, late.url, *arguments)
        assert 0 == program.start().wait_exit(), program.stderr
        metrics = program.stdout
        with late.lock:
            late.world.publish(2)
    events = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert 4 == len({event["id"] for event in events})
    assert {"Frische Brezeln 🥨"} == {event["caption"] for event in events}
    assert 'late_exporter_events_delivered_total{workspace="default"} 4.0\n' in metrics
    wrong = ExporterProcess.for_api(tmp_path, late.url, "--once", "--events.output=stdout")
    assert 2 == wrong.start().wait_exit()
    assert "--events.output stdout: --once prints the metrics there; write the events to a file" in wrong.stderr

"""Tests of stopping and restarting: the same totals, few requests, nothing lost, and in time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.e2e.late import KEY, FaultHandler, LateServer, drip, hang
from tests.e2e.program import ROOT, ExporterProcess, wait_equal, wait_until
from tests.support.samples import Samples

pytestmark = pytest.mark.e2e

Run: TypeAlias = Callable[..., ExporterProcess]

LOGS = "late_publishing_logs_total"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 5.0
"""Seconds within which the program has to exit after a signal."""


def event_counters(samples: Samples) -> Samples:
    """Return the samples about logs, without those about the exporter."""
    return Samples({series: value for series, value in samples.items() if series[0].startswith(("late_pub", "late_a"))})


def assert_stops(program: ExporterProcess, signal_number: signal.Signals) -> int:
    """Send a signal, and assert that the program exits with 0 in time."""
    program.send_signal(signal_number)
    return program.wait_exit(timeout=GRACE)


HANGING_DNS = """
import socket, time
def getaddrinfo(*_, **__):
    time.sleep(60)
socket.getaddrinfo = getaddrinfo
"""


def test_stop_while_no_name_can_be_resolved(tmp_path: Path, exit_stack: ExitStack) -> None:
    """A name server that does not respond cannot delay the exit."""
    (tmp_path / "sitecustomize.py").write_text(HANGING_DNS)
    program = exit_stack.enter_context(
        ExporterProcess(
            tmp_path,
            "run",
            "--api.base-url=https://late.example/api",
            "--poll.interval=100ms",
            "--web.listen-address=127.0.0.1:0",
            env={"LATE_API_KEY": KEY, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        )
    )
    wait_until(lambda: program.get("/-/healthy").status == 200, describe=lambda: program.stderr)
    assert 0 == assert_stops(program, signal.SIGTERM)


def test_a_signal_while_the_settings_are_read(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> None:
    """The program exits with 0 and without a word, before it has its settings."""
    config = tmp_path / "late.yaml"
    os.mkfifo(config)
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url, f"--config.file={config}"))
    writers: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):
            writers.append(os.open(config, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    wait_until(is_read, describe=lambda: program.stderr)
    exit_stack.callback(os.close, writers[0])
    assert 0 == assert_stops(program, signal.SIGTERM)
    assert not program.stderr


def test_clean_restart_changes_nothing(late: LateServer, start_exporter: Run) -> None:
    """After a restart without new logs every metric of the logs is unchanged."""
    late.world.publish(1100, over=86_400)
    late.world.publish(40, platform='my"space\\', status="failed", response={"errorCode": "TOKEN_EXPIRED"})
    late.world.publish(3, status="pending", durationMs=None, accountId="ünïcode")
    program = start_exporter().wait_ready()
    wait_equal(1143.0, lambda: program.scrape().sum(LOGS))
    wait_equal(5.0, lambda: program.scrape().sum("late_exporter_status_feed_up"))
    before = program.scrape()
    assert 0 == program.stop()
    program.start().wait_ready()
    wait_equal(5.0, lambda: program.scrape().sum("late_exporter_status_feed_up"))
    after = program.scrape()
    assert event_counters(before) == event_counters(after)


def test_restart_takes_few_requests(late: LateServer, start_exporter: Run) -> None:
    """With 3,000 known logs a restart reads one page, and those of the last hour for late logs."""
    late.world.publish(3000, over=86_400)
    program = start_exporter("--poll.feeds=publishing").wait_ready()
    assert len(late.requests) >= 30
    program.stop()
    before = len(late.requests)
    program = start_exporter("--poll.feeds=publishing", "--status.feeds=none", interval="1h").wait_ready()
    wait_equal(1.0, lambda: program.scrape().sum("late_up"))
    assert len(late.requests) - before <= 5


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_while_idle(late: LateServer, start_exporter: Run, number: signal.Signals) -> None:
    """A signal ends the program with 0 in time, and the log says that it stops."""
    late.world.publish(10)
    program = start_exporter(interval="1h").wait_ready()
    assert 0 == assert_stops(program, number)
    assert "stopping" in program.stderr
    assert "Traceback" not in program.stderr


@pytest.mark.parametrize(("fault", "number"), [(hang, signal.SIGTERM), (drip, signal.SIGINT)])
def test_signal_during_a_slow_answer(
    late: LateServer, start_exporter: Run, fault: Callable[[LateServer], FaultHandler], number: signal.Signals
) -> None:
    """A slow response cannot delay the exit."""
    late.fault = fault(late)
    program = start_exporter()
    wait_until(lambda: late.requests)
    assert 0 == assert_stops(program, number)
    assert "Traceback" not in program.stderr


def test_signal_during_start(late: LateServer, start_exporter: Run) -> None:
    """A signal right after the start ends the program with 0, with an API that does not respond."""
    late.fault = hang(late)
    for _ in range(2):
        program = start_exporter()
        assert program.url
        assert 0 == assert_stops(program, signal.SIGTERM)


def test_nothing_is_lost_by_a_signal_during_a_catch_up(late: LateServer, start_exporter: Run) -> None:
    """A throttled catch-up stops in time; its counts stay, and the next start counts the rest."""
    program = start_exporter("--poll.feeds=publishing", interval="1h")
    program.wait_ready().stop()
    late.api.rate_limit = 600  # the tier of the key changes
    late.world.publish(20_000, over=86_400)
    before = len(late.requests)
    program.start()
    wait_until(lambda: program.scrape().sum(LOGS) >= 1000)
    wait_until(lambda: len(late.requests) - before >= 60)
    log_count = program.scrape().sum(LOGS)
    assert 0 == assert_stops(program, signal.SIGTERM)
    late.api.rate_limit = 1_000_000
    program.start()
    assert 20_000 > log_count
    assert program.scrape().sum(LOGS) >= log_count
    wait_equal(20_000.0, lambda: program.scrape().sum(LOGS))


def test_stopping_with_scrapers_connected(late: LateServer, start_exporter: Run, exit_stack: ExitStack) -> None:
    """Open connections of scrapers cannot delay the exit."""
    import socket  # noqa: PLC0415 - only here

    late.world.publish(10)
    program = start_exporter().wait_ready()
    host, port = program.url.removeprefix("http://").split(":")
    for request in (b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /metrics HT"):
        connection = exit_stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
        connection.sendall(request)
    assert 0 == assert_stops(program, signal.SIGTERM)


def test_the_program_starts_quickly(late: LateServer, start_exporter: Run, tmp_path: Path) -> None:
    """A start with a state of 20,000 logs serves within seconds."""
    late.world.publish(20_000, over=86_400)
    program = start_exporter("--poll.feeds=publishing")
    wait_equal(20_000.0, lambda: program.scrape().sum(LOGS))
    program.stop()
    assert (tmp_path / "state.db").stat().st_size > 500_000
    start = time.monotonic()
    assert program.start().url
    assert time.monotonic() - start < 5

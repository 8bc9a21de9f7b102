"""Growth of the cost with logs kept, samples and workspaces."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from late_exporter.metrics.catalogue import DURATION_BUCKETS
from late_exporter.model import Scope
from late_exporter.series import IncCounter, Increment, ObserveHistogram, RecordAttempt
from late_exporter.store import open_store
from late_exporter.store.records import Batch, Coverage
from tests.bench.late import account_id
from tests.bench.processes import KEY, ApiProcess, MeasuredProcess, ProcessLauncher
from tests.bench.report import BenchReport, Measurement
from tests.support.store import commit_batch

BASE_LOGS = 100
LOGS_KEPT = (10_000, 1_000_000, 5_000_000)
SAMPLES = (1_000, 100_000, 1_000_000)
WORKSPACES = (10, 100, 1_000)
WINDOW_SECONDS = 10.0
DAY = 86_400
STATUSES = ("success", "failed", "pending", "skipped")
SAMPLES_PER_PLATFORM = len(STATUSES) * (len(DURATION_BUCKETS) + 4)
"""Samples of a platform: counter and histogram, by status."""

SAMPLES_PER_ACCOUNT = len(STATUSES) + 1


def measure_growth(launcher: ProcessLauncher, report: BenchReport) -> None:
    """Measure polls and memory at growing sizes."""
    with launcher.api(BASE_LOGS) as api:
        api.wait_serving()
        base = launcher.folder / "base.db"
        with launcher.exporter(api, BASE_LOGS, base) as exporter:
            exporter.wait_for_log("first sync complete")
            exporter.stop()
        for count in LOGS_KEPT:
            state = launcher.folder / f"logs{count}.db"
            _add_ids(base, state, count)
            _measure(launcher, api, state, report, f"{count:,} logs kept")
        for count in SAMPLES:
            state = launcher.folder / f"samples{count}.db"
            _create_series(state, count)
            _measure(launcher, api, state, report, f"{count:,} samples")
        for count in WORKSPACES:
            config = _write_config(launcher.folder, api, count)
            state = launcher.folder / f"workspaces{count}.db"
            _measure(launcher, api, state, report, f"{count:,} workspaces", f"--config.file={config}", interval="30s")


def _write_config(folder: Path, api: ApiProcess, count: int) -> Path:
    """Write a configuration of workspaces with different keys."""
    rows = []
    for number in range(count):
        key = folder / f"{number}.key"
        key.write_text(f"{KEY[:-6]}{number:06}", "ascii")
        rows.append(f"  - {{name: w{number}, api_key_file: {key}, api_base_url: '{api.url(BASE_LOGS)}'}}")
    config = folder / f"workspaces{count}.yml"
    config.write_text("\n".join(["workspaces:", *rows]), "utf-8")
    return config


def _measure(
    launcher: ProcessLauncher,
    api: ApiProcess,
    state: Path,
    report: BenchReport,
    name: str,
    *options: str,
    interval: str = "100ms",
) -> None:
    with launcher.exporter(api, BASE_LOGS, state, *options, interval=interval) as exporter:
        ready = exporter.wait_ready()
        time.sleep(1 + ready)
        cost = _cpu_per_poll(exporter, 40.0 if interval == "30s" else WINDOW_SECONDS)
        report.add(
            f"(i) {name}",
            Measurement("ready after", ready, "s"),
            Measurement("CPU of a poll", cost * 1000, "ms"),
            Measurement("RSS", exporter.memory_mb(), "MB"),
        )
        exporter.stop()
    state.unlink()


def _cpu_per_poll(exporter: MeasuredProcess, seconds: float) -> float:
    polls, _ = exporter.poll_and_request_counts()
    before = exporter.cpu_seconds()
    time.sleep(seconds)
    used = exporter.cpu_seconds() - before
    return used / (exporter.poll_and_request_counts()[0] - polls)


def _create_series(path: Path, samples: int) -> None:
    """Create a synced state with about a number of samples and no logs."""
    now = time.time()
    platforms = max(1, round(samples / 2 / SAMPLES_PER_PLATFORM))
    accounts = max(1, (samples - platforms * SAMPLES_PER_PLATFORM) // SAMPLES_PER_ACCOUNT)
    horizon = int((now - 7 * DAY) * 1000)
    store = open_store(f"sqlite:///{path}")
    coverage = Coverage(retention_floor=horizon, complete_since=horizon, is_synced=True)
    scope, increments = Scope("default", "publishing"), [*_increments(platforms, accounts, int(now))]
    commit_batch(store, Batch(scope=scope, increments=increments, coverage=coverage))
    store.close()


def _increments(platforms: int, accounts: int, now: int) -> Iterator[Increment]:
    for number in range(platforms):
        for status in STATUSES:
            labels = ("default", f"network{number}", "publish", status)
            yield IncCounter("late_publishing_logs_total", labels)
            yield ObserveHistogram(
                "late_publishing_duration_seconds", labels, micros=1_500_000, bounds=DURATION_BUCKETS
            )
    for number in range(accounts):
        account = ("default", f"network{number % 13}", account_id(number))
        yield RecordAttempt("late_account_consecutive_failures", account, at=now, failed=True)
        for status in STATUSES:
            yield IncCounter("late_account_logs_total", (*account, status))


def _add_ids(source: Path, path: Path, ids: int) -> None:
    """Copy a state and add ids of logs of the last week that the API has deleted."""
    start, milliseconds = int((time.time() - 6.9 * DAY) * 1000), int(6.5 * DAY * 1000)
    with sqlite3.connect(source) as connection:
        connection.execute("VACUUM INTO ?", (str(path),))
    connection.close()
    with sqlite3.connect(path, isolation_level=None) as connection:
        execute = connection.execute
        execute("PRAGMA journal_mode = OFF")
        execute("PRAGMA synchronous = OFF")
        (feed,) = execute("SELECT id FROM late_feed WHERE name = 'publishing'").fetchone()
        execute("BEGIN")
        execute(
            "WITH RECURSIVE row(n, at) AS (SELECT 0, ?2 UNION ALL SELECT n + 1, ?2 + (n + 1) * ?3 / ?4 FROM row"
            " WHERE n + 1 < ?4)"
            " INSERT INTO late_log"
            " SELECT ?1, printf('%08x%016x', at / 1000, n + 1099511627776), 'success', at"
            " FROM row",
            (feed, start, milliseconds, ids),
        )
        execute("UPDATE late_feed SET logs = logs + ?1, observations = observations + ?1 WHERE id = ?2", (ids, feed))
        execute("COMMIT")
    connection.close()

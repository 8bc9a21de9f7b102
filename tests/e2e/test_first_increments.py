"""Prometheus sees every increment of new series, although the exporter is killed and restarted while they appear."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import TypeAlias

from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal, wait_until
from tests.e2e.prometheus import PrometheusApi, scrape_with_prometheus
from tests.e2e.traffic import in_thread

RESTARTS = 3
SEED = 20261125
LOGS = "late_publishing_logs_total"
EVENTS = "late_connection_events_total"
COUNTERS = '{job="late", __name__=~"late_.*(_total|_count|_sum|_bucket)"}[6h]'

SampleLabels: TypeAlias = tuple[tuple[str, str], ...]


def insert_new_series(late: LateServer, stop: threading.Event) -> None:
    """Insert logs of a new platform and account every 0.1 to 0.6 s, so that series appear around every restart."""
    random = Random(SEED)
    choose = random.choice
    for number in count(1):
        if stop.wait(random.uniform(0.1, 0.6)):
            return
        platform = f"network-{number}"
        with late.lock:
            for index in range(random.randrange(1, 4)):
                action = choose(("publish", "retry", "media_upload"))
                late.world.insert(
                    time.time() - index / 100,  # generation zernio tells logs of one millisecond apart by fewer fields
                    platform=platform,
                    accountId=f"account-{platform}",
                    action=action,
                    status=choose(("success", "failed")),
                    statusCode=choose((200, 429, 503)),
                    durationMs=choose((None, 40, 900, 70_000)),
                    attemptNumber=2 if action == "retry" else 1,
                )
            late.world.add_connection(choose(("connect_success", "connect_failed")), platform=platform)


def read_counters(database: PrometheusApi) -> dict[tuple[str, SampleLabels], list[tuple[float, float]]]:
    """Return the samples of all counters, with their times, by name and labels."""
    result = {}
    for row in database.query(COUNTERS):
        labels = {name: value for name, value in row["metric"].items() if name not in ("job", "instance", "workspace")}
        name = labels.pop("__name__")
        result[name, tuple(sorted(labels.items()))] = [(at, float(value)) for at, value in row["values"]]
    return result


def increases(database: PrometheusApi, family: str, *names: str) -> Counter[tuple[str, ...]]:
    """Return by how much a counter has grown since its first sample, by some of its labels."""
    sums = Counter[tuple[str, ...]]()
    for (name, labels), samples in read_counters(database).items():
        if name == family:
            sums[tuple(dict(labels)[label] for label in names)] += round(samples[-1][1] - samples[0][1])
    return +sums


def test_no_increment_is_lost_in_restarts(
    late: LateServer,
    tmp_path: Path,
    require_tool: Callable[[str], str],
    exit_stack: ExitStack,
) -> None:
    """The increases that Prometheus sees add up to what happened, nothing falls, and no new series starts above 0."""
    late.api.generation = "zernio"
    late.world.publish(40, over=600)
    late.world.add_connection()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    # Longer than a scrape may be late on a busy machine.
    limits = ("--metrics.max-label-values=100000", "--metrics.max-accounts=100000", "--metrics.zero-hold=20s")
    program = ExporterProcess.for_api(tmp_path, late.url, f"--web.listen-address={address}", *limits, interval="500ms")
    exit_stack.enter_context(program).wait_ready()
    random = Random(SEED)
    with scrape_with_prometheus(require_tool("prometheus"), tmp_path, address) as database:
        wait_equal(40.0, lambda: database.value(f"sum({LOGS})"))
        history, history_connections = list(late.world.rows), list(late.world.archives.connections.rows)
        with in_thread(partial(insert_new_series, late)):
            for _ in range(RESTARTS):
                wait_until(lambda: program.exit_code is None and program.url, describe=lambda: program.stderr)
                threading.Event().wait(random.uniform(0.3, 2.2))
                program.kill()
                program.start()
            threading.Event().wait(2.0)
        rows = [row for row in late.world.rows if row not in history]
        connections = [row for row in late.world.archives.connections.rows if row not in history_connections]
        names = ("platform", "action", "status")
        logs = Counter(tuple(row[name] for name in names) for row in rows)
        events = Counter((row["platform"],) for row in connections)
        wait_equal(logs, lambda: increases(database, LOGS, *names))
        wait_equal(events, lambda: increases(database, EVENTS, "platform"))
        counters = read_counters(database)
    begin = min(samples[0][0] for samples in counters.values())
    born = {
        series: samples
        for series, samples in counters.items()
        if samples[0][0] > begin and not series[0].startswith("late_exporter_")
    }
    assert len(born) > 50 * RESTARTS
    assert {series: samples[0] for series, samples in born.items() if samples[0][1]} == {}
    values = {series: [value for _, value in samples] for series, samples in counters.items()}
    assert {series: samples for series, samples in values.items() if samples != sorted(samples)} == {}

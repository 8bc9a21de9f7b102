"""Tests of the backfill command, with a real Prometheus that imports the history and then scrapes the exporter."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from tests.e2e.late import LateServer
from tests.e2e.program import Run, run_command, wait_equal
from tests.e2e.prometheus import PrometheusApi, scrape_with_prometheus
from tests.support.clock import HOUR, MINUTE

LOGS = "late_publishing_logs_total"
COUNTERS = '{__name__=~"late_(publishing|connection|account)_.*_(total|bucket|count|sum)"}'
HOURS = 44
WIDEST = "162h"
"""Duration of a block. Long, because promtool reads the whole file for each block."""


def history(late: LateServer, begin: float) -> Counter[tuple[str, str, int]]:
    """Publish a few logs per hour, and return their number by platform, status and hour."""
    random, expected = Random(5), Counter[tuple[str, str, int]]()
    for hour in range(HOURS):
        moments = []
        for platform in ("tiktok", "bluesky"):
            for status in ("success", "failed"):
                # Few logs, because increase() extrapolates by a sixtieth and is rounded.
                expected[platform, status, hour] = random.randrange(7)
                moments += [
                    (begin + hour * HOUR + random.uniform(2, 59) * MINUTE, platform, status)
                    for _ in range(expected[platform, status, hour])
                ]
        for moment, platform, status in sorted(moments):
            late.world.insert(moment, platform=platform, status=status, durationMs=random.randrange(100, 9000))
    return expected


def increases(database: PrometheusApi, expression: str, moments: Sequence[float]) -> dict[tuple[str, str, int], int]:
    """Return the rounded values of an expression by platform, status and index of the time."""
    values = {}
    for number, moment in enumerate(moments):
        for row in database.call_api("query", query=expression, time=f"{moment:.0f}")["result"]:
            labels = row["metric"]
            values[labels["platform"], labels["status"], number] = round(float(row["value"][1]))
    return values


def test_a_prometheus_sees_the_week_before(
    late: LateServer,
    start_exporter: Run,
    start_command: Run,
    require_tool: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """Every hour before the installation has its increases, and none is lost or doubled where live samples begin."""
    begin = (time.time() // HOUR - HOURS - 4) * HOUR
    truth = history(late, begin)
    waiting = late.world.insert(begin - 2 * HOUR, platform="tiktok", status="pending", durationMs=None)
    edge = late.world.publish(5, over=HOUR, platform="bluesky", durationMs=700)
    late.world.add_connection()
    exporter = start_exporter().wait_ready()
    first = exporter.scrape()
    late.world.change(waiting, "success", durationMs=500)
    late.world.publish(4, over=1, platform="tiktok", durationMs=100)
    expected = sum(truth.values()) + len(edge) + 4 + 2
    wait_equal(expected, lambda: exporter.scrape().sum(LOGS))

    instance = exporter.url.removeprefix("http://")
    command = start_command("backfill", "--label", "job=late", "--label", f"instance={instance}")
    assert 0 == command.wait_exit(), command.stderr
    (tmp_path / "late.om").write_text(command.stdout)
    assert f"default publishing: {sum(truth.values()):,} logs until" in command.stderr
    blocks = ["tsdb", "create-blocks-from", f"--max-block-duration={WIDEST}", "openmetrics"]
    run_command(require_tool("promtool"), *blocks, tmp_path / "late.om", tmp_path / "tsdb")

    with scrape_with_prometheus(require_tool("prometheus"), tmp_path, instance) as database:
        wait_equal(float(expected), lambda: database.value(f"sum({LOGS})"))
        hours = [begin + (hour + 1) * HOUR for hour in range(HOURS)]
        actions = '{action="publish",status=~"success|failed"}'
        # There is a sample at each full hour, so their difference is exact; increase() sees from the first minute to
        # the last one and extrapolates to the hour. No log is in the first minutes of an hour.
        exact = increases(database, f"{LOGS}{actions} - {LOGS}{actions} offset 1h", hours)
        assert truth == Counter(exact)
        assert truth == Counter(increases(database, f"increase({LOGS}{actions}[1h])", hours))

        until = hours[-1]
        last_sample = {"time": f"{until:.0f}"}
        last = database.call_api("query", query=f"sum by (__name__) ({COUNTERS})", **last_sample)["result"]
        assert {row["metric"]["__name__"] for row in last} >= {
            LOGS,
            "late_account_logs_total",
            "late_publishing_failures_total",
        }
        for row in last:
            name = row["metric"]["__name__"]
            assert float(row["value"][1]) <= first.sum(name) + 1e-6
            assert 0 == database.value(f"sum(resets({name}[3d]))"), name
        at_end = database.call_api("query", query=f"sum({LOGS})", **last_sample)["result"][0]["value"][1]
        assert sum(truth.values()) == float(at_end)
        crossing = f"sum({LOGS}) - sum({LOGS} @ {until:.0f})"
        assert len(edge) + 4 + 2 == database.value(crossing)
        assert 1 == database.value(f"count(count by (job, instance) ({LOGS}))")
        assert database.value(f"count({LOGS})") == database.value(f"count({LOGS} @ {until:.0f})")
    assert 0 == exporter.stop()

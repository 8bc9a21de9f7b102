"""A simulated day of scrapes, with incidents at its end, in the database of a Prometheus.

The samples come from production code: the simulator on a virtual clock, read by the pollers and recorded as usual. Only
process metrics and alerts are made up: `tests/e2e/replay` evaluates the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

from late_exporter.api.responses import ApiResponse
from late_exporter.errors import ApiUnavailable
from late_exporter.simulator import simulate_world
from tests.e2e.program import run_command
from tests.support.client import QueryParams
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.simulated_exporter import SimulatedExporter

SEED = 2
END = datetime(2026, 11, 19, 16, 12, tzinfo=UTC).timestamp()
BEGIN = END - 30 * HOUR
DETAILED_BEGIN = END - 7 * HOUR
"""Time since which there is a scrape per minute: the default dashboard range and its rate windows."""

POLL_INTERVAL = 30.0
RECONCILE_INTERVAL = 3 * HOUR
"""Interval of reconciliation scans and audits; the default would take most of the run time, or would not come."""

API_OUTAGE = (END - 200 * MINUTE, END - 193 * MINUTE)
SCHEMA_DRIFT = (END - 170 * MINUTE, END - 110 * MINUTE)
RESTART = END - 110 * MINUTE

INCIDENTS = (
    ("revoked-token", "facebook", 150 * MINUTE, 9 * HOUR),
    ("platform-outage", "instagram", 36 * MINUTE, 2 * HOUR),
    ("rate-limit-storm", None, 4 * HOUR, 20 * MINUTE),
    ("approval-overdue", None, 2 * HOUR, 3 * HOUR),
    ("slow-video", "instagram", 30 * MINUTE, HOUR),
    ("account-cooldown", "tiktok", 70 * MINUTE, 2 * HOUR),
    ("api-errors", None, 5 * HOUR, 20 * MINUTE),
    ("webhook-disabled", None, 100 * MINUTE, DAY),
)
"""Incidents with platform, time from their start to the end of the day, and duration."""

BLOCK_DURATION = "162h"
"""Maximum duration of a block; promtool reads the whole file for each block that it creates."""

SCRAPES_PER_BLOCK = 150

FindTool: TypeAlias = Callable[[str], str]
"""Returns the path of a program, or does not return if it is missing."""


class FiringAlert(NamedTuple):
    """An alert that fires at the end of the day."""

    name: str
    severity: str
    age: float
    labels: Mapping[str, str]


ALERTS = (
    FiringAlert("LatePlatformFailing", "critical", 26 * MINUTE, {"platform": "instagram"}),
    FiringAlert("LatePostsAtRisk", "critical", 140 * MINUTE, {"platform": "facebook"}),
    FiringAlert("LateAccountDisconnected", "warning", 140 * MINUTE, {"platform": "facebook", "username": "Acme Corp"}),
    FiringAlert("LateAccountFailing", "warning", 90 * MINUTE, {"platform": "facebook", "username": "Acme Corp"}),
    FiringAlert("LateTokenExpiring", "warning", 6 * HOUR, {"platform": "linkedin", "username": "Acme Corp"}),
    FiringAlert("LatePostsOverdue", "warning", 110 * MINUTE, {}),
)


class ExporterWithTrouble(SimulatedExporter):
    """An exporter whose API is down for some minutes and has a field more for an hour, and that shares its key."""

    customer_requests = 45

    def respond(self, path: str, params: QueryParams) -> ApiResponse | None:
        now = self.clock.now
        if API_OUTAGE[0] <= now < API_OUTAGE[1]:
            raise ApiUnavailable("503: the simulated API is down")
        response = super().respond(path, params)
        if response and SCHEMA_DRIFT[0] <= now < SCHEMA_DRIFT[1]:
            return ApiResponse(response.body.replace(b'"platform":', b'"region":"eu","platform":'), now)
        return response

    def refresh_due_status(self) -> None:
        # This token expires within days, even if it was just renewed.
        account = next(each.id for each in self.world.accounts if each.platform.name == "linkedin")
        self.world.token_expiries[account] = END + 3.4 * DAY
        super().refresh_due_status()


def scrapes_of_the_day(folder: Path) -> Iterator[Sequence[str]]:
    """Yield the lines of each scrape in time order, in OpenMetrics with timestamps; the state is in a folder."""
    clock = VirtualClock(BEGIN)
    world = simulate_world(SEED, BEGIN, history=DAY)
    for name, platform, age, duration in INCIDENTS:
        world.start_incident(name, platform=platform, duration=duration, start_time=END - age)
    exporter = ExporterWithTrouble(
        world,
        clock,
        folder / "state.db",
        reconcile_interval=RECONCILE_INTERVAL,
        audit_interval=RECONCILE_INTERVAL,
    )
    started_at = BEGIN
    while clock.now < END:
        timestamp = clock.now + (MINUTE if clock.now >= DETAILED_BEGIN else HOUR)
        if started_at == BEGIN and timestamp > RESTART:
            exporter.restart()
            started_at = RESTART
        for before in (POLL_INTERVAL + 12, 12):
            clock.advance(timestamp - before - clock.now)
            exporter.poll_feeds()
        clock.advance(timestamp - clock.now)
        scraped = [line for line in exporter.scrape().text.splitlines() if not line.startswith("#")]
        yield [
            f"{_with_target(series)} {value} {timestamp:.0f}\n"
            for series, _, value in (line.rpartition(" ") for line in [*scraped, *_made_up(started_at, timestamp)])
        ]
    exporter.close()


def write_day(find: FindTool, folder: Path) -> None:
    """Write the day into the database of a Prometheus in a folder."""
    scrapes = scrapes_of_the_day(folder)
    while part := [*islice(scrapes, SCRAPES_PER_BLOCK)]:
        _add_blocks(find, folder, chain.from_iterable(part))


def _add_blocks(find: FindTool, folder: Path, lines: Iterable[str]) -> None:
    file = folder / "part.om"
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(lines)
        stream.write("# EOF\n")
    options = (f"--max-block-duration={BLOCK_DURATION}", "--quiet")
    run_command(find("promtool"), "tsdb", "create-blocks-from", *options, "openmetrics", file, folder / "tsdb")
    file.unlink()


def _made_up(started_at: float, now: float) -> Iterator[str]:
    """Yield the samples that do not come from the exporter's own code."""
    yield "up 1"
    yield f"process_start_time_seconds {started_at}"
    yield f"process_cpu_seconds_total {0.0001 * (now - started_at)}"
    yield f"process_resident_memory_bytes {62e6 + now % 1009 * 4096}"
    yield 'late_exporter_build_info{version="0.1.0",revision="5d41402",python="3.13.5"} 1'
    yield "late_exporter_config_last_reload_successful 1"
    yield "slo:late_publishing_success:objective 0.99"
    for alert in ALERTS:
        if now >= END - alert.age:
            labels = {"alertname": alert.name, "severity": alert.severity, "exporter": "late", "workspace": "default"}
            pairs = ",".join(f'{name}="{value}"' for name, value in {**labels, **alert.labels}.items())
            yield f'ALERTS{{{pairs},alertstate="firing"}} 1'
            yield f"ALERTS_FOR_STATE{{{pairs}}} {END - alert.age:.0f}"


def _with_target(series: str) -> str:
    """Return a series with the labels of its target, or of the job for those of rules."""
    name, _, labels = series.removesuffix("}").partition("{")
    target = 'job="late"' if re.match("ALERTS|slo:", name) else 'job="late",instance="localhost:10077"'
    return f"{name}{{{','.join(filter(None, (target, labels)))}}}"

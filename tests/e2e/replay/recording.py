"""Run the exporter against the simulated API in virtual time, and record what Prometheus would scrape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

from late_exporter.simulator import simulate_world
from late_exporter.simulator.accounts import ACCOUNTS
from tests.support.clock import HOUR, MINUTE, VirtualClock
from tests.support.samples import Samples
from tests.support.simulated_exporter import SimulatedExporter

LEAD_MINUTES = 150
INCIDENT_MINUTES = 60
TOTAL_MINUTES = LEAD_MINUTES + INCIDENT_MINUTES + 120
START = datetime(2026, 3, 17, 9, 0, tzinfo=UTC).timestamp()
"""Unix time at which the incident starts, a Tuesday morning."""

PLATFORMS = frozenset({"instagram", "twitter", "youtube", "tiktok"})
LOGS_PER_DAY = 7000
SEED = 7

Labels: TypeAlias = tuple[tuple[str, str], ...]


class SampleRow(NamedTuple):
    """A series with one value per minute, None before it existed. Times are relative to the first minute."""

    name: str
    labels: Labels
    values: list[float | None]


def record_incidents(names: Sequence[str], minutes: int) -> Sequence[SampleRow]:
    """Return the series of simulated incidents, with the hours before and after them."""
    start = START - LEAD_MINUTES * MINUTE
    accounts = [account for account in ACCOUNTS if account.platform.name in PLATFORMS]
    world = simulate_world(SEED, start, logs_per_day=LOGS_PER_DAY, history=2 * HOUR, accounts=accounts)
    rows: dict[tuple[str, Labels], list[float | None]] = {}
    with closing(SimulatedExporter(world, VirtualClock(start))) as exporter:
        for minute in range(TOTAL_MINUTES):
            if minute == LEAD_MINUTES:
                for name in names:
                    world.start_incident(name, duration=minutes * MINUTE)
            for series, value in relative_times(_scrape(exporter), start).items():
                rows.setdefault(series, [None] * minute).append(value)
            for values in rows.values():
                if len(values) == minute:
                    values.append(None)
    return [SampleRow(name, labels, values) for (name, labels), values in rows.items()]


def _scrape(exporter: SimulatedExporter) -> Samples:
    """Return what a scrape gets, and poll for a minute every 30 s, as by default."""
    assert exporter.poll_feeds() == ["success", "success"]
    samples = exporter.scrape()
    exporter.clock.advance(MINUTE / 2)
    assert exporter.poll_feeds() == ["success", "success"]
    exporter.clock.advance(MINUTE / 2)
    return samples


def relative_times(samples: Samples, start: float) -> Mapping[tuple[str, Labels], float]:
    """Return samples whose Unix times are seconds since the start, where the clock of promtool begins."""
    return {
        series: value - start if series[0].endswith("_timestamp_seconds") and value > start - 1e9 else value
        for series, value in samples.items()
    }

"""Run the exporter against the simulated API in virtual time, and record what Prometheus would scrape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias
from urllib.parse import urlencode

from late_exporter.api.responses import ApiResponse
from late_exporter.simulator import SimulatedApi, SimulatedWorld
from late_exporter.simulator.accounts import ACCOUNTS
from tests.e2e.late import KEY
from tests.support.client import FakeClient, QueryParams
from tests.support.clock import VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.samples import Samples
from tests.support.settings import settings_of

MINUTE, HOUR = 60.0, 3600.0
LEAD_MINUTES = 150
INCIDENT_MINUTES = 60
TOTAL_MINUTES = LEAD_MINUTES + INCIDENT_MINUTES + 120
START = datetime(2026, 3, 17, 9, 0, tzinfo=UTC).timestamp()
"""Unix time at which the incident starts, a Tuesday morning."""

FEEDS = ("publishing", "connections")
HEADERS = {"authorization": f"Bearer {KEY}", "user-agent": "late-exporter/1"}
PLATFORMS = frozenset({"instagram", "twitter", "youtube", "tiktok"})
LOGS_PER_DAY = 3000
SEED = 7
STATUS_INTERVALS = {str(name): seconds for name, seconds in settings_of("run").status.intervals.items()}

Labels: TypeAlias = tuple[tuple[str, str], ...]


class SampleRow(NamedTuple):
    """A series with one value per minute, None before it existed. Times are relative to the first minute."""

    name: str
    labels: Labels
    values: list[float | None]


class RecordedExporter:
    """An exporter of a simulated world without processes and network; its clock advances by a minute per scrape."""

    def __init__(self) -> None:
        self.clock = VirtualClock(START - LEAD_MINUTES * MINUTE)
        accounts = [account for account in ACCOUNTS if account.platform.name in PLATFORMS]
        self.world = SimulatedWorld(
            SEED,
            self.clock.now,
            logs_per_day=LOGS_PER_DAY,
            history=2 * HOUR,
            accounts=accounts,
        )
        self._api = SimulatedApi(self.world, clock=self.clock.time, rate_limit=10**6, generation="zernio")
        self._exporter = ExporterHarness(
            FakeClient(self._respond, rate_limit=600),
            clock=self.clock,
            feeds=FEEDS,
            generation="zernio",
            status=STATUS_INTERVALS,
            zero_hold=75.0,
        )

    def scrape(self) -> Samples:
        """Return what a scrape gets, and poll for a minute every 30 s, as by default."""
        self._poll()
        samples = self._exporter.scrape()
        self.clock.advance(MINUTE / 2)
        self._poll()
        self.clock.advance(MINUTE / 2)
        return samples

    def close(self) -> None:
        self._exporter.close()

    def _poll(self) -> None:
        for feed in FEEDS:
            result = self._exporter.poll(feed=feed)
            assert result.outcome == "success", result.error
        self._exporter.refresh_due_status()

    def _respond(self, path: str, params: QueryParams) -> ApiResponse:
        response = self._api.handle("GET", path, urlencode(params), HEADERS)
        assert response.status == 200, (path, response.body)
        return ApiResponse(response.body, self.clock.now)


def record_incidents(names: Sequence[str], minutes: int) -> Sequence[SampleRow]:
    """Return the series of simulated incidents, with the hours before and after them."""
    with closing(RecordedExporter()) as exporter:
        return _record(exporter, names, minutes * MINUTE)


def _record(exporter: RecordedExporter, incidents: Sequence[str], duration: float) -> Sequence[SampleRow]:
    start = exporter.clock.now
    rows: dict[tuple[str, Labels], list[float | None]] = {}
    for minute in range(TOTAL_MINUTES):
        if minute == LEAD_MINUTES:
            for incident in incidents:
                exporter.world.start_incident(incident, duration=duration)
        for series, value in _relative_times(exporter.scrape(), start).items():
            rows.setdefault(series, [None] * minute).append(value)
        for values in rows.values():
            if len(values) == minute:
                values.append(None)
    return [SampleRow(name, labels, values) for (name, labels), values in rows.items()]


def _relative_times(samples: Samples, start: float) -> Mapping[tuple[str, Labels], float]:
    """Return samples whose Unix times are seconds since the start, where the clock of promtool begins."""
    return {
        series: value - start if series[0].endswith("_timestamp_seconds") and value > start - 1e9 else value
        for series, value in samples.items()
    }

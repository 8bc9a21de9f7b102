"""A simulated day of scrapes, with incidents at its end.

The samples come from production code: the simulator on a virtual clock, read by the pollers and recorded as usual. Only
process metrics, the use of the key by others, and the metrics that Prometheus adds to a scrape are made up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from random import Random
from urllib.parse import urlencode

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from late_exporter.api.responses import ApiResponse, RequestRecord
from late_exporter.errors import ApiUnavailable
from late_exporter.exposition.exposition import OPENMETRICS, BodyRequest
from late_exporter.feeds.status_feeds import STATUS_FEEDS
from late_exporter.health import Quota
from late_exporter.simulator import SimulatedApi, SimulatedWorld
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import KEY, FakeLateApi
from tests.support.world import World

SEED = 2
FEEDS = ("publishing", "connections", "api_request")
HEADERS = {"Authorization": f"Bearer {KEY}", "User-Agent": "late-exporter/0.1.0"}
END = datetime(2026, 11, 19, 16, 12, tzinfo=UTC).timestamp()
BEGIN = END - 30 * HOUR
"""An alert on a token compares its expiry with that of the day before."""

DETAILED_BEGIN = END - 8 * HOUR
"""Time since which there is a scrape per minute: the default dashboard range and its rate windows."""

RATE_LIMIT = 600
"""Requests per minute of the key; a team with some accounts has that many."""

POLL_LEAD = 12.0
"""Seconds from the start of a poll to the scrape that includes its results."""

STATUS_INTERVAL = 5 * MINUTE

RECONCILE_INTERVAL = 3 * HOUR
"""Interval of reconciliation scans and audits; the default would take most of the run time, or would not come."""

TARGET = 'job="late",instance="localhost:10077"'

CUSTOMER_REQUESTS = 45
"""Requests per minute that other users of the key are made up to send."""

API_OUTAGE = (END - 200 * MINUTE, END - 193 * MINUTE)
"""Period in which the API returns 503."""

SCHEMA_DRIFT = (END - 170 * MINUTE, END - 110 * MINUTE)
"""Period in which the API returns an undocumented field."""


RESTART = END - 110 * MINUTE
RESTART_SECONDS = 8.0


def build_world() -> SimulatedWorld:
    """Return a world with five customers that starts a day before the exporter."""
    world = SimulatedWorld(SEED, BEGIN, history=DAY)
    world.start_incident("revoked-token", platform="facebook", duration=9 * HOUR, start_time=END - 150 * MINUTE)
    world.start_incident("platform-outage", platform="instagram", duration=2 * HOUR, start_time=END - 36 * MINUTE)
    world.start_incident("rate-limit-storm", duration=20 * MINUTE, start_time=END - 4 * HOUR)
    world.start_incident("approval-overdue", duration=3 * HOUR, start_time=END - 2 * HOUR)
    world.start_incident("slow-video", platform="instagram", duration=HOUR, start_time=END - 30 * MINUTE)
    world.start_incident("account-cooldown", platform="tiktok", duration=2 * HOUR, start_time=END - 70 * MINUTE)
    world.start_incident("api-errors", duration=20 * MINUTE, start_time=END - 5 * HOUR)
    world.start_incident("webhook-disabled", duration=DAY, start_time=END - 100 * MINUTE)
    return world


def expire_token(world: SimulatedWorld) -> None:
    """Let the token of an account expire within days, even if it was just renewed."""
    account = next(account for account in world.accounts if account.platform.name == "linkedin")
    world.token_expiries[account.id] = END + 3.4 * DAY


class TroubledApi(FakeLateApi):
    """Simulated Late API with latency, quota headers and an outage.

    Args:
        world: World whose logs are returned.
        clock: Virtual clock.
    """

    def __init__(self, world: SimulatedWorld, clock: VirtualClock) -> None:
        super().__init__(World(clock))
        self._service = SimulatedApi(world, clock=clock.time, rate_limit=RATE_LIMIT, generation="zernio")
        self._random = Random(SEED)

    async def get(self, path: str, params: Mapping[str, str | int], *, path_template: str) -> ApiResponse | None:
        """Return the response to a request."""
        seconds = self._random.lognormvariate(-1.9, 0.4)
        self._clock.advance(seconds)
        if API_OUTAGE[0] <= self._clock.now < API_OUTAGE[1]:
            self._request_log.append(RequestRecord(path_template, "503", seconds))
            raise ApiUnavailable("503: the simulated API is down")
        response = self._service.handle("GET", f"/api{path}", urlencode(params), HEADERS)
        self._request_log.append(RequestRecord(path_template, str(response.status), seconds))
        limit, remaining, reset = (response.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset"))
        self.quota = Quota(limit=int(limit), remaining=int(remaining) - CUSTOMER_REQUESTS, reset=float(reset))
        if response.status == HTTPStatus.NOT_FOUND:
            return None
        body = response.body
        if SCHEMA_DRIFT[0] <= self._clock.now < SCHEMA_DRIFT[1]:
            body = body.replace(b'"platform":', b'"region":"eu","platform":')
        return ApiResponse(body, parsedate_to_datetime(response.headers["Date"]).timestamp())


@dataclass
class ProcessMetrics(Collector):
    """Made-up process metrics of realistic size.

    Args:
        start_time: Unix time of the start.
    """

    start_time: float
    random: Random
    cpu_seconds: float = 0.6

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        random = self.random
        self.cpu_seconds += MINUTE * random.uniform(0.003, 0.006)
        yield CounterMetricFamily("process_cpu_seconds", "User and system CPU time spent.", value=self.cpu_seconds)
        for name, value in (
            ("process_start_time_seconds", self.start_time),
            ("process_resident_memory_bytes", 62e6 + 4096 * random.randrange(400)),
            ("process_open_fds", 14 + random.randrange(3)),
            ("process_max_fds", 1024),
        ):
            yield GaugeMetricFamily(name, name, value=value)


class DayOfScrapes:
    """A day of scrapes as OpenMetrics lines with timestamps.

    Args:
        folder: Folder for the state of the exporter.
    """

    def __init__(self, folder: Path) -> None:
        self.last_body = b""
        self._clock = VirtualClock(BEGIN - POLL_LEAD)
        self._world = build_world()
        self._exporter = InsideHarness(
            TroubledApi(self._world, self._clock),
            folder / "state.db",
            feeds=FEEDS,
            reconcile_interval=RECONCILE_INTERVAL,
            audit_interval=RECONCILE_INTERVAL,
            generation="zernio",
            status=dict.fromkeys(STATUS_FEEDS, STATUS_INTERVAL),
            zero_hold=75.0,
        )
        self._event_random = Random(SEED)
        self._random = Random(SEED)
        self._process = ProcessMetrics(BEGIN - POLL_LEAD, self._random)
        self._series_names: dict[str, str] = {}

    def __iter__(self) -> Iterator[list[str]]:
        """Yield the lines of each scrape in time order; ``last_body`` is the last response body afterwards."""
        scheduled_calls: list[tuple[float, Callable[[], None]]] = [(RESTART, self._restart)]
        timestamp, last_refresh = BEGIN, 0.0
        while timestamp < END:
            timestamp += MINUTE if timestamp >= DETAILED_BEGIN else 15 * MINUTE
            self._clock.advance(timestamp - POLL_LEAD - self._clock.now)
            while scheduled_calls and scheduled_calls[0][0] <= timestamp:
                scheduled_calls.pop(0)[1]()
            for feed in FEEDS:
                self._exporter.poll(feed=feed)
            if timestamp - last_refresh >= STATUS_INTERVAL:
                expire_token(self._world)
                self._exporter.refresh_status()
                last_refresh = timestamp
            yield [*self._scrape(timestamp)]
        self._exporter.close()

    def _restart(self) -> None:
        self._exporter.restart(RESTART_SECONDS)
        self._process = ProcessMetrics(self._clock.now, self._random)

    def _scrape(self, timestamp: float) -> Iterator[str]:
        exporter = self._exporter
        for family, labels, gauge in (
            ("late_exporter_build_info", ("0.1.0", "5d41402", "3.13.5"), 1.0),
            ("late_exporter_config_last_reload_successful", (), 1.0),
            ("late_exporter_config_last_reload_success_timestamp_seconds", (), self._process.start_time),
        ):
            exporter.registry.set_gauge(family, labels, gauge)
        customer_requests = CUSTOMER_REQUESTS + self._random.randrange(-6, 7)
        quota_family = "late_exporter_api_quota_customer_requests_per_minute"
        exporter.registry.set_gauge(quota_family, ("default",), customer_requests)
        body = exporter.exposition.get_body(BodyRequest(OPENMETRICS))
        process_body: bytes = generate_openmetrics(self._process)  # type: ignore[no-untyped-call]
        self.last_body = body.removesuffix(b"# EOF\n") + process_body
        lines = [line for line in self.last_body.decode().splitlines() if not line.startswith("#")]
        scrape_metrics = {
            "up": 1.0,
            "scrape_duration_seconds": self._random.uniform(0.004, 0.009),
            "scrape_samples_scraped": float(len(lines)),
        }
        for line in (*lines, *(f"{name} {value!r}" for name, value in scrape_metrics.items())):
            head, _, value = line.partition(" # ")[0].rpartition(" ")
            yield f"{self._series_names.get(head) or self._with_target_labels(head)} {value} {timestamp:.0f}\n"

    def _with_target_labels(self, head: str) -> str:
        name, brace, labels = head.partition("{")
        self._series_names[head] = f"{name}{{{TARGET},{labels}" if brace else f"{name}{{{TARGET}}}"
        return self._series_names[head]

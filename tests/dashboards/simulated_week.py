"""A week of a simulated world as Prometheus would have scraped it, with trouble at its end.

The samples are the product's own: the simulator's world on a virtual clock, read by poller, reader, ledger and
catalogue. Only the figures of the process are made up, and those that Prometheus itself adds to a scrape.
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

from late_exporter.errors import ApiUnavailable
from late_exporter.exposition.negotiation import OPENMETRICS
from late_exporter.feeds import FEEDS
from late_exporter.ingest.poller import Pace
from late_exporter.simulator import Service
from late_exporter.simulator import World as Town
from late_exporter.status import Quota
from tests.support.worlds import DAY, HOUR, KEY, MINUTE, Call, Exporter, Late, Reply, VirtualClock, World

__all__ = ["END", "WeekOfScrapes"]

SEED = 2
END = datetime(2026, 11, 19, 16, 12, tzinfo=UTC).timestamp()
BEGIN = END - 7 * DAY

DETAILED_SECONDS = 7 * HOUR
"""Before the end; what the dashboards show at first, and the windows of their rates before it."""

SCRAPE_INTERVALS = ((DETAILED_SECONDS, MINUTE), (26 * HOUR, 5 * MINUTE), (END - BEGIN, 15 * MINUTE))
"""How often is scraped, by how long it is until the end: what nobody looks at closely need not be close."""

POLL_INTERVALS = ((DETAILED_SECONDS, 30.0), (END - BEGIN, 5 * MINUTE))
"""How often is polled, likewise."""

POLL_LEAD = 12.0
"""Seconds from the beginning of a poll to the scrape that shows what it found."""

RECONCILE_INTERVAL = 3 * HOUR
"""Between two walks; the default would be most of the work."""

TARGET = 'job="late",instance="localhost:10077"'

API_OUTAGE = (END - 200 * MINUTE, END - 193 * MINUTE)
"""Late's API answers 503."""

SCHEMA_DRIFT = (END - 170 * MINUTE, END - 110 * MINUTE)
"""Late tries out a field that it has not documented."""

WEBHOOK_EVENTS = {"post.published": 60, "post.scheduled": 30, "post.failed": 5, "account.connected": 1}
"""What webhooks tell, and how often."""

REPLAY_PROBABILITY = 0.02
"""Of a poll: that a webhook was repeated before it."""

RESTART = END - 110 * MINUTE
RESTART_SECONDS = 8.0


def build_world() -> Town:
    """Five customers and what happens to them: it begins a day before the exporter does."""
    world = Town(SEED, BEGIN, history=DAY, scripted=False)
    world.start_incident("platform-outage", platform="tiktok", duration=40 * MINUTE, at=END - 4 * DAY)
    world.start_incident("rate-limit-storm", duration=30 * MINUTE, at=END - 2 * DAY)
    world.start_incident("revoked-token", platform="facebook", duration=9 * HOUR, at=END - 150 * MINUTE)
    world.start_incident("platform-outage", platform="instagram", duration=2 * HOUR, at=END - 36 * MINUTE)
    return world


def add_expiring_token(world: Town) -> None:
    """Somebody connects an account with a token of a few days, and does not renew it."""
    rows = reversed(world.connections.rows)
    oldest = next(row for row in rows if row.get("success") and row["platform"] == "linkedin")
    success = {**oldest["success"], "tokenExpiresAt": _iso_time(END + 3.4 * DAY)}
    created = {"_id": f"{int(world.now):08x}{0:016x}", "createdAt": _iso_time(world.now)}
    world.connections.insert({**oldest, **created, "success": success})


def _iso_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class SimulatedApi(Late):
    """Late's API over a simulated world: it takes its time, tells the quota, and is down for some minutes.

    Args:
        town: What it shows.
        clock: Its time.
    """

    def __init__(self, world: Town, clock: VirtualClock) -> None:
        super().__init__(World(clock))
        self._service = Service(world, clock=clock.time)
        self._random = Random(SEED)

    async def get(self, path: str, params: Mapping[str, str | int], *, endpoint: str) -> Reply | None:
        """The answer to a request."""
        seconds = self._random.lognormvariate(-1.9, 0.4)
        self._clock.advance(seconds)
        if API_OUTAGE[0] <= self._clock.now < API_OUTAGE[1]:
            self._calls.append(Call(endpoint, "503", seconds))
            raise ApiUnavailable("503: the simulated API is down")
        response = self._service.answer("GET", f"/api{path}", urlencode(params), {"Authorization": f"Bearer {KEY}"})
        self._calls.append(Call(endpoint, str(response.status), seconds))
        limit, remaining, reset = (response.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset"))
        self.quota = Quota(limit=int(limit), remaining=int(remaining), reset=float(reset))
        if response.status == HTTPStatus.NOT_FOUND:
            return None
        body = response.body
        if SCHEMA_DRIFT[0] <= self._clock.now < SCHEMA_DRIFT[1]:
            body = body.replace(b'"platform":', b'"region":"eu","platform":')
        return Reply(body, parsedate_to_datetime(response.headers["Date"]).timestamp())


@dataclass
class ProcessMetrics:
    """What the exporter's process would tell of itself; made up, at the size of a real one.

    Args:
        start_time: Unix time.
    """

    start_time: float
    cpu_seconds: float = 0.6

    def metrics(self, random: Random, seconds: float) -> Iterator[Metric]:
        """Its metrics, some seconds after the last ones."""
        self.cpu_seconds += seconds * random.uniform(0.003, 0.006)
        yield CounterMetricFamily("process_cpu_seconds", "User and system CPU time spent.", value=self.cpu_seconds)
        for name, value in (
            ("process_start_time_seconds", self.start_time),
            ("process_resident_memory_bytes", 62e6 + 4096 * random.randrange(400)),
            ("process_open_fds", 14 + random.randrange(3)),
            ("process_max_fds", 1024),
        ):
            yield GaugeMetricFamily(name, name, value=value)


class WeekOfScrapes:
    """What Prometheus scrapes in a week, as lines of OpenMetrics with timestamps.

    Args:
        folder: Where the exporter keeps its state.
    """

    def __init__(self, folder: Path) -> None:
        self.last_body = b""
        self._clock = VirtualClock(BEGIN - POLL_LEAD)
        self._world = build_world()
        api, pace = (
            SimulatedApi(self._world, self._clock),
            Pace(reconcile_interval=RECONCILE_INTERVAL, audit_interval=DAY),
        )
        self._exporter = Exporter(api, folder / "state.db", feeds=tuple(FEEDS), pace=pace, webhooks=True)
        self._event_random = Random(SEED)
        self._process = ProcessMetrics(BEGIN - POLL_LEAD)
        self._random = Random(SEED)
        self._series_names: dict[str, str] = {}

    def __iter__(self) -> Iterator[list[str]]:
        """Each scrape's lines, in order of time; afterwards ``last`` is the last body."""
        scheduled_calls: list[tuple[float, Callable[[], None]]] = [
            (END - 30 * HOUR, lambda: add_expiring_token(self._world)),
            (RESTART, self._restart),
        ]
        moment = last_scrape = BEGIN
        while moment < END:
            moment += _interval_at(POLL_INTERVALS, moment)
            self._clock.advance(moment - POLL_LEAD - self._clock.now)
            while scheduled_calls and scheduled_calls[0][0] <= moment:
                scheduled_calls.pop(0)[1]()
            self._send_webhooks()
            for feed in FEEDS:
                self._exporter.audit(feed)
            if moment - last_scrape >= _interval_at(SCRAPE_INTERVALS, moment):
                yield [*self._scrape(moment, moment - last_scrape)]
                last_scrape = moment
        self._exporter.close()

    def _send_webhooks(self) -> None:
        """Some webhooks come; now and then one is repeated."""
        (inbox,) = self._exporter.inboxes.values()
        for event in self._event_random.choices(
            [*WEBHOOK_EVENTS], [*WEBHOOK_EVENTS.values()], k=self._event_random.randrange(4)
        ):
            inbox.receive(event, self._clock.now - self._event_random.lognormvariate(-0.7, 0.8), self._clock.now)
        if self._event_random.random() < REPLAY_PROBABILITY:
            inbox.refuse("replay")

    def _restart(self) -> None:
        self._exporter.restart(RESTART_SECONDS)
        self._process = ProcessMetrics(self._clock.now)

    def _scrape(self, moment: float, seconds: float) -> Iterator[str]:
        exporter = self._exporter
        for family, labels, gauge in (
            ("late_exporter_build_info", ("0.1.0", "5d41402", "3.13.5"), 1.0),
            ("late_exporter_config_last_reload_successful", (), 1.0),
            ("late_exporter_config_last_reload_success_timestamp_seconds", (), self._process.start_time),
        ):
            exporter.board.gauge(family, labels, gauge)
        exporter.exposition.append(self._process.metrics(self._random, seconds))
        exporter.exposition.publish()
        response = exporter.exposition.answer(OPENMETRICS, None)
        exporter.exposition.served(response.version)
        self.last_body = response.body
        lines = [line for line in response.body.decode().splitlines() if not line.startswith("#")]
        scrape_metrics = {
            "up": 1.0,
            "scrape_duration_seconds": self._random.uniform(0.004, 0.009),
            "scrape_samples_scraped": float(len(lines)),
        }
        for line in (*lines, *(f"{name} {value!r}" for name, value in scrape_metrics.items())):
            head, _, value = line.partition(" # ")[0].rpartition(" ")
            yield f"{self._series_names.get(head) or self._with_target_labels(head)} {value} {moment:.0f}\n"

    def _with_target_labels(self, head: str) -> str:
        """A series with the labels of its target."""
        name, brace, labels = head.partition("{")
        self._series_names[head] = f"{name}{{{TARGET},{labels}" if brace else f"{name}{{{TARGET}}}"
        return self._series_names[head]


def _interval_at(steps: tuple[tuple[float, float], ...], moment: float) -> float:
    return next(step for until_end, step in steps if END - moment <= until_end)

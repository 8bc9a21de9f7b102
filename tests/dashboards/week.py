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
from late_exporter.ingest.poller import PollConfig
from late_exporter.simulator import SimulatedApi
from late_exporter.simulator import SimulatedWorld as Town
from late_exporter.status import Quota
from tests.support.worlds import DAY, HOUR, KEY, MINUTE, Call, ExporterHarness, FakeLateApi, Reply, VirtualClock, World

__all__ = ["END", "Scrapes"]

SEED = 2
END = datetime(2026, 11, 19, 16, 12, tzinfo=UTC).timestamp()
BEGIN = END - 7 * DAY

FINE = 7 * HOUR
"""Before the end; what the dashboards show at first, and the windows of their rates before it."""

STEPS = ((FINE, MINUTE), (26 * HOUR, 5 * MINUTE), (END - BEGIN, 15 * MINUTE))
"""How often is scraped, by how long it is until the end: what nobody looks at closely need not be close."""

POLLS = ((FINE, 30.0), (END - BEGIN, 5 * MINUTE))
"""How often is polled, likewise."""

EARLIER = 12.0
"""Seconds from the beginning of a poll to the scrape that shows what it found."""

RECONCILE = 3 * HOUR
"""Between two walks; the default would be most of the work."""

TARGET = 'job="late",instance="localhost:10077"'

HICCUP = (END - 200 * MINUTE, END - 193 * MINUTE)
"""Late's API answers 503."""

UNDOCUMENTED = (END - 170 * MINUTE, END - 110 * MINUTE)
"""Late tries out a field that it has not documented."""

EVENTS = {"post.published": 60, "post.scheduled": 30, "post.failed": 5, "account.connected": 1}
"""What webhooks tell, and how often."""

RETRIED = 0.02
"""Of a poll: that a webhook was repeated before it."""

RESTART = END - 110 * MINUTE
RESTART_SECONDS = 8.0


def world() -> Town:
    """Five customers and what happens to them: it begins a day before the exporter does."""
    town = Town(SEED, BEGIN, history=DAY, with_past_incidents=False)
    town.start_incident("platform-outage", platform="tiktok", duration=40 * MINUTE, start_time=END - 4 * DAY)
    town.start_incident("rate-limit-storm", duration=30 * MINUTE, start_time=END - 2 * DAY)
    town.start_incident("revoked-token", platform="facebook", duration=9 * HOUR, start_time=END - 150 * MINUTE)
    town.start_incident("platform-outage", platform="instagram", duration=2 * HOUR, start_time=END - 36 * MINUTE)
    return town


def short_lived(town: Town) -> None:
    """Somebody connects an account with a token of a few days, and does not renew it."""
    rows = reversed(town.connections.rows)
    oldest = next(row for row in rows if row.get("success") and row["platform"] == "linkedin")
    success = {**oldest["success"], "tokenExpiresAt": _iso(END + 3.4 * DAY)}
    created = {"_id": f"{int(town.now):08x}{0:016x}", "createdAt": _iso(town.now)}
    town.connections.insert({**oldest, **created, "success": success})


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Api(FakeLateApi):
    """Late's API over a simulated world: it takes its time, tells the quota, and is down for some minutes.

    Args:
        town: What it shows.
        clock: Its time.
    """

    def __init__(self, town: Town, clock: VirtualClock) -> None:
        super().__init__(World(clock))
        self._town = SimulatedApi(town, clock=clock.time)
        self._random = Random(SEED)

    async def get(self, path: str, params: Mapping[str, str | int], *, path_template: str) -> Reply | None:
        """The answer to a request."""
        seconds = self._random.lognormvariate(-1.9, 0.4)
        self._clock.advance(seconds)
        if HICCUP[0] <= self._clock.now < HICCUP[1]:
            self._calls.append(Call(path_template, "503", seconds))
            raise ApiUnavailable("503: the simulated API is down")
        answer = self._town.handle("GET", f"/api{path}", urlencode(params), {"Authorization": f"Bearer {KEY}"})
        self._calls.append(Call(path_template, str(answer.status), seconds))
        limit, remaining, reset = (answer.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset"))
        self.quota = Quota(limit=int(limit), remaining=int(remaining), reset=float(reset))
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        body = answer.body
        if UNDOCUMENTED[0] <= self._clock.now < UNDOCUMENTED[1]:
            body = body.replace(b'"platform":', b'"region":"eu","platform":')
        return Reply(body, parsedate_to_datetime(answer.headers["Date"]).timestamp())


@dataclass
class Process:
    """What the exporter's process would tell of itself; made up, at the size of a real one.

    Args:
        started: Unix time.
    """

    started: float
    cpu: float = 0.6

    def metrics(self, random: Random, seconds: float) -> Iterator[Metric]:
        """Its metrics, some seconds after the last ones."""
        self.cpu += seconds * random.uniform(0.003, 0.006)
        yield CounterMetricFamily("process_cpu_seconds", "User and system CPU time spent.", value=self.cpu)
        for name, value in (
            ("process_start_time_seconds", self.started),
            ("process_resident_memory_bytes", 62e6 + 4096 * random.randrange(400)),
            ("process_open_fds", 14 + random.randrange(3)),
            ("process_max_fds", 1024),
        ):
            yield GaugeMetricFamily(name, name, value=value)


class Scrapes:
    """What Prometheus scrapes in a week, as lines of OpenMetrics with timestamps.

    Args:
        folder: Where the exporter keeps its state.
    """

    def __init__(self, folder: Path) -> None:
        self.last = b""
        self._clock = VirtualClock(BEGIN - EARLIER)
        self._town = world()
        api, pace = Api(self._town, self._clock), PollConfig(reconcile_interval=RECONCILE, audit_interval=DAY)
        self._exporter = ExporterHarness(api, folder / "state.db", feeds=tuple(FEEDS), config=pace, webhooks=True)
        self._events = Random(SEED)
        self._process = Process(BEGIN - EARLIER)
        self._random = Random(SEED)
        self._heads: dict[str, str] = {}

    def __iter__(self) -> Iterator[list[str]]:
        """Each scrape's lines, in order of time; afterwards ``last`` is the last body."""
        chores: list[tuple[float, Callable[[], None]]] = [
            (END - 30 * HOUR, lambda: short_lived(self._town)),
            (RESTART, self._restart),
        ]
        moment = scraped = BEGIN
        while moment < END:
            moment += _step(POLLS, moment)
            self._clock.advance(moment - EARLIER - self._clock.now)
            while chores and chores[0][0] <= moment:
                chores.pop(0)[1]()
            self._tell()
            for feed in FEEDS:
                self._exporter.audit(feed)
            if moment - scraped >= _step(STEPS, moment):
                yield [*self._scrape(moment, moment - scraped)]
                scraped = moment
        self._exporter.close()

    def _tell(self) -> None:
        """Some webhooks come; now and then one is repeated."""
        (inbox,) = self._exporter.webhook_stats.values()
        for event in self._events.choices([*EVENTS], [*EVENTS.values()], k=self._events.randrange(4)):
            inbox.record(event, self._clock.now - self._events.lognormvariate(-0.7, 0.8), self._clock.now)
        if self._events.random() < RETRIED:
            inbox.record_rejection("replay")

    def _restart(self) -> None:
        self._exporter.restart(RESTART_SECONDS)
        self._process = Process(self._clock.now)

    def _scrape(self, moment: float, seconds: float) -> Iterator[str]:
        exporter = self._exporter
        for family, labels, gauge in (
            ("late_exporter_build_info", ("0.1.0", "5d41402", "3.13.5"), 1.0),
            ("late_exporter_config_last_reload_successful", (), 1.0),
            ("late_exporter_config_last_reload_success_timestamp_seconds", (), self._process.started),
        ):
            exporter.registry.set_gauge(family, labels, gauge)
        exporter.exposition.set_process_metrics(self._process.metrics(self._random, seconds))
        exporter.exposition.publish()
        answer = exporter.exposition.get_body(OPENMETRICS, None)
        exporter.exposition.mark_served(answer.version)
        self.last = answer.body
        lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
        added = {
            "up": 1.0,
            "scrape_duration_seconds": self._random.uniform(0.004, 0.009),
            "scrape_samples_scraped": float(len(lines)),
        }
        for line in (*lines, *(f"{name} {value!r}" for name, value in added.items())):
            head, _, value = line.partition(" # ")[0].rpartition(" ")
            yield f"{self._heads.get(head) or self._labelled(head)} {value} {moment:.0f}\n"

    def _labelled(self, head: str) -> str:
        """A series with the labels of its target."""
        name, brace, labels = head.partition("{")
        self._heads[head] = f"{name}{{{TARGET},{labels}" if brace else f"{name}{{{TARGET}}}"
        return self._heads[head]


def _step(steps: tuple[tuple[float, float], ...], moment: float) -> float:
    return next(step for until_end, step in steps if END - moment <= until_end)

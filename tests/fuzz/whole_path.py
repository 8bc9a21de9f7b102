"""The whole path of a response: from its bytes through client, decoder, recorder and store to the metrics.

A page is put together from JSON texts instead of values, so that a value may be anything that an API can send.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from late_exporter.app.assembly import Pipeline, PipelineConfig
from late_exporter.app.workspace_pollers import ApiConnection
from late_exporter.exposition.exposition import OPENMETRICS
from late_exporter.feeds.decoder import UNSAFE_CHARACTERS
from late_exporter.feeds.status_feeds import STATUS_FEEDS
from late_exporter.ingest.schedule import Runtime
from late_exporter.ingest.status_poller import StatusConfig, StatusPace
from late_exporter.store import open_store
from late_exporter.store.thread import StoreThread
from tests.support.api import KEY, create_client
from tests.support.clock import VirtualClock
from tests.support.exposition import read_body
from tests.support.late_api import zernio_row
from tests.support.loggers import RecordingLogger
from tests.support.samples import Samples
from tests.support.world import World

LISTS = [(generation, feed) for generation in ("late", "zernio") for feed in ("publishing", "connections")]
GOOD_PLATFORM = "tiktok"
"""Platform of the neighbours, by which they are found in the metrics."""


def encode(value: object) -> str:
    """Return the JSON text of a value."""
    return json.dumps(value)


def text_of(members: Iterable[tuple[str, str]]) -> str:
    """Return the JSON text of an object whose names and values are JSON texts; names may be repeated."""
    return "{" + ",".join(f"{name}:{value}" for name, value in members) + "}"


def page_of(rows: Iterable[str], pagination: str = '{"total":5,"hasMore":false}') -> str:
    """Return the JSON text of a page."""
    return f'{{"logs":[{",".join(rows)}],"pagination":{pagination}}}'


class Rows:
    """Documented rows of a feed in a generation, as JSON texts of their members."""

    def __init__(self, generation: str, feed: str) -> None:
        self.generation, self.feed = generation, feed
        self.clock = VirtualClock()
        world = World(self.clock)
        for _ in range(4):
            self.clock.advance(60)
            if feed == "connections":
                world.add_connection(platform=GOOD_PLATFORM, success={"username": "x"}, error={"code": "y"})
            else:
                world.publish(1, platform=GOOD_PLATFORM, status="failed", response={"errorCode": "TIMEOUT"})
        archive = world.archives.connections if feed == "connections" else world.rows
        rows = archive if isinstance(archive, Sequence) else archive.rows
        shown = [zernio_row(row) if generation == "zernio" else row for row in rows]
        self._rows = [[(encode(name), encode(value)) for name, value in row.items()] for row in shown]
        self.clock.advance(60)

    @property
    def good(self) -> list[str]:
        """JSON texts of the neighbours."""
        return [text_of(row) for row in self._rows[1:]]

    @property
    def names(self) -> list[str]:
        """Names of the fields."""
        return [json.loads(name) for name, _ in self._rows[0]]

    def changed(self, name: str, value: str, number: int = 0) -> str:
        """Return a row with another platform, whose field has any JSON text as its value, before and after its own."""
        row = [(key, text) for key, text in self._rows[0] if key not in ('"platform"', '"_id"', '"request_id"')]
        row += [
            ('"platform"', '"instagram"'),
            ('"_id"' if self.generation == "late" else '"request_id"', f'"c{number}"'),
        ]
        return text_of([(encode(name), value), *row, (encode(name), value)])


class WholePath:
    """An exporter over an API that sends the same body to all requests."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._clock = rows.clock
        self.body = b""
        self._log = RecordingLogger()
        self._store = open_store("sqlite://")
        self._client = create_client(self._answer, monotonic=self._clock.monotonic, sleep=self._clock.sleep)
        self._pipeline = Pipeline(
            PipelineConfig(feeds=(rows.feed,), zero_hold=0.0, logged_failures=frozenset({rows.feed})),
            store_thread=StoreThread(self._store, _call),
            create_logger=lambda _: self._log,
            runtime=Runtime(
                clock=self._clock.time,
                monotonic=self._clock.monotonic,
                sleep=self._clock.sleep,
                random=lambda: 0.5,
            ),
        )

    def _answer(self, _: httpx.Request) -> httpx.Response:
        headers = {f"X-RateLimit-{name}": "100000000" for name in ("Limit", "Remaining")}
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(self.body))

    async def start(self) -> None:
        """Load the empty state."""
        self._client.configured_generation = self._rows.generation
        status = StatusConfig(intervals=dict.fromkeys(STATUS_FEEDS, 300.0))
        connection = ApiConnection(self._client, StatusPace(), status=status)
        await self._pipeline.add_workspaces({"default": connection})

    async def poll(self) -> str:
        """Poll once; return the outcome."""
        self._clock.advance(30)
        (poller,) = self._pipeline.workspaces["default"]
        return (await poller.poll()).outcome

    async def refresh_status(self) -> None:
        """Read the status feeds from the same body."""
        await self._pipeline.workspaces["default"].status.refresh()

    async def scrape(self) -> Samples:
        """Publish the metrics; return the samples."""
        exposition = self._pipeline.exposition
        text = read_body(exposition)
        assert KEY not in text
        return Samples.parse(text)

    def check_metrics(self) -> None:
        """Read the metrics in the format with the stricter parser; their labels are short and without controls."""
        text = read_body(self._pipeline.exposition, OPENMETRICS)
        families = list(parse_openmetrics(text))  # type: ignore[no-untyped-call]
        values = {value for family in families for sample in family.samples for value in sample.labels.values()}
        assert max(map(len, values)) <= 200
        assert [value for value in values if UNSAFE_CHARACTERS.search(value)] == []

    def check_log(self) -> None:
        """Read the lines about failed logs, whose texts contain no key, are short and without controls."""
        lines = [fields for _, message, fields in self._log.records if message == f"{self._rows.feed} failed"]
        texts = [value for fields in lines for value in fields.values() if isinstance(value, str)]
        assert [text for text in texts if KEY in text or len(text) > 1000 or UNSAFE_CHARACTERS.search(text)] == []

    def close(self) -> None:
        """Close the state."""
        self._store.close()


async def _call(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    return call(*args, **keywords)


def is_json(body: bytes) -> bool:
    """Return whether a body is JSON by Python's parser."""
    try:
        json.loads(body.decode("utf-8", "replace"), parse_int=float)
    except ValueError:
        return False
    return True


def counted_neighbours(samples: Samples, feed: str) -> float:
    """Return how many of the good rows are in the metrics."""
    family = "late_connection_events_total" if feed == "connections" else "late_publishing_logs_total"
    return samples.sum(family, platform=GOOD_PLATFORM)


def follow(rows: Rows, page: bytes, *, has_good_rows: bool = True, has_text_total: bool = False) -> None:
    """Let a page go the whole path, then a good one.

    A page that is JSON costs none of its good rows, unless its total is text; anything else at most one poll.

    Args:
        rows: Rows of the list.
        page: Any bytes, for example a page with all good rows.
        has_good_rows: Whether the good rows are as they should be, if the page has them.
        has_text_total: Whether the page gives its total as text.
    """

    async def run() -> None:
        path = WholePath(rows)
        try:
            await path.start()
            path.body = page_of([], '{"total":0,"hasMore":false}').encode()
            await path.poll()  # What the first sync reads has no lines in the log.
            path.body = page
            outcome = await path.poll()
            await path.refresh_status()
            samples = await path.scrape()
            path.check_metrics()
            path.check_log()
            if has_good_rows and is_json(page) and all(row.encode() in page for row in rows.good):
                assert outcome == ("bad_payload" if has_text_total else "success")
                assert outcome == "bad_payload" or len(rows.good) == counted_neighbours(samples, rows.feed)
            assert outcome in ("success", "bad_payload")
            path.body = page_of(rows.good).encode()
            assert await path.poll() == "success"
            samples = await path.scrape()
            assert not has_good_rows or len(rows.good) == counted_neighbours(samples, rows.feed)
        finally:
            path.close()

    asyncio.run(run())

"""The whole path of a response: from its bytes through decoder, recorder and store to the metrics.

A page is put together from JSON texts instead of values, so that a value may be anything that an API can send.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import closing

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from late_exporter.api.responses import ApiResponse
from late_exporter.exposition.exposition import OPENMETRICS
from late_exporter.feeds.decoder import UNSAFE_CHARACTERS
from late_exporter.feeds.status_feeds import STATUS_FEEDS
from tests.support.client import FakeClient
from tests.support.clock import VirtualClock
from tests.support.exposition import read_body
from tests.support.inside import InsideHarness
from tests.support.late_api import zernio_row
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


def check_metrics(exporter: InsideHarness) -> None:
    """Read the metrics in the format with the stricter parser; their labels are short and without controls."""
    text = read_body(exporter.exposition, OPENMETRICS)
    families = list(parse_openmetrics(text))  # type: ignore[no-untyped-call]
    values = {value for family in families for sample in family.samples for value in sample.labels.values()}
    assert max(map(len, values)) <= 200
    assert [value for value in values if UNSAFE_CHARACTERS.search(value)] == []


def check_log(exporter: InsideHarness) -> None:
    """Read the lines about failed logs, whose texts are short and without controls."""
    (feed,) = exporter.feeds
    lines = [fields for _, message, fields in exporter.log.records if message == f"{feed} failed"]
    texts = [value for fields in lines for value in fields.values() if isinstance(value, str)]
    assert [text for text in texts if len(text) > 1000 or UNSAFE_CHARACTERS.search(text)] == []


def is_json(body: bytes) -> bool:
    """Return whether a body is JSON by Python's parser."""
    try:
        json.loads(body.decode("utf-8", "replace"), parse_int=float)
    except ValueError:
        return False
    return True


def counted_neighbours(exporter: InsideHarness) -> float:
    """Return how many of the good rows are in the metrics."""
    is_connection = exporter.feeds == ("connections",)
    family = "late_connection_events_total" if is_connection else "late_publishing_logs_total"
    return exporter.scrape().sum(family, platform=GOOD_PLATFORM)


def follow(rows: Rows, page: bytes, *, has_good_rows: bool = True, has_text_total: bool = False) -> None:
    """Let a page go the whole path, then a good one.

    A page that is JSON costs none of its good rows, unless its total is text; anything else at most one poll.

    Args:
        rows: Rows of the list.
        page: Any bytes, for example a page with all good rows.
        has_good_rows: Whether the good rows are as they should be, if the page has them.
        has_text_total: Whether the page gives its total as text.
    """
    body = page_of([], '{"total":0,"hasMore":false}').encode()
    exporter = InsideHarness(
        FakeClient(lambda *_: ApiResponse(body, None)),
        clock=rows.clock,
        feeds=[rows.feed],
        generation=rows.generation,
        log_failures=True,
        status=dict.fromkeys(STATUS_FEEDS, 300.0),
    )
    with closing(exporter):
        exporter.poll_repeatedly(1)  # What the first sync reads has no lines in the log.
        body = page
        (result,) = exporter.poll_repeatedly(1)
        exporter.refresh_status()
        check_metrics(exporter)
        check_log(exporter)
        assert result.outcome in ("success", "bad_payload")
        if has_good_rows and is_json(page) and all(row.encode() in page for row in rows.good):
            assert result.outcome == ("bad_payload" if has_text_total else "success")
            assert has_text_total or len(rows.good) == counted_neighbours(exporter)
        body = page_of(rows.good).encode()
        (result,) = exporter.poll_repeatedly(1)
        assert result.outcome == "success"
        assert not has_good_rows or len(rows.good) == counted_neighbours(exporter)

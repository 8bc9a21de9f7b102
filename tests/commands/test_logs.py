from __future__ import annotations

import json
from typing import Any

import pytest

from late_exporter import cli
from late_exporter.commands.list_reader import ListReader
from late_exporter.commands.log_views import read_logs
from late_exporter.commands.logs import LogFilter, log_formatter, print_newest
from late_exporter.commands.tables import Terminal
from late_exporter.feeds import FEEDS, GENERATIONS
from tests.commands.views import parse_rows
from tests.support.api import FakeHttpApi
from tests.support.clock import DAY, HOUR, VirtualClock
from tests.support.world import World

ZERNIO = GENERATIONS["zernio"]["publishing"]
FEED, CONNECTIONS = FEEDS["publishing"], FEEDS["connections"]
ANY = LogFilter(since=7 * DAY)


class LogsHarness:
    """A simulated API, and the output of the command."""

    def __init__(
        self,
        log_filter: LogFilter = ANY,
        *,
        feed: str = "publishing",
        format_name: str = "json",
        generation: str = "late",
        terminal: Terminal | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.world = World(self.clock)
        self.api = FakeHttpApi(self.world, generation=generation)
        self.log_filter = log_filter
        self.feed = GENERATIONS[generation][feed]
        self.until: int | None = None
        self.lines: list[str] = []
        self.formatter = log_formatter(format_name, terminal or Terminal())

    def reader(self) -> ListReader:
        """Return a reader with the filters of the API."""
        return ListReader(self.api.client, self.feed, self.log_filter.query(self.feed))

    @property
    def lower(self) -> int:
        """Creation time of the oldest logs in milliseconds."""
        return int((self.clock.now - self.log_filter.since) * 1000)

    async def show(self, limit: int = 0) -> tuple[int, bool]:
        """Print the newest logs."""
        pages = read_logs(self.reader(), self.feed, self.lower, self.until)
        return await print_newest(pages, self.log_filter, self.formatter, limit=limit, write=self.lines.append)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the printed logs."""
        return [json.loads(line) for line in self.lines]

    @property
    def ids(self) -> list[str]:
        """Return the ids of the printed logs."""
        return [row["log_id"] for row in self.rows]


async def test_logs_are_printed_newest_first() -> None:
    """Every log is printed once, whatever the number of pages."""
    harness = LogsHarness()
    harness.world.publish(250, over=HOUR)

    assert (250, False) == await harness.show()
    assert harness.world.ids == harness.ids
    assert ["0", "98", "196"] == [request.params["skip"] for request in harness.api.requests]


@pytest.mark.parametrize(("limit", "requests"), [(1, 1), (100, 1), (101, 2)])
async def test_reading_stops_at_the_limit(limit: int, requests: int) -> None:
    """No more pages are read than necessary."""
    harness = LogsHarness()
    harness.world.publish(500, over=HOUR)

    assert (limit, True) == await harness.show(limit)
    assert harness.world.ids[:limit] == harness.ids
    assert requests == len(harness.api.requests)


def test_the_api_filters_by_what_it_knows() -> None:
    """Accounts are filtered locally."""
    log_filter = LogFilter(platform="x", status="pending", action="retry", account="@a", since=1.0)
    assert {"platform": "x", "status": "pending", "action": "retry", "days": 1} == log_filter.query(FEED)
    assert "retry" == log_filter.query(CONNECTIONS)["eventType"]


@pytest.mark.parametrize(
    ("log_filter", "query"),
    [
        (LogFilter(platform="x", status="failed"), {"platform": "x", "status": "failed", "days": 1}),
        (LogFilter(action="publish"), {"days": 1}),
        (LogFilter(action="post.published"), {"action": "post.published", "days": 1}),
        (LogFilter(account="65f1c0a9e2b5af0012ab34cd"), {"accountId": "65f1c0a9e2b5af0012ab34cd", "days": 1}),
        (LogFilter(since=90 * DAY), {"days": 90}),
    ],
    ids=str,
)
def test_zernio_filters_by_what_it_knows(log_filter: LogFilter, query: dict[str, object]) -> None:
    """Actions that stand for several of the API are filtered locally, and accounts are filtered by id only."""
    assert query == log_filter.query(ZERNIO)


@pytest.mark.parametrize(
    ("log_filter", "matches"),
    [
        (LogFilter(platform="all", status="all", action="all"), True),
        (LogFilter(platform="Instagram"), True),
        (LogFilter(status="success"), False),
        (LogFilter(action="retry"), False),
        (LogFilter(account="acc1"), True),
        (LogFilter(account="@ACME"), True),
        (LogFilter(account="acm"), False),
    ],
    ids=str,
)
def test_values_match_as_a_whole(log_filter: LogFilter, matches: bool) -> None:  # noqa: FBT001 - the expected value
    """Values are matched whole, in whatever letters, and a name with or without its sign."""
    row = {"platform": "instagram", "status": "failed", "action": "publish", "accountId": "acc1"}
    (log,) = parse_rows(FEED, row | {"accountUsername": "@acme"})

    assert matches == log_filter.matches(log)


FAILURE = {"errorCode": "X", "errorMessage": "bad", "platformPostUrl": "u"}
WEBHOOK = {"type": "webhooks", "action": "webhook.delivered", "status": "failed", "status_code": 500, "endpoint": "a/b"}
TABLES = {
    ("publishing", "late", None): """\
TIME                  STATUS  PLATFORM   ACCOUNT     ACTION   TRY  HTTP  TOOK  POST  DETAIL
2026-11-25T09:46:39Z  failed  instagram  @baeckerei  publish    1   200  1.2s  p1    X: bad
""",
    ("publishing", "zernio", 80): """\
TIME                  STATUS  PLATFORM   ACCOUNT     POST OR ACTION, DETAIL
2026-11-25T09:46:39Z  failed  instagram  @baeckerei  p1 X: bad
""",
    ("connections", "late", None): """\
TIME                  STATUS  PLATFORM   ACCOUNT  ACTION          TRY  HTTP   TOOK  POST  DETAIL
2026-11-25T09:46:40Z  failed  instagram  acc1     connect_failed    -     -  900ms  -     denied: no
""",
    ("connections", "late", 70): """\
TIME                  STATUS  PLATFORM   ACCOUNT  POST OR ACTION, DETAIL
2026-11-25T09:46:40Z  failed  instagram  acc1
    connect_failed denied: no
""",
    ("webhooks", "zernio", None): """\
TIME  STATUS  PLATFORM  ACCOUNT  ACTION             TRY  HTTP  TOOK  POST  DETAIL
-     -       unknown   -        unknown              -     -     -  -
soon  -       unknown   -        unknown              -     -     -  -
-     failed  unknown   -        webhook.delivered    -   500     -  -     a/b
""",
    ("webhooks", "zernio", 60): """\
TIME  STATUS  PLATFORM  ACCOUNT  POST OR ACTION, DETAIL
-     -       unknown   -        unknown
soon  -       unknown   -        unknown
-     failed  unknown   -        webhook.delivered a/b
""",
}


@pytest.mark.parametrize("case", TABLES, ids=str)
async def test_tables(case: tuple[str, str, int | None]) -> None:
    """Each kind of feed has its columns, fewer of them on a narrow terminal; bad rows are shown as far as possible."""
    feed, generation, width = case
    harness = LogsHarness(feed=feed, generation=generation, format_name="table", terminal=Terminal(width))
    harness.world.insert(harness.clock.now - 1, postId="p1", status="failed", response=FAILURE)
    harness.world.add_connection("connect_failed", error={"code": "denied", "message": "no"})
    bad: list[Any] = [None, 5, {}, {"_id": "a", "created_at": "soon", "response": [], "status": {"x": 1}}, "text"]
    if feed == "webhooks":
        harness.api.answer = json.dumps({"logs": [*bad, WEBHOOK], "pagination": {"hasMore": False}}).encode()
    await harness.show()
    assert TABLES[case].splitlines() == harness.lines


async def test_json_has_the_same_fields_for_all_generations() -> None:
    """Times and durations are exact, and the row of the API is there as it was sent."""
    fields = []
    for generation in ("late", "zernio"):
        harness = LogsHarness(generation=generation)
        harness.world.insert(harness.clock.now - 1, postId="p1", durationMs=4_140_123, response=FAILURE)
        await harness.show()
        ((row, log),) = [(log.pop("row"), log) for log in harness.rows]
        assert 4_140_123 == row["durationMs" if generation == "late" else "duration_ms"]
        assert bool(log.pop("log_id")) == (generation == "late")
        fields.append(log)
    assert fields[0] == fields[1]
    assert {
        "time": "2026-11-25T09:46:39.000Z",
        "post_id": "p1",
        "username": "@baeckerei",
        "action": "publish",
        "status": "success",
        "attempt": 1,
        "status_code": "200",
        "duration_seconds": 4140.123,
        "error_code": "X",
        "url": "u",
    }.items() <= fields[0].items()


async def test_older_logs_of_zernio_cost_no_request() -> None:
    """The request names the time at which the list ends."""
    harness = LogsHarness(LogFilter(since=HOUR - 1), generation="zernio")
    harness.world.publish(270, over=3 * HOUR)

    assert (90, False) == await harness.show()
    assert ["2026-11-25T08:46:40.000Z"] == [request.params["from"] for request in harness.api.requests]


@pytest.mark.parametrize("since", [(), ("--since=2d",)])
def test_until_before_since_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], since: tuple[str, ...]
) -> None:
    """An empty range is a mistake, also if its start is the default; no request is made."""
    monkeypatch.setenv("LATE_API_KEY", "sk_" + "0" * 64)
    assert 2 == cli.main(["logs", "--until=2020-01-01T00:00:00Z", "--api.base-url=http://127.0.0.1:1", *since])
    reason = "must be later than --since ago, by default 1d"
    assert f"late-exporter: error: --until: {reason}\n" == capsys.readouterr().err


@pytest.mark.parametrize("generation", ["late", "zernio"])
async def test_until(generation: str) -> None:
    """Logs after a time are left out; the API is not asked for them if it can filter by time."""
    harness = LogsHarness(generation=generation)
    for number in range(500):
        harness.world.insert(harness.clock.now - 60 * number, precise=False)
    harness.until = int((harness.clock.now - 60 * 399) * 1000)
    assert (101, False) == await harness.show()
    assert harness.api.requests
    assert len(harness.api.requests) < (4 if generation == "zernio" else 8)

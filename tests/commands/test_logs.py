from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from late_exporter import cli
from late_exporter.commands.logs import matches, print_logs, query
from late_exporter.commands.tables import Terminal
from late_exporter.config.sections import CommandFlags
from late_exporter.feeds import FEEDS, GENERATIONS
from late_exporter.format import iso_time
from tests.commands.views import parse_rows
from tests.support.api import FakeHttpApi
from tests.support.clock import HOUR, VirtualClock
from tests.support.world import World

ZERNIO = GENERATIONS["zernio"]["publishing"]
FEED, CONNECTIONS = FEEDS["publishing"], FEEDS["connections"]


class LogsHarness:
    """A simulated API, and the output of the command."""

    def __init__(self, *, generation: str = "late", terminal: Terminal | None = None, **flags: Any) -> None:
        self.clock = VirtualClock()
        self.world = World(self.clock)
        self.api = FakeHttpApi(self.world, generation=generation)
        self.flags: dict[str, Any] = {"since": "7d", "format": "json", "limit": "0", **flags}
        self.terminal = terminal or Terminal()
        self.feed = GENERATIONS[generation][flags.get("feed", "publishing")]
        self.lines: list[str] = []

    async def show(self, **flags: Any) -> str:
        """Print the newest logs; return the warnings."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            flags = self.flags | flags
            await print_logs(self.api.client, self.feed, CommandFlags(**flags), self.terminal, now=self.clock.now)
        self.lines = out.getvalue().splitlines()
        return err.getvalue()

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

    assert "" == await harness.show()
    assert harness.world.ids == harness.ids
    assert ["0", "98", "196"] == [request.params["skip"] for request in harness.api.requests]


@pytest.mark.parametrize(("limit", "requests"), [(1, 1), (100, 1), (101, 2)])
async def test_reading_stops_at_the_limit(limit: int, requests: int) -> None:
    """No more pages are read than necessary."""
    harness = LogsHarness()
    harness.world.publish(500, over=HOUR)

    assert f"late-exporter: these are the newest {limit}; --limit 0 shows all\n" == await harness.show(limit=limit)
    assert harness.world.ids[:limit] == harness.ids
    assert requests == len(harness.api.requests)


def test_the_api_filters_by_what_it_knows() -> None:
    """Accounts are filtered locally."""
    flags = CommandFlags(platform="X", status="pending", action="retry", account="@a")
    assert {"platform": "x", "status": "pending", "action": "retry", "days": 1} == query(flags, FEED)
    assert "retry" == query(flags, CONNECTIONS)["eventType"]


@pytest.mark.parametrize(
    ("flags", "parameters"),
    [
        (CommandFlags(platform="x", status="failed"), {"platform": "x", "status": "failed", "days": 1}),
        (CommandFlags(action="publish"), {"days": 1}),
        (CommandFlags(action="post.published"), {"action": "post.published", "days": 1}),
        (CommandFlags(account="65f1c0a9e2b5af0012ab34cd"), {"accountId": "65f1c0a9e2b5af0012ab34cd", "days": 1}),
        (CommandFlags.model_validate({"since": "90d"}), {"days": 90}),
    ],
    ids=str,
)
def test_zernio_filters_by_what_it_knows(flags: CommandFlags, parameters: dict[str, object]) -> None:
    """Actions that stand for several of the API are filtered locally, and accounts are filtered by id only."""
    assert parameters == query(flags, ZERNIO)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (CommandFlags(platform="all", status="all", action="all"), True),
        (CommandFlags(platform="Instagram"), True),
        (CommandFlags(status="success"), False),
        (CommandFlags(action="retry"), False),
        (CommandFlags(account="acc1"), True),
        (CommandFlags(account="@ACME"), True),
        (CommandFlags(account="acm"), False),
    ],
    ids=str,
)
def test_values_match_as_a_whole(flags: CommandFlags, *, expected: bool) -> None:
    """Values are matched whole, in whatever letters, and a name with or without its sign."""
    row = {"platform": "instagram", "status": "failed", "action": "publish", "accountId": "acc1"}
    (log,) = parse_rows(FEED, row | {"accountUsername": "@acme"})

    assert expected == matches(flags, log)


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
    harness = LogsHarness(feed=feed, generation=generation, format="table", terminal=Terminal(width))
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
    harness = LogsHarness(since="59m59s", generation="zernio")
    harness.world.publish(270, over=3 * HOUR)

    await harness.show()
    assert 90 == len(harness.rows)
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
    await harness.show(until=iso_time((harness.clock.now - 60 * 399) * 1000))
    assert 101 == len(harness.rows)
    assert harness.api.requests
    assert len(harness.api.requests) < (4 if generation == "zernio" else 8)

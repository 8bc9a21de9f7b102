from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import httpx
import pytest

from late_exporter import cli
from late_exporter.commands.logs import matches, matching_logs, newest_first, print_logs, query
from late_exporter.feeds import FEEDS, GENERATIONS
from late_exporter.feeds.feed import Feed
from tests.commands.views import parse_rows
from tests.support.api import FakeHttpApi
from tests.support.clock import HOUR, VirtualClock
from tests.support.settings import flags_of
from tests.support.world import World

ZERNIO = GENERATIONS["zernio"]["publishing"]
FEED = FEEDS["publishing"]


class LogsHarness:
    """A simulated API for each workspace, and the output of the command."""

    def __init__(self, *, generation: str = "late", workspaces: Sequence[str] = ("brand",), **flags: Any) -> None:
        self.clock = VirtualClock()
        self.worlds = {name: World(self.clock) for name in workspaces}
        self.apis = {name: FakeHttpApi(world, generation=generation) for name, world in self.worlds.items()}
        self.world, self.api = self.worlds[workspaces[0]], self.apis[workspaces[0]]
        self.flags: dict[str, Any] = {"since": "7d", "format": "json", "limit": "0", **flags}
        self.generation = generation
        self.unread: list[str] = []
        self.lines: list[str] = []
        self.stderr: type[io.StringIO] = io.StringIO

    async def show(self, **changes: Any) -> str:
        """Print the newest logs; return the warnings."""
        flags = flags_of("logs", **self.flags | changes)
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(self.stderr()) as err:
            sources = []
            for name, api in self.apis.items():
                client = api.client
                client.configured_generation = self.generation
                sources.append(matching_logs(name, client, flags, now=self.clock.now, unread=self.unread))
            is_several = len(sources) > 1
            batches = newest_first(sources)
            await print_logs(batches, flags, is_several=is_several, unread=self.unread)
        self.lines = out.getvalue().splitlines()
        return err.getvalue()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the printed logs."""
        return [json.loads(line) for line in self.lines]


async def test_logs_are_printed_newest_first() -> None:
    """Every log is printed once, whatever the number of pages."""
    harness = LogsHarness()
    harness.world.publish(250, over=HOUR)

    assert await harness.show() == ""
    assert harness.world.ids == [row["log_id"] for row in harness.rows]
    assert [request.params["skip"] for request in harness.api.requests] == ["0", "98", "196"]


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


async def test_progress_is_a_line_on_a_terminal() -> None:
    """It is drawn again and cleared in the end."""
    harness = LogsHarness()
    harness.world.publish(150, over=HOUR)
    harness.stderr = Terminal

    first, second = "brand: 0 logs read", "brand: 100 logs read"
    assert (await harness.show()).split("\r\x1b[K") == ["", first, "", second, ""]


@pytest.mark.parametrize(("limit", "requests"), [(1, 1), (100, 1), (101, 2)])
async def test_reading_stops_at_the_limit(limit: int, requests: int) -> None:
    """No more pages are read than necessary."""
    harness = LogsHarness()
    harness.world.publish(500, over=HOUR)

    assert await harness.show(limit=limit) == f"late-exporter: stopped at --limit {limit}; --limit 0 shows all\n"
    assert limit == len(harness.lines)
    assert requests == len(harness.api.requests)


async def test_logs_of_all_workspaces_are_merged_by_time() -> None:
    """Each line says of which workspace it is, and no more pages are read than the limit needs."""
    harness = LogsHarness(workspaces=("a", "b"), status="success")
    for number in range(250):
        harness.worlds["a" if number % 3 else "b"].insert(harness.clock.now - number, postId="p1")

    await harness.show()
    assert [row["workspace"] for row in harness.rows[:4]] == ["b", "a", "a", "b"]
    assert sorted((row["time"] for row in harness.rows), reverse=True) == [row["time"] for row in harness.rows]
    assert len(harness.rows) == 250
    await harness.show(limit=1, format="text")
    assert harness.lines == [
        "TIME                  STATUS   WORKSPACE  PLATFORM   ACCOUNT     ACTION   TRY  HTTP  TOOK  POST  DETAIL",
        "2026-11-25T09:46:40Z  success  b          instagram  @baeckerei  publish    1   200  1.2s  p1",
    ]
    assert [len(api.requests) for api in harness.apis.values()] == [3, 2]


async def test_a_workspace_that_cannot_be_read_does_not_hide_the_others() -> None:
    """Its error is printed, and the command fails in the end."""
    harness = LogsHarness(workspaces=("a", "b"))
    harness.worlds["b"].publish(3)
    harness.api.fault = lambda _: httpx.Response(403, json={"error": "no right"})

    assert (await harness.show()).startswith("late-exporter: error: a: 403")
    assert (len(harness.rows), harness.unread) == (3, ["a"])


@pytest.mark.parametrize("by", ["", "platform"])
async def test_no_match_is_not_said_of_a_workspace_that_cannot_be_read(by: str) -> None:
    """The message tells "nothing" from "not known"."""
    harness = LogsHarness(workspaces=("a", "b"), by=by)
    harness.api.fault = lambda _: httpx.Response(403, json={"error": "no right"})

    messages = (await harness.show()).splitlines()
    assert messages[-1] == "late-exporter: no log matches, but 1 workspace could not be read"
    assert harness.lines == []


@pytest.mark.parametrize(
    ("feed", "flags", "parameters"),
    [
        (FEED, {"platform": "X", "account": "@a", "action": "retry"}, {"platform": "x"}),
        (FEED, {"status": "Pending"}, {"status": "pending"}),
        (ZERNIO, {"status": "pending,failed", "action": "post.published"}, {}),
        (ZERNIO, {"account": "65f1c0a9e2b5af0012ab34cd"}, {"accountId": "65f1c0a9e2b5af0012ab34cd"}),
        (ZERNIO, {"since": "90d"}, {"days": 90}),
    ],
    ids=range(5),
)
def test_the_api_filters_by_what_it_knows(feed: Feed, flags: dict[str, str], parameters: dict[str, object]) -> None:
    """Several statuses, actions and names of accounts are filtered locally."""
    assert {"days": 1} | parameters == query(flags_of("logs", **flags), feed)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"status": "success"}, False),
        ({"status": "success,failed"}, True),
        ({"action": "Publish"}, True),
        ({"account": "acc1"}, True),
        ({"account": "@ACME"}, True),
        ({"account": "acm"}, False),
    ],
    ids=str,
)
def test_values_match_as_a_whole(flags: dict[str, Any], *, expected: bool) -> None:
    """Values are matched whole, in whatever letters, and a name with or without its sign."""
    row = {"_id": "a", "createdAt": "2026-11-24T10:00:00Z", "platform": "instagram", "status": "failed"}
    row |= {"action": "publish", "accountId": "acc1", "accountUsername": "@acme"}
    (log,) = parse_rows(FEED, row)

    assert expected == matches(flags_of("logs", **flags), log)


FAILURE = {"errorCode": "X", "errorMessage": "bad", "platformPostUrl": "u"}
WEBHOOK = {"type": "webhooks", "action": "webhook.delivered", "status": "failed", "status_code": 500, "endpoint": "a/b"}


async def test_bad_rows_are_shown_as_far_as_possible() -> None:
    harness = LogsHarness(feed="webhooks", generation="zernio", format="text")
    bad: list[Any] = [None, 5, {}, {"_id": "a", "created_at": "soon", "response": [], "status": {"x": 1}}, "text"]
    harness.api.answer = json.dumps({"logs": [*bad, WEBHOOK], "pagination": {"hasMore": False}}).encode()
    await harness.show()
    assert harness.lines == [
        "TIME  STATUS    PLATFORM  ACCOUNT  ACTION             TRY  HTTP  TOOK  POST  DETAIL",
        "-     rejected  unknown   -        unknown              -     -     -  -",
        "-     rejected  unknown   -        unknown              -     -     -  -",
        "-     rejected  unknown   -        webhook.delivered    -   500     -  -     a/b",
    ]


async def test_json_has_the_same_fields_for_all_generations() -> None:
    """Times and durations are exact."""
    fields = []
    for generation in ("late", "zernio"):
        harness = LogsHarness(generation=generation)
        harness.world.insert(harness.clock.now - 1, postId="p1", durationMs=4_140_123, response=FAILURE)
        await harness.show()
        (log,) = harness.rows
        assert bool(log.pop("log_id")) == (generation == "late")
        fields.append(log)
    assert fields[0] == fields[1]
    names = ("workspace", "time", "post_id", "username", "attempt", "duration_seconds", "error_code", "url")
    expected = ("brand", "2026-11-25T09:46:39.000Z", "p1", "@baeckerei", 1, 4140.123, "X", "u")
    assert tuple(fields[0][name] for name in names) == expected


async def test_logs_are_counted_by_their_values() -> None:
    """The most frequent values are first; without an account name or an error code, id and message are shown."""
    harness = LogsHarness(by="account,error", status="failed")
    for number in range(5):
        failure = {"errorMessage": "no"} if number % 2 else FAILURE
        harness.world.insert(harness.clock.now - number, status="failed", response=failure, accountUsername=None)

    await harness.show(format="text")
    assert harness.lines == ["LOGS  ACCOUNT  ERROR", "   3  acc1     X", "   2  acc1     no"]
    assert await harness.show(limit=1) == "late-exporter: stopped at --limit 1 of 2; --limit 0 shows all\n"
    assert harness.rows == [{"logs": "3", "account": "acc1", "error": "X"}]
    assert await harness.show(platform="myspace") == "late-exporter: no log matches\n"


async def test_older_logs_of_zernio_cost_no_request() -> None:
    """The request names the time at which the list ends."""
    harness = LogsHarness(since="59m59s", generation="zernio")
    harness.world.publish(270, over=3 * HOUR)

    await harness.show()
    assert len(harness.rows) == 90
    assert [request.params["from"] for request in harness.api.requests] == ["2026-11-25T08:46:40.000Z"]


def test_an_unknown_workspace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No request is made."""
    monkeypatch.setenv("ZERNIO_API_KEY", "sk_" + "0" * 64)
    assert cli.main(["logs", "--workspace=b", "--api.base-url=http://127.0.0.1:1"]) == 2
    reason = '--workspace "b": no such workspace; choose from default'
    assert capsys.readouterr().err == f"late-exporter: error: {reason}\n"

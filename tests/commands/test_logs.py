from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from late_exporter.commands.logs import CSV_COLUMNS, LogFilter, LogFollower, follow, log_formatter, print_newest
from late_exporter.commands.logview import parse_page
from late_exporter.commands.pager import LogPager
from late_exporter.commands.terminal import Terminal
from late_exporter.errors import ApiUnavailable, BadRequest, Unauthorized
from late_exporter.feeds import FEEDS, GENERATIONS
from tests.support.api import FakeHttpApi
from tests.support.worlds import DAY, HOUR, VirtualClock, World

ZERNIO = GENERATIONS["zernio"]["publishing"]
FEED, CONNECTIONS = FEEDS["publishing"], FEEDS["connections"]
ANY = LogFilter(since=7 * DAY)


class LogsHarness:
    """Somebody who asks for logs, and what is printed for them."""

    def __init__(
        self, wanted: LogFilter = ANY, *, feed: str = "publishing", form: str = "json", generation: str = "late"
    ) -> None:
        self.clock = VirtualClock()
        self.world = World(self.clock)
        self.api = FakeHttpApi(self.world, generation=generation)
        self.wanted = wanted
        self.feed = GENERATIONS[generation][feed]
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.printer = log_formatter(form, feed, Terminal())

    def listing(self, *, lasting: bool = False) -> LogPager:
        """The list as it is asked for."""
        query = self.wanted.query(self.feed, following=lasting)
        return LogPager(self.api.client, self.feed, query, self.wanted.since, clock=self.clock.time)

    async def show(self, limit: int = 0) -> tuple[int, bool]:
        """Print what there is."""
        return await print_newest(self.listing(), self.wanted, self.printer, limit=limit, write=self.lines.append)

    async def follow(self, *turns: Callable[[], object], limit: int = 100, interval: float = 5.0) -> list[float]:
        """Print what comes while one thing happens after another, one between two polls; the pauses."""
        pauses: list[float] = []
        remaining = list(turns)

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if not remaining:
                raise asyncio.CancelledError
            remaining.pop(0)()
            self.clock.advance(seconds)

        listing = self.listing(lasting=True)
        follower = LogFollower(self.api.client, self.feed, listing, self.wanted, self.printer, self.lines.append)
        with pytest.raises(asyncio.CancelledError):
            await follow(follower, limit=limit, interval=interval, note=self.notes.append, sleep=sleep)
        return pauses

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The logs that were printed."""
        return [json.loads(line) for line in self.lines]

    @property
    def ids(self) -> list[str]:
        """Their ids."""
        return [row["_id"] for row in self.rows]


async def test_newest_first() -> None:
    """Every log is printed once, the newest first, whatever the number of pages."""
    desk = LogsHarness()
    desk.world.publish(250, over=HOUR)

    assert (250, False) == await desk.show()
    assert desk.world.ids == desk.ids
    assert ["0", "98", "196"] == [request.params["skip"] for request in desk.api.requests]


@pytest.mark.parametrize(("limit", "requests"), [(1, 1), (100, 1), (101, 2)])
async def test_a_limit_ends_the_reading(limit: int, requests: int) -> None:
    """No more is read than is shown."""
    desk = LogsHarness()
    desk.world.publish(500, over=HOUR)

    assert (limit, True) == await desk.show(limit)
    assert desk.world.ids[:limit] == desk.ids
    assert requests == len(desk.api.requests)


async def test_nothing() -> None:
    """An empty list prints nothing."""
    desk = LogsHarness(form="table")

    assert (0, False) == await desk.show()
    assert [] == desk.lines


async def test_since() -> None:
    """What is older is left out, by the API's clock, and the reading ends there."""
    desk = LogsHarness(LogFilter(since=HOUR - 1))
    desk.world.publish(300, over=3 * HOUR)
    await desk.show()

    assert desk.world.ids[:100] == desk.ids
    assert {"1"} == {request.params["days"] for request in desk.api.requests}
    assert len(desk.api.requests) <= 3


@pytest.mark.parametrize(("since", "days"), [(1.0, 1), (DAY, 1), (DAY + 1, 2), (7 * DAY, 7), (90 * DAY, 7)], ids=str)
def test_days(since: float, days: int) -> None:
    """The API is asked for as many days as are needed, and no more than it takes."""
    assert {"days": days} == LogFilter(since=since).query(FEED, following=False)


def test_what_the_api_chooses() -> None:
    """The API chooses by what it knows; while following, the status pending is looked at here."""
    wanted = LogFilter(platform="x", status="pending", action="retry", account="@a", since=1.0)

    assert {"platform": "x", "status": "pending", "action": "retry", "days": 1} == wanted.query(FEED, following=False)
    assert {"platform": "x", "action": "retry", "days": 1} == wanted.query(FEED, following=True)
    assert "retry" == wanted.query(CONNECTIONS, following=False)["eventType"]


@pytest.mark.parametrize(
    ("wanted", "query"),
    [
        (LogFilter(platform="x", status="failed"), {"platform": "x", "status": "failed", "days": 1}),
        (LogFilter(action="publish"), {"days": 1}),
        (LogFilter(action="all"), {"days": 1}),
        (LogFilter(action="disconnect"), {"days": 1}),
        (LogFilter(action="post.published"), {"action": "post.published", "days": 1}),
        (LogFilter(account="@acme"), {"days": 1}),
        (LogFilter(account="65f1c0a9e2b5af0012ab34cd"), {"accountId": "65f1c0a9e2b5af0012ab34cd", "days": 1}),
        (LogFilter(since=90 * DAY), {"days": 90}),
    ],
    ids=str,
)
def test_what_zernio_chooses(wanted: LogFilter, query: dict[str, object]) -> None:
    """An action that is several ones of the API is looked at here; an account it knows by its id."""
    assert query == wanted.query(ZERNIO, following=False)


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (LogFilter(), True),
        (LogFilter(platform="all", status="all", action="all"), True),
        (LogFilter(platform="Instagram"), True),
        (LogFilter(platform="facebook"), False),
        (LogFilter(status="failed"), True),
        (LogFilter(status="success"), False),
        (LogFilter(action="retry"), False),
        (LogFilter(account="acc1"), True),
        (LogFilter(account="Acme"), True),
        (LogFilter(account="@ACME"), True),
        (LogFilter(account="acm"), False),
    ],
    ids=str,
)
def test_what_matches(wanted: LogFilter, matches: bool) -> None:  # noqa: FBT001 - the expected value
    """Values are matched whole, in whatever letters, and a name with or without its sign."""
    row = {
        "platform": "instagram",
        "status": "failed",
        "action": "publish",
        "accountId": "acc1",
        "accountUsername": "@acme",
    }
    (log,) = parse_page(json.dumps({"logs": [row]}).encode(), FEED).logs

    assert matches == wanted.matches(log)


async def test_filters() -> None:
    """Only what is asked for is printed, whether the API can choose by it or not."""
    desk = LogsHarness(LogFilter(status="failed", account="@other", since=DAY))
    kinds = [
        {"status": status, "accountUsername": name} for status in ("failed", "success") for name in ("@other", "@x")
    ]
    desk.world.publish(400, over=HOUR, kinds=kinds)
    await desk.show()

    assert 100 == len(desk.ids)
    assert {("failed", "@other")} == {(row["status"], row["accountUsername"]) for row in desk.rows}
    assert {"failed"} == {request.params["status"] for request in desk.api.requests}


async def test_connections() -> None:
    """The other list is chosen from by its events."""
    desk = LogsHarness(LogFilter(action="disconnect", status=None), feed="connections", form="table")
    desk.world.add_connection("connect_success", success={"username": "@a"})
    desk.world.add_connection("disconnect")
    await desk.show()

    head, line = desk.lines
    assert ["TIME", "PLATFORM", "ACCOUNT", "EVENT", "METHOD", "TOOK", "LOG", "DETAIL"] == head.split()
    assert "acc1" in line
    assert "disconnect" in line
    assert "disconnect" == desk.api.requests[0].params["eventType"]


async def test_an_unknown_value() -> None:
    """A value that the API does not know is an error that says what it knows."""
    desk = LogsHarness(LogFilter(status="lost"))
    with pytest.raises(BadRequest, match="400: Invalid query; status must be one of: success, failed"):
        await desk.show()


async def test_an_endpoint_that_is_not_there() -> None:
    """A wrong base URL is told."""
    desk = LogsHarness()
    desk.api.fault = lambda _: httpx.Response(404)
    with pytest.raises(ApiUnavailable, match="404: no such endpoint: /v1/posts/logs"):
        await desk.show()


async def test_the_table() -> None:
    """A line has what leads further: the post's id, and why it failed."""
    desk = LogsHarness(form="table")
    desk.world.publish(status="failed", response={"errorCode": "X", "errorMessage": "bad"}, postId="p1")
    await desk.show()

    assert ["TIME", "STATUS", "PLATFORM", "ACCOUNT", "ACTION", "TRY", "HTTP", "TOOK", "POST", "DETAIL"] == desk.lines[
        0
    ].split()
    assert ["failed", "instagram", "@baeckerei", "publish", "1", "200", "1.2s", "p1", "X:", "bad"] == desk.lines[
        1
    ].split()[1:]


async def test_csv() -> None:
    """CSV has a column for everything, with times to the millisecond."""
    desk = LogsHarness(form="csv")
    log_id = desk.world.insert(desk.clock.now - 1, postId="p1", response={"errorCode": "X", "platformPostUrl": "u"})
    await desk.show()

    assert [
        ",".join(column.title for column in CSV_COLUMNS),
        f"2026-11-25T09:46:39.000Z,{log_id},p1,instagram,acc1,'@baeckerei,publish,,success,1,200,1.2,X,,u,",
    ] == desk.lines


@given(happenings=st.lists(st.tuples(st.integers(1, 8), st.integers(-60, 60)), max_size=5))
@settings(max_examples=40, deadline=None)
async def test_a_list_that_moves(happenings: list[tuple[int, int]]) -> None:
    """Logs that come or go between two reads make no log appear twice, and none that stays is left out."""
    desk = LogsHarness()
    desk.world.publish(700, over=DAY)
    before, moves = desk.world.ids, dict(happenings)

    def move(number: int) -> None:
        count = moves.get(number, 0)
        if count > 0:
            desk.world.publish(count)
        desk.world.delete_top(-count)

    desk.api.before = move
    await desk.show()

    assert len(desk.ids) == len(set(desk.ids))
    assert set() == {log_id for log_id in before if log_id in set(desk.world.ids)} - set(desk.ids)


@pytest.mark.parametrize("says", [True, False, None])
async def test_an_answer_that_lies_about_more(says: bool | None) -> None:  # noqa: FBT001 - a value of the API
    """Reading ends though the API always promises more, and with what there is where it promises nothing."""
    desk = LogsHarness()
    rows = [{"_id": str(number)} for number in range(10)]
    desk.api.answer = json.dumps({"logs": rows, "pagination": {} if says is None else {"hasMore": says}}).encode()
    await desk.show()

    assert [str(number) for number in range(10)] == desk.ids
    assert len(desk.api.requests) <= 5


async def test_a_bad_row_costs_no_other() -> None:
    """Rows that are odd in every way are shown as far as can be."""
    desk = LogsHarness(form="table")
    rows: list[Any] = [None, 5, {}, {"_id": "a", "createdAt": "soon", "response": [], "status": {"x": 1}}, "text"]
    desk.api.answer = json.dumps({"logs": rows, "pagination": {"hasMore": False}}).encode()
    await desk.show()

    assert 3 == len(desk.lines)
    assert "soon" in desk.lines[2]


async def test_logs_of_zernio() -> None:
    """Every log is printed once, as the API sent it; the list is asked for by its type."""
    desk = LogsHarness(generation="zernio")
    desk.world.publish(250, over=HOUR)

    assert (250, False) == await desk.show()
    times = [row["created_at"] for row in desk.rows]
    assert [row["createdAt"] for row in desk.world.rows] == times
    assert {"publishing"} == {request.params["type"] for request in desk.api.requests}


@pytest.mark.parametrize(("action", "count"), [("publish", 60), ("retry", 30), ("post.failed", 30)])
async def test_actions_of_zernio(action: str, count: int) -> None:
    """An action is meant as the metrics have it, or as the API does."""
    desk = LogsHarness(LogFilter(action=action, since=DAY), generation="zernio", form="table")
    kinds: list[dict[str, Any]] = [{"status": "success"}, {"status": "failed"}, {"action": "retry", "attemptNumber": 2}]
    desk.world.publish(90, over=HOUR, kinds=kinds)

    assert (count, False) == await desk.show()


async def test_zernio_is_not_asked_for_what_is_older() -> None:
    """The list ends where it is asked to, so that what is older costs no request."""
    desk = LogsHarness(LogFilter(since=HOUR - 1), generation="zernio")
    desk.world.publish(270, over=3 * HOUR)

    assert (90, False) == await desk.show()
    assert ["2026-11-25T08:46:40.999Z"] == [request.params["from"] for request in desk.api.requests]


async def test_a_clock_that_is_ahead_hides_nothing() -> None:
    """How far back is by the API's clock: where it is behind, the list is asked for again."""
    desk = LogsHarness(LogFilter(since=HOUR), generation="zernio")
    desk.world.publish(59, over=HOUR - 60)
    query = desk.wanted.query(desk.feed, following=False)
    listing = LogPager(desk.api.client, desk.feed, query, HOUR, clock=lambda: desk.clock.now + HOUR)

    assert (59, False) == await print_newest(listing, desk.wanted, desk.printer, limit=0, write=desk.lines.append)
    assert 2 == len(desk.api.requests)


async def test_an_activity_of_zernio() -> None:
    """Further lists have a table of their own."""
    desk = LogsHarness(generation="zernio", feed="webhooks", form="table")
    row = {
        "type": "webhooks",
        "action": "webhook.delivered",
        "status": "failed",
        "status_code": 500,
        "endpoint": "https://x",
    }
    desk.api.answer = json.dumps({"logs": [row], "pagination": {"hasMore": False}}).encode()
    await desk.show()

    head, line = desk.lines
    assert ["TIME", "STATUS", "PLATFORM", "ACCOUNT", "ACTION", "HTTP", "TOOK", "ENDPOINT", "DETAIL"] == head.split()
    assert ["-", "failed", "unknown", "-", "webhook.delivered", "500", "-", "https://x", "-"] == line.split()


async def test_following_zernio() -> None:
    """Each log that comes is shown once, in its order, though none has an id."""
    desk = LogsHarness(generation="zernio")
    desk.world.publish(300, over=HOUR)
    same = desk.clock.now
    await desk.follow(
        lambda: desk.world.publish(3),
        lambda: None,
        lambda: [desk.world.insert(same + 7, postId="p1") for _ in range(2)],
        lambda: [desk.world.insert(same + 7, postId="p1")],
    )

    assert 106 == len(desk.lines)
    assert sorted(row["created_at"] for row in desk.rows) == [row["created_at"] for row in desk.rows]


async def test_a_status_that_changes_far_down_in_zernio() -> None:
    """A pending log that has left the first page is looked after by its time."""
    desk = LogsHarness(generation="zernio")
    waiting = desk.world.insert(desk.clock.now - 60, status="pending", postId="p1")
    desk.world.newest_at = desk.clock.now
    await desk.follow(
        lambda: desk.world.publish(150),
        lambda: None,
        lambda: desk.world.change(waiting, "failed"),
        lambda: None,
        lambda: None,
    )

    assert ["pending", "failed"] == [row["status"] for row in desk.rows if "p1" in row["metadata"]]
    assert 2 == len([request for request in desk.api.requests if "to" in request.params])


async def test_following() -> None:
    """It begins with the newest logs, oldest first, and each that comes is shown once, in its order."""
    desk = LogsHarness()
    desk.world.publish(300, over=HOUR)
    begun = desk.world.ids[:100][::-1]
    await desk.follow(lambda: desk.world.publish(3), lambda: None, lambda: desk.world.publish(2))

    assert desk.world.ids[:105][::-1] == desk.ids
    assert begun == desk.ids[:100]


@pytest.mark.parametrize("limit", [1, 5, 0])
async def test_following_begins_with_so_many(limit: int) -> None:
    """What has been there before those is never shown, though it slides into view."""
    desk = LogsHarness()
    desk.world.publish(130, over=HOUR)
    shown = desk.world.ids[:limit] if limit else desk.world.ids
    await desk.follow(lambda: desk.world.delete_top(40), lambda: desk.world.publish(1), limit=limit)

    assert [*shown[::-1], desk.world.ids[0]] == desk.ids


async def test_following_from_nothing() -> None:
    """An empty list is waited for."""
    desk = LogsHarness()
    await desk.follow(lambda: desk.world.publish(1), lambda: desk.world.publish(1))

    assert desk.world.ids[::-1] == desk.ids


async def test_following_catches_up() -> None:
    """More new logs than a page holds are all shown, oldest first."""
    desk = LogsHarness()
    desk.world.publish(10, over=HOUR)
    await desk.follow(lambda: desk.world.publish(350))

    assert desk.world.ids[::-1] == desk.ids


async def test_following_a_late_log() -> None:
    """A log that appears below newer ones is shown too."""
    desk = LogsHarness()
    desk.world.publish(10, over=HOUR)
    late: list[str] = []
    await desk.follow(lambda: late.append(desk.world.insert(desk.clock.now - 600)))

    assert late == desk.ids[10:]


async def test_a_status_that_changes() -> None:
    """A log that was shown pending is shown again as what it has become, with what it was."""
    desk = LogsHarness(form="table")
    (log_id,) = desk.world.publish(status="pending")
    await desk.follow(lambda: None, lambda: desk.world.change(log_id, "failed"), lambda: None)

    assert [["pending"], ["failed,", "was", "pending"]] == [
        [word for word in line.split() if word in ("pending", "failed,", "was")] for line in desk.lines[1:]
    ]


async def test_a_status_that_comes_to_match() -> None:
    """A log that was not asked for is shown once it is."""
    desk = LogsHarness(LogFilter(status="failed"))
    (log_id,) = desk.world.publish(status="pending")
    await desk.follow(lambda: desk.world.change(log_id, "failed"), lambda: None)

    assert [(log_id, "failed")] == [(row["_id"], row["status"]) for row in desk.rows]


async def test_pending_logs_that_settle() -> None:
    """Who follows pending logs sees how they end, but no log that never was pending."""
    desk = LogsHarness(LogFilter(status="pending"))
    (log_id,) = desk.world.publish(status="pending")
    await desk.follow(lambda: desk.world.change(log_id, "success"), lambda: desk.world.publish(2))

    assert [(log_id, "pending"), (log_id, "success")] == [(row["_id"], row["status"]) for row in desk.rows]


async def test_pending_logs_far_down() -> None:
    """A pending log that has left the first page is looked after, one request a poll, each in its turn."""
    desk = LogsHarness()
    waiting = [desk.world.insert(desk.clock.now - 60 + n, status="pending", postId=f"p{n}") for n in range(2)]
    desk.world.newest_at = desk.clock.now
    await desk.follow(
        lambda: desk.world.publish(150),
        lambda: desk.world.change(waiting[1], "failed"),
        lambda: None,
        lambda: desk.world.delete(waiting[0]),
        lambda: None,
        lambda: None,
        lambda: None,
    )

    assert [(waiting[0], "pending"), (waiting[1], "pending")] == [(r["_id"], r["status"]) for r in desk.rows[:2]]
    assert [(waiting[1], "failed")] == [(row["_id"], row["status"]) for row in desk.rows if row["status"] == "failed"]
    asked = [request.path for request in desk.api.requests if request.path != "/v1/posts/logs"]
    assert {"/v1/posts/p0/logs", "/v1/posts/p1/logs"} == set(asked)
    assert "/v1/posts/p0/logs" == asked[-1]
    assert len(asked) <= 5


async def test_trouble_while_following() -> None:
    """A poll that fails is noted and tried again, later and later; what came meanwhile is shown once."""
    desk = LogsHarness()
    desk.world.publish(2)

    def fail() -> None:
        desk.world.publish(120)
        desk.api.fault = lambda _: httpx.Response(503, json={"error": "down\n"})

    def heal() -> None:
        desk.api.fault = None

    pauses = await desk.follow(fail, lambda: None, heal, lambda: None)

    assert [5.0, 10.0, 20.0, 5.0, 5.0] == pauses
    assert ["503: down; asking again in 10 s", "503: down; asking again in 20 s"] == desk.notes
    assert desk.world.ids[::-1] == desk.ids


async def test_a_poll_that_fails_half_way() -> None:
    """Nothing is lost of what was on the pages before."""
    desk = LogsHarness()
    desk.world.publish(2)

    def happen() -> None:
        desk.world.publish(250)
        desk.api.before = second_fails(desk)

    await desk.follow(happen, lambda: None)

    assert 1 == len(desk.notes)
    assert desk.world.ids[::-1] == desk.ids


def second_fails(desk: LogsHarness) -> Callable[[int], None]:
    """Let the second page of the first poll fail."""
    first = len(desk.api.requests)

    def before(number: int) -> None:
        desk.api.fault = (lambda _: httpx.Response(500)) if number == first + 1 else None

    return before


async def test_pauses_are_bounded() -> None:
    """A long outage is asked about every minute, and a long interval is kept."""
    desk = LogsHarness()

    def fail() -> None:
        desk.api.fault = lambda _: httpx.Response(500)

    assert 60.0 == max(await desk.follow(fail, *[lambda: None] * 30))
    desk.api.fault = None
    assert {300.0} == set(await desk.follow(fail, *[lambda: None] * 3, interval=300.0))


@pytest.mark.parametrize(("status", "error"), [(400, BadRequest), (401, Unauthorized), (500, ApiUnavailable)])
async def test_following_does_not_begin_in_trouble(status: int, error: type[Exception]) -> None:
    """What is wrong from the start ends it."""
    desk = LogsHarness()
    desk.api.fault = lambda _: httpx.Response(status)
    listing = desk.listing(lasting=True)
    follower = LogFollower(desk.api.client, FEED, listing, ANY, desk.printer, desk.lines.append)
    with pytest.raises(error):
        await follow(follower, limit=1, interval=1.0, note=desk.notes.append, sleep=desk.clock.sleep)


async def test_following_keeps_to_the_quota() -> None:
    """However short the interval, requests stay within the share of the limit."""
    desk = LogsHarness()
    desk.api = FakeHttpApi(desk.world, share=3e-8)
    desk.api.before = lambda _: times.append(desk.clock.elapsed)
    times: list[float] = []
    desk.world.publish(2)
    await desk.follow(*[lambda: desk.world.publish(1)] * 40, interval=0.1)

    assert desk.world.ids[::-1] == desk.ids
    assert times[-1] > 60


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old logs are forgotten, and still not shown again."""
    monkeypatch.setattr("late_exporter.commands.logs.STATUS_CACHE_SIZE", 150)
    desk = LogsHarness()
    await desk.follow(*[lambda: desk.world.publish(60)] * 6)

    assert desk.world.ids[::-1] == desk.ids

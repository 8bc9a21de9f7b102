from __future__ import annotations

import json
from typing import Any

import pytest

from late_exporter import cli
from late_exporter.commands.output import json_line
from late_exporter.commands.post import PostHistory, fetch_history, json_document, outcome_row, render_text
from late_exporter.feeds import FEEDS, GENERATIONS
from tests.commands.views import parse_rows
from tests.support.api import FakeHttpApi
from tests.support.clock import VirtualClock
from tests.support.world import World

FEED = FEEDS["publishing"]
INCOMPLETE = "Earlier logs may be missing: only the newest ones could be read."
URL = "https://www.instagram.com/p/1"


ATTEMPT = {"postId": "p1", "platform": "instagram", "accountId": "acc1", "action": "publish"}


def outcomes(*rows: dict[str, Any]) -> list[list[str]]:
    """Return platform, account, state, tries and result of each outcome of a post, given its logs oldest first."""
    times = (f"2026-11-24T10:00:{number:02}Z" for number in range(60))
    full_rows = [{"_id": time, "createdAt": time, **ATTEMPT, **row} for time, row in zip(times, rows, strict=False)]
    history = PostHistory("p1", parse_rows(FEED, *full_rows))
    cells = (outcome_row(outcome) for outcome in history.outcomes)
    return [[each[name] for name in ("PLATFORM", "ACCOUNT", "STATE", "TRY>", "RESULT")] for each in cells]


def failed(code: str | None = "RATE_LIMITED", **row: Any) -> dict[str, Any]:
    """Return a failed attempt."""
    return {"status": "failed", "response": {"errorCode": code}, **row}


SUCCESS = {"status": "success", "response": {"platformPostUrl": URL}}
PAUSE = {"action": "rate_limit_pause", "status": "skipped"}
OUTCOMES = [
    ([SUCCESS], f"published 1 {URL}"),
    ([SUCCESS, failed("GONE", action="retry")], f"published 2 {URL}"),
    ([failed()], "failed 1 RATE_LIMITED"),
    ([failed(attemptNumber=1), failed(attemptNumber=5, action="retry")], "failed 5 RATE_LIMITED"),
    ([failed(None, statusCode=503)], "failed 1 HTTP 503"),
    ([failed(), PAUSE], "paused 1 RATE_LIMITED"),
    ([{"status": "pending"}], "pending 1 "),
    ([{"action": "cancelled", "status": "skipped"}], "cancelled  "),
    ([{"status": "skipped", "response": {"errorMessage": "Already published"}}], "skipped  Already published"),
    ([failed("MEDIA", action="media_upload", accountId=None)], "failed  MEDIA"),
]


@pytest.mark.parametrize(("rows", "outcome"), OUTCOMES, ids=[outcome for _, outcome in OUTCOMES])
def test_the_newest_log_decides_the_outcome(rows: list[dict[str, Any]], outcome: str) -> None:
    """A post that was published once stays published."""
    ((_, _, *words),) = outcomes(*rows)
    assert outcome == " ".join(words)


def test_every_platform_and_account_has_an_outcome() -> None:
    """A log without an account belongs to the one that was tried after it."""
    assert outcomes(
        failed("X", platform="facebook", accountUsername="@a"),
        SUCCESS | {"platform": "facebook", "accountId": "acc2", "accountUsername": "@b"},
        failed(action="media_upload", accountId=None),
        SUCCESS,
    ) == [
        ["facebook", "@a", "failed", "1", "X"],
        ["facebook", "@b", "published", "1", URL],
        ["instagram", "acc1", "published", "1", URL],
    ]


class PostHarness:
    """A post in a simulated world, and the output of the command."""

    def __init__(self, generation: str = "late") -> None:
        self.clock = VirtualClock()
        self.world = World(self.clock)
        self.api = FakeHttpApi(self.world, generation=generation)
        self.feed = GENERATIONS[generation]["publishing"]

    async def history(self) -> PostHistory:
        return await fetch_history(self.api.client, self.feed, "p1", "brand")

    async def text(self) -> list[str]:
        """Return the lines of text."""
        return list(render_text(await self.history()))

    async def json(self) -> str:
        """Return the line of JSON."""
        return json_line(json_document(await self.history()))

    def log(self, age: float, **fields: Any) -> str:
        """Insert a log of the post that is some seconds old."""
        return self.world.insert(self.clock.now - age, postId="p1", **fields)


async def test_the_history_of_a_post_lists_attempts_and_outcomes() -> None:
    """Attempts are listed oldest first with their errors, followed by the outcome on each platform."""
    harness = PostHarness()
    failure = {"errorCode": "RATE_LIMITED", "errorMessage": "Slow\n\u202e\x1b[31mdown"}
    harness.log(60, status="failed", statusCode=429, response=failure, request={"contentPreview": "Hi\nthere"})
    harness.log(30, action="retry", attemptNumber=2, response={"platformPostUrl": URL})

    reason = "RATE_LIMITED: Slow \ufffd\ufffd[31mdown"
    heading = "TIME                  STATUS   PLATFORM   ACCOUNT     ACTION   TRY  HTTP  TOOK  DETAIL"
    assert await harness.text() == [
        "Post p1: “Hi there”",
        "",
        heading,
        f"2026-11-25T09:45:40Z  failed   instagram  @baeckerei  publish    1   429  1.2s  {reason}",
        f"2026-11-25T09:46:10Z  success  instagram  @baeckerei  retry      2   200  1.2s  {URL}",
        "",
        "STATE      PLATFORM   ACCOUNT     TRY  SCHEDULED  RESULT",
        f"published  instagram  @baeckerei    2  -          {URL}",
    ]
    document = json.loads(await harness.json())
    assert [(each["workspace"], each["state"], each["error_code"]) for each in document["outcomes"]] == [
        ("brand", "published", "RATE_LIMITED")
    ]
    assert [log["status"] for log in document["logs"]] == ["failed", "success"]


async def test_a_post_in_zernio_is_found_by_a_search() -> None:
    """The search result is filtered: logs of other posts that contain the id are left out."""
    harness = PostHarness("zernio")
    harness.log(60, status="failed")
    harness.log(30, action="retry")
    harness.world.insert(harness.clock.now - 10, postId="p2", response={"errorMessage": "a copy of p1"})

    assert [log.row["action"] for log in (await harness.history()).logs] == ["post.published", "post.published"]
    (request,) = harness.api.requests
    assert (request.path, request.params["type"], request.params["search"]) == ("/v1/logs", "publishing", "p1")


async def test_a_search_reads_a_limited_number_of_pages() -> None:
    """Several pages are read if necessary, but not without end."""
    harness = PostHarness("zernio")
    for number in range(150):
        harness.log(200 - number)
    line = await harness.json()
    document = json.loads(line)
    assert (len(document["logs"]), document["complete"], len(harness.api.requests)) == (150, True, 2)

    for number in range(1000):
        harness.log(2000 - number, durationMs=number)
    lines = await harness.text()
    assert lines[2] == INCOMPLETE
    assert len(harness.api.requests) <= 2 + 11


async def test_missing_logs_of_a_post_are_reported() -> None:
    """If the page of a post is full, text and JSON say that earlier logs are missing."""
    harness = PostHarness()
    for number in range(101):
        harness.log(200 - number)

    assert (await harness.text())[2] == INCOMPLETE
    assert not json.loads(await harness.json())["complete"]
    assert [request.params["limit"] for request in harness.api.requests[-1:]] == ["100"]


WHERE = "posts and logs print it in the column POST"
NOT_AN_ID = f"not the id of a post, which is like 65f1c0a9e2b5af0012ab34cd; {WHERE}"
IMPOSSIBLE_IDS = [
    ("", f'POST_ID "": {NOT_AN_ID}'),
    ("..", f'POST_ID "..": {NOT_AN_ID}'),
    ("a\x00b", f'POST_ID "a\\u0000b": {NOT_AN_ID}'),
    ("https://zernio.com/p/1", f'POST_ID "https://zernio.com/p/1": {NOT_AN_ID}'),
    ("https://x.com/p?key=secret", f"POST_ID: {NOT_AN_ID}"),
]


@pytest.mark.parametrize(("post_id", "message"), IMPOSSIBLE_IDS)
def test_an_impossible_id_is_rejected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], post_id: str, message: str
) -> None:
    """No request is sent for an id that would lead to another path, or for the URL of a post."""
    monkeypatch.setenv("ZERNIO_API_KEY", "sk_" + "0" * 64)
    assert cli.main(["post", post_id, "--api.base-url=http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err == f"late-exporter: error: {message}\n"


def test_a_post_is_searched_in_all_workspaces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors say which of them could not be read, and why."""
    monkeypatch.setenv("ZERNIO_API_KEY", "sk_" + "0" * 64)
    assert cli.main(["post", "p1", "--api.base-url=http://127.0.0.1:1"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("late-exporter: error: default: no connection to 127.0.0.1:1")
    assert second == "late-exporter: error: no workspace could be read"

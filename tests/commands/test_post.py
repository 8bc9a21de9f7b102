from __future__ import annotations

import json
from typing import Any

import pytest

from late_exporter.commands.logview import chronological, parse_page
from late_exporter.commands.post import post_outcomes, print_history
from late_exporter.commands.terminal import Terminal
from late_exporter.errors import ConfigError, LateError
from late_exporter.feeds import FEEDS, GENERATIONS
from tests.support.api import FakeHttpApi
from tests.support.worlds import VirtualClock, World

FEED = FEEDS["publishing"]
URL = "https://www.instagram.com/p/1"


def summaries(*rows: dict[str, Any]) -> list[str]:
    """How a post ended whose logs these are, oldest first."""
    logs = [
        {
            "_id": str(number),
            "platform": "instagram",
            "accountId": "acc1",
            "action": "publish",
            "createdAt": f"2026-11-24T10:00:{number:02}Z",
            **row,
        }
        for number, row in enumerate(rows)
    ]
    page = parse_page(json.dumps({"logs": logs[::-1]}).encode(), FEED)
    return [
        f"{ending.platform} {ending.account}".rstrip() + f": {ending.summary}"
        for ending in post_outcomes(chronological(page.logs))
    ]


def failed(code: str | None = "RATE_LIMITED", **row: Any) -> dict[str, Any]:
    """An attempt that failed."""
    return {"status": "failed", "response": {"errorCode": code}, **row}


SUCCESS = {"status": "success", "response": {"platformPostUrl": URL}}
PAUSE = {"action": "rate_limit_pause", "status": "skipped"}
ENDINGS = [
    ([SUCCESS], f"published {URL}"),
    ([{"status": "success"}], "published"),
    ([failed(), SUCCESS | {"action": "retry"}], f"published {URL}"),
    ([SUCCESS, failed("GONE", action="retry")], f"published {URL}, then failed (GONE)"),
    ([SUCCESS, {"status": "skipped", "action": "publish"}], f"published {URL}"),
    ([failed()], "failed after 1 attempt (RATE_LIMITED)"),
    ([failed("A"), failed("B", action="retry")], "failed after 2 attempts (B)"),
    ([failed(attemptNumber=1), failed(attemptNumber=5, action="retry")], "failed after 5 attempts (RATE_LIMITED)"),
    ([failed(None, statusCode=503)], "failed after 1 attempt (HTTP 503)"),
    ([failed(None, response={"errorMessage": "no"})], "failed after 1 attempt (no)"),
    ([failed(None)], "failed after 1 attempt"),
    ([failed(), PAUSE], "paused since 2026-11-24T10:00:01Z after 1 attempt (RATE_LIMITED)"),
    ([failed(), PAUSE, {"status": "pending", "action": "retry"}], "pending since 2026-11-24T10:00:02Z"),
    ([{"status": "pending", "createdAt": None}], "pending"),
    ([failed(), {"action": "cancelled", "status": "skipped"}], "cancelled at 2026-11-24T10:00:01Z"),
    ([{"status": "skipped", "response": {"errorMessage": "Already published"}}], "skipped (Already published)"),
    ([failed("MEDIA", action="media_upload")], "failed at media_upload (MEDIA)"),
    ([{"action": "media_upload", "status": "success"}], "not published yet: media_upload success"),
    ([{"status": "odd"}], "not published yet: publish odd"),
    ([{"status": None, "action": None}], "not published yet: unknown unknown"),
]


@pytest.mark.parametrize(("rows", "words"), ENDINGS, ids=[words for _, words in ENDINGS])
def test_endings(rows: list[dict[str, Any]], words: str) -> None:
    """The newest log decides, but what was published once is published."""
    assert [f"instagram: {words}"] == summaries(*rows)


def test_endings_by_platform_and_account() -> None:
    """Each platform ends by itself; accounts are named where a platform has several."""
    assert [
        "facebook @a: failed after 1 attempt (X)",
        f"facebook @b: published {URL}",
        f"instagram: published {URL}",
    ] == summaries(
        failed("X", platform="facebook", accountUsername="@a"),
        SUCCESS | {"platform": "facebook", "accountId": "acc2", "accountUsername": "@b"},
        SUCCESS,
    )


@pytest.mark.parametrize(
    "first", [{"accountId": None}, {"accountId": None, "accountUsername": "@a"}, {"accountId": "acc1"}], ids=str
)
def test_endings_of_logs_that_name_the_account_otherwise(first: dict[str, Any]) -> None:
    """Logs that leave the account out, or name it in another way, tell of the same one."""
    assert [f"instagram: published {URL}"] == summaries(failed(**first), SUCCESS | {"accountUsername": "@a"})


class PostHarness:
    """A post, and what is printed of it."""

    def __init__(self, generation: str = "late") -> None:
        self.clock = VirtualClock()
        self.world = World(self.clock)
        self.api = FakeHttpApi(self.world, generation=generation)
        self.feed = GENERATIONS[generation]["publishing"]
        self.lines: list[str] = []

    async def tell(self, post_id: str = "p1", *, form: str = "text", screen: Terminal | None = None) -> list[str]:
        """Print it."""
        await print_history(
            self.api.client,
            self.feed,
            post_id,
            workspace="brand",
            form=form,
            screen=screen or Terminal(),
            write=self.lines.append,
            clock=lambda: self.clock.now,
        )
        return self.lines

    def log(self, seconds: float, **fields: Any) -> str:
        """A log of the post, so many seconds ago."""
        return self.world.insert(self.clock.now - seconds, postId="p1", **fields)


async def test_the_timeline_of_a_post() -> None:
    """Attempts come oldest first, with what went wrong, and then how each platform ended."""
    story = PostHarness()
    failure = {"errorCode": "RATE_LIMITED", "errorMessage": "Slow\n\u202e\x1b[31mdown"}
    first = story.log(60, status="failed", statusCode=429, response=failure, request={"contentPreview": "Hi\nthere"})
    second = story.log(30, action="retry", attemptNumber=2, response={"platformPostUrl": URL})

    reason = "RATE_LIMITED: Slow \\u202e\ufffd[31mdown"
    heads = "TIME                  STATUS   PLATFORM   ACCOUNT     ACTION   TRY  HTTP  TOOK  LOG" + " " * 23 + "DETAIL"
    assert [
        'Post p1: "Hi there"',
        "",
        heads,
        f"2026-11-25T09:45:40Z  failed   instagram  @baeckerei  publish    1   429  1.2s  {first}  {reason}",
        f"2026-11-25T09:46:10Z  success  instagram  @baeckerei  retry      2   200  1.2s  {second}  {URL}",
        "",
        f"instagram: published {URL}",
    ] == await story.tell()


async def test_the_timeline_of_a_post_in_zernio() -> None:
    """The logs are searched for, and told as ever; what only mentions the post's id is left out."""
    story = PostHarness("zernio")
    failure = {"errorCode": "RATE_LIMITED", "errorMessage": "Slow down"}
    story.log(60, status="failed", statusCode=429, response=failure, request={"contentPreview": "Hi there"})
    story.log(30, action="retry", attemptNumber=2, response={"platformPostUrl": URL})
    story.world.insert(story.clock.now - 10, postId="p2", response={"errorMessage": "a copy of p1"})

    heads = "TIME                  STATUS   PLATFORM   ACCOUNT     ACTION   TRY  HTTP  TOOK  LOG  DETAIL"
    assert [
        'Post p1: "Hi there"',
        "",
        heads,
        "2026-11-25T09:45:40Z  failed   instagram  @baeckerei  publish    1   429  1.2s  -    RATE_LIMITED: Slow down",
        f"2026-11-25T09:46:10Z  success  instagram  @baeckerei  retry      2   200  1.2s  -    {URL}",
        "",
        f"instagram: published {URL}",
    ] == await story.tell()
    (request,) = story.api.requests
    assert ("/v1/logs", "publishing", "p1") == (request.path, request.params["type"], request.params["search"])


async def test_a_post_in_zernio_with_many_logs() -> None:
    """More pages are read where there are more logs, but not without end."""
    story = PostHarness("zernio")
    for number in range(150):
        story.log(200 - number)
    (line,) = await story.tell(form="json")
    document = json.loads(line)
    assert (150, True, 2) == (len(document["logs"]), document["complete"], len(story.api.requests))

    for number in range(1000):
        story.log(2000 - number, durationMs=number)
    story.lines.clear()
    lines = await story.tell()
    assert "Only the newest 1,080 logs that a search for the post finds were looked at." == lines[2]
    assert len(story.api.requests) <= 2 + 11


async def test_an_unknown_post_in_zernio() -> None:
    """Where a search finds nothing, or only what is of other posts, there is no such post."""
    story = PostHarness("zernio")
    story.world.publish(2, over=60)
    with pytest.raises(LateError, match="the workspace brand has no logs of a post p1; Late keeps them for 90 days"):
        await story.tell()
    story.world.insert(story.clock.now - 10, postId="p12")
    with pytest.raises(LateError, match="no logs of a post p1"):
        await story.tell()


async def test_the_timeline_on_a_terminal() -> None:
    """A terminal shows in colour how it ended."""
    story = PostHarness()
    story.log(30, status="failed", response={"errorCode": "X"})

    lines = await story.tell(screen=Terminal(width=200, colour=True))
    assert "instagram: \x1b[31mfailed after 1 attempt (X)\x1b[0m" == lines[-1]


async def test_json_has_everything() -> None:
    """One object holds the endings and the logs as the API sent them."""
    story = PostHarness()
    story.log(30, status="failed", response={"errorCode": "X"}, request={"rawBody": "€\u202e"})
    (line,) = await story.tell(form="json")
    document = json.loads(line)

    assert ("p1", "brand", True) == (document["postId"], document["workspace"], document["complete"])
    assert [{**story.world.rows[0], "postId": "p1"}] == document["logs"]
    assert [
        {
            "platform": "instagram",
            "account": "",
            "state": "failed",
            "attempts": 1,
            "reason": "X",
            "url": "",
            "since": "2026-11-25T09:46:10.000Z",
            "summary": "failed after 1 attempt (X)",
        }
    ] == document["outcomes"]
    assert line.isprintable()


async def test_a_post_with_more_logs_than_the_api_shows() -> None:
    """Where the API's limit is reached, that is said, and JSON says so too."""
    story = PostHarness()
    for number in range(101):
        story.log(200 - number)

    assert "Late tells the newest 100 logs of a post; what was before them is missing here." == (await story.tell())[2]
    story.lines.clear()
    assert not json.loads((await story.tell(form="json"))[0])["complete"]
    assert ["100"] == [request.params["limit"] for request in story.api.requests[-1:]]


async def test_an_unknown_post() -> None:
    """A post that Late does not know is an error that names the workspace."""
    with pytest.raises(LateError, match="the workspace brand has no logs of a post p1; Late keeps them for 7 days"):
        await PostHarness().tell()


async def test_a_post_without_logs() -> None:
    """An empty history is no error."""
    story = PostHarness()
    story.api.answer = b'{"logs": []}'

    assert ["Post p1", "", "No logs; Late keeps them for 7 days."] == await story.tell()


@pytest.mark.parametrize("post_id", ["", ".", "..", "a\x00b"], ids=repr)
async def test_what_can_be_no_id(post_id: str) -> None:
    """Nothing is asked for an id that would lead elsewhere."""
    story = PostHarness()
    with pytest.raises(ConfigError, match="POST_ID"):
        await story.tell(post_id)
    assert [] == story.api.requests

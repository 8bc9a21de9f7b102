from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import httpx

from late_exporter.commands.posts import find_posts, print_posts
from late_exporter.format import iso_time
from tests.support.api import FakeHttpApi
from tests.support.client import ClientRequest
from tests.support.clock import MINUTE, VirtualClock
from tests.support.settings import flags_of
from tests.support.world import World

ACCOUNT = "64e1f0a9e2b5af0012ab34ef"


class PostsHarness:
    """A simulated API with logs and posts, and the output of the command."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.world = World(self.clock)
        self.api = FakeHttpApi(self.world)
        self.api.fault = self._answer
        self.posts: list[dict[str, Any]] = []
        self.unread: list[str] = []
        self.forbidden = ""
        self.account: dict[str, Any] = {}

    def _answer(self, request: httpx.Request) -> httpx.Response | None:
        """Return the page of posts or the accounts that a request selects, None for logs."""
        path, query = request.url.path.removeprefix("/api"), dict(request.url.params)
        if path == self.forbidden:
            return httpx.Response(403, json={"error": "no right"})
        if path == "/v1/accounts":
            rows = [{"_id": ACCOUNT, "username": "@acme", **self.account}, 5]
            return httpx.Response(200, json={"accounts": rows})
        if path == "/v1/accounts/health":
            return httpx.Response(200, json={"accounts": []})
        if path != "/v1/posts":
            return None
        posts = [each for each in self.posts if each["status"] == query["status"]]
        return httpx.Response(200, json={"posts": posts[: int(query["limit"])]})

    def log(self, age: float, status: str, post_id: str = "p1", **fields: Any) -> None:
        """Insert an attempt that is some seconds old."""
        response = {"errorCode": "X", "errorMessage": "no"} if status == "failed" else {}
        request = {"contentPreview": "Hi", "scheduledFor": self.time(-age)}
        self.world.insert(
            self.clock.now - age, postId=post_id, status=status, response=response, request=request, **fields
        )

    def time(self, seconds: float) -> str:
        """Return the time in some seconds as the API writes it."""
        return iso_time((self.clock.now + seconds) * 1000)

    def post(self, post_id: str, status: str, due_in: float | None, *targets: str | dict[str, Any]) -> None:
        """Add a post that is due in some seconds, with a target per status or fields."""
        platforms = [
            {"platform": "instagram", "accountId": ACCOUNT, **(each if isinstance(each, dict) else {"status": each})}
            for each in targets or (status,)
        ]
        row: dict[str, Any] = {"_id": post_id, "status": status, "content": "Hello", "platforms": platforms}
        if due_in is not None:
            row["scheduledFor"] = self.time(due_in)
        self.posts.append(row)

    @property
    def post_requests(self) -> list[ClientRequest]:
        """Return the requests for posts."""
        return [request for request in self.api.requests if request.path == "/v1/posts"]

    async def show(self, **flags: Any) -> list[str]:
        """Print the posts; return the lines."""
        settings = flags_of("posts", **flags)
        client = self.api.client
        client.configured_generation = "late"
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(out):
            found = await find_posts("brand", client, settings, now=self.clock.now, unread=self.unread)
            print_posts(found, settings, is_several=False)
        return out.getvalue().splitlines()

    async def ids(self, **flags: Any) -> list[str]:
        """Return the ids of the posts that are printed."""
        return [json.loads(line)["post_id"] for line in await self.show(format="json", **flags) if line[0] == "{"]


async def test_posts_whose_last_attempt_failed_are_printed_once_per_account() -> None:
    """A post that was published by a later attempt, or that will be tried again, need not be published again."""
    harness = PostsHarness()
    harness.log(50, "failed")
    harness.log(40, "failed", action="retry", attemptNumber=2)
    harness.log(30, "failed", platform="tiktok")
    harness.log(20, "success", platform="tiktok", action="retry")
    harness.log(60, "failed", "p2")
    harness.log(10, "skipped", "p2", action="rate_limit_pause")
    harness.log(30, "failed", "p3", accountId="acc2", accountUsername="@other")
    harness.log(7200, "failed", "p4")

    assert await harness.show(failed="true", since="1h") == [
        "TIME                  STATE   PLATFORM   ACCOUNT     TRY  POST  RESULT, CAPTION",
        "2026-11-25T09:46:10Z  failed  instagram  @other        1  p3    X: no “Hi”",
        "2026-11-25T09:46:00Z  failed  instagram  @baeckerei    2  p1    X: no “Hi”",
    ]
    assert await harness.ids(failed="true") == ["p3", "p1", "p4"]
    assert await harness.ids(failed="true", platform="tiktok") == []


async def test_overdue_posts_are_those_that_status_reports() -> None:
    """Accounts are named; those on which the post is published, or due at another time, are left out."""
    harness = PostsHarness()
    held = {"status": "pending", "scheduledFor": harness.time(30 * MINUTE)}
    harness.post("held", "scheduled", -60 * MINUTE, held)
    harness.post("due", "scheduled", 10 * MINUTE)
    harness.post("late", "scheduled", -16 * MINUTE, "pending", "published")
    harness.post("young", "scheduled", -MINUTE)
    harness.post("unknown", "scheduled", None)
    harness.post("stuck", "publishing", -121 * MINUTE)
    harness.post("running", "publishing", -9 * MINUTE)
    harness.post("waiting", "pending_approval", -20 * MINUTE)
    harness.log(30, "failed", "p1")

    assert await harness.show(overdue="true") == [
        "TIME                  STATE             PLATFORM   ACCOUNT  TRY  POST     RESULT, CAPTION",
        "2026-11-25T07:45:40Z  publishing        instagram  @acme      -  stuck    “Hello”",
        "2026-11-25T09:26:40Z  pending_approval  instagram  @acme      -  waiting  “Hello”",
        "2026-11-25T09:30:40Z  scheduled         instagram  @acme      -  late     “Hello”",
    ]
    assert await harness.ids() == ["stuck", "waiting", "late", "p1"]
    pending = ["unknown", "stuck", "waiting", "late", "running", "young", "due", "held"]
    assert await harness.ids(pending="true") == pending
    assert await harness.ids(pending="true", platform="tiktok") == []
    assert await harness.ids(overdue="true", platform="Instagram") == ["stuck", "waiting", "late"]


async def test_posts_at_risk() -> None:
    """They are due within a day, on an account that cannot publish them now, or that is gone."""
    harness = PostsHarness()
    harness.account = {"isActive": False}
    harness.post("p1", "scheduled", 60 * MINUTE, "pending", "published")
    harness.post("p2", "scheduled", 25 * 60 * MINUTE, "pending")
    harness.post("p3", "scheduled", 30 * MINUTE, {"status": "pending", "accountId": "gone"})
    harness.post("p4", "publishing", 30 * MINUTE, "pending")

    reason = "disconnected: not connected any more"
    assert await harness.show(at_risk="true") == [
        "TIME                  STATE      PLATFORM   ACCOUNT  TRY  POST  RESULT, CAPTION",
        f"2026-11-25T10:16:40Z  scheduled  instagram  gone       -  p3    {reason} “Hello”",
        f"2026-11-25T10:46:40Z  scheduled  instagram  @acme      -  p1    {reason} “Hello”",
    ]
    assert {request.params["status"] for request in harness.post_requests} == {"scheduled"}
    harness.api.client.profile_id = "brand"  # The other account may be one of another profile.
    assert await harness.ids(at_risk="true") == ["p1"]


DISCONNECTED = {
    "status": "cancelled",
    "errorMessage": "Account was disconnected",
    "errorCategory": "account_issue",
    "errorSource": "user",
}
REJECTION = "Bad media (platform code 100/2207082)"
REFUSED = {
    "status": "failed",
    "errorCategory": "platform_rejected",
    "platformError": {"code": 100, "subcode": 2207082, "message": "Bad media"},
}


async def test_posts_that_failed_without_a_log_are_printed() -> None:
    """Also those of a disconnected account; what somebody has cancelled, or logs have told, is left out."""
    harness = PostsHarness()
    account = {"accountId": ACCOUNT, "accountUsername": "@acme"}
    harness.post("p1", "failed", -10 * MINUTE, DISCONNECTED)
    harness.post("p2", "partial", -20 * MINUTE, "published", REFUSED, "cancelled")
    harness.post("p3", "failed", -30 * MINUTE, "failed")
    harness.log(25 * MINUTE, "failed", "p3", **account)
    harness.post("p4", "failed", -40 * MINUTE, "failed")
    harness.log(35 * MINUTE, "success", "p4", **account)
    harness.post("old", "failed", -70 * MINUTE, DISCONNECTED)
    harness.post("future", "failed", 70 * MINUTE, DISCONNECTED)
    harness.posts[-1]["updatedAt"] = harness.time(-15 * MINUTE)

    reason = "account_issue: Account was disconnected"
    assert await harness.show(failed="true", since="1h") == [
        "TIME                  STATE      PLATFORM   ACCOUNT  TRY  POST    RESULT, CAPTION",
        f"2026-11-25T09:36:40Z  cancelled  instagram  @acme      -  p1      {reason} “Hello”",
        f"2026-11-25T09:31:40Z  cancelled  instagram  @acme      -  future  {reason} “Hello”",
        f"2026-11-25T09:26:40Z  failed     instagram  @acme      -  p2      platform_rejected: {REJECTION} “Hello”",
        "2026-11-25T09:21:40Z  failed     instagram  @acme      1  p3      X: no “Hi”",
    ]
    assert {request.params["sortBy"] for request in harness.post_requests} == {"scheduled-desc"}
    first = json.loads((await harness.show(failed="true", format="json"))[0])
    assert first["error_source"] == "user"


async def test_posts_that_were_due_or_changed_in_time_are_printed() -> None:
    """A post may fail long before it is due, and the list has posts without any time."""
    harness = PostsHarness()
    harness.post("due", "failed", -10 * MINUTE, DISCONNECTED)
    harness.posts[-1]["updatedAt"] = harness.time(-30 * 60 * MINUTE)
    harness.post("edited", "failed", -30 * 60 * MINUTE, DISCONNECTED)
    harness.posts[-1]["updatedAt"] = harness.time(-20 * MINUTE)
    harness.post("future", "failed", 70 * MINUTE, DISCONNECTED)
    harness.posts[-1]["updatedAt"] = harness.time(-90 * MINUTE)
    harness.post("old", "failed", -30 * 60 * MINUTE, DISCONNECTED)
    harness.post("undated", "failed", None, DISCONNECTED)
    assert await harness.ids(failed="true", since="1h") == ["edited", "future", "due", "undated"]


async def test_posts_that_were_unpublished_have_not_failed() -> None:
    """A target that a person has taken down is cancelled, and may keep the error of an earlier attempt."""
    harness = PostsHarness()
    unpublished = {**DISCONNECTED, "platformPostUrl": "https://www.instagram.com/p/ABC123/"}
    harness.post("p1", "partial", -10 * MINUTE, "published", unpublished)
    harness.post("p2", "failed", -20 * MINUTE, unpublished)
    assert await harness.ids(failed="true") == []


async def test_renewals_of_tokens_are_no_posts() -> None:
    """A log of an account, without a post, is left out; what failed before the attempt is not."""
    harness = PostsHarness()
    harness.log(30, "failed", "", action="token_refresh")
    harness.log(40, "failed", "p1", action="media_upload")
    assert await harness.ids(failed="true") == ["p1"]


async def test_a_post_that_is_tried_again_is_not_a_failed_one() -> None:
    """After a passing error Zernio schedules it again; its line has the error of the last attempt."""
    harness = PostsHarness()
    harness.post("p1", "scheduled", -20 * MINUTE, "pending")
    harness.log(19 * MINUTE, "failed", accountId=ACCOUNT, attemptNumber=2)
    (row,) = [json.loads(line) for line in await harness.show(format="json")]
    assert (row["state"], row["attempts"], row["error_code"], row["error"]) == ("scheduled", 2, "X", "no")


async def test_posts_are_printed_up_to_the_limit() -> None:
    """The first 500 of each status are read, those that are due first."""
    harness = PostsHarness()
    for number in range(520):
        harness.post(f"p{number:03}", "scheduled", number)
    assert [f"p{number:03}" for number in range(500)] == await harness.ids(pending="true", limit=0)
    lines = await harness.show(pending="true", limit=30)
    assert lines[-1] == "late-exporter: stopped at --limit 30 of 500; --limit 0 shows all"
    harness.posts.clear()
    assert await harness.show(pending="true") == ["late-exporter: no post matches"]


async def test_a_restricted_key() -> None:
    """Without the right to accounts their ids are shown, but nothing can be said about posts at risk."""
    harness = PostsHarness()
    harness.post("late", "scheduled", -20 * MINUTE)
    harness.forbidden = "/v1/accounts"
    (line,) = await harness.show(overdue="true", format="json")
    assert (json.loads(line)["account_id"], json.loads(line)["username"]) == (ACCOUNT, "")
    assert (await harness.show(at_risk="true"))[0].startswith("late-exporter: error: brand: 403")
    assert harness.unread == ["brand"]

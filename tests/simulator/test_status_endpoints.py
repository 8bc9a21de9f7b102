"""Tests of the endpoints that show the state of the simulated workspace, in calm and in incidents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from late_exporter.protocols import ApiResponse
from late_exporter.simulator import SimulatedApi, SimulatedWorld
from late_exporter.simulator.accounts import ACCOUNTS
from late_exporter.simulator.publishing import Post
from tests.support.client import FakeClient, QueryParams
from tests.support.clock import VirtualClock
from tests.support.exporter import ExporterHarness

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR
KEY = "sk_" + "0" * 64


class Workspace:
    """A world of two days, its API and its clock."""

    def __init__(self) -> None:
        self.clock = VirtualClock(NOON)
        self.world = SimulatedWorld(1, NOON, history=2 * DAY, logs_per_day=3000)
        self.api = SimulatedApi(self.world, clock=self.clock.time, generation="zernio")

    def get(self, path: str, query: str = "", status: int = 200) -> Any:
        """Return the document of a response."""
        response = self.api.handle("GET", path, query, {"Authorization": f"Bearer {KEY}"})
        assert status == response.status, response.body
        return msgspec.json.decode(response.body)

    def total(self, status: str) -> int:
        """Return the number of posts with a status."""
        return int(self.get("/v1/posts", f"status={status}&limit=1")["pagination"]["total"])

    def posts(self) -> Sequence[Post]:
        """Return all posts."""
        self.get("/v1/billing")
        return [*self.world.posts.values()]

    def oldest_due(self) -> float:
        """Return the time at which the first scheduled post is due, in seconds from now."""
        (post,) = self.get("/v1/posts", "status=scheduled&sortBy=scheduled-asc&limit=1")["posts"]
        return datetime.fromisoformat(post["scheduledFor"]).timestamp() - self.clock.now

    def attempts(self) -> int:
        """Return the number of publish attempts in the logs."""
        self.get("/v1/billing")
        return sum(row["action"] in {"publish", "retry"} for row in self.world.publishing.rows)


@pytest.fixture(scope="module")
def calm() -> Workspace:
    """Return a workspace whose clock stands, for reading only."""
    return Workspace()


@pytest.fixture
def workspace() -> Workspace:
    """Return a workspace whose clock may advance."""
    return Workspace()


def test_posts_agree_with_the_logs(calm: Workspace) -> None:
    """The final attempts in the logs have the results of the posts; a scheduled post has no log."""
    final: dict[tuple[str, str], str] = {}
    for row in reversed(calm.world.publishing.rows):
        if row["action"] in {"publish", "retry"} and row["status"] in {"success", "failed"}:
            final[row["postId"]["_id"], row["accountId"]] = row["status"]
    compared = Counter[str]()
    for post in calm.posts():
        if post.reference["status"] == "scheduled":
            assert [] == calm.world.publishing.rows_of_post(post.id)
        for account, status in post.statuses.items():
            if (post.id, account.id) in final and status in {"published", "failed"}:
                expected = "success" if status == "published" else "failed"
                assert expected == final[post.id, account.id]
                compared[expected] += 1
    assert compared["success"] > compared["failed"] > 0


def test_scheduled_posts_are_published_in_time(workspace: Workspace) -> None:
    """No scheduled post is overdue by more than a second, and those that were due have been published."""
    posts = workspace.get("/v1/posts", "status=scheduled&sortBy=scheduled-asc&limit=20")["posts"]
    for _ in range(10):
        assert workspace.oldest_due() > -1
        workspace.clock.advance(600)
    after = {post.id: post.reference["status"] for post in workspace.posts()}
    assert {"published"} <= {after[post["_id"]] for post in posts} <= {"published", "failed", "partial", "cancelled"}


def test_stuck_scheduler(workspace: Workspace) -> None:
    """Due posts stay scheduled without a log while others are published, and are published afterwards."""
    workspace.world.start_incident("scheduler-stuck", duration=2 * HOUR)
    workspace.clock.advance(HOUR)
    total = workspace.total("scheduled")
    assert -HOUR - 1 < workspace.oldest_due() < -HOUR + 600
    attempts = workspace.attempts()
    assert attempts > 0
    workspace.clock.advance(HOUR + 120)
    assert workspace.oldest_due() > -1
    assert workspace.total("scheduled") < total
    assert workspace.attempts() > attempts


def test_suspended_workspace(workspace: Workspace) -> None:
    """A suspended workspace publishes nothing and says so at the billing endpoint, until it is paid."""
    workspace.world.start_incident("suspended", duration=2 * HOUR)
    workspace.clock.advance(900)  # attempts that had begun end
    attempts = workspace.attempts()
    workspace.clock.advance(HOUR)
    status = {"hasAccess": False, "suspended": True, "suspendedAt": "2026-11-24T12:00:00.000Z"}
    assert {**status, "suspensionReason": "unpaid_invoice"} == workspace.get("/v1/billing")["status"]
    assert workspace.attempts() - attempts <= 2, "a retry that had been waiting"
    assert workspace.oldest_due() < -HOUR
    workspace.clock.advance(2 * HOUR)
    status = {"hasAccess": True, "suspended": False, "suspendedAt": None}
    assert {**status, "suspensionReason": None} == workspace.get("/v1/billing")["status"]
    assert workspace.attempts() > attempts + 100


def test_late_publishing(workspace: Workspace) -> None:
    """Every scheduled post that is due is published 6 to 40 minutes later, others at once."""
    workspace.world.start_incident("late-publishing", duration=2 * HOUR)
    workspace.clock.advance(2 * HOUR)
    delays: dict[bool, set[float]] = {True: set(), False: set()}
    for post in workspace.posts():
        due = datetime.fromisoformat(post.scheduled_for or post.created_at).timestamp()
        if NOON < due < NOON + HOUR:
            rows = workspace.world.publishing.rows_of_post(post.id)
            begun = min(datetime.fromisoformat(row["createdAt"]).timestamp() for row in rows)
            delays[bool(post.scheduled_for)].add(begun - due)
    assert len(delays[True]) > 20
    assert 360 <= min(delays[True]) < 700
    assert 2000 < max(delays[True]) <= 2400
    assert max(delays[False]) < 100
    workspace.clock.advance(HOUR)
    assert workspace.oldest_due() > -1


def test_overdue_approval(workspace: Workspace) -> None:
    """The scheduled posts of one account wait for approval, also when they are due, and are then published."""
    assert 0 == workspace.total("pending_approval")
    scheduled = workspace.total("scheduled")
    workspace.world.start_incident("approval-overdue", duration=2 * HOUR)
    ((account,),) = (incident.accounts for incident in workspace.world.incidents)
    assert scheduled == workspace.total("scheduled") + workspace.total("pending_approval")
    workspace.clock.advance(2 * HOUR - 60)
    waiting = workspace.get("/v1/posts", "status=pending_approval&sortBy=scheduled-asc&limit=100")["posts"]
    assert {("pending_approval", True)} == {
        (post["status"], account.id in {target["accountId"] for target in post["platforms"]}) for post in waiting
    }
    assert waiting[0]["scheduledFor"] < "2026-11-24T13:30", "its time has passed"
    assert [] == workspace.world.publishing.rows_of_post(waiting[0]["_id"])
    assert workspace.oldest_due() > -1, "other posts are published in time"
    workspace.clock.advance(300)
    assert 0 == workspace.total("pending_approval")
    assert workspace.world.publishing.rows_of_post(waiting[0]["_id"])


def test_empty_schedule(workspace: Workspace) -> None:
    """No post is scheduled, but all are drafts; those that were due meanwhile are never published."""
    scheduled = workspace.total("scheduled")
    assert scheduled > 100
    workspace.world.start_incident("empty-schedule", duration=HOUR)
    assert (0, scheduled) == (workspace.total("scheduled"), workspace.total("draft"))
    workspace.clock.advance(HOUR)
    drafts = workspace.get("/v1/posts", "status=draft&limit=100")["posts"]
    assert {"2026-11-24T12"} == {post["scheduledFor"][:13] for post in drafts}
    assert [] == [row for post in drafts for row in workspace.world.publishing.rows_of_post(post["_id"])]
    assert workspace.oldest_due() > -1


@pytest.mark.exhaustive
def test_account_in_cooldown(workspace: Workspace) -> None:
    """An account is in cooldowns that double; its posts fail without a log, and those of others are published."""
    workspace.world.start_incident("account-cooldown", platform="twitter", duration=3 * HOUR)
    ((account,),) = (incident.accounts for incident in workspace.world.incidents)
    ends = []
    for _ in range(12):
        accounts = workspace.get("/v1/accounts")["accounts"]
        until = {row["_id"]: row["rateLimitedUntil"] for row in accounts if row["rateLimitedUntil"]}
        assert {account.id} == until.keys()
        ends.append(until[account.id][11:16])
        workspace.clock.advance(600)
    assert ["12:10"] * 2 + ["12:35"] * 2 + ["13:20"] * 5 + ["14:45"] * 3 == ends
    recent = [row for row in workspace.world.publishing.rows if row["createdAt"] > "2026-11-24T12:05"]
    attempted = {row["accountId"] for row in recent if row["action"] in {"publish", "retry"}}
    assert len(attempted) > 10
    assert account.id not in attempted
    failed = [
        post
        for post in workspace.posts()
        if post.created_at > "2026-11-24T12:05" and post.statuses.get(account) == "failed"
    ]
    assert failed
    assert {"healthy"} == {account["status"] for account in workspace.get("/v1/accounts/health")["accounts"]}
    workspace.clock.advance(HOUR)
    assert {None} == {account["rateLimitedUntil"] for account in workspace.get("/v1/accounts")["accounts"]}


def test_blocked_account(workspace: Workspace) -> None:
    """An account is connected, but suspended by its platform: it cannot post, as the API says, and its posts fail."""
    workspace.world.start_incident("account-blocked", duration=6 * HOUR)
    ((account,),) = (incident.accounts for incident in workspace.world.incidents)
    workspace.clock.advance(3 * HOUR)
    health = workspace.get("/v1/accounts/health")["accounts"]
    (blocked,) = [row for row in health if not row["canPost"]]
    assert (account.id, "error", False) == (blocked["accountId"], blocked["status"], blocked["needsReconnect"])
    assert [["The platform has suspended this account"]] == [row["issues"] for row in health if row["issues"]]
    rows = workspace.get("/v1/accounts")["accounts"]
    assert {account.id: "suspended"} == {row["_id"]: row["platformStatus"] for row in rows if "platformStatus" in row}
    recent = [row for row in workspace.world.publishing.rows if row["createdAt"] > "2026-11-24T12:05"]
    codes = {row["statusCode"] for row in recent if (row["accountId"], row["action"]) == (account.id, "publish")}
    assert 403 in codes
    assert 200 not in codes


def test_account_that_needs_a_reconnect(workspace: Workspace) -> None:
    """A disconnected account cannot post and needs a reconnect until it is connected again."""
    fields = ("status", "canPost", "needsReconnect")

    def health(platform: str = "") -> Counter[tuple[Any, ...]]:
        accounts = workspace.get("/v1/accounts/health")["accounts"]
        return Counter(
            tuple(account[name] for name in fields) for account in accounts if platform in {"", account["platform"]}
        )

    healthy, disconnected = ("healthy", True, False), ("error", False, True)
    assert {healthy: len(ACCOUNTS)} == health()
    workspace.world.start_incident("revoked-token", platform="youtube", duration=HOUR)
    assert {healthy: len(ACCOUNTS) - 1, disconnected: 1} == health()
    assert 1 == health("youtube")[disconnected]
    workspace.clock.advance(HOUR)
    assert {healthy: len(ACCOUNTS)} == health()


@pytest.mark.parametrize("name", ["internal-numbers", "account-off"])
def test_accounts_without_series(name: str, workspace: Workspace) -> None:
    """The exporter has no series, and no labels, of internal phone numbers and of accounts that are switched off."""

    def respond(path: str, params: QueryParams) -> ApiResponse:
        return ApiResponse(msgspec.json.encode(workspace.get(path, urlencode(params))), workspace.clock.now)

    client, feeds = FakeClient(respond, rate_limit=600), ("webhooks",)
    with closing(
        ExporterHarness(client, clock=workspace.clock, generation="zernio", feeds=feeds, status={"accounts": 60.0})
    ) as exporter:
        workspace.world.start_incident(name, duration=HOUR)
        ((hidden, *_),) = (incident.accounts for incident in workspace.world.incidents)
        health = workspace.get("/v1/accounts/health")["accounts"]
        assert [True] == [row["needsReconnect"] for row in health if row["accountId"] == hidden.id]
        assert hidden.id in {row["_id"] for row in workspace.get("/v1/accounts")["accounts"]}
        exporter.poll()
        exporter.refresh_status()
        samples = exporter.scrape()
        values = {value for _, labels in samples for _, value in labels}
        assert {account.id for account in ACCOUNTS if account is not hidden} <= values
        assert not {hidden.id, "phone", "sms"} & values
        assert {} == samples.family("late_account_needs_reconnect")
        workspace.clock.advance(HOUR + 1)
        exporter.refresh_status()
        shown = hidden in ACCOUNTS
        assert shown == bool(exporter.scrape().family("late_account_connected", account_id=hidden.id))


def test_webhook(workspace: Workspace) -> None:
    """The webhook has secrets, fires with posts, and can be switched off."""
    (webhook,) = workspace.get("/v1/webhooks/settings")["webhooks"]
    assert all(secret in str(webhook) for secret in ("simulated-url-token", "whsec_simulated", "Basic "))
    assert (True, 0) == (webhook["isActive"], webhook["failureCount"])
    assert 0 <= NOON - datetime.fromisoformat(webhook["lastFiredAt"]).timestamp() < HOUR
    workspace.world.start_incident("webhook-disabled", duration=2 * HOUR)
    workspace.clock.advance(HOUR)
    (disabled,) = workspace.get("/v1/webhooks/settings")["webhooks"]
    assert (False, 20, webhook["lastFiredAt"]) == tuple(
        disabled[name] for name in ("isActive", "failureCount", "lastFiredAt")
    )
    assert workspace.world.lists["webhooks"].rows[0]["createdAt"] < "2026-11-24T12:00:05"
    workspace.clock.advance(2 * HOUR)
    (again,) = workspace.get("/v1/webhooks/settings")["webhooks"]
    assert (True, 0) == (again["isActive"], again["failureCount"])
    assert again["lastFiredAt"] > "2026-11-24T14:00"


def test_failing_webhook(workspace: Workspace) -> None:
    """Every delivery of the webhook fails, and its failures in a row increase ever faster, until it works again."""
    workspace.world.start_incident("webhook-failing", duration=HOUR)
    counts, fired = [], set()
    for _ in range(4):
        (webhook,) = workspace.get("/v1/webhooks/settings")["webhooks"]
        counts.append(webhook["failureCount"])
        fired.add(webhook["lastFiredAt"])
        workspace.clock.advance(15 * 60)
    assert ([0, 9, 36, 81], 1) == (counts, len(fired))
    recent = workspace.get("/v1/logs", "type=webhooks&from=2026-11-24T12:00:00Z&limit=100")["logs"]
    deliveries = Counter((row["status"], row["status_code"]) for row in recent if row["created_at"] < "2026-11-24T13")
    assert deliveries.keys() == {("failed", 503)}
    assert deliveries.total() > 5
    workspace.clock.advance(HOUR)
    (webhook,) = workspace.get("/v1/webhooks/settings")["webhooks"]
    assert 0 == webhook["failureCount"]
    assert webhook["lastFiredAt"] > "2026-11-24T13"


def test_plan_limits(workspace: Workspace) -> None:
    """Uploads are below, near or at the limit of the plan; at it new posts are refused, without a publishing log."""
    usage = workspace.get("/v1/usage")
    assert 0 < usage["usage"]["uploads"] < 0.6 * usage["limits"]["uploads"]
    workspace.world.start_incident("usage-near-limit", duration=HOUR)
    assert {"uploads": 57_000, "profiles": 5} == workspace.get("/v1/usage")["usage"]
    workspace.world.start_incident("usage-at-limit", duration=2 * HOUR)
    usage = workspace.get("/v1/usage")
    assert usage["limits"]["uploads"] == usage["usage"]["uploads"]
    before = {post.id for post in workspace.posts()}
    workspace.clock.advance(2 * HOUR - 1)
    assert {post.id for post in workspace.posts()} <= before
    assert workspace.oldest_due() > -1, "posts of before are published"
    refused = workspace.get("/v1/logs", "type=api_request&action=POST /v1/posts")["logs"]
    assert {(403, "failed")} == {(row["status_code"], row["status"]) for row in refused}
    workspace.clock.advance(HOUR)
    assert {post.id for post in workspace.posts()} - before


def test_empty_balance(workspace: Workspace) -> None:
    """What can be spent is 0 or less in an incident, and more otherwise."""
    assert workspace.get("/v1/billing")["balance"]["spendableCents"] > 0
    workspace.world.start_incident("empty-balance")
    assert -5 == workspace.get("/v1/billing")["balance"]["spendableCents"]


def test_errors_of_the_api(workspace: Workspace) -> None:
    """The logs of requests have status codes; in an incident there are many, of which most are 429 or 5xx."""
    requests = workspace.world.lists["api_request"]
    assert {200, 404} == {row["statusCode"] for row in requests.rows}
    workspace.world.start_incident("api-errors", duration=HOUR)
    workspace.clock.advance(HOUR)
    workspace.get("/v1/billing")
    counts = Counter(row["statusCode"] for row in requests.rows if row["createdAt"] > "2026-11-24T12")
    assert counts[429] > 600, "50 in five minutes"
    assert counts[429] == 3 * counts[503]


@pytest.mark.parametrize(("path", "name"), [("/v1/accounts", "accounts"), ("/v1/posts", "posts")])
def test_cursors(workspace: Workspace, path: str, name: str) -> None:
    """Pages by cursor have all accounts or posts, in order; rows that are added or removed shift no page."""

    def walk(limit: int) -> list[str]:
        document, ids = workspace.get(path, f"status=scheduled&limit={limit}"), []
        while cursor := document["pagination"]["nextCursor"]:
            ids += [row["_id"] for row in document[name]]
            workspace.clock.advance(2)
            document = workspace.get(path, f"status=scheduled&limit={limit}&cursor={cursor}")
        return ids + [row["_id"] for row in document[name]]

    whole = workspace.get(path, "status=scheduled&limit=500")
    assert whole["pagination"]["nextCursor"] is None
    found = walk(7)
    assert len(found) == len(set(found))
    assert {row["_id"] for row in whole[name]} <= {*found}


@pytest.mark.exhaustive
def test_spend(workspace: Workspace) -> None:
    """The spend for X grows to less than the cap within a period, and is near the cap in an incident."""
    ratios = []
    for _ in range(30):
        caps = workspace.get("/v1/billing")["caps"]
        ratios.append(caps["xSpendUsedCents"] / caps["xSpendLimitCents"])
        workspace.clock.advance(DAY)
    assert 0.5 < max(ratios) <= 0.6
    assert min(ratios) < 0.05
    workspace.get("/v1/billing")
    workspace.world.start_incident("spend-cap")
    assert 48_500 == workspace.get("/v1/billing")["caps"]["xSpendUsedCents"]

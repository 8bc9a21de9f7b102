"""Tests of the endpoints that show the state of the simulated workspace, in calm and in incidents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from late_exporter.simulator import SimulatedApi, SimulatedWorld
from late_exporter.simulator.accounts import ACCOUNTS
from late_exporter.simulator.publishing import Post
from tests.support.clock import VirtualClock

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


@pytest.mark.exhaustive
def test_account_in_cooldown(workspace: Workspace) -> None:
    """An account in cooldown shows its end; its posts fail without a log, and those of others are published."""
    workspace.world.start_incident("account-cooldown", platform="twitter", duration=3 * HOUR)
    ((account,),) = (incident.accounts for incident in workspace.world.incidents)
    workspace.clock.advance(2 * HOUR)
    accounts = workspace.get("/v1/accounts")["accounts"]
    assert {account.id: "2026-11-24T15:00:00.000Z"} == {
        row["_id"]: row["rateLimitedUntil"] for row in accounts if row["rateLimitedUntil"]
    }
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

"""Tests of the endpoints that show the state of the simulated workspace."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from late_exporter.simulator import LogList, SimulatedApi, SimulatedWorld, StaticLogs
from late_exporter.simulator.accounts import ACCOUNTS
from late_exporter.simulator.webhooks import WEBHOOK_HEADERS, WEBHOOK_SECRET
from tests.support.clock import VirtualClock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR
KEY = "sk_" + "0" * 64
STATUSES = ("draft", "pending_approval", "scheduled", "publishing", "published", "partial", "failed", "cancelled")
PATHS = ("/v1/posts", "/v1/accounts", "/v1/accounts/health", "/v1/webhooks/settings", "/v1/billing")


class Workspace:
    """A world of two days, its API and its clock."""

    def __init__(self) -> None:
        self.clock = VirtualClock(NOON)
        self.world = SimulatedWorld(1, NOON, history=2 * DAY, logs_per_day=3000, with_activity=True)
        self.api = SimulatedApi(self.world, clock=self.clock.time, generation="zernio")

    def get(self, path: str, query: str = "", status: int = 200) -> Any:
        """Return the document of a response."""
        response = self.api.handle("GET", path, query, {"Authorization": f"Bearer {KEY}"})
        assert status == response.status, response.body
        return msgspec.json.decode(response.body)

    def total(self, status: str) -> int:
        """Return the number of posts with a status."""
        return int(self.get("/v1/posts", f"status={status}&limit=1")["pagination"]["total"])

    def oldest_due(self) -> float:
        """Return the time at which the first scheduled post is due, in seconds from now."""
        (post,) = self.get("/v1/posts", "status=scheduled&sortBy=scheduled-asc&limit=1")["posts"]
        return datetime.fromisoformat(post["scheduledFor"]).timestamp() - self.clock.now

    def attempts(self) -> int:
        """Return the number of publish attempts in the logs."""
        return sum(row["action"] in {"publish", "retry"} for row in self.world.publishing.rows)


@pytest.fixture(scope="module")
def calm() -> Workspace:
    """Return a workspace whose clock stands, for reading only."""
    return Workspace()


@pytest.fixture
def workspace() -> Workspace:
    """Return a workspace whose clock may advance."""
    return Workspace()


def test_posts_by_status(calm: Workspace) -> None:
    """The totals by status add up to all posts, and every state that logs can show occurs."""
    totals = {status: calm.total(status) for status in STATUSES}
    assert calm.get("/v1/posts")["pagination"]["total"] == sum(totals.values())
    assert totals["published"] > 20 * totals["failed"] > 0
    assert totals["published"] > 20 * totals["partial"] > 0
    assert totals["scheduled"] > 50
    assert totals["cancelled"] > 0
    assert totals["draft"] == totals["pending_approval"] == 0


def test_posts_agree_with_the_logs(calm: Workspace) -> None:
    """The final attempts in the logs have the results of the posts; a scheduled post has no log."""
    final: dict[tuple[str, str], str] = {}
    for row in reversed(calm.world.publishing.rows):
        if row["action"] in {"publish", "retry"} and row["status"] in {"success", "failed"}:
            final[row["postId"]["_id"], row["accountId"]] = row["status"]
    compared = Counter[str]()
    for post in calm.world.posts:
        document = post.document()
        if document["status"] == "scheduled":
            assert [] == calm.world.publishing.rows_of_post(document["_id"])
        for target in document["platforms"]:
            if target["publishAttempts"] and target["status"] in {"published", "failed"}:
                expected = "success" if target["status"] == "published" else "failed"
                assert expected == final[document["_id"], target["accountId"]]
                compared[expected] += 1
    assert compared["success"] > compared["failed"] > 10


def test_failed_targets_have_a_category(workspace: Workspace) -> None:
    """A failed target has a category and a source, and the others have neither."""
    workspace.world.start_incident("platform-outage", duration=HOUR)
    workspace.clock.advance(2 * HOUR)
    workspace.total("failed")
    targets = [target for post in workspace.world.posts for target in post.document()["platforms"]]
    categories = {
        (target["errorCategory"], target["errorSource"]) for target in targets if target["status"] == "failed"
    }
    assert {("user_content", "user"), ("platform_error", "platform")} <= categories
    assert {"user", "platform"} == {source for _, source in categories}
    assert not any("errorCategory" in target for target in targets if target["status"] != "failed")
    assert all("platformPostUrl" not in target for target in targets if target["status"] != "published")


@pytest.mark.parametrize(
    ("sort_by", "field", "is_descending"),
    [
        ("scheduled-asc", "scheduledFor", False),
        ("scheduled-desc", "scheduledFor", True),
        ("created-asc", "createdAt", False),
        ("created-desc", "createdAt", True),
    ],
)
def test_order_of_posts(calm: Workspace, sort_by: str, field: str, *, is_descending: bool) -> None:
    """Posts are sorted by their times."""
    posts = calm.get("/v1/posts", f"status=scheduled&sortBy={sort_by}&limit=100")["posts"]
    times = [post[field] for post in posts]
    assert sorted(times, reverse=is_descending) == times
    assert len(set(times)) > 50


def test_pages_of_posts(calm: Workspace) -> None:
    """Pages hold every post once."""
    total, ids = calm.total("scheduled"), []
    for page in range(1, -(-total // 50) + 1):
        document = calm.get("/v1/posts", f"status=scheduled&limit=50&page={page}&fields=status,scheduledFor")
        assert {"page": page, "limit": 50, "total": total, "pages": -(-total // 50)} == document["pagination"]
        assert {"_id", "status", "scheduledFor"} == set().union(*document["posts"])
        ids += [post["_id"] for post in document["posts"]]
    assert total == len(ids) == len(set(ids))


def test_posts_of_a_profile(calm: Workspace) -> None:
    """Posts and accounts are filtered by profile."""
    profiles = {account.profile_id for account in ACCOUNTS}
    total = calm.get("/v1/posts")["pagination"]["total"]
    totals = [calm.get("/v1/posts", f"profileId={profile}")["pagination"]["total"] for profile in profiles]
    assert (total, len(profiles)) == (sum(totals), len(list(filter(None, totals))))
    for path in ("/v1/accounts", "/v1/accounts/health"):
        counts = [len(calm.get(path, f"profileId={profile}")["accounts"]) for profile in profiles]
        assert len(ACCOUNTS) == sum(counts)
    assert [] == calm.get("/v1/accounts", "profileId=none")["accounts"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("status=done", "status"),
        ("sortBy=newest", "sortBy"),
        ("limit=501", "limit"),
        ("page=0", "page"),
        ("statsu=failed", "statsu"),
        ("fields=status,title2", "fields"),
        ("source=external", "source"),
    ],
)
def test_wrong_parameters_of_posts(calm: Workspace, query: str, param: str) -> None:
    """A wrong value or an unknown parameter is rejected by name."""
    document = calm.get("/v1/posts", query, status=400)
    assert ("invalid_request_error", param) == (document["type"], document["param"])


def test_scheduled_posts_are_published_in_time(workspace: Workspace) -> None:
    """No scheduled post is overdue by more than a second, and those that were due have logs."""
    posts = workspace.get("/v1/posts", "status=scheduled&sortBy=scheduled-asc&limit=20")["posts"]
    for _ in range(10):
        assert workspace.oldest_due() > -1
        workspace.clock.advance(600)
    after = {post.id: post.status for post in workspace.world.posts}
    assert {"published"} <= {after[post["_id"]] for post in posts} <= {"published", "failed", "partial", "cancelled"}


def test_stuck_scheduler(workspace: Workspace) -> None:
    """Due posts stay scheduled without a log while others are published, and are published afterwards."""
    workspace.world.start_incident("scheduler-stuck", duration=2 * HOUR)
    workspace.clock.advance(HOUR)
    total = workspace.total("scheduled")
    assert -HOUR - 1 < workspace.oldest_due() < -HOUR + 600
    due = [
        post for post in workspace.world.posts if post.status == "scheduled" and (post.scheduled_at or 0) < NOON + HOUR
    ]
    assert all([] == workspace.world.publishing.rows_of_post(post.id) for post in due)
    assert workspace.attempts() > 0
    workspace.clock.advance(HOUR + 120)
    assert workspace.oldest_due() > -1
    assert workspace.total("scheduled") < total
    assert all(workspace.world.publishing.rows_of_post(post.id) for post in due if not post.is_deleted)


def test_suspended_workspace(workspace: Workspace) -> None:
    """A suspended workspace publishes nothing and says so at the billing endpoint, until it is paid."""
    workspace.clock.advance(600)
    workspace.get("/v1/billing")
    workspace.world.start_incident("suspended", duration=2 * HOUR)
    workspace.clock.advance(900)  # attempts that had begun end
    workspace.get("/v1/billing")
    attempts = workspace.attempts()
    workspace.clock.advance(HOUR)
    status = workspace.get("/v1/billing")["status"]
    assert (False, True, "2026-11-24T12:10:00.000Z") == (
        status["hasAccess"],
        status["suspended"],
        status["suspendedAt"],
    )
    assert status["suspensionReason"]
    assert workspace.attempts() - attempts <= 2, "a retry that had been waiting"
    assert workspace.oldest_due() < -HOUR
    workspace.clock.advance(2 * HOUR)
    expected = {"hasAccess": True, "suspended": False, "suspendedAt": None, "suspensionReason": None}
    assert expected == workspace.get("/v1/billing")["status"]
    assert workspace.attempts() > attempts + 100


@pytest.mark.exhaustive
def test_account_in_cooldown(workspace: Workspace) -> None:
    """An account in cooldown shows its end; its posts fail without a log, and those of others are published."""
    workspace.world.start_incident("account-cooldown", platform="twitter", duration=3 * HOUR)
    (incident,) = workspace.world.incidents
    workspace.clock.advance(2 * HOUR)
    accounts = workspace.get("/v1/accounts")["accounts"]
    assert {incident.account_id: "2026-11-24T15:00:00.000Z"} == {
        account["_id"]: account["rateLimitedUntil"] for account in accounts if account["rateLimitedUntil"]
    }
    recent = [row for row in workspace.world.publishing.rows if row["createdAt"] > "2026-11-24T12:05"]
    attempted = {row["accountId"] for row in recent if row["action"] in {"publish", "retry"}}
    assert len(attempted) > 10
    assert incident.account_id not in attempted
    targets = [
        target
        for post in workspace.world.posts
        if post.updated_at > NOON + 300
        for target in post.document()["platforms"]
        if target["accountId"] == incident.account_id and target["status"] == "failed"
    ]
    assert {("user_abuse", "user")} == {(target["errorCategory"], target["errorSource"]) for target in targets}
    assert workspace.get("/v1/accounts/health")["summary"]["healthy"] == len(ACCOUNTS)
    workspace.clock.advance(HOUR)
    assert {None} == {account["rateLimitedUntil"] for account in workspace.get("/v1/accounts")["accounts"]}


def test_account_that_needs_a_reconnect(workspace: Workspace) -> None:
    """A disconnected account cannot post and needs a reconnect, in the health and in the list of accounts."""
    healthy = workspace.get("/v1/accounts/health")
    assert {"total": 26, "healthy": 26, "warning": 0, "error": 0, "needsReconnect": 0} == healthy["summary"]
    workspace.world.start_incident("revoked-token", platform="youtube", duration=HOUR)
    (incident,) = workspace.world.incidents
    health = workspace.get("/v1/accounts/health")
    assert {"total": 26, "healthy": 25, "warning": 0, "error": 1, "needsReconnect": 1} == health["summary"]
    (account,) = [account for account in health["accounts"] if account["status"] != "healthy"]
    assert [account] == workspace.get("/v1/accounts/health", "status=error")["accounts"]
    assert (incident.account_id, False, False, True) == (
        account["accountId"],
        account["canPost"],
        account["tokenValid"],
        account["needsReconnect"],
    )
    assert account["issues"]
    listed = workspace.get("/v1/accounts")["accounts"]
    assert [incident.account_id] == [each["_id"] for each in listed if each["needsReconnection"]]
    workspace.clock.advance(HOUR)
    assert 0 == workspace.get("/v1/accounts/health")["summary"]["needsReconnect"]


def test_tokens_expire_in_the_future(calm: Workspace) -> None:
    """The token of every connected account is valid for weeks, as its last connection log says."""
    expiries = {
        account["accountId"]: datetime.fromisoformat(account["tokenExpiresAt"]).timestamp()
        for account in calm.get("/v1/accounts/health")["accounts"]
    }
    assert all(NOON + 50 * DAY < expiry <= NOON + 60 * DAY for expiry in expiries.values())
    logged = {
        row["accountId"]: datetime.fromisoformat(row["success"]["tokenExpiresAt"]).timestamp()
        for row in reversed(calm.world.connections.rows)
        if "success" in row
    }
    assert logged
    assert all(expiries[account] >= expiry - 0.001 for account, expiry in logged.items())


def test_pages_of_accounts(calm: Workspace) -> None:
    """Accounts come in pages if there is a limit, each with its profile."""
    everything = calm.get("/v1/accounts")
    assert "pagination" not in everything
    pages = [calm.get("/v1/accounts", f"limit=10&page={page}") for page in (1, 2, 3)]
    assert {"page": 3, "limit": 10, "total": 26, "pages": 3} == pages[2]["pagination"]
    assert everything["accounts"] == [account for page in pages for account in page["accounts"]]
    assert {account.profile_id for account in ACCOUNTS} == {
        account["profileId"]["_id"] for account in everything["accounts"]
    }


def test_webhook(workspace: Workspace) -> None:
    """The webhook has its secret and headers, fires with posts, and can be switched off."""
    (webhook,) = workspace.get("/v1/webhooks/settings")["webhooks"]
    assert (WEBHOOK_SECRET, WEBHOOK_HEADERS) == (webhook["secret"], webhook["customHeaders"])
    assert (True, 0) == (webhook["isActive"], webhook["failureCount"])
    assert 0 <= NOON - datetime.fromisoformat(webhook["lastFiredAt"]).timestamp() < HOUR
    workspace.world.start_incident("webhook-disabled", duration=2 * HOUR)
    workspace.clock.advance(HOUR)
    (disabled,) = workspace.get("/v1/webhooks/settings")["webhooks"]
    assert (False, 20) == (disabled["isActive"], disabled["failureCount"])
    assert disabled["lastFiredAt"] < "2026-11-24T12:00:05"
    deliveries = [row["created_at"] for row in workspace.world.activity["webhooks"].rows]
    assert max(deliveries) < "2026-11-24T12:00:05"
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


@pytest.mark.parametrize("path", PATHS)
def test_only_worlds_have_a_status(path: str) -> None:
    """Static logs have no status endpoints; those of a world are read-only and exist in every generation."""
    headers = {"Authorization": f"Bearer {KEY}"}
    static = SimulatedApi(StaticLogs(LogList()), clock=lambda: NOON, generation="zernio")
    assert 404 == static.handle("GET", path, "", headers).status
    world = SimulatedWorld(1, NOON, history=0, logs_per_day=100)
    for generation in ("late", "zernio", "both"):
        api = SimulatedApi(world, clock=lambda: NOON, generation=generation)
        assert 200 == api.handle("GET", path, "", headers).status
        assert 405 == api.handle("POST", path, "", headers).status

"""Tests of the endpoints that show the state of the simulated workspace, in calm and in incidents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from late_exporter.simulator import SimulatedApi, simulate_world
from late_exporter.simulator.world import Post
from tests.support.clock import VirtualClock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR
KEY = "sk_" + "0" * 64


class Workspace:
    """A world, its API and its clock."""

    def __init__(self, history: float = DAY / 2) -> None:
        self.clock = VirtualClock(NOON)
        self.world = simulate_world(1, NOON, history=history, logs_per_day=3000)
        self.api = SimulatedApi(self.world, clock=self.clock.time, generation="zernio")

    def get(self, path: str, query: str = "", status: int = 200) -> Any:
        """Return the document of a response."""
        response = self.api.handle("GET", path, query, {"Authorization": f"Bearer {KEY}"})
        assert status == response.status, response.body
        return msgspec.json.decode(response.body)

    def ids(self, path: str, query: str) -> list[str]:
        """Return the ids of a list of posts or accounts, page by page."""
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            document = self.get(path, f"{query}&cursor={cursor}")
            found += [row["_id"] for row in document[path.removeprefix("/v1/")]]
            cursor = document["pagination"]["nextCursor"]
        return found

    def posts(self) -> Sequence[Post]:
        """Return all posts."""
        self.get("/v1/billing")
        return [*self.world.posts.values()]


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
    logged = {row["postId"]["_id"] for row in calm.world.publishing.rows if "postId" in row}
    compared = Counter[str]()
    for post in calm.posts():
        if post.reference["status"] == "scheduled":
            assert post.id not in logged
        for account, status in post.statuses.items():
            if (post.id, account.id) in final and status in {"published", "failed"}:
                expected = "success" if status == "published" else "failed"
                assert expected == final[post.id, account.id]
                compared[expected] += 1
    assert compared["success"] > compared["failed"] > 0


def test_lists_have_pages(calm: Workspace) -> None:
    """Pages of both orders have the same posts, those of any size the same accounts."""
    earliest, latest = (
        calm.ids("/v1/posts", f"status=scheduled&sortBy=scheduled-{each}&limit=50") for each in ("asc", "desc")
    )
    assert len(earliest) > 50
    assert latest == earliest[::-1]
    accounts = calm.ids("/v1/accounts", "limit=10")
    assert accounts == calm.ids("/v1/accounts", "limit=500")
    assert len(accounts) == len(set(accounts)) > 10


@pytest.mark.parametrize("query", ["stauts=failed", "status=nope", "sortBy=nope", "limit=501", "limit=0"])
def test_what_the_list_of_posts_rejects(calm: Workspace, query: str) -> None:
    """An unknown parameter or value is an error that names it, so that no filter is silently ignored."""
    assert calm.get("/v1/posts", query, status=400)["param"] == query.partition("=")[0]


def test_fields_of_posts(calm: Workspace) -> None:
    """Posts have only the requested fields, and their id."""
    (post,) = calm.get("/v1/posts", "status=scheduled&limit=1&fields=status,scheduledFor")["posts"]
    assert set(post) == {"_id", "status", "scheduledFor"}


def test_targets_have_results_of_their_own(calm: Workspace) -> None:
    """A target has its status, its link if it is published, and its error if it has failed."""
    queries = ("status=scheduled", "status=published", "status=failed", "status=partial")
    posts = [post for query in queries for post in calm.get("/v1/posts", f"{query}&limit=500")["posts"]]
    targets = [target for post in posts for target in post["platforms"]]
    statuses = {target["status"] for target in targets}
    assert {"published", "failed", "pending"} <= statuses
    for target in targets:
        assert ("platformPostUrl" in target) <= (target["status"] == "published")
        assert ("errorMessage" in target) == (target["status"] == "failed")


SHOWN = {
    "revoked-token": ("/v1/accounts/health", '"needsReconnect":true'),
    "account-cooldown": ("/v1/accounts", '"rateLimitedUntil":"2026-11-24T12:40:00.000Z"'),
    "account-blocked": ("/v1/accounts", '"platformStatus":"suspended"'),
    "token-expiring": ("/v1/accounts/health", '"tokenExpiresAt":"2026-11-25T08:00:00.000Z"'),
    "suspended": ("/v1/billing", '"suspendedAt":"2026-11-24T12:00:00.000Z","suspensionReason":"unpaid_invoice"'),
    "spend-cap": ("/v1/billing", '"xSpendUsedCents":48500'),
    "empty-balance": ("/v1/billing", '"spendableCents":-5'),
    "usage-near-limit": ("/v1/usage", '"usage":{"uploads":57000'),
    "usage-at-limit": ("/v1/usage", '"usage":{"uploads":60000'),
    "webhook-failing": ("/v1/webhooks/settings", '"isActive":true,"failureCount":36'),
    "webhook-disabled": ("/v1/webhooks/settings", '"isActive":false,"failureCount":20'),
}
"""What the API shows half an hour after the start of an incident of an hour. Those with messages are replayed, too."""


@pytest.mark.parametrize("name", SHOWN)
def test_incidents_are_shown_until_they_end(name: str) -> None:
    """The API shows the state of an incident, but not before and after it."""
    workspace, (path, fields) = Workspace(history=HOUR), SHOWN[name]

    def is_shown() -> bool:
        return fields in msgspec.json.encode(workspace.get(path)).decode()

    shown = [is_shown()]
    workspace.world.start_incident(name, duration=HOUR)
    for _ in range(2):
        workspace.clock.advance(HOUR / 2 + 1)
        shown.append(is_shown())
    assert shown == [False, True, False]


def test_webhook(workspace: Workspace) -> None:
    """The webhook has secrets and fires with posts, but not successfully while it fails."""
    (before,) = workspace.get("/v1/webhooks/settings")["webhooks"]
    assert all(secret in str(before) for secret in ("simulated-url-token", "whsec_simulated", "Basic "))
    assert "2026-11-24T11" < before["lastFiredAt"] < "2026-11-24T12:00:01"
    workspace.world.start_incident("webhook-failing", duration=HOUR)
    workspace.clock.advance(HOUR - 1)
    deliveries = workspace.get("/v1/logs", "type=webhooks&from=2026-11-24T12:00:05Z")["logs"]
    assert {(row["status"], row["status_code"]) for row in deliveries} == {("failed", 503)}
    (after,) = workspace.get("/v1/webhooks/settings")["webhooks"]
    assert before["lastFiredAt"] == after["lastFiredAt"]

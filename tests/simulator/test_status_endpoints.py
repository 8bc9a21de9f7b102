"""Tests of the endpoints that show the state of the simulated workspace, in calm and in incidents."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from late_exporter.simulator import SimulatedApi, simulate_world
from tests.support.clock import VirtualClock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
KEY = "sk_" + "0" * 64


class Workspace:
    """A world, its API and its clock."""

    def __init__(self) -> None:
        self.clock = VirtualClock(NOON)
        self.world = simulate_world(1, NOON, history=HOUR, logs_per_day=3000)
        self._api = SimulatedApi(self.world, clock=self.clock.time, generation="zernio")

    def get(self, path: str, query: str = "") -> bytes:
        """Return the body of a response."""
        return self._api.handle("GET", path, query, {"Authorization": f"Bearer {KEY}"}).body

    def get_posts(self, query: str) -> list[dict[str, Any]]:
        """Return a page of posts."""
        posts: list[dict[str, Any]] = msgspec.json.decode(self.get("/v1/posts", query))["posts"]
        return posts


@pytest.fixture
def workspace() -> Workspace:
    """Return a workspace with a history of an hour."""
    return Workspace()


@pytest.mark.parametrize("query", ["stauts=failed", "status=nope", "limit=501"])
def test_what_the_list_of_posts_rejects(workspace: Workspace, query: str) -> None:
    """An unknown parameter or value is an error that names it, so that no filter is silently ignored."""
    assert msgspec.json.decode(workspace.get("/v1/posts", query))["param"] == query.partition("=")[0]


def test_posts(workspace: Workspace) -> None:
    """Posts are in order of their schedule, and have only the requested fields and their id."""
    earliest = workspace.get_posts("status=scheduled&sortBy=scheduled-asc&limit=500&fields=scheduledFor")
    latest = workspace.get_posts("status=scheduled&sortBy=scheduled-desc&limit=500&fields=scheduledFor")
    assert len(earliest) > 50
    assert earliest == sorted(earliest, key=lambda post: (post["scheduledFor"], post["_id"]))
    assert latest == earliest[::-1]
    assert set(earliest[0]) == {"_id", "scheduledFor"}


def test_accounts_have_pages(workspace: Workspace) -> None:
    """Cursors lead through all accounts, each of which is on one page."""
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        document = msgspec.json.decode(workspace.get("/v1/accounts", f"limit=10&cursor={cursor}"))
        found += [row["_id"] for row in document["accounts"]]
        cursor = document["pagination"]["nextCursor"]
    assert found == sorted(account.id for account in workspace.world.accounts)
    assert len(found) > 10


@pytest.mark.parametrize(
    ("name", "path", "fields"),
    [
        ("account-cooldown", "/v1/accounts", b'"rateLimitedUntil":"2026-11-24T12:40:00.000Z"'),
        ("token-expiring", "/v1/accounts/health", b'"tokenExpiresAt":"2026-11-25T08:00:00.000Z"'),
        ("suspended", "/v1/billing", b'"suspendedAt":"2026-11-24T12:00:00.000Z","suspensionReason":"unpaid_invoice"'),
        ("webhook-failing", "/v1/webhooks/settings", b'"isActive":true,"failureCount":36'),
    ],
)
def test_incidents_are_shown_until_they_end(workspace: Workspace, name: str, path: str, fields: bytes) -> None:
    """The API shows the state of an incident, but not before and after it."""
    shown = [fields in workspace.get(path)]
    workspace.world.start_incident(name, duration=HOUR)
    for _ in range(2):
        workspace.clock.advance(HOUR / 2 + 1)
        shown.append(fields in workspace.get(path))
    assert shown == [False, True, False]

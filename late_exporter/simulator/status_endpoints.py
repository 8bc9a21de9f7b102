"""Endpoints that show the state of the simulated workspace: posts, accounts, webhooks and billing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from late_exporter.simulator.accounts import SimulatedAccount, hashed_id
from late_exporter.simulator.log_list import DAY, JsonObject, timestamp
from late_exporter.simulator.publishing import Post
from late_exporter.simulator.request import Request

RowT = TypeVar("RowT", Post, SimulatedAccount)
MAX_PAGE_SIZE = 500
BILLING_PERIOD = 30 * DAY
SPEND_LIMIT_CENTS, USUAL_SPEND_CENTS = 50_000, 30_000
"""Limit of a period, and spend at the end of a usual one."""


def list_posts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/posts``, the first scheduled one first."""
    status = request.text("status")
    posts = [post for post in request.world.posts.values() if status in {"", post.reference["status"]}]
    posts.sort(key=lambda post: post.scheduled_for or post.created_at)
    return _list_page(request, "posts", posts, lambda post: post.document)


def list_accounts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/accounts``."""

    def render(account: SimulatedAccount) -> JsonObject:
        return {
            "_id": account.id,
            "platform": account.platform.name,
            "profileId": account.profile_id,
            "username": account.username,
            "isActive": True,
            "rateLimitedUntil": None,
            **request.world.shown_fields("account", account),
        }

    return {**_list_page(request, "accounts", request.world.accounts, render), "hasAnalyticsAccess": False}


def check_accounts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/accounts/health``."""

    def render(account: SimulatedAccount) -> JsonObject:
        is_connected = request.world.is_connected(account)
        return {
            "accountId": account.id,
            "platform": account.platform.name,
            "username": account.username,
            "status": "healthy" if is_connected else "error",
            "canPost": is_connected,
            "needsReconnect": not is_connected,
            "tokenExpiresAt": timestamp(request.world.token_expiries[account.id]),
        }

    return _list_page(request, "accounts", request.world.accounts, render)


def list_webhooks(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/webhooks/settings``, with secrets that a client must not keep."""
    fired_at = request.world.webhook_fired_at
    webhook = {
        "_id": hashed_id("webhook"),
        "name": "Newsroom",
        "url": "https://hooks.example.com/late?token=simulated-url-token",
        "secret": "whsec_simulated_signing_secret",
        "customHeaders": {"Authorization": "Basic c2ltdWxhdGVkOmhlYWRlci1zZWNyZXQ="},
        "events": ["post.published", "post.failed"],
        "isActive": True,
        "failureCount": 0,
        "lastFiredAt": fired_at and timestamp(fired_at),
    }
    return {"webhooks": [webhook | request.world.shown_fields("webhook")]}


def show_billing(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/billing``."""
    spend = int(USUAL_SPEND_CENTS * (request.now % BILLING_PERIOD) / BILLING_PERIOD)
    caps = {"xSpendUsedCents": spend, "xSpendLimitCents": SPEND_LIMIT_CENTS}
    status = {"hasAccess": True, "suspended": False, "suspendedAt": None, "suspensionReason": None}
    shown = request.world.shown_fields
    return {"caps": caps | shown("billing caps"), "status": status | shown("billing status")}


def _list_page(request: Request, name: str, rows: Sequence[RowT], render: Callable[[RowT], JsonObject]) -> JsonObject:
    """Return a page of the rows of a profile, or of all."""
    profile_id = request.text("profileId")
    rows = [row for row in rows if profile_id in {"", row.profile_id}]
    page, limit = request.integer("page", 1, 1), request.integer("limit", 100, 1, MAX_PAGE_SIZE)
    pagination = {"page": page, "limit": limit, "total": len(rows), "pages": -(-len(rows) // limit)}
    return {name: list(map(render, rows[(page - 1) * limit : page * limit])), "pagination": pagination}

"""Endpoints that show the state of the simulated workspace: posts, accounts, webhooks and billing."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from late_exporter.simulator.accounts import SimulatedAccount, hashed_id
from late_exporter.simulator.activity import WEBHOOK_URL
from late_exporter.simulator.log_list import DAY, JsonObject, timestamp
from late_exporter.simulator.request import Request, RequestRejected
from late_exporter.simulator.world import SimulatedWorld

MAX_PAGE_SIZE = 500
BILLING_PERIOD = 30 * DAY
SPEND_LIMIT_CENTS = 50_000
USUAL_SPEND_RATIO = 0.6
"""Spend at the end of a usual period, as a share of the limit."""


def world_of(request: Request) -> SimulatedWorld:
    """Return the world of a request. Lists of logs alone have no status and no incidents."""
    if not isinstance(request.source, SimulatedWorld):
        raise RequestRejected(HTTPStatus.NOT_FOUND)
    return request.source


def list_posts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/posts``."""
    status, profile_id = request.text("status"), request.text("profileId")
    posts = [
        post.document
        for post in world_of(request).posts.values()
        if status in {"", post.document["status"]} and profile_id in {"", post.accounts[0].profile_id}
    ]
    is_ascending = request.text("sortBy") == "scheduled-asc"
    posts.sort(key=lambda post: str(post["scheduledFor"] or post["createdAt"]), reverse=not is_ascending)
    return _page("posts", posts, request, 10)


def list_accounts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/accounts``."""
    world = world_of(request)
    accounts = [
        {
            "_id": account.id,
            "platform": account.platform.name,
            "profileId": {"_id": account.profile_id, "name": account.display_name},
            "username": account.username,
            "isActive": True,
            "rateLimitedUntil": None,
            **world.shown_fields("account", account),
        }
        for account in _accounts(request)
    ]
    return {**_page("accounts", accounts, request, MAX_PAGE_SIZE), "hasAnalyticsAccess": False}


def check_accounts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/accounts/health``."""
    world = world_of(request)
    accounts = [
        {
            "accountId": account.id,
            "platform": account.platform.name,
            "username": account.username,
            "status": "healthy" if world.is_connected(account) else "error",
            "canPost": world.is_connected(account),
            "needsReconnect": not world.is_connected(account),
            "tokenExpiresAt": timestamp(world.token_expiries[account.id]),
        }
        for account in _accounts(request)
    ]
    return {"accounts": accounts}


def list_webhooks(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/webhooks/settings``, with secrets that a client must not keep."""
    world = world_of(request)
    webhook = {
        "_id": hashed_id(f"webhook {world.accounts[0].user_id}"),
        "name": "Newsroom",
        "url": f"{WEBHOOK_URL}?token=simulated-url-token",
        "secret": "whsec_simulated_signing_secret",
        "customHeaders": {"Authorization": "Basic c2ltdWxhdGVkOmhlYWRlci1zZWNyZXQ="},
        "events": ["post.published", "post.failed"],
        "isActive": True,
        "failureCount": 0,
        "lastFiredAt": world.webhook_fired_at and timestamp(world.webhook_fired_at),
    }
    return {"webhooks": [webhook | world.shown_fields("webhook")]}


def show_billing(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/billing``."""
    world = world_of(request)
    spend = int(SPEND_LIMIT_CENTS * USUAL_SPEND_RATIO * (request.now % BILLING_PERIOD) / BILLING_PERIOD)
    caps = {"xSpendUsedCents": spend, "xSpendLimitCents": SPEND_LIMIT_CENTS}
    status = {"hasAccess": True, "suspended": False, "suspendedAt": None, "suspensionReason": None}
    return {
        "caps": caps | world.shown_fields("billing caps"),
        "status": status | world.shown_fields("billing status"),
    }


def _accounts(request: Request) -> Sequence[SimulatedAccount]:
    profile_id = request.text("profileId")
    return [account for account in world_of(request).accounts if profile_id in {"", account.profile_id}]


def _page(name: str, documents: Sequence[JsonObject], request: Request, default_limit: int) -> JsonObject:
    page, limit = request.integer("page", 1, 1), request.integer("limit", default_limit, 1, MAX_PAGE_SIZE)
    pagination = {"page": page, "limit": limit, "total": len(documents), "pages": -(-len(documents) // limit)}
    return {name: documents[(page - 1) * limit : page * limit], "pagination": pagination}

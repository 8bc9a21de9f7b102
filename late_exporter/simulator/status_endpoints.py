"""Endpoints of the workspace's state: posts, accounts, webhooks, billing and usage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TypeVar

from late_exporter.simulator.accounts import SimulatedAccount, hashed_id
from late_exporter.simulator.log_list import DAY, JsonObject, timestamp
from late_exporter.simulator.publishing import Post
from late_exporter.simulator.request import Request

RowT = TypeVar("RowT", Post, SimulatedAccount)
MAX_PAGE_SIZE = 500
HEALTHY = {"status": "healthy", "canPost": True, "needsReconnect": False, "issues": []}
BILLING_PERIOD = 30 * DAY
SPEND_LIMIT_CENTS = 50_000
USUAL_SPEND_CENTS = 30_000
CREDIT_CENTS = 40_000
"""Limit of a period, spend at the end of a usual one, and credit at its start."""

PLAN_LIMITS = {"uploads": 60_000, "profiles": 10}
USUAL_UPLOADS = 36_000
"""Limits of the plan, and uploads at the end of a usual period."""


def list_posts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/posts``, by scheduled time."""
    world = request.world
    wanted = request.text("status")

    def status_of(post: Post) -> str:
        accounts = post.statuses if post.reference["status"] == "scheduled" else ()
        shown = (
            each
            for account in accounts
            for each in world.shown_fields("scheduled post", account).values()
        )
        return str(next(shown, post.reference["status"]))

    def render(post: Post) -> JsonObject:
        accounts = [
            {"platform": a.platform.name, "accountId": a.id, "status": s}
            for a, s in post.statuses.items()
        ]
        times = {"scheduledFor": post.scheduled_for, "createdAt": post.created_at}
        return {**post.reference, **times, "status": status_of(post), "platforms": accounts}

    posts = [post for post in world.posts.values() if wanted in {"", status_of(post)}]
    page, pagination = _select_page(
        request, posts, lambda post: f"{post.scheduled_for or post.created_at} {post.id}"
    )
    return {"posts": list(map(render, page)), "pagination": pagination}


def list_accounts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/accounts``, whose pages have a cursor."""

    def render(account: SimulatedAccount) -> JsonObject:
        ids = {
            "_id": account.id,
            "profileId": account.profile_id,
            "platform": account.platform.name,
        }
        fields = {"username": account.username, "isActive": True, "rateLimitedUntil": None}
        return {**ids, **fields, **request.world.shown_fields("account", account)}

    page, pagination = _select_page(request, request.world.listed_accounts, attrgetter("id"))
    pagination = {name: pagination[name] for name in ("limit", "nextCursor")}
    return {
        "accounts": list(map(render, page)),
        "pagination": pagination,
        "hasAnalyticsAccess": False,
    }


def check_accounts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/accounts/health``."""

    def render(account: SimulatedAccount) -> JsonObject:
        expires_at = timestamp(request.world.token_expiries.get(account.id, request.now))
        fields = {
            **account.owner,
            "username": account.username,
            "tokenExpiresAt": expires_at,
            **HEALTHY,
        }
        return fields | request.world.shown_fields("health", account)

    return {
        "accounts": list(
            map(render, _select_page(request, request.world.listed_accounts, attrgetter("id"))[0])
        )
    }


def list_webhooks(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/webhooks/settings``, with secrets."""
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
    spend = _in_period(request, USUAL_SPEND_CENTS)
    credit = CREDIT_CENTS - spend
    shown = request.world.shown_fields
    balance = {
        "accruedThisPeriodCents": spend,
        "creditsRemainingCents": credit,
        "spendableCents": credit,
    }
    caps = {"xSpendUsedCents": spend, "xSpendLimitCents": SPEND_LIMIT_CENTS}
    status = {"hasAccess": True, "suspended": False, "suspendedAt": None, "suspensionReason": None}
    return {
        "balance": balance | shown("balance"),
        "caps": caps | shown("caps"),
        "status": status | shown("status"),
    }


def show_usage(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/usage``."""
    usual = {"uploads": _in_period(request, USUAL_UPLOADS), "profiles": 5}
    return {
        "hasAccess": True,
        "limits": PLAN_LIMITS,
        "usage": {**usual, **request.world.shown_fields("usage")},
    }


def _in_period(request: Request, usual: int) -> int:
    """Return the amount that is used now, of that which is used by the end of a usual period."""
    return int(usual * (request.now % BILLING_PERIOD) / BILLING_PERIOD)


def _select_page(
    request: Request, rows: Iterable[RowT], key: Callable[[RowT], str]
) -> tuple[list[RowT], JsonObject]:
    """Return a page of rows and its pagination; a cursor is the key before a page."""
    profile_id = request.text("profileId")
    cursor = request.text("cursor")
    limit = request.integer("limit", 100, 1, MAX_PAGE_SIZE)
    is_descending = request.text("sortBy").endswith("-desc")

    def follows_cursor(row: RowT) -> bool:
        return key(row) < cursor if is_descending else key(row) > cursor

    selected = [row for row in rows if profile_id in {"", row.profile_id}]
    rows = sorted(selected, key=key, reverse=is_descending)
    total = len(rows)
    page = [row for row in rows if not cursor or follows_cursor(row)][:limit]
    pagination = {"page": 1, "limit": limit, "total": total, "pages": -(-total // limit)}
    return page, {
        **pagination,
        "nextCursor": key(page[-1]) if page and page[-1] is not rows[-1] else None,
    }

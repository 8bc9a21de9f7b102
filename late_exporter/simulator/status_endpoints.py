"""Endpoints that show the state of the simulated workspace: posts, accounts, webhooks and billing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from late_exporter.simulator.accounts import SimulatedAccount
from late_exporter.simulator.events import DAY, timestamp
from late_exporter.simulator.incidents import WorldConditions
from late_exporter.simulator.log_list import JsonObject
from late_exporter.simulator.platforms import PLATFORMS
from late_exporter.simulator.posts import SimulatedPost
from late_exporter.simulator.query import QueryParameters
from late_exporter.simulator.world import SimulatedWorld

Endpoint: TypeAlias = Callable[[SimulatedWorld, QueryParameters, float], JsonObject]

POST_STATUSES = (
    "draft", "pending_approval", "scheduled", "publishing", "published", "partial", "failed", "cancelled",
)  # fmt: skip
POST_FIELDS = (
    "userId", "content", "mediaItems", "platforms", "scheduledFor", "timezone", "status", "createdAt", "updatedAt",
)  # fmt: skip
POST_PARAMETERS = (
    "page", "limit", "fields", "source", "status", "platform", "profileId", "includeHidden", "sortBy", "accountId",
)  # fmt: skip
MAX_POSTS = 500
MAX_ACCOUNTS = 500
HEALTH_STATUSES = ("healthy", "warning", "error")

BILLING_PERIOD = 30 * DAY
SPEND_LIMIT_CENTS = 50_000
USUAL_SPEND_RATIO = 0.6
"""Spend at the end of a usual period, as a share of the limit."""

CAPPED_SPEND_RATIO = 0.97


def _scheduled_time(post: SimulatedPost) -> float:
    return post.created_at if post.scheduled_at is None else post.scheduled_at


POST_ORDERS: Mapping[str, tuple[Callable[[SimulatedPost], Any], bool]] = {
    "scheduled-desc": (_scheduled_time, True),
    "scheduled-asc": (_scheduled_time, False),
    "created-desc": (lambda post: post.created_at, True),
    "created-asc": (lambda post: post.created_at, False),
    "status": (lambda post: post.status, False),
    "platform": (lambda post: [target.account.platform.name for target in post.targets.values()], False),
}
"""Sort key of posts, and whether the order is descending, by the value of ``sortBy``."""


def list_posts(world: SimulatedWorld, parameters: QueryParameters, _now: float) -> JsonObject:
    """Return the response document of ``GET /v1/posts``, or raise RequestRejected."""
    parameters.reject_unknown(POST_PARAMETERS)
    parameters.choice("source", ("zernio",), "zernio")
    status = parameters.choice("status", POST_STATUSES)
    order = parameters.choice("sortBy", POST_ORDERS, "scheduled-desc")
    page, limit = parameters.integer("page", 1, 1), parameters.integer("limit", 10, 1, MAX_POSTS)
    fields = parameters.choices("fields", POST_FIELDS)
    is_wanted = _account_filter(parameters)
    parameters.raise_errors()
    sort_key, is_descending = POST_ORDERS[order or "scheduled-desc"]
    posts = [
        post
        for post in world.posts
        if status in {None, post.status} and any(is_wanted(target.account) for target in post.targets.values())
    ]
    posts.sort(key=sort_key, reverse=is_descending)
    documents = [post.document() for post in posts[(page - 1) * limit : page * limit]]
    if fields:
        documents = [{name: document[name] for name in ("_id", *fields)} for document in documents]
    return {"posts": documents, "pagination": _pagination(page, limit, len(posts))}


def list_accounts(world: SimulatedWorld, parameters: QueryParameters, _now: float) -> JsonObject:
    """Return the response document of ``GET /v1/accounts``, in pages if there is a limit, or raise RequestRejected."""
    is_wanted = _account_filter(parameters)
    page = parameters.integer("page", 1, 1)
    limit = parameters.integer("limit", MAX_ACCOUNTS, 1, MAX_ACCOUNTS)
    parameters.raise_errors()
    accounts = [account for account in world.accounts if is_wanted(account)]
    answer: JsonObject = {"hasAnalyticsAccess": False}
    shown: Sequence[SimulatedAccount] = accounts
    if parameters.has("limit"):
        answer["pagination"] = _pagination(page, limit, len(accounts))
        shown = accounts[(page - 1) * limit : page * limit]
    return {"accounts": [_account_document(account, world.conditions) for account in shown], **answer}


def check_accounts(world: SimulatedWorld, parameters: QueryParameters, _now: float) -> JsonObject:
    """Return the response document of ``GET /v1/accounts/health``, or raise RequestRejected."""
    is_wanted = _account_filter(parameters)
    status = parameters.choice("status", HEALTH_STATUSES)
    parameters.raise_errors()
    documents = [_health_document(account, world.conditions) for account in world.accounts if is_wanted(account)]
    statuses = [document["status"] for document in documents]
    summary = {name: statuses.count(name) for name in HEALTH_STATUSES}
    summary |= {"total": len(documents), "needsReconnect": sum(document["needsReconnect"] for document in documents)}
    return {
        "summary": summary,
        "accounts": [document for document in documents if status in {None, document["status"]}],
    }


def list_webhooks(world: SimulatedWorld, _parameters: QueryParameters, _now: float) -> JsonObject:
    """Return the response document of ``GET /v1/webhooks/settings``."""
    is_disabled = world.conditions.find_incident("webhook-disabled") is not None
    return {"webhooks": [webhook.document(is_disabled=is_disabled) for webhook in world.webhooks]}


def show_billing(world: SimulatedWorld, _parameters: QueryParameters, now: float) -> JsonObject:
    """Return the response document of ``GET /v1/billing``."""
    suspension = world.conditions.find_incident("suspended")
    elapsed = now % BILLING_PERIOD
    spend_ratio = USUAL_SPEND_RATIO * elapsed / BILLING_PERIOD
    if world.conditions.find_incident("spend-cap"):
        spend_ratio = CAPPED_SPEND_RATIO
    return {
        "billingSystem": "metronome",
        "plan": {"name": "Usage-based", "isUsageBased": True, "isPaid": True},
        "period": {"start": timestamp(now - elapsed), "end": timestamp(now - elapsed + BILLING_PERIOD)},
        "balance": {
            "accruedThisPeriodCents": int(SPEND_LIMIT_CENTS * spend_ratio) + 600 * len(world.accounts),
            "creditsRemainingCents": 0,
        },
        "caps": {"xSpendUsedCents": int(SPEND_LIMIT_CENTS * spend_ratio), "xSpendLimitCents": SPEND_LIMIT_CENTS},
        "status": {
            "hasAccess": suspension is None,
            "suspended": suspension is not None,
            "suspendedAt": None if suspension is None else timestamp(suspension.since),
            "suspensionReason": None if suspension is None else "unpaid_invoice",
        },
    }


STATUS_ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/posts": list_posts,
    "/v1/accounts": list_accounts,
    "/v1/accounts/health": check_accounts,
    "/v1/webhooks/settings": list_webhooks,
    "/v1/billing": show_billing,
}


def _account_filter(parameters: QueryParameters) -> Callable[[SimulatedAccount], bool]:
    platform = parameters.choice("platform", PLATFORMS)
    account_id, profile_id = parameters.text("accountId"), parameters.text("profileId")

    def is_wanted(account: SimulatedAccount) -> bool:
        return (
            platform in {None, account.platform.name}
            and account_id in {"", account.id}
            and profile_id in {"", account.profile_id}
        )

    return is_wanted


def _pagination(page: int, limit: int, total: int) -> JsonObject:
    return {"page": page, "limit": limit, "total": total, "pages": -(-total // limit)}


def _account_document(account: SimulatedAccount, conditions: WorldConditions) -> JsonObject:
    cooldown = conditions.find_incident("account-cooldown", account)
    return {
        "_id": account.id,
        "platform": account.platform.name,
        "profileId": {"_id": account.profile_id, "name": account.display_name},
        "username": account.username,
        "displayName": account.display_name,
        "isActive": True,
        "enabled": True,
        "needsReconnection": account.id in conditions.disconnected_ids,
        "rateLimitedUntil": None if cooldown is None else timestamp(cooldown.until),
    }


def _health_document(account: SimulatedAccount, conditions: WorldConditions) -> JsonObject:
    is_connected = account.id not in conditions.disconnected_ids
    expires_at = conditions.token_expiries.get(account.id)
    return {
        "accountId": account.id,
        "platform": account.platform.name,
        "username": account.username,
        "displayName": account.display_name,
        "profileId": account.profile_id,
        "status": "healthy" if is_connected else "error",
        "canPost": is_connected,
        "canFetchAnalytics": is_connected,
        "tokenValid": is_connected,
        "tokenExpiresAt": None if expires_at is None else timestamp(expires_at),
        "needsReconnect": not is_connected,
        "issues": [] if is_connected else ["The access token was revoked. Please reconnect the account."],
    }

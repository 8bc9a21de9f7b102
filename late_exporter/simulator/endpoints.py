"""Endpoints of the simulated API: log lists of both generations, and the state of the workspace.

The lists of both generations are views of the same rows, which are stored with the names of
generation ``late``, also those of types that only ``zernio`` has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from http import HTTPStatus
from math import inf
from operator import attrgetter
from typing import Any, TypeVar

import msgspec

from late_exporter.simulator.accounts import SimulatedAccount, hashed_id
from late_exporter.simulator.log_list import DAY, JsonObject, LogList, LogRow, post_id, timestamp
from late_exporter.simulator.request import Request, RequestRejected
from late_exporter.simulator.world import Post

RowT = TypeVar("RowT", Post, SimulatedAccount)

STATUSES = ("success", "failed", "pending", "skipped")
LOG_TYPES = (
    "publishing", "connections", "webhooks", "messaging", "workflow_event", "api_request",
)  # fmt: skip
LOG_PLATFORMS = (
    "tiktok", "instagram", "whatsapp", "facebook", "youtube", "linkedin", "twitter", "threads",
    "pinterest", "reddit", "bluesky", "googlebusiness", "telegram", "snapchat",
)  # fmt: skip
"""Platforms by which ``GET /v1/logs`` filters."""

POST_STATUSES = (
    "draft", "pending_approval", "scheduled", "publishing",
    "published", "partial", "failed", "cancelled",
)  # fmt: skip
POST_ORDERS = (
    "scheduled-desc", "scheduled-asc", "created-desc", "created-asc", "status", "platform",
)  # fmt: skip
POST_PARAMETERS = (
    "page", "limit", "offset", "cursor", "fields", "source", "status", "platform", "profileId",
    "createdBy", "fromDate", "toDate", "dateFrom", "dateTo", "includeHidden", "search", "tags",
    "tag", "sortBy", "accountId",
)  # fmt: skip
"""Parameters of ``GET /v1/posts``, which rejects all others."""

LATE_DAYS = 7
ZERNIO_DAYS = 90
MAX_LIMIT = 100

ZERNIO_ACTIONS = {
    "publish": "post.published",
    "retry": "post.published",
    "cancelled": "post.cancelled",
    "connect_success": "account.connected",
    "connect_failed": "account.connected",
    "disconnect": "account.disconnected",
}
"""Documented actions of ``zernio`` by action or event of ``late``; others have the same name."""

COMMON_FIELDS = (
    "userId",
    "accountId",
    "profileId",
    "platform",
    "statusCode",
    "endpoint",
    "durationMs",
    "createdAt",
)
"""Fields of publishing and connection logs that ``zernio`` has in snake case."""

METADATA = ("attemptNumber", "connectionMethod", "tokenExpiresAt")
"""Fields of a log or of its result that ``zernio`` has in ``metadata``."""

RESULTS = ("response", "error", "success")
"""Fields of a log of which one has its result."""

FILTERS = ("platform", "action", "eventType", "accountId", "profileId")
"""Fields of rows by which the parameters of the same names select."""


def list_late_logs(log_type: str, request: Request) -> JsonObject:
    """Return the document of the list of a type in generation ``late``."""
    return _list_logs(request, request.source.lists[log_type], LATE_DAYS, dict)


def list_post_logs(request: Request, wanted_id: str) -> JsonObject:
    """Return the document of ``GET /v1/posts/{postId}/logs``."""
    limit = request.integer("limit", 50, 1, MAX_LIMIT)
    rows = request.source.publishing.rows
    logs = [{**row, "postId": wanted_id} for row in rows if post_id(row) == wanted_id][:limit]
    if not logs:
        raise RequestRejected(HTTPStatus.NOT_FOUND)
    return {"logs": logs, "count": len(logs), "postId": wanted_id}


def list_zernio_logs(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/logs``."""
    log_type = request.choice("type", LOG_TYPES) or "publishing"
    request.choice("platform", LOG_PLATFORMS)
    log_list = request.source.lists.get(log_type, LogList())
    return _list_logs(request, log_list, ZERNIO_DAYS, partial(render_log, log_type))


def _list_logs(
    request: Request, log_list: LogList, max_days: int, render: Callable[[LogRow], LogRow]
) -> JsonObject:
    """Return a page of the logs that a request selects."""
    limit = request.integer("limit", 50, 1, MAX_LIMIT)
    skip = request.integer("skip", 0, 0)
    oldest = request.now - DAY * request.integer("days", max_days, 1, max_days)
    status = request.choice("status", STATUSES)
    search = request.text("search")
    wanted = {name: request.text(name) for name in FILTERS}
    wanted = {name: value for name, value in wanted.items() if value}

    def matches(row: LogRow) -> bool:
        if status not in {"", _status(row)} or search not in repr(row):
            return False
        return not wanted or wanted.items() <= {**row, **render(row)}.items()

    rows = log_list.select(
        max(oldest, request.time("from", -inf)),
        request.time("to", inf),
        matches if status or wanted or search else None,
    )
    total = len(rows)
    return {
        "logs": [render(row) for row in rows[skip : skip + limit]],
        "pagination": {
            "total": total,
            "limit": limit,
            "skip": skip,
            "pages": -(-total // limit),
            "hasMore": skip + limit < total,
        },
    }


def render_log(log_type: str, row: LogRow) -> LogRow:
    """Return a stored row in the format of ``zernio``, without the fields that have no value."""
    if log_type not in {"publishing", "connections"}:
        return _without_nulls({_snake_case(name): value for name, value in row.items()})
    result: JsonObject = {}
    for name in RESULTS:
        if not result and isinstance(row.get(name), dict):
            result = row[name]
    response = result
    if "platformPostId" in result:
        response = {"id": result["platformPostId"], "url": result.get("platformPostUrl")}
    post = post_id(row)
    action = str(row.get("action", row.get("eventType")))
    metadata = {name: row.get(name, result.get(name)) for name in METADATA}
    metadata["postId"] = post
    metadata["accountUsername"] = row.get("accountUsername", result.get("username"))
    document = {
        "type": log_type,
        "action": ZERNIO_ACTIONS.get(action, action),
        "status": _status(row),
        **{_snake_case(name): row.get(name) for name in COMMON_FIELDS},
        "request_id": post and f"req_{post}",
        "error_message": result.get("errorMessage", result.get("message")),
        "error_code": result.get("errorCode", result.get("code")),
        "request_body": _to_text(row.get("request")),
        "response_body": _to_text(response),
        "metadata": _to_text(metadata),
    }
    return _without_nulls(document)


def _status(row: LogRow) -> Any:
    """Return the status of a row. That of a connection log follows from its event."""
    event = row.get("eventType")
    if event is None:
        return row.get("status")
    return "failed" if str(event).endswith("_failed") else "success"


@cache
def _snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name)


def _without_nulls(document: JsonObject) -> JsonObject:
    return {name: each for name, each in document.items() if each is not None}


def _to_text(value: Any) -> str | None:
    known = _without_nulls(value) if isinstance(value, dict) else value
    return msgspec.json.encode(known).decode() if known else None


MAX_PAGE_SIZE = 500
HEALTHY = {"status": "healthy", "canPost": True, "needsReconnect": False, "issues": []}

SPEND_CENTS = 30_000
SPEND_LIMIT_CENTS = 50_000
CREDIT_CENTS = 10_000

UPLOADS = 36_000
PLAN_LIMITS = {"uploads": 60_000, "profiles": 10}


def list_posts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/posts``, by scheduled time."""
    request.require_known(POST_PARAMETERS)
    world = request.world
    status = request.choice("status", POST_STATUSES)
    request.choice("sortBy", POST_ORDERS)
    fields = request.text("fields")

    def status_of(post: Post) -> str:
        status = str(post.reference["status"])
        if status == "scheduled":
            for account in post.statuses:
                status = world.shown_fields("scheduled post", account).get("status", status)
        return status

    def render(post: Post) -> JsonObject:
        document = {
            **post.reference,
            "status": status_of(post),
            "scheduledFor": post.scheduled_for,
            "createdAt": post.created_at,
            "platforms": [_render_target(post, account) for account in post.statuses],
        }
        document = _without_nulls(document)
        if fields:
            wanted = {"_id", *fields.split(",")}
            document = {name: value for name, value in document.items() if name in wanted}
        return document

    posts = [post for post in world.posts.values() if status in {"", status_of(post)}]
    page, pagination = _select_page(
        request, posts, lambda post: f"{post.scheduled_for or post.created_at} {post.id}"
    )
    return {"posts": [render(post) for post in page], "pagination": pagination}


def _render_target(post: Post, account: SimulatedAccount) -> JsonObject:
    target: JsonObject = {
        "platform": account.platform.name,
        "accountId": account.id,
        "status": post.statuses[account],
    }
    if account in post.links:
        target["platformPostUrl"] = post.links[account]
    if account in post.failures:
        failure = post.failures[account]
        target["errorMessage"] = failure.message
        target["errorCategory"] = failure.category
        target["errorSource"] = failure.source
    return target


def list_accounts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/accounts``, whose pages have a cursor."""

    def render(account: SimulatedAccount) -> JsonObject:
        return {
            "_id": account.id,
            "profileId": account.profile_id,
            "platform": account.platform.name,
            "username": account.username,
            "displayName": account.username.removeprefix("@"),
            "isActive": True,
            "rateLimitedUntil": None,
            **request.world.shown_fields("account", account),
        }

    page, pagination = _select_page(request, request.world.accounts, attrgetter("id"))
    return {
        "accounts": [render(account) for account in page],
        "pagination": {name: pagination[name] for name in ("limit", "nextCursor")},
        "hasAnalyticsAccess": False,
    }


def check_accounts(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/accounts/health``, which has no pages."""
    profile_id = request.text("profileId")
    accounts = []
    for account in request.world.accounts:
        if profile_id in {"", account.profile_id}:
            row = {
                "accountId": account.id,
                "platform": account.platform.name,
                "username": account.username,
                "profileId": account.profile_id,
                "tokenExpiresAt": timestamp(request.world.token_expiries[account.id]),
                **HEALTHY,
                **request.world.shown_fields("health", account),
            }
            accounts.append({**row, "tokenValid": not row["needsReconnect"]})
    return {"accounts": accounts}


def list_webhooks(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/webhooks/settings``.

    It has secrets, which a client must not keep.
    """
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
    shown = request.world.shown_fields
    balance = {
        "accruedThisPeriodCents": SPEND_CENTS,
        "creditsRemainingCents": CREDIT_CENTS,
        "spendableCents": CREDIT_CENTS,
    }
    caps = {"xSpendUsedCents": SPEND_CENTS, "xSpendLimitCents": SPEND_LIMIT_CENTS}
    status = {"hasAccess": True, "suspended": False, "suspendedAt": None, "suspensionReason": None}
    return {
        "balance": balance | shown("balance"),
        "caps": caps | shown("caps"),
        "status": status | shown("status"),
    }


def show_usage(request: Request) -> JsonObject:
    """Return the document of ``GET /v1/usage``."""
    usual = {"uploads": UPLOADS, "profiles": 5}
    return {
        "hasAccess": True,
        "limits": PLAN_LIMITS,
        "usage": {**usual, **request.world.shown_fields("usage")},
    }


def _select_page(
    request: Request, rows: Iterable[RowT], key: Callable[[RowT], str]
) -> tuple[list[RowT], JsonObject]:
    """Return a page of the rows of a profile, or of all, and its pagination.

    A cursor is the number of rows before a page.
    """
    profile_id = request.text("profileId")
    skip = request.integer("cursor", 0, 0)
    limit = request.integer("limit", 100, 1, MAX_PAGE_SIZE)
    selected = [row for row in rows if profile_id in {"", row.profile_id}]
    selected.sort(key=key, reverse=request.text("sortBy").endswith("-desc"))
    total = len(selected)
    end = skip + limit
    return selected[skip:end], {
        "page": 1,
        "limit": limit,
        "total": total,
        "pages": -(-total // limit),
        "nextCursor": str(end) if end < total else None,
    }

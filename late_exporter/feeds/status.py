"""Status feeds: endpoints that report what no log does, decoded to gauges of the present.

A refresh is a generator without I/O: it yields the requests of a feed, receives the response bodies, and returns the
gauges. Every field of a response may be missing, null or of another type; then only its own series is absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import msgspec

from late_exporter.errors import ApiError, BadPayload, BadRequest
from late_exporter.feeds.decoder import id_text, label_text, parse_integer, parse_millis
from late_exporter.feeds.limits import check_value_count, limit_depth
from late_exporter.model import UNKNOWN
from late_exporter.series import SetLatest
from late_exporter.status import AccountHealth, OverduePost

POST_STATUSES = ("scheduled", "publishing", "pending_approval", "failed", "published", "partial", "draft", "cancelled")
UNDOCUMENTED_FILTERS = frozenset({"publishing", "pending_approval", "partial", "cancelled"})
"""Statuses of posts that some descriptions of the API lack among the values of its filter."""

HEALTH_STATUSES = ("healthy", "warning", "error")
ACCOUNTS_PER_PAGE = 100
MAX_CURSOR_LENGTH = 1024

MAX_BYTES = 2 * 1024**2
"""Maximum size of a response; parts of it are kept while further ones are requested."""

MAX_WEBHOOKS = 50
"""Webhooks that the API allows to a user."""

OVERDUE_SECONDS = MappingProxyType({"scheduled": 300, "publishing": 3600, "pending_approval": 300})
"""Statuses of posts that something still has to happen to, and the seconds after which such a post is overdue."""

MAX_TARGETS = 5
"""Accounts of a post that are named."""

ACCOUNT_INFO = "late_account_info"
NEEDS_RECONNECT = "late_account_needs_reconnect"
COOLDOWN_UNTIL = "late_account_cooldown_until_timestamp_seconds"
WEBHOOK_ACTIVE = "late_webhook_active"
WORKSPACE_ACTIVE = "late_workspace_active"

FIELDS = frozenset({
    "posts", "pagination", "total", "pages", "nextCursor", "status", "scheduledFor", "createdAt", "title", "content",
    "platforms", "accounts", "accountId", "_id", "platform", "username", "canPost", "needsReconnect", "tokenExpiresAt",
    "rateLimitedUntil", "webhooks", "name", "isActive", "failureCount", "lastFiredAt", "hasAccess", "suspended", "caps",
    "xSpendUsedCents", "xSpendLimitCents",
})  # fmt: skip
"""The fields that are read; no others are kept, so that no secret of a webhook gets any further."""

_Object: TypeAlias = Mapping[str, Any]


class StatusRequest(NamedTuple):
    """A GET request of a status feed."""

    path: str
    params: Mapping[str, str | int] = MappingProxyType({})


class RefreshContext(msgspec.Struct, frozen=True, kw_only=True):
    """Circumstances of a refresh.

    Args:
        workspace: First label of the gauges.
        now: Time of the refresh in milliseconds.
        max_accounts: Maximum number of accounts with gauges.
        rejected_values: Values of filters that the API has rejected, which are left out; the refresh adds to them.
        overdue_posts: The refresh adds posts to them.
    """

    workspace: str
    now: int
    max_accounts: int
    rejected_values: set[str]
    overdue_posts: list[OverduePost] = msgspec.field(default_factory=list)

    def gauge(self, family: str, value: float | str, *labels: str) -> SetLatest:
        return SetLatest(family, (self.workspace, *labels), at=self.now, value=value)


Refresh: TypeAlias = Generator[StatusRequest, bytes, list[SetLatest]]


class StatusFeed(msgspec.Struct, frozen=True, kw_only=True):
    """A status feed.

    Args:
        name: Value of the label ``feed``.
        refresh: Return the requests and gauges of a refresh; an ApiError may be thrown in.
        max_requests: Requests of a refresh that fit its interval; one that takes more is repeated later.
        has_accounts: Whether all of its gauges are about accounts.
        has_profiles: Whether the API can limit it to a profile.
    """

    name: str
    refresh: Callable[[RefreshContext], Refresh]
    max_requests: int = 1
    has_accounts: bool = False
    has_profiles: bool = False


def refresh_posts(context: RefreshContext) -> Refresh:
    gauges: list[SetLatest] = []
    rejection: ApiError | None = None
    for status in POST_STATUSES:
        if status in context.rejected_values:
            continue
        try:
            body = yield StatusRequest("/v1/posts", {"status": status, "sortBy": "scheduled-asc", "limit": 1})
        except BadRequest as exc:
            rejection = exc
            context.rejected_values.add(status)
            continue
        response = _load(body)
        if "posts" not in response and "pagination" not in response:
            raise BadPayload("the response has neither posts nor their number")
        post = next(_objects(response.get("posts")), {})
        if status in UNDOCUMENTED_FILTERS and (_text(post.get("status")) or status) != status:
            context.rejected_values.add(status)  # The API has ignored the filter.
            continue
        gauges += _post_gauges(context, status, response, post)
    if context.rejected_values.issuperset(POST_STATUSES):
        context.rejected_values.clear()
        raise rejection or BadPayload("the API does not filter posts by status")
    return gauges


def _post_gauges(context: RefreshContext, status: str, response: _Object, post: _Object) -> Iterator[SetLatest]:
    total = _amount(_object(response.get("pagination")).get("total"))
    if total is not None:
        yield context.gauge("late_posts", total, status)
    scheduled_at = _time(post.get("scheduledFor"))
    is_unscheduled = status == "publishing" and scheduled_at is None
    due_at = _time(post.get("createdAt")) if is_unscheduled else scheduled_at
    if status not in OVERDUE_SECONDS or due_at is None:
        return
    yield context.gauge(f"late_posts_oldest_{status}_timestamp_seconds", due_at)
    if context.now / 1000 - due_at > OVERDUE_SECONDS[status]:
        post_id, title = _text(post.get("_id")), _text(post.get("title")) or _text(post.get("content"))
        targets = [_target(each) for each in _objects(post.get("platforms"))][:MAX_TARGETS]
        context.overdue_posts.append(OverduePost(status, due_at, post_id or UNKNOWN, title or "", tuple(targets)))


def _target(row: _Object) -> AccountHealth:
    """Return an account to which a post is published; the API may embed it in place of its id."""
    account = row.get("accountId")
    account_id = _text(_object(account).get("_id")) or _text(account)
    return AccountHealth(platform=label_text(_text(row.get("platform"))), account_id=account_id or UNKNOWN)


def refresh_accounts(context: RefreshContext) -> Refresh:
    response = _load((yield StatusRequest("/v1/accounts/health")))
    rows = {_account_labels(row, "accountId"): row for row in _rows(response, "accounts")}
    return [
        gauge for labels, row in rows.items() if labels is not None for gauge in _account_gauges(context, labels, row)
    ]


def _account_gauges(context: RefreshContext, labels: tuple[str, str], row: _Object) -> Iterator[SetLatest]:
    health, username = _text(row.get("status")), _text(row.get("username"))
    needs_reconnect = _flag(row.get("needsReconnect"))
    values = {
        ACCOUNT_INFO: username,
        "late_account_can_post": _flag(row.get("canPost")),
        NEEDS_RECONNECT: needs_reconnect,
        # The documentation says that an invalid token alone does not disconnect an account.
        "late_account_connected": None if needs_reconnect is None else not needs_reconnect,
        "late_account_token_expiry_timestamp_seconds": _time(row.get("tokenExpiresAt")),
    }
    if health is not None:
        yield context.gauge("late_account_health", 1, *labels, health)
    for family, value in values.items():
        if value is not None:
            yield context.gauge(family, int(value) if isinstance(value, bool) else value, *labels)


def refresh_cooldowns(context: RefreshContext) -> Refresh:
    cooldowns: dict[tuple[str, str], float | None] = {}
    place: Mapping[str, str | int] = {}  # Without a page the API continues by cursors, which no removed account shifts.
    for page in range(1, math.ceil(context.max_accounts / ACCOUNTS_PER_PAGE) + 1):
        try:
            body = yield StatusRequest("/v1/accounts", {"limit": ACCOUNTS_PER_PAGE, **place})
        except BadRequest:
            if page == 1:
                raise
            break  # The API rejects pages behind the last one.
        response = _load(body)
        rows, previous_count = list(_rows(response, "accounts")), len(cooldowns)
        for row in rows:
            labels = _account_labels(row, "_id")
            if labels is not None:
                cooldowns[labels] = _time(row.get("rateLimitedUntil"))
        place = _next_page(_object(response.get("pagination")), page, len(rows))
        if not place or len(cooldowns) == previous_count:
            break
    return [context.gauge(COOLDOWN_UNTIL, until, *labels) for labels, until in cooldowns.items() if until is not None]


def _next_page(pagination: _Object, page: int, row_count: int) -> Mapping[str, str | int]:
    """Return the parameters of the page after one; none if that was the last."""
    cursor, page_count = pagination.get("nextCursor"), _amount(pagination.get("pages"))
    if isinstance(cursor, str) and cursor:
        return {"cursor": id_text(cursor, MAX_CURSOR_LENGTH)}
    is_last = row_count < ACCOUNTS_PER_PAGE if page_count is None else page >= page_count
    return {} if is_last or "nextCursor" in pagination else {"page": page + 1}


def refresh_webhooks(context: RefreshContext) -> Refresh:
    response = _load((yield StatusRequest("/v1/webhooks/settings")))
    gauges = []
    for label, row in _webhooks_by_label(list(_rows(response, "webhooks"))[:MAX_WEBHOOKS]).items():
        values = {
            WEBHOOK_ACTIVE: _flag(row.get("isActive")),
            "late_webhook_consecutive_failures": _amount(row.get("failureCount")),
            "late_webhook_last_fired_timestamp_seconds": _time(row.get("lastFiredAt")),
        }
        gauges += [context.gauge(name, float(value), label) for name, value in values.items() if value is not None]
    return gauges


def _webhooks_by_label(rows: list[_Object]) -> Mapping[str, _Object]:
    """Return the webhooks by a unique label: the name, with the id if several have that name."""
    names = [_webhook_name(row) for row in rows]
    webhooks: dict[str, _Object] = {}
    for number, (name, row) in enumerate(zip(names, rows, strict=True), 1):
        is_unique = names.count(name) == 1
        label = name if is_unique else f"{name} ({label_text(_text(row.get('_id')) or str(number))})"
        webhooks[label if label not in webhooks else f"{label} ({number})"] = row
    return webhooks


def _webhook_name(row: _Object) -> str:
    """Return the name of a webhook; if it is a URL, only its host, because the rest may be a secret."""
    name = _text(row.get("name")) or _text(row.get("_id")) or ""
    if "://" in name:
        authority = name.partition("://")[2].replace("?", "/").replace("#", "/").partition("/")[0]
        name = authority.rpartition("@")[2]
    return label_text(name)


def refresh_billing(context: RefreshContext) -> Refresh:
    response = _load((yield StatusRequest("/v1/billing")))
    status, caps = _object(response.get("status")), _object(response.get("caps"))
    has_access, is_suspended = _flag(status.get("hasAccess")), _flag(status.get("suspended"))
    used_cents, limit_cents = _amount(caps.get("xSpendUsedCents")), _amount(caps.get("xSpendLimitCents"))
    gauges = []
    if has_access is not None or is_suspended:
        gauges.append(context.gauge(WORKSPACE_ACTIVE, int(bool(has_access) and not is_suspended)))
    if used_cents is not None and limit_cents:
        gauges.append(context.gauge("late_workspace_spend_ratio", used_cents / limit_cents, "x"))
    return gauges


def _load(body: bytes) -> _Object:
    """Decode a response; of every object in it only the FIELDS are kept."""
    if len(body) > MAX_BYTES:
        raise BadPayload(f"the response is larger than {MAX_BYTES // 1024**2} MiB")
    check_value_count(body)
    try:
        try:
            response = _loads(body)
        except RecursionError:
            response = _loads(limit_depth(body))
    except ValueError:
        raise BadPayload("the response is not JSON") from None
    if not isinstance(response, dict):
        raise BadPayload("the response is not an object")
    return response


def _loads(body: bytes) -> Any:
    def select(pairs: list[tuple[str, Any]]) -> _Object:
        return {name: value for name, value in pairs if name in FIELDS}

    return json.loads(body.decode("utf-8", "replace"), object_pairs_hook=select, parse_int=parse_integer)


def _rows(response: _Object, name: str) -> Iterator[_Object]:
    if not isinstance(response.get(name), list):
        raise BadPayload(f"the response has no list of {name}")
    return _objects(response[name])


def _objects(value: object) -> Iterator[_Object]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _object(value: object) -> _Object:
    return value if isinstance(value, dict) else {}


def _account_labels(row: _Object, id_field: str) -> tuple[str, str] | None:
    account_id = _text(row.get(id_field))
    return None if account_id is None else (label_text(_text(row.get("platform"))), account_id)


def _text(value: object) -> str | None:
    return label_text(value) if isinstance(value, str) and value else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _amount(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 <= value < math.inf else None  # type: ignore[operator, return-value]


def _time(value: object) -> float | None:
    millis = parse_millis(value) if isinstance(value, str) else None
    return None if millis is None else millis / 1000


_FEEDS = (
    StatusFeed(name="posts", refresh=refresh_posts, max_requests=len(POST_STATUSES), has_profiles=True),
    StatusFeed(name="accounts", refresh=refresh_accounts, has_accounts=True, has_profiles=True),
    StatusFeed(name="cooldowns", refresh=refresh_cooldowns, max_requests=2, has_accounts=True, has_profiles=True),
    StatusFeed(name="webhooks", refresh=refresh_webhooks),
    StatusFeed(name="billing", refresh=refresh_billing),
)

STATUS_FEEDS: Mapping[str, StatusFeed] = MappingProxyType({feed.name: feed for feed in _FEEDS})

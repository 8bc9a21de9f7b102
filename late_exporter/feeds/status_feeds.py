"""Status feeds: endpoints that report what no log does, decoded to gauges of the present.

A refresh is a generator without I/O: it yields the requests of a feed, receives the response
bodies, and returns the gauges. Every field of a response may be missing, null or of another type;
then only its own series is absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import msgspec

from late_exporter.errors import ApiError, BadPayload, BadRequest, EndpointNotFound, Forbidden
from late_exporter.feeds.decoder import (
    LABEL_LENGTH,
    id_text,
    label_text,
    load_object,
    parse_millis,
    read_nested,
)
from late_exporter.feeds.posts import due_time, waiting_targets
from late_exporter.health import Condition
from late_exporter.model import UNKNOWN
from late_exporter.series import LatestValue, Series, SetLatest
from late_exporter.thresholds import DAY, USAGE_RATIO

POST_STATUSES = (
    "scheduled",
    "publishing",
    "pending_approval",
    "failed",
    "published",
    "partial",
    "draft",
    "cancelled",
)
HEALTH_STATUSES = ("healthy", "warning", "error")
BILLING_PATHS = ("/v1/billing", "/v1/usage")
ACCOUNTS_PER_PAGE = 100
MAX_CURSOR_LENGTH = 1024

MAX_WEBHOOKS = 50
"""Webhooks that the API allows to a user."""

OVERDUE_SECONDS = MappingProxyType({"scheduled": 300, "publishing": 3600, "pending_approval": 300})
"""Statuses of unfinished posts, and the seconds after which such a post is overdue."""

MAX_TARGETS = 5
"""Accounts of a post that are named."""

MAX_NAME_LENGTH = 40
MAX_TEXT_LENGTH = 200

INTERNAL_PLATFORMS = ("sms", "phone")
"""Platforms whose accounts are those behind phone numbers, to which nothing is posted."""

TOKEN_SECONDS = 14 * DAY
"""Time before its expiry from which a token is reported, unless the API renews it."""

ACCOUNT_INFO = "late_account_info"
EXPIRY = "late_account_token_expiry_timestamp_seconds"

FIELDS = frozenset({
    "posts", "pagination", "total", "nextCursor", "status", "scheduledFor", "createdAt", "title",
    "content", "platforms", "accounts", "accountId", "_id", "platform", "username", "canPost",
    "needsReconnect", "tokenExpiresAt", "issues", "enabled", "platformStatus",
    "platformStatusReason", "rateLimitedUntil", "webhooks", "name", "isActive", "failureCount",
    "lastFiredAt", "hasAccess", "suspended", "caps", "xSpendUsedCents", "xSpendLimitCents",
    "balance", "spendableCents", "limits", "usage", "uploads", "profiles",
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
        rejected_values: Values of filters that the API has rejected, which are left out; the
            refresh adds to them.
        previous: Gauges of the last refreshes of all feeds; one that has not changed keeps its
            time.
    """

    workspace: str
    now: int
    max_accounts: int
    rejected_values: set[str]
    previous: Mapping[Series, LatestValue] = MappingProxyType({})

    def gauge(self, family: str, value: float | str, *labels: str) -> SetLatest:
        series = (family, (self.workspace, *labels))
        previous = self.previous.get(series)
        return SetLatest(
            *series,
            at=previous.at if previous and previous.value == value else self.now,
            value=value,
        )

    def gauges(self, values: Mapping[str, float | str | None], *labels: str) -> list[SetLatest]:
        """Return gauges of some families, except those without a value."""
        return [
            self.gauge(family, value, *labels)
            for family, value in values.items()
            if value is not None
        ]


Report: TypeAlias = SetLatest | Condition
Refresh: TypeAlias = Generator[StatusRequest, bytes, list[Report]]


class StatusFeed(msgspec.Struct, frozen=True, kw_only=True):
    """A status feed.

    Args:
        name: Value of the label ``feed``.
        refresh: Yield the requests of a refresh, and return its gauges and conditions; an ApiError
            may be thrown in.
        max_requests: Requests of a refresh that fit its interval; one that takes more is repeated
            later.
        has_profiles: Whether the API can limit it to a profile.
    """

    name: str
    refresh: Callable[[RefreshContext], Refresh]
    max_requests: int = 1
    has_profiles: bool = False


def refresh_posts(context: RefreshContext) -> Refresh:
    reports: list[Report] = []
    rejection: ApiError | None = None
    for status in POST_STATUSES:
        if status in context.rejected_values:
            continue
        try:
            body = yield StatusRequest(
                "/v1/posts", {"status": status, "sortBy": "scheduled-asc", "limit": 1}
            )
        except BadRequest as exc:
            rejection = exc
            context.rejected_values.add(status)
            continue
        response = _load(body)
        if "posts" not in response and "pagination" not in response:
            raise BadPayload("the response has neither posts nor their number")
        post = next(objects_in(response.get("posts")), {})
        if (_text(post.get("status")) or status) != status:
            context.rejected_values.add(status)  # The API has ignored the filter.
            continue
        reports += _post_reports(context, status, response, post)
    if context.rejected_values.issuperset(POST_STATUSES):
        context.rejected_values.clear()
        raise rejection or BadPayload("the API does not filter posts by status")
    return reports


def _post_reports(
    context: RefreshContext, status: str, response: _Object, post: _Object
) -> Iterator[Report]:
    yield from context.gauges(
        {"late_posts": _amount(_object(response.get("pagination")).get("total"))}, status
    )
    due_at = due_time(post)
    if status not in OVERDUE_SECONDS or due_at is None:
        return
    yield context.gauge(f"late_posts_oldest_{status}_timestamp_seconds", due_at)
    if context.now / 1000 - due_at > OVERDUE_SECONDS[status]:
        yield _overdue_post(context, status, post, due_at)


def _overdue_post(context: RefreshContext, status: str, post: _Object, due_at: float) -> Condition:
    post_id = _text(post.get("_id")) or UNKNOWN
    title = _short(_text(post.get("title")) or _text(post.get("content")) or "")
    targets = ", ".join(
        _target(context, each) for each in waiting_targets(post)[:MAX_TARGETS] if each
    )
    name = f"{post_id}{title and f' “{title}”'}{targets and f' for {targets}'}"
    return Condition(status, name, due_at, post_id)


def _target(context: RefreshContext, row: _Object) -> str:
    """Return the name of an account of a post; the API may embed it in place of its id."""
    account = row.get("accountId")
    account_id = _text(_object(account).get("_id")) or _text(account) or UNKNOWN
    labels = label_text(_text(row.get("platform"))), account_id
    info = context.previous.get((ACCOUNT_INFO, (context.workspace, *labels)))
    return _account_name(labels, str(info.value) if info else None)


def _account_name(labels: tuple[str, str], username: str | None) -> str:
    return f"{_short(username or labels[1])} ({_short(labels[0])})"


def _short(name: str) -> str:
    """Return a name or a caption, with an ellipsis in place of what is too long."""
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}…"


def refresh_accounts(context: RefreshContext) -> Refresh:
    accounts = yield from _read_accounts(math.ceil(context.max_accounts / ACCOUNTS_PER_PAGE))
    for row in rows_of(_load((yield StatusRequest("/v1/accounts/health"))), "accounts"):
        account_id = _text(row.get("accountId"))
        accounts[account_id] = {**accounts.get(account_id, {}), **row}
    reports: list[Report] = []
    for account_id, account in accounts.items():
        platform = label_text(_text(account.get("platform")))
        if (
            account_id is not None
            and account.get("enabled") is not False
            and platform not in INTERNAL_PLATFORMS
        ):
            reports += _account_reports(context, (platform, account_id), account)
    return reports


def _read_accounts(page_count: int) -> Generator[StatusRequest, bytes, dict[str | None, _Object]]:
    """Return the small fields of accounts by id, which are kept while pages are requested."""
    accounts: dict[str | None, _Object] = {}
    cursor: Mapping[str, str] = {}  # Accounts that are removed meanwhile do not shift it.
    for _ in range(page_count):
        response = _load(
            (yield StatusRequest("/v1/accounts", {"limit": ACCOUNTS_PER_PAGE, **cursor}))
        )
        for row in islice(rows_of(response, "accounts"), ACCOUNTS_PER_PAGE):
            accounts[_text(row.get("_id"))] = {
                name: value for name, value in row.items() if _is_small(value)
            }
        next_cursor = _object(response.get("pagination")).get("nextCursor")
        if not (isinstance(next_cursor, str) and next_cursor):
            break
        cursor = {"cursor": id_text(next_cursor, MAX_CURSOR_LENGTH)}
    return accounts


def _is_small(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and len(value) <= LABEL_LENGTH)


def _account_reports(
    context: RefreshContext, labels: tuple[str, str], row: _Object
) -> Iterator[Report]:
    health = _text(row.get("status"))
    username = _text(row.get("username"))
    needs_reconnect = _flag(row.get("needsReconnect"))
    can_post = 0 if row.get("platformStatus") == "suspended" else _flag(row.get("canPost"))
    expires_at = _time(row.get("tokenExpiresAt"))
    cooldown_until = _time(row.get("rateLimitedUntil"))
    if health is not None:
        yield context.gauge("late_account_health", 1, *labels, health)
    values = {
        ACCOUNT_INFO: username,
        "late_account_can_post": can_post,
        "late_account_needs_reconnect": needs_reconnect,
        # The documentation says that an invalid token alone does not disconnect an account.
        "late_account_connected": None if needs_reconnect is None else 1 - needs_reconnect,
        EXPIRY: expires_at,
        "late_account_cooldown_until_timestamp_seconds": cooldown_until,
    }
    yield from context.gauges(values, *labels)
    condition = partial(Condition, name=_account_name(labels, username), subject=labels[1])
    if needs_reconnect:
        yield condition("reconnect")
    elif can_post == 0:
        texts = map(_text, (row.get("platformStatusReason"), *_items(row.get("issues"))))
        yield condition("blocked", text="; ".join(filter(None, texts))[:MAX_TEXT_LENGTH])
    if cooldown_until is not None and cooldown_until > context.now / 1000:
        yield condition("cooldown", at=cooldown_until)
    if expires_at is not None and _is_expiring(context, labels, expires_at):
        yield condition("token", at=expires_at)


def _is_expiring(context: RefreshContext, labels: tuple[str, str], expires_at: float) -> bool:
    now = context.now / 1000
    known_since = context.gauge(EXPIRY, expires_at, *labels).at / 1000
    return expires_at < now + TOKEN_SECONDS and (expires_at > now + DAY or known_since < now - DAY)


def refresh_webhooks(context: RefreshContext) -> Refresh:
    response = _load((yield StatusRequest("/v1/webhooks/settings")))
    reports: list[Report] = []
    for label, row in _webhooks_by_label(
        list(rows_of(response, "webhooks"))[:MAX_WEBHOOKS]
    ).items():
        values = {
            "late_webhook_active": _flag(row.get("isActive")),
            "late_webhook_consecutive_failures": _amount(row.get("failureCount")),
            "late_webhook_last_fired_timestamp_seconds": _time(row.get("lastFiredAt")),
        }
        reports += context.gauges(values, label)
        if row.get("isActive") is False:
            reports.append(Condition("webhook", label))
    return reports


def _webhooks_by_label(rows: list[_Object]) -> Mapping[str, _Object]:
    """Return the webhooks by a unique label: the name, with the id if several have that name."""
    names = [_webhook_name(row) for row in rows]
    return {
        name if names.count(name) == 1 else f"{name} ({_text(row.get('_id'))})": row
        for name, row in zip(names, rows, strict=True)
    }


def _webhook_name(row: _Object) -> str:
    """Return the name of a webhook; of a URL only the host, because the rest may be secret."""
    name = _text(row.get("name")) or _text(row.get("_id")) or ""
    if "://" in name:
        authority = name.partition("://")[2].replace("?", "/").replace("#", "/").partition("/")[0]
        name = authority.rpartition("@")[2]
    return label_text(name)


def refresh_billing(context: RefreshContext) -> Refresh:
    response: dict[str, Any] = {}
    errors: list[ApiError] = []
    for path in BILLING_PATHS:
        try:
            response |= _load((yield StatusRequest(path)))
        except (EndpointNotFound, Forbidden) as exc:
            errors.append(exc)
    if len(errors) == len(BILLING_PATHS):
        raise errors[0]
    return list(_plan_reports(context, response))


def _plan_reports(context: RefreshContext, response: _Object) -> Iterator[Report]:
    status = _object(response.get("status"))
    caps = _object(response.get("caps"))
    limits = _object(response.get("limits"))
    usage = _object(response.get("usage"))
    has_access = _flag(status.get("hasAccess", response.get("hasAccess")))
    is_active = 0 if _flag(status.get("suspended")) else has_access
    yield from context.gauges({"late_workspace_active": is_active})
    if is_active == 0:
        yield Condition("inactive")
    shares = [
        ("usage", each, each, usage.get(each), limits.get(each)) for each in ("uploads", "profiles")
    ]
    shares.append(
        (
            "spend",
            "x",
            "spending limit for x",
            caps.get("xSpendUsedCents"),
            caps.get("xSpendLimitCents"),
        )
    )
    for family, kind, name, used, limit in shares:
        amount = _amount(used)
        maximum = _amount(limit)
        if amount is not None and maximum:
            yield context.gauge(f"late_workspace_{family}_ratio", amount / maximum, kind)
            is_near = amount >= USAGE_RATIO * maximum
            yield Condition("limit" if is_near else "plan", f"{amount / maximum:.0%} of the {name}")
    balance = _number(_object(response.get("balance")).get("spendableCents"))
    if balance is not None:
        yield context.gauge("late_workspace_balance_cents", balance)
        yield Condition(
            "plan" if balance > 0 else "balance", f"{balance / 100:,.2f} USD left to spend"
        )


def _load(body: bytes) -> _Object:
    """Decode a response; of every object in it only the FIELDS with a value are kept."""
    try:
        return read_nested(body, partial(load_object, select=_select))
    except BadPayload:  # The message may have an excerpt.
        raise BadPayload("the response is not an object in JSON") from None


def _select(pairs: list[tuple[str, Any]]) -> _Object:
    return {name: value for name, value in pairs if name in FIELDS and value is not None}


def rows_of(response: _Object, name: str) -> Iterator[_Object]:
    """Return the objects of a list in a response; raise BadPayload if it has none."""
    if not isinstance(response.get(name), list):
        raise BadPayload(f"the response has no list of {name}")
    return objects_in(response[name])


def _items(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def objects_in(value: object) -> Iterator[_Object]:
    """Return the objects of a value that should be a list of them."""
    return (item for item in _items(value) if isinstance(item, dict))


def _object(value: object) -> _Object:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return label_text(value) if isinstance(value, str) and value else None


def _flag(value: object) -> int | None:
    """Return 1 for true and 0 for false."""
    return int(value) if isinstance(value, bool) else None


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and -math.inf < value < math.inf else None  # type: ignore[operator, return-value]


def _amount(value: object) -> float | None:
    number = _number(value)
    return None if number is None or number < 0 else number


def _time(value: object) -> float | None:
    millis = parse_millis(value) if isinstance(value, str) else None
    return None if millis is None else millis / 1000


_FEEDS = (
    # Before the posts, which name their accounts.
    StatusFeed(name="accounts", refresh=refresh_accounts, max_requests=3, has_profiles=True),
    StatusFeed(
        name="posts", refresh=refresh_posts, max_requests=len(POST_STATUSES), has_profiles=True
    ),
    StatusFeed(name="webhooks", refresh=refresh_webhooks),
    StatusFeed(name="billing", refresh=refresh_billing, max_requests=len(BILLING_PATHS)),
)

STATUS_FEEDS: Mapping[str, StatusFeed] = MappingProxyType({feed.name: feed for feed in _FEEDS})

"""Accounts, ``GET /v1/accounts`` and ``/v1/accounts/health``: which can publish, and how long."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from itertools import islice

import msgspec

from late_exporter.feeds.status_feeds.refresh import (
    MAX_ID_LENGTH,
    MAX_TEXT_LENGTH,
    AccountList,
    AccountState,
    Fields,
    Refresh,
    RefreshContext,
    Report,
    StatusFeed,
    StatusRequest,
    account_name,
    parse_response,
)
from late_exporter.feeds.vocabulary import ADS_PLATFORMS
from late_exporter.health import Condition
from late_exporter.model import UNKNOWN
from late_exporter.thresholds import DAY

PAGE_SIZE = 500
"""Accounts per page; the most that the API returns."""

MAX_CURSOR_LENGTH = 1024

MAX_HEALTH_ROWS = 5000
"""Accounts whose health is read; what exceeds ``--metrics.max-accounts`` is counted as overflow."""

INTERNAL_PLATFORMS = ("phone", "sms")
"""Platforms whose accounts are those behind phone numbers, which need no attention."""

PLATFORMS_WITHOUT_POSTS = frozenset({*ADS_PLATFORMS, "googleanalytics", "hubspot"})
"""Platforms to which nothing is posted, whatever the API says of their accounts."""

TOKEN_SECONDS = 14 * DAY
"""Time before its expiry from which a token is reported, unless the API renews it."""

EXPIRY = "late_account_token_expiry_timestamp_seconds"


class _Account(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An account, as far as one of the two lists knows it; times are in Unix seconds."""

    platform: str | None = None
    username: str | None = None
    profile_id: str | None = None
    is_active: bool | None = None
    is_enabled: bool | None = None
    is_suspended: bool = False
    suspension_reason: str | None = None
    cooldown_until: float | None = None
    health: str | None = None
    can_post: bool | None = None
    needs_reconnect: bool | None = None
    token_expires_at: float | None = None
    issues: tuple[str, ...] = ()


def refresh(context: RefreshContext) -> Refresh:
    accounts, has_all = yield from _read_accounts(context)
    response = parse_response((yield StatusRequest("/v1/accounts/health")))
    for row in islice(response.required_objects("accounts"), MAX_HEALTH_ROWS):
        account_id = row.text("accountId")
        if account_id is not None:
            accounts[account_id] = _with_health(accounts.get(account_id, _Account()), row)

    reports: list[Report] = []
    states: dict[str, AccountState] = {}
    for account_id, account in accounts.items():
        platform = account.platform or UNKNOWN
        name = account_name(platform, account.username or account_id)
        is_hidden = _is_hidden(account)
        is_known = len(states) < context.max_accounts
        if is_known:
            risk = "" if is_hidden else _risk(account)
            states[account_id] = AccountState(name, risk, account.cooldown_until or 0.0)
        if is_hidden:
            continue
        reports += _account_gauges(context, account, platform, account_id)
        if is_known:
            reports += _account_conditions(context, account, (platform, account_id), name)

    # Posts may have targets of other profiles, whose accounts are not in the list.
    is_complete = has_all and 0 < len(accounts) == len(states) and not context.has_profile
    return [*reports, AccountList(states, is_complete)]


def _read_accounts(
    context: RefreshContext,
) -> Generator[StatusRequest, bytes, tuple[dict[str, _Account], bool]]:
    """Return the listed accounts by their ids, and whether these are all."""
    accounts: dict[str, _Account] = {}
    cursor = ""  # Accounts that are removed meanwhile do not shift it.
    for _ in range(math.ceil(context.max_accounts / PAGE_SIZE)):
        params: dict[str, str | int] = {"limit": PAGE_SIZE}
        if cursor:
            params["cursor"] = cursor
        response = parse_response((yield StatusRequest("/v1/accounts", params)))
        for row in islice(response.required_objects("accounts"), PAGE_SIZE):
            account_id = row.text("_id")
            if account_id is not None:
                accounts[account_id] = _parse_listed(row)
        cursor = response.object("pagination").raw_text("nextCursor")[:MAX_CURSOR_LENGTH]
        if not cursor:
            return accounts, True
    return accounts, False


def _parse_listed(row: Fields) -> _Account:
    return _Account(
        platform=row.text("platform"),
        username=row.text("username"),
        profile_id=row.id("profileId"),
        is_active=row.flag("isActive"),
        is_enabled=row.flag("enabled"),
        is_suspended=row.text("platformStatus") == "suspended",
        suspension_reason=row.text("platformStatusReason"),
        cooldown_until=row.time("rateLimitedUntil"),
    )


def _with_health(account: _Account, row: Fields) -> _Account:
    """Return an account with its health, which has newer names."""
    return msgspec.structs.replace(
        account,
        platform=row.text("platform") or account.platform,
        username=row.text("username") or account.username,
        profile_id=row.id("profileId") or account.profile_id,
        health=row.text("status"),
        can_post=row.flag("canPost"),
        needs_reconnect=row.flag("needsReconnect"),
        token_expires_at=row.time("tokenExpiresAt"),
        issues=tuple(row.texts("issues")),
    )


def _is_hidden(account: _Account) -> bool:
    """Return whether an account needs no attention: it is switched off, or internal."""
    if account.platform in INTERNAL_PLATFORMS:
        return True
    # An account for ads keeps working, whatever its switch says.
    return account.is_enabled is False and account.platform not in ADS_PLATFORMS


def _can_post(account: _Account) -> bool | None:
    if account.platform in PLATFORMS_WITHOUT_POSTS:
        return None
    return False if account.is_suspended else account.can_post


def _risk(account: _Account) -> str:
    """Return why nothing can be published to an account, as in ``posts.RISKS``; empty if it can."""
    if account.is_active is False:
        return "disconnected"
    if account.needs_reconnect:
        return "reconnect"
    return "blocked" if _can_post(account) is False else ""


def _account_gauges(context: RefreshContext, account: _Account, *labels: str) -> Iterator[Report]:
    if account.health is not None:
        yield context.gauge("late_account_health", 1, *labels, account.health)
    if account.username is not None:
        names = (account.username, account.profile_id or UNKNOWN)
        yield context.gauge("late_account_info", names, *labels)
    # The documentation says that an invalid token alone does not disconnect an account.
    is_connected = None if account.needs_reconnect is None else not account.needs_reconnect
    flags = {
        "late_account_can_post": _can_post(account),
        "late_account_needs_reconnect": account.needs_reconnect,
        "late_account_connected": is_connected,
    }
    times = {
        EXPIRY: account.token_expires_at,
        "late_account_cooldown_until_timestamp_seconds": account.cooldown_until,
    }
    yield from context.gauges({**flags, **times}, *labels)


def _account_conditions(
    context: RefreshContext, account: _Account, labels: tuple[str, str], name: str
) -> Iterator[Condition]:
    account_id = labels[1][:MAX_ID_LENGTH]
    if account.needs_reconnect:
        yield Condition("reconnect", name, subject=account_id)
    elif _can_post(account) is False:
        reasons = [text for text in (account.suspension_reason, *account.issues) if text]
        text = "; ".join(reasons)[:MAX_TEXT_LENGTH]
        yield Condition("blocked", name, subject=account_id, text=text)

    cooldown_until = account.cooldown_until
    if cooldown_until is not None and cooldown_until > context.seconds:
        yield Condition("cooldown", name, cooldown_until, account_id)
    expires_at = account.token_expires_at
    if expires_at is not None and _is_expiring(context, labels, expires_at):
        yield Condition("token", name, expires_at, account_id)


def _is_expiring(context: RefreshContext, labels: tuple[str, str], expires_at: float) -> bool:
    """Return whether a token expires soon, and the API does not renew it: it is a day old."""
    if expires_at >= context.seconds + TOKEN_SECONDS:
        return False
    known_since = context.gauge(EXPIRY, expires_at, *labels).at / 1000
    return expires_at > context.seconds + DAY or known_since < context.seconds - DAY


FEED = StatusFeed(name="accounts", refresh=refresh, max_requests=3, has_profiles=True)

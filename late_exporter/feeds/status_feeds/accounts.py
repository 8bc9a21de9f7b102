"""Accounts, ``GET /v1/accounts`` and ``/v1/accounts/health``: which can publish, and how long."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from itertools import islice

from late_exporter.errors import BadRequest
from late_exporter.feeds.status_feeds.refresh import (
    MAX_ID_LENGTH,
    MAX_TEXT_LENGTH,
    NO_FIELDS,
    AccountList,
    AccountState,
    Fields,
    Refresh,
    RefreshContext,
    Report,
    StatusFeed,
    StatusRequest,
    parse_response,
)
from late_exporter.feeds.vocabulary import ADS_PLATFORMS
from late_exporter.health import Condition
from late_exporter.model import UNKNOWN
from late_exporter.thresholds import DAY

PAGE_SIZE = 500
SMALL_PAGE_SIZE = 100
"""Accounts per page; the most that the API returns, and that it returned until October 2026."""

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


class _Account:
    """An account by the two lists, of which one may lack it.

    Attributes:
        listed: Its row in the list of accounts.
        health: Its row in the list of their health, which has newer names.
    """

    def __init__(self, listed: Fields = NO_FIELDS) -> None:
        self.listed = listed
        self.health = NO_FIELDS

    @property
    def platform(self) -> str:
        return self.health.text("platform") or self.listed.text("platform") or UNKNOWN

    @property
    def username(self) -> str | None:
        return self.health.text("username") or self.listed.text("username")

    @property
    def is_hidden(self) -> bool:
        """Whether it needs no attention: it is switched off, or internal."""
        if self.platform in INTERNAL_PLATFORMS:
            return True
        # An account for ads keeps working, whatever its switch says.
        return self.listed.flag("enabled") is False and self.platform not in ADS_PLATFORMS

    @property
    def can_post(self) -> bool | None:
        if self.platform in PLATFORMS_WITHOUT_POSTS:
            return None
        if self.listed.text("platformStatus") == "suspended":
            return False
        return self.health.flag("canPost")

    @property
    def needs_reconnect(self) -> bool | None:
        return self.health.flag("needsReconnect")

    @property
    def cooldown_until(self) -> float | None:
        return self.listed.time("rateLimitedUntil")

    @property
    def is_restricted(self) -> bool:
        """Whether its platform restricts the messages that it sends."""
        return "messagingRestriction" in self.health

    @property
    def risk(self) -> str:
        """Why nothing can be published to it, as in ``posts.RISKS``; empty if it can."""
        if self.listed.flag("isActive") is False:
            return "disconnected"
        if self.needs_reconnect:
            return "reconnect"
        return "blocked" if self.can_post is False else ""


def refresh(context: RefreshContext) -> Refresh:
    accounts, has_all = yield from _read_accounts(context)
    response = parse_response((yield StatusRequest("/v1/accounts/health")))
    for row in islice(response.required_objects("accounts"), MAX_HEALTH_ROWS):
        account_id = row.text("accountId")
        if account_id is not None:
            accounts.setdefault(account_id, _Account()).health = row

    reports: list[Report] = []
    states: dict[str, AccountState] = {}
    for account_id, account in accounts.items():
        labels = (account.platform, account_id)
        is_hidden = account.is_hidden
        is_known = len(states) < context.max_accounts
        state = AccountState(
            platform=account.platform,
            username=account.username or account_id,
            risk="" if is_hidden else account.risk,
            cooldown_until=account.cooldown_until or 0.0,
        )
        if is_known:
            states[account_id] = state
        if is_hidden:
            continue
        reports += _account_gauges(context, account, labels)
        if is_known:
            reports += _account_conditions(context, account, labels, state.name)

    # Posts may have targets of other profiles, whose accounts are not in the list.
    is_complete = has_all and 0 < len(accounts) == len(states) and not context.has_profile
    return [*reports, AccountList(states, is_complete)]


def _read_accounts(
    context: RefreshContext,
) -> Generator[StatusRequest, bytes, tuple[dict[str, _Account], bool]]:
    """Return the listed accounts by their ids, and whether these are all."""
    try:
        return (yield from _read_pages(PAGE_SIZE, context.max_accounts))
    except BadRequest:
        return (yield from _read_pages(SMALL_PAGE_SIZE, context.max_accounts))


def _read_pages(
    page_size: int, max_accounts: int
) -> Generator[StatusRequest, bytes, tuple[dict[str, _Account], bool]]:
    accounts: dict[str, _Account] = {}
    cursor = ""  # Accounts that are removed meanwhile do not shift it.
    for _ in range(math.ceil(max_accounts / page_size)):
        params: dict[str, str | int] = {"limit": page_size}
        if cursor:
            params["cursor"] = cursor
        response = parse_response((yield StatusRequest("/v1/accounts", params)))
        for row in islice(response.required_objects("accounts"), page_size):
            account_id = row.text("_id")
            if account_id is not None:
                accounts[account_id] = _Account(row)
        cursor = response.object("pagination").raw_text("nextCursor")[:MAX_CURSOR_LENGTH]
        if not cursor:
            return accounts, True
    return accounts, False


def _account_gauges(
    context: RefreshContext, account: _Account, labels: tuple[str, str]
) -> Iterator[Report]:
    health = account.health
    status = health.text("status")
    if status is not None:
        yield context.gauge("late_account_health", 1, *labels, status)
    if account.username is not None:
        profile_id = health.id("profileId") or account.listed.id("profileId") or UNKNOWN
        yield context.gauge("late_account_info", (account.username, profile_id), *labels)
    # The documentation says that an invalid token alone does not disconnect an account.
    is_connected = None if account.needs_reconnect is None else not account.needs_reconnect
    values = {
        "late_account_can_post": account.can_post,
        "late_account_needs_reconnect": account.needs_reconnect,
        "late_account_connected": is_connected,
        "late_account_messaging_restricted": account.is_restricted or None,
        EXPIRY: health.time("tokenExpiresAt"),
        "late_account_cooldown_until_timestamp_seconds": account.cooldown_until,
    }
    yield from context.gauges(values, *labels)


def _account_conditions(
    context: RefreshContext, account: _Account, labels: tuple[str, str], name: str
) -> Iterator[Condition]:
    account_id = labels[1][:MAX_ID_LENGTH]
    if account.needs_reconnect:
        yield Condition("reconnect", name, subject=account_id)
    elif account.can_post is False:
        reasons = [account.listed.text("platformStatusReason"), *account.health.texts("issues")]
        text = "; ".join(filter(None, reasons))[:MAX_TEXT_LENGTH]
        yield Condition("blocked", name, subject=account_id, text=text)
    if account.is_restricted:
        restriction = account.health.object("messagingRestriction")
        code = restriction.code("code") or restriction.code("subcode")
        text = ": ".join(filter(None, (code, restriction.long_text("message"))))
        yield Condition("messaging", name, subject=account_id, text=text[:MAX_TEXT_LENGTH])
    analytics = account.health.object("analyticsSync").text("status")
    if analytics not in (None, "ok") and account.health.text("status") == "warning":
        yield Condition("analytics", name, subject=account_id, text=analytics or "")

    cooldown_until = account.cooldown_until
    if cooldown_until is not None and cooldown_until > context.seconds:
        yield Condition("cooldown", name, cooldown_until, account_id)
    expires_at = account.health.time("tokenExpiresAt")
    if expires_at is not None and _is_expiring(context, labels, expires_at):
        yield Condition("token", name, expires_at, account_id)


def _is_expiring(context: RefreshContext, labels: tuple[str, str], expires_at: float) -> bool:
    """Return whether a token expires soon, and the API does not renew it: it is a day old."""
    if expires_at >= context.seconds + TOKEN_SECONDS:
        return False
    known_since = context.gauge(EXPIRY, expires_at, *labels).at / 1000
    return expires_at > context.seconds + DAY or known_since < context.seconds - DAY


FEED = StatusFeed(name="accounts", refresh=refresh, max_requests=3, has_profiles=True)

"""The plan, ``GET /v1/billing`` and ``/v1/usage``: whether it gives access, and what is left."""

from __future__ import annotations

from collections.abc import Iterator

from late_exporter.errors import ApiError, EndpointNotFound, Forbidden
from late_exporter.feeds.status_feeds.refresh import (
    NO_FIELDS,
    Fields,
    Refresh,
    RefreshContext,
    Report,
    StatusFeed,
    StatusRequest,
    parse_response,
)
from late_exporter.health import Condition
from late_exporter.thresholds import USAGE_RATIO, USED_UP_RATIO


def refresh(context: RefreshContext) -> Refresh:
    documents: dict[str, Fields] = {}
    errors: list[ApiError] = []
    for path in ("/v1/billing", "/v1/usage"):
        try:
            documents[path] = parse_response((yield StatusRequest(path)))
        except (EndpointNotFound, Forbidden) as exc:
            errors.append(exc)
    if not documents:
        raise errors[0]
    billing = documents.get("/v1/billing", NO_FIELDS)
    usage = documents.get("/v1/usage", NO_FIELDS)
    return [
        *_access_reports(context, billing.object("status"), usage),
        *_limit_reports(context, billing.object("caps"), usage),
        *_balance_reports(context, billing.object("balance")),
    ]


def _access_reports(context: RefreshContext, status: Fields, usage: Fields) -> Iterator[Report]:
    is_active = status.flag("hasAccess")
    if is_active is None:
        is_active = usage.flag("hasAccess")
    if status.flag("suspended"):
        is_active = False
    yield from context.gauges({"late_workspace_active": is_active})
    if is_active is False:
        reason = status.text("suspensionReason") or status.text("declineReason")
        yield Condition("inactive", reason or "")


def _limit_reports(context: RefreshContext, caps: Fields, usage: Fields) -> Iterator[Report]:
    used = usage.object("usage")
    limits = usage.object("limits")
    shares = (
        ("usage", "uploads", "uploads", used.amount("uploads"), limits.amount("uploads")),
        ("usage", "profiles", "profiles", used.amount("profiles"), limits.amount("profiles")),
        (
            "spend",
            "x",
            "spending limit for x",
            caps.amount("xSpendUsedCents"),
            caps.amount("xSpendLimitCents"),
        ),
    )
    for family, kind, name, amount, limit in shares:
        if amount is not None and limit:
            share = amount / limit
            yield context.gauge(f"late_workspace_{family}_ratio", share, kind)
            yield Condition(_limit_kind(kind, share), f"{share:.0%} of the {name}")


def _limit_kind(kind: str, share: float) -> str:
    """Return the kind of condition that a used share of a limit is."""
    # Only without uploads left are posts refused.
    if kind == "uploads" and share >= USED_UP_RATIO:
        return "used_up"
    return "limit" if share >= USAGE_RATIO else "plan"


def _balance_reports(context: RefreshContext, balance: Fields) -> Iterator[Report]:
    cents = balance.number("spendableCents")
    if cents is not None:
        yield context.gauge("late_workspace_balance_cents", cents)
        kind = "plan" if cents > 0 else "balance"
        yield Condition(kind, f"{cents / 100:,.2f} USD left to spend")


FEED = StatusFeed(name="billing", refresh=refresh, max_requests=2)

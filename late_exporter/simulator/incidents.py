"""Incidents that users can start, as data: what each changes in the world and in what the API shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from late_exporter.simulator.accounts import SimulatedAccount
from late_exporter.simulator.log_list import JsonObject, timestamp
from late_exporter.simulator.platforms import COOLDOWN, OUTAGE, RATE_LIMITED, TOKEN_EXPIRED, PublishFailure


class Incident(msgspec.Struct, frozen=True):
    """Incident, with the Unix times of its start and end, and what it affects; None for everything."""

    name: str
    platform: str | None
    since: float
    until: float
    account: SimulatedAccount | None = None

    @property
    def kind(self) -> IncidentKind:
        return INCIDENTS[self.name]

    def affects(self, account: SimulatedAccount) -> bool:
        return self.platform in {None, account.platform.name} and self.account in (None, account)


class IncidentKind(msgspec.Struct, frozen=True):
    """Kind of incident.

    Args:
        description: What it does, for users.
        scope: What it affects: the accounts of a platform, one account, or the whole workspace.
        platform: Platform that it affects by default; None for any.
        failure: Failure of publish attempts.
        failure_rate: Share of publish attempts that fail.
        refusal: Failure of posts, without an attempt and a log.
        slowdown: Smallest and largest factor by which attempts take longer, by kind of post.
        holds: Posts that do not start: ``scheduled`` ones, and those that are to be published at ``once``.
        disconnects: Whether the account is disconnected until the incident ends.
        stops_webhooks: Whether no webhook is delivered.
        shown: Fields that status documents have instead of their usual ones, by name of the document.
    """

    description: str
    scope: Literal["platform", "account", "workspace"]
    platform: str | None = None
    failure: PublishFailure | None = None
    failure_rate: float = 1.0
    refusal: PublishFailure | None = None
    slowdown: Mapping[str, tuple[float, float]] = {}
    holds: frozenset[str] = frozenset()
    disconnects: bool = False
    stops_webhooks: bool = False
    shown: Mapping[str, Callable[[Incident], JsonObject]] = {}


def _suspension(incident: Incident) -> JsonObject:
    since = timestamp(incident.since)
    return {"hasAccess": False, "suspended": True, "suspendedAt": since, "suspensionReason": "unpaid_invoice"}


INCIDENTS: Mapping[str, IncidentKind] = {
    "platform-outage": IncidentKind(
        "nearly every attempt on one platform fails with 503", "platform", "instagram", OUTAGE, 0.95
    ),
    "revoked-token": IncidentKind(
        "one account is disconnected and fails with TOKEN_EXPIRED until it reconnects", "account", None, TOKEN_EXPIRED,
        disconnects=True,
    ),
    "rate-limit-storm": IncidentKind(
        "one platform answers 429, posts pause and take long", "platform", "twitter", RATE_LIMITED, 0.75,
        slowdown=dict.fromkeys(("text", "image", "video"), (5, 12)),
    ),
    "slow-video": IncidentKind(
        "videos take 10 to 20 times as long and stay pending", "platform", slowdown={"video": (10, 20)}
    ),
    "scheduler-stuck": IncidentKind(
        "posts that are due stay scheduled, without a log", "workspace", holds=frozenset({"scheduled"})
    ),
    "account-cooldown": IncidentKind(
        "one account is in a publishing cooldown: its posts fail without a log", "account", "tiktok", refusal=COOLDOWN,
        shown={"account": lambda incident: {"rateLimitedUntil": timestamp(incident.until)}},
    ),
    "suspended": IncidentKind(
        "no post is published because of an unpaid invoice", "workspace",
        holds=frozenset({"scheduled", "once"}), shown={"billing status": _suspension},
    ),
    "spend-cap": IncidentKind(
        "97 % of the monthly spend cap for X is used", "workspace",
        shown={"billing caps": lambda _: {"xSpendUsedCents": 48_500}},
    ),
    "webhook-disabled": IncidentKind(
        "the webhook is switched off after 20 failed deliveries", "workspace",
        stops_webhooks=True, shown={"webhook": lambda _: {"isActive": False, "failureCount": 20}},
    ),
}  # fmt: skip

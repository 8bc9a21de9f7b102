"""Incidents that users can start, as data: what each changes in the world and in what the API shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from late_exporter.simulator.accounts import SimulatedAccount
from late_exporter.simulator.log_list import JsonObject, timestamp
from late_exporter.simulator.platforms import COOLDOWN, OUTAGE, RATE_LIMITED, TOKEN_EXPIRED, PublishFailure


class Incident(msgspec.Struct, frozen=True):
    """Incident, with the Unix times of its start and end, and the accounts that it affects."""

    kind: IncidentKind
    since: float
    until: float
    accounts: tuple[SimulatedAccount, ...]


class IncidentKind(msgspec.Struct, frozen=True):
    """Kind of incident.

    Args:
        name: Name, by which users start it.
        description: What it does, for users.
        scope: What it affects: the accounts of a platform, one account, or the whole workspace.
        platform: Platform that it affects by default; None for any.
        failure: Failure of publish attempts.
        failure_rate: Share of publish attempts that fail.
        refusal: Failure of posts, without an attempt and a log.
        slowdown: Smallest and largest factor by which attempts take longer, by kind of post.
        stops: What stops until the incident ends: ``scheduled`` posts, posts to be published at ``once``, ``webhooks``,
            or the ``connection`` of its one account.
        shown: Fields that status documents have instead of their usual ones, by name of the document.
    """

    name: str
    description: str
    scope: Literal["platform", "account", "workspace"]
    platform: str | None = None
    failure: PublishFailure | None = None
    failure_rate: float = 1.0
    refusal: PublishFailure | None = None
    slowdown: Mapping[str, tuple[float, float]] = {}
    stops: tuple[str, ...] = ()
    shown: Mapping[str, Callable[[Incident], JsonObject]] = {}


SUSPENDED = {"hasAccess": False, "suspended": True, "suspensionReason": "unpaid_invoice"}
_KINDS = (
    IncidentKind(
        "platform-outage", "nearly every attempt on one platform fails with 503",
        "platform", "instagram", failure=OUTAGE, failure_rate=0.95,
    ),
    IncidentKind(
        "revoked-token", "one account is disconnected and fails with TOKEN_EXPIRED until it reconnects",
        "account", failure=TOKEN_EXPIRED, stops=("connection",),
    ),
    IncidentKind(
        "rate-limit-storm", "one platform answers 429, posts pause and take long",
        "platform", "twitter", failure=RATE_LIMITED, failure_rate=0.75,
        slowdown=dict.fromkeys(("text", "image", "video"), (5, 12)),
    ),
    IncidentKind(
        "slow-video", "videos take 10 to 20 times as long and stay pending", "platform", slowdown={"video": (10, 20)}
    ),
    IncidentKind(
        "scheduler-stuck", "posts that are due stay scheduled, without a log", "workspace", stops=("scheduled",)
    ),
    IncidentKind(
        "account-cooldown", "one account is in a publishing cooldown: its posts fail without a log",
        "account", "tiktok", refusal=COOLDOWN,
        shown={"account": lambda incident: {"rateLimitedUntil": timestamp(incident.until)}},
    ),
    IncidentKind(
        "suspended", "no post is published because of an unpaid invoice", "workspace", stops=("scheduled", "once"),
        shown={"billing status": lambda incident: {**SUSPENDED, "suspendedAt": timestamp(incident.since)}},
    ),
    IncidentKind(
        "spend-cap", "97 % of the monthly spend cap for X is used", "workspace",
        shown={"billing caps": lambda _: {"xSpendUsedCents": 48_500}},
    ),
    IncidentKind(
        "webhook-disabled", "the webhook is switched off after 20 failed deliveries", "workspace", stops=("webhooks",),
        shown={"webhook": lambda _: {"isActive": False, "failureCount": 20}},
    ),
)  # fmt: skip
INCIDENTS: Mapping[str, IncidentKind] = {kind.name: kind for kind in _KINDS}

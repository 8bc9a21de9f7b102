"""Incidents that users can start, as data: what each changes in the world and in the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from late_exporter.simulator.accounts import INTERNAL_NUMBERS, SimulatedAccount
from late_exporter.simulator.activity import FAILED_DELIVERY, Outcome
from late_exporter.simulator.log_list import HOUR, MINUTE, JsonObject, timestamp
from late_exporter.simulator.platforms import (
    COOLDOWN,
    DENIED,
    OUTAGE,
    RATE_LIMITED,
    TOKEN_EXPIRED,
    PublishFailure,
)

ANY = "any platform"


class Incident(msgspec.Struct, frozen=True):
    """Incident, with the Unix times of its start and end, and the accounts that it affects."""

    kind: IncidentKind
    since: float
    until: float
    accounts: tuple[SimulatedAccount, ...]

    def show(self, document: str, now: float) -> JsonObject:
        """Return the fields of a document that the incident changes."""
        fields = self.kind.shown.get(document, {})
        return {
            name: value(self, now) if callable(value) else value for name, value in fields.items()
        }


class IncidentKind(msgspec.Struct, frozen=True):
    """Kind of incident.

    Args:
        name: Name, by which users start it.
        description: What it does, for users.
        scope: What it affects: the accounts of a platform, one account, or the whole workspace.
        platform: Platform that it affects by default.
        failure: Failure of publish attempts.
        failure_rate: Share of publish attempts that fail.
        refusal: Failure of posts, without an attempt and a log.
        slowdown: Smallest and largest factor by which attempts take longer, by kind of post.
        hold: Smallest and largest number of seconds by which scheduled posts are published late;
            none if empty.
        stops: What stops until the incident ends: ``scheduled`` posts, the ``schedule`` that they
            are in, new posts to be published ``later`` or at ``once``, ``webhooks``, or the
            ``connection`` of its one account.
        activity: Action, status code and error of the logs of a type, all of which replace a usual
            one.
        shown: Fields of status documents that differ, or functions of the incident and the time
            that return them.
        accounts: Accounts that are listed only while it lasts, and that it affects in place of
            those of the world.
    """

    name: str
    description: str
    scope: Literal["platform", "account", "workspace"] = "workspace"
    platform: str = ANY
    failure: PublishFailure | None = None
    failure_rate: float = 1.0
    refusal: PublishFailure | None = None
    slowdown: Mapping[str, tuple[float, float]] = {}
    hold: tuple[float, ...] = ()
    stops: tuple[str, ...] = ()
    activity: Mapping[str, Sequence[Outcome]] = {}
    shown: Mapping[str, Mapping[str, Any]] = {}
    accounts: tuple[SimulatedAccount, ...] = ()


def _cooldown_end(incident: Incident, now: float) -> str:
    """Return the end of the newest cooldown; each takes twice as long as the one before."""
    ends = (
        incident.since + MINUTE * (10 * (2**number - 1) + 5 * (number - 1))
        for number in range(1, 20)
    )
    return timestamp(next(end for end in ends if now < end + 5 * MINUTE))


CANNOT_POST = {
    "status": "error",
    "canPost": False,
    "issues": ["The platform has suspended this account"],
}
DISCONNECTED = {**CANNOT_POST, "needsReconnect": True, "issues": [TOKEN_EXPIRED.message]}
SUSPENDED = {"platformStatus": "suspended", "platformStatusReason": "Community guidelines"}
UNPAID = {"hasAccess": False, "suspended": True, "suspensionReason": "unpaid_invoice"}
ERRORS = [("GET /v1/posts", 429, "Too Many Requests")] * 60 + [
    ("POST /v1/posts", 503, "Service Unavailable")
] * 20
_KINDS = (
    IncidentKind(
        "platform-outage",
        "most attempts fail with 503",
        "platform",
        "instagram",
        OUTAGE,
        failure_rate=0.95,
    ),
    IncidentKind(
        "revoked-token",
        "one account is disconnected and fails with TOKEN_EXPIRED until it reconnects",
        "account",
        failure=TOKEN_EXPIRED,
        stops=("connection",),
        shown={"health": DISCONNECTED},
    ),
    IncidentKind(
        "rate-limit-storm",
        "one platform answers 429, posts pause and take long",
        "platform",
        "twitter",
        failure=RATE_LIMITED,
        failure_rate=0.75,
        slowdown=dict.fromkeys(("text", "image", "video"), (5, 12)),
    ),
    IncidentKind(
        "slow-video", "videos take 10 to 20 times as long", "platform", slowdown={"video": (10, 20)}
    ),
    IncidentKind(
        "late-publishing", "scheduled posts are published 6 to 40 minutes late", hold=(360, 2400)
    ),
    IncidentKind(
        "scheduler-stuck", "posts that are due stay scheduled, without a log", stops=("scheduled",)
    ),
    IncidentKind(
        "approval-overdue",
        "the scheduled posts of one account wait for approval until the end",
        "account",
        stops=("scheduled",),
        shown={"scheduled post": {"status": "pending_approval"}},
    ),
    IncidentKind(
        "empty-schedule",
        "all scheduled posts are drafts, and stay drafts when they are due",
        stops=("schedule",),
        shown={"scheduled post": {"status": "draft"}},
    ),
    IncidentKind(
        "account-cooldown",
        "one account is in cooldowns of 10, 20, 40 ... minutes: its posts fail without a log",
        "account",
        "tiktok",
        refusal=COOLDOWN,
        shown={"account": {"rateLimitedUntil": _cooldown_end}},
    ),
    IncidentKind(
        "account-blocked",
        "one account is connected, but suspended by its platform, and cannot post",
        "account",
        "instagram",
        failure=DENIED,
        shown={"account": SUSPENDED, "health": CANNOT_POST},
    ),
    IncidentKind(
        "account-off",
        "one account is switched off, and disconnected",
        "account",
        shown={"account": {"enabled": False}, "health": DISCONNECTED},
    ),
    IncidentKind(
        "internal-numbers",
        "the accounts of two internal phone numbers are listed, disconnected",
        accounts=INTERNAL_NUMBERS,
        shown={"health": DISCONNECTED},
    ),
    IncidentKind(
        "token-expiring",
        "the token of one account expires within a day",
        "account",
        shown={
            "health": {"tokenExpiresAt": lambda incident, _: timestamp(incident.since + 20 * HOUR)}
        },
    ),
    IncidentKind(
        "suspended",
        "no post is published because of an unpaid invoice",
        stops=("scheduled", "once"),
        shown={"status": {**UNPAID, "suspendedAt": lambda incident, _: timestamp(incident.since)}},
    ),
    IncidentKind(
        "spend-cap",
        "97 % of the spend cap for X is used",
        shown={"caps": {"xSpendUsedCents": 48_500}},
    ),
    IncidentKind(
        "empty-balance", "no balance is left to spend", shown={"balance": {"spendableCents": -5}}
    ),
    IncidentKind(
        "usage-near-limit",
        "95 % of the plan's uploads are used",
        shown={"usage": {"uploads": 57_000}},
    ),
    IncidentKind(
        "usage-at-limit",
        "all of the plan's uploads are used: new posts are refused with 403, without a log",
        stops=("later", "once"),
        activity={"api_request": [("POST /v1/posts", 403, "Upload limit reached")]},
        shown={"usage": {"uploads": 60_000}},
    ),
    IncidentKind(
        "webhook-failing",
        "the webhook fails, ever more often",
        activity={"webhooks": [FAILED_DELIVERY]},
        shown={
            "webhook": {
                "failureCount": lambda incident, now: int(((now - incident.since) / 300) ** 2)
            }
        },
    ),
    IncidentKind(
        "webhook-disabled",
        "the webhook is switched off after 20 failed deliveries",
        stops=("webhooks",),
        shown={"webhook": {"isActive": False, "failureCount": 20}},
    ),
    IncidentKind(
        "api-errors",
        "most requests of the customer get 429, others 503",
        activity={"api_request": ERRORS},
    ),
)
INCIDENTS: Mapping[str, IncidentKind] = {kind.name: kind for kind in _KINDS}

"""Incidents that users can start: what each changes in the world and in what the API shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from late_exporter.simulator.accounts import (
    BANNED,
    COOLDOWN,
    DENIED,
    OUTAGE,
    RATE_LIMITED,
    REJECTED,
    TIMEOUT,
    TOKEN_EXPIRED,
    PublishFailure,
    SimulatedAccount,
)
from late_exporter.simulator.log_list import HOUR, MINUTE, JsonObject, timestamp
from late_exporter.simulator.profiles import Fate

Outcome: TypeAlias = tuple[str, int, str | None]
"""Action, status code and error of a log."""

FAILED_DELIVERY = ("webhook.failed", 503, "The endpoint answered 503")

ANY = "any platform"

COOLDOWN_SECONDS = 20 * MINUTE


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
        scope: What it affects: the accounts of a platform, one account, or the whole workspace.
        platform: Platform that it affects by default.
        failure: Failure of publish attempts.
        failure_rate: Share of publish attempts that fail.
        refusal: Failure of posts, without an attempt and a log.
        fate: What fails of the next post, on the first of its accounts that the incident affects.
            Then the incident is over.
        video_slowdown: Factor by which attempts with a video take longer.
        hold: Smallest and largest number of seconds by which scheduled posts are published late;
            none if empty.
        stops: What stops until the incident ends: ``scheduled`` posts, the ``schedule`` that they
            are in, new posts to be published ``later`` or at ``once``, ``webhooks``, or the
            ``connection`` of its one account.
        activity: Action, status code and error of the logs of a type, all of which replace the
            usual ones.
        shown: Fields of status documents that differ, or functions of the incident and the time
            that return them.
    """

    name: str
    scope: Literal["platform", "account", "workspace"] = "workspace"
    platform: str = ANY
    failure: PublishFailure | None = None
    failure_rate: float = 1.0
    refusal: PublishFailure | None = None
    fate: Fate | None = None
    video_slowdown: float = 1.0
    hold: tuple[float, ...] = ()
    stops: tuple[str, ...] = ()
    activity: Mapping[str, Sequence[Outcome]] = {}
    shown: Mapping[str, Mapping[str, Any]] = {}


def _cooldown_end(incident: Incident, now: float) -> str:
    """Return the end of the newest cooldown, each of which follows the one before."""
    number = (now - incident.since) // COOLDOWN_SECONDS + 1
    return timestamp(incident.since + number * COOLDOWN_SECONDS)


def _since(incident: Incident, _now: float) -> str:
    return timestamp(incident.since)


def _token_expiry(incident: Incident, _now: float) -> str:
    return timestamp(incident.since + 20 * HOUR)


def _failure_count(incident: Incident, now: float) -> int:
    return int(((now - incident.since) / 300) ** 2)


CANNOT_POST = {
    "status": "error",
    "canPost": False,
    "issues": ["The platform has suspended this account"],
}
DISCONNECTED = {**CANNOT_POST, "needsReconnect": True, "issues": [TOKEN_EXPIRED.message]}
SUSPENDED = {"platformStatus": "suspended", "platformStatusReason": "Community guidelines"}
UNPAID = {
    "hasAccess": False,
    "suspended": True,
    "suspensionReason": "unpaid_invoice",
    "suspendedAt": _since,
}
TOO_MANY_REQUESTS = ("GET /v1/posts", 429, "Too Many Requests")
UNAVAILABLE = ("POST /v1/posts", 503, "Service Unavailable")

_KINDS = (
    IncidentKind(
        name="one-post-fails",
        # The next post is refused on one of its accounts.
        fate=Fate(DENIED, 1),
    ),
    IncidentKind(
        name="healed-retry",
        # The next post fails twice on one of its accounts, then a retry publishes it.
        fate=Fate(TIMEOUT, 2),
    ),
    IncidentKind(
        name="account-dead",
        # All posts of one account are refused, although the API calls it healthy.
        scope="account",
        failure=BANNED,
    ),
    IncidentKind(
        name="platform-fails",
        # All posts on one platform are refused.
        scope="platform",
        platform="instagram",
        failure=REJECTED,
    ),
    IncidentKind(
        name="everything-fails",
        # All posts of all accounts are refused.
        failure=REJECTED,
    ),
    IncidentKind(
        name="platform-outage",
        # Most attempts fail with 503.
        scope="platform",
        platform="instagram",
        failure=OUTAGE,
        failure_rate=0.95,
    ),
    IncidentKind(
        name="revoked-token",
        # One account is disconnected and fails with TOKEN_EXPIRED until it reconnects.
        scope="account",
        failure=TOKEN_EXPIRED,
        stops=("connection",),
        shown={"health": DISCONNECTED},
    ),
    IncidentKind(
        name="rate-limit-storm",
        # One platform answers 429, and posts pause.
        scope="platform",
        platform="twitter",
        failure=RATE_LIMITED,
        failure_rate=0.9,
    ),
    IncidentKind(
        name="slow-video",
        # Videos take 15 times as long.
        scope="platform",
        video_slowdown=15,
    ),
    IncidentKind(
        name="late-publishing",
        # Scheduled posts are published 20 to 40 minutes late.
        hold=(1200, 2400),
    ),
    IncidentKind(
        name="scheduler-stuck",
        # Posts that are due stay scheduled, without a log.
        stops=("scheduled",),
    ),
    IncidentKind(
        name="approval-overdue",
        # The scheduled posts of one account wait for approval until the end.
        scope="account",
        stops=("scheduled",),
        shown={"scheduled post": {"status": "pending_approval"}},
    ),
    IncidentKind(
        name="empty-schedule",
        # All scheduled posts are drafts, and stay drafts when they are due.
        stops=("schedule",),
        shown={"scheduled post": {"status": "draft"}},
    ),
    IncidentKind(
        name="account-cooldown",
        # One account is in one cooldown of 20 minutes after the other: its posts fail
        # without a log.
        scope="account",
        platform="tiktok",
        refusal=COOLDOWN,
        shown={"account": {"rateLimitedUntil": _cooldown_end}},
    ),
    IncidentKind(
        name="account-blocked",
        # One account is connected, but suspended by its platform, and cannot post.
        scope="account",
        platform="instagram",
        failure=DENIED,
        shown={"account": SUSPENDED, "health": CANNOT_POST},
    ),
    IncidentKind(
        name="token-expiring",
        # The token of one account expires within a day.
        scope="account",
        shown={"health": {"tokenExpiresAt": _token_expiry}},
    ),
    IncidentKind(
        name="suspended",
        # No post is published because of an unpaid invoice.
        stops=("scheduled", "once"),
        shown={"status": UNPAID},
    ),
    IncidentKind(
        name="spend-cap",
        # 97 % of the spend cap for X is used.
        shown={"caps": {"xSpendUsedCents": 48_500}},
    ),
    IncidentKind(
        name="empty-balance",
        # No balance is left to spend.
        shown={"balance": {"spendableCents": -5}},
    ),
    IncidentKind(
        name="usage-near-limit",
        # 95 % of the plan's uploads are used.
        shown={"usage": {"uploads": 57_000}},
    ),
    IncidentKind(
        name="usage-at-limit",
        # All of the plan's uploads are used: new posts are refused with 403,
        # without a log.
        stops=("later", "once"),
        activity={"api_request": [("POST /v1/posts", 403, "Upload limit reached")]},
        shown={"usage": {"uploads": 60_000}},
    ),
    IncidentKind(
        name="webhook-failing",
        # The webhook fails, ever more often.
        activity={"webhooks": [FAILED_DELIVERY]},
        shown={"webhook": {"failureCount": _failure_count}},
    ),
    IncidentKind(
        name="webhook-disabled",
        # The webhook is switched off after 20 failed deliveries.
        stops=("webhooks",),
        shown={"webhook": {"isActive": False, "failureCount": 20}},
    ),
    IncidentKind(
        name="api-errors",
        # Most requests of the customer get 429, others 503.
        activity={"api_request": [TOO_MANY_REQUESTS] * 60 + [UNAVAILABLE] * 20},
    ),
)
INCIDENTS: Mapping[str, IncidentKind] = {kind.name: kind for kind in _KINDS}

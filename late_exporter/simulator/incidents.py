"""Incidents that users can start, and their effect on the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Literal, cast

import msgspec

from late_exporter.errors import ConfigError
from late_exporter.simulator.accounts import SimulatedAccount
from late_exporter.simulator.events import DAY
from late_exporter.simulator.platforms import OUTAGE, PLATFORMS, RATE_LIMITED, TOKEN_EXPIRED, PublishFailure

OUTAGE_FAILURE_RATE = 0.95
STORM_FAILURE_RATE = 0.75
TOKEN_LIFETIME = 60 * DAY


class IncidentKind(msgspec.Struct, frozen=True):
    """Kind of incident: what it affects, its default platform, None for any, and its description for users."""

    scope: Literal["platform", "account", "workspace"]
    platform: str | None
    description: str


INCIDENTS: Mapping[str, IncidentKind] = {
    "platform-outage": IncidentKind("platform", "instagram", "nearly every attempt on one platform fails with 503"),
    "revoked-token": IncidentKind(
        "account", None, "one account is disconnected and fails with TOKEN_EXPIRED until it reconnects"
    ),
    "rate-limit-storm": IncidentKind("platform", "twitter", "one platform answers 429, posts pause and take long"),
    "slow-video": IncidentKind("platform", None, "videos take 10 to 20 times as long and stay pending"),
    "scheduler-stuck": IncidentKind("workspace", None, "posts that are due stay scheduled, without a log"),
    "account-cooldown": IncidentKind(
        "account", "tiktok", "one account is in a publishing cooldown: its posts fail without a log"
    ),
    "suspended": IncidentKind("workspace", None, "no post is published because of an unpaid invoice"),
    "spend-cap": IncidentKind("workspace", None, "97 % of the monthly spend cap for X is used"),
    "webhook-disabled": IncidentKind("workspace", None, "the webhook is switched off after 20 failed deliveries"),
}


class Incident(msgspec.Struct, frozen=True):
    """Incident, with the Unix times of its start and end, and the account if it affects a single one."""

    name: str
    platform: str | None
    since: float
    until: float
    account_id: str | None = None


def find_incident_kind(name: str, platform: str | None) -> IncidentKind:
    """Return the kind of a name.

    Raises:
        ConfigError: The kind or the platform is unknown, or the kind affects no single platform.
    """
    if name not in INCIDENTS:
        raise ConfigError(f"unknown incident {name!r}: use one of {', '.join(INCIDENTS)}")
    if platform is not None and platform not in PLATFORMS:
        raise ConfigError(f"unknown platform {platform!r}: use one of {', '.join(PLATFORMS)}")
    kind = INCIDENTS[name]
    if platform is not None and kind.scope == "workspace":
        raise ConfigError(f"incident {name!r} affects the whole workspace: leave out the platform")
    return kind


class WorldConditions:
    """Current conditions: active incidents, disconnected accounts, and the expiry of tokens as Unix times."""

    def __init__(self) -> None:
        self.incidents: list[Incident] = []
        self.disconnected_ids: set[str] = set()
        self.token_expiries: dict[str, float] = {}

    def find_incident(self, name: str, account: SimulatedAccount | None = None) -> Incident | None:
        """Return the active incident of a name that ends last, of any or of one account."""
        if not self.incidents:
            return None
        matching = [
            incident
            for incident in self.incidents
            if incident.name == name and (account is None or incident.account_id == account.id)
        ]
        return max(matching, key=lambda incident: incident.until, default=None)

    def extend_token(self, account: SimulatedAccount, now: float) -> float:
        """Renew the token of an account and return its new expiry."""
        self.token_expiries[account.id] = now + TOKEN_LIFETIME
        return self.token_expiries[account.id]

    def holds_scheduled_posts(self) -> bool:
        """Return whether posts stay scheduled when they are due."""
        return any(incident.name in {"scheduler-stuck", "suspended"} for incident in self.incidents)

    def choose_failure(self, account: SimulatedAccount, random: Random) -> PublishFailure | None:
        """Return the failure of a publish attempt, or None if it succeeds."""
        if account.id in self.disconnected_ids:
            return TOKEN_EXPIRED
        draw = random.random()
        if self._is_affected("platform-outage", account):
            return OUTAGE if draw < OUTAGE_FAILURE_RATE else None
        if self._is_affected("rate-limit-storm", account):
            return RATE_LIMITED if draw < STORM_FAILURE_RATE else None
        if draw >= account.platform.failure_rate:
            return None
        weights, failures = zip(*account.platform.failures, strict=True)
        return cast(PublishFailure, random.choices(failures, weights)[0])

    def draw_duration(self, account: SimulatedAccount, kind: str, random: Random) -> float:
        seconds = account.platform.median_seconds * random.lognormvariate(0, account.platform.sigma)
        if self._is_affected("rate-limit-storm", account):
            seconds *= random.uniform(5, 12)
        if kind == "video" and self._is_affected("slow-video", account):
            seconds *= random.uniform(10, 20)
        return seconds

    def _is_affected(self, name: str, account: SimulatedAccount) -> bool:
        return bool(self.incidents) and any(
            incident.name == name and incident.platform in {None, account.platform.name} for incident in self.incidents
        )

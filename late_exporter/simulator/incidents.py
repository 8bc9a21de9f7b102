"""Incidents that users can start, and their effect on publishing."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import cast

import msgspec

from late_exporter.errors import ConfigError
from late_exporter.simulator.accounts import SimulatedAccount
from late_exporter.simulator.platforms import OUTAGE, PLATFORMS, RATE_LIMITED, TOKEN_EXPIRED, PublishFailure

OUTAGE_FAILURE_RATE = 0.95
STORM_FAILURE_RATE = 0.75


class IncidentKind(msgspec.Struct, frozen=True):
    """Kind of incident: its default platform, None for all platforms, and its description for users."""

    platform: str | None
    description: str


INCIDENTS: Mapping[str, IncidentKind] = {
    "platform-outage": IncidentKind("instagram", "nearly every attempt on one platform fails with 503"),
    "revoked-token": IncidentKind(None, "one account is disconnected and fails with TOKEN_EXPIRED until it reconnects"),
    "rate-limit-storm": IncidentKind("twitter", "one platform answers 429, posts pause and take long"),
    "slow-video": IncidentKind(None, "videos take 10 to 20 times as long and stay pending"),
}


class Incident(msgspec.Struct, frozen=True):
    """Incident, with the Unix time of its end and the account if it affects a single one."""

    name: str
    platform: str | None
    until: float
    account_id: str | None = None


def find_incident_kind(name: str, platform: str | None) -> IncidentKind:
    """Return the kind of a name. Raise ConfigError if the kind or the platform is unknown."""
    if name not in INCIDENTS:
        raise ConfigError(f"unknown incident {name!r}: use one of {', '.join(INCIDENTS)}")
    if platform is not None and platform not in PLATFORMS:
        raise ConfigError(f"unknown platform {platform!r}: use one of {', '.join(PLATFORMS)}")
    return INCIDENTS[name]


class WorldConditions:
    """Current conditions: active incidents and disconnected accounts."""

    def __init__(self) -> None:
        self.incidents: list[Incident] = []
        self.disconnected_ids: set[str] = set()

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
        return any(
            incident.name == name and incident.platform in {None, account.platform.name} for incident in self.incidents
        )

"""What can go wrong on demand."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import cast

import msgspec

from late_exporter.errors import ConfigError
from late_exporter.simulator.accounts import Account
from late_exporter.simulator.platforms import OUTAGE, PLATFORMS, RATE_LIMITED, TOKEN_EXPIRED, Failure

__all__ = ["INCIDENTS", "Conditions", "Incident", "Kind", "incident_kind"]

OUTAGE_FAILING = 0.95
STORM_FAILING = 0.75


class Kind(msgspec.Struct, frozen=True):
    """What is seen of a kind of incident, and where it strikes unless told otherwise; None is everywhere it can."""

    platform: str | None
    story: str


INCIDENTS: Mapping[str, Kind] = {
    "platform-outage": Kind("instagram", "nearly every attempt on one platform fails with 503"),
    "revoked-token": Kind(None, "one account is disconnected and fails with TOKEN_EXPIRED until it reconnects"),
    "rate-limit-storm": Kind("twitter", "one platform answers 429, posts pause and take long"),
    "slow-video": Kind(None, "videos take 10 to 20 times as long and stay pending"),
}


class Incident(msgspec.Struct, frozen=True):
    """An incident and the Unix time at which it ends; ``account_id`` where it strikes a single account."""

    name: str
    platform: str | None
    until: float
    account_id: str | None = None


def incident_kind(name: str, platform: str | None) -> Kind:
    """The kind of that name; raises ConfigError where it or the platform is unknown."""
    if name not in INCIDENTS:
        raise ConfigError(f"unknown incident {name!r}: use one of {', '.join(INCIDENTS)}")
    if platform is not None and platform not in PLATFORMS:
        raise ConfigError(f"unknown platform {platform!r}: use one of {', '.join(PLATFORMS)}")
    return INCIDENTS[name]


class Conditions:
    """What the world is like at the moment: the incidents under way, and the accounts that are disconnected."""

    def __init__(self) -> None:
        self.incidents: list[Incident] = []
        self.disconnected: set[str] = set()

    def failure(self, account: Account, random: Random) -> Failure | None:
        """How an attempt of an account fails, None where it succeeds."""
        if account.id in self.disconnected:
            return TOKEN_EXPIRED
        chance = random.random()
        if self._struck("platform-outage", account):
            return OUTAGE if chance < OUTAGE_FAILING else None
        if self._struck("rate-limit-storm", account):
            return RATE_LIMITED if chance < STORM_FAILING else None
        if chance >= account.platform.failing:
            return None
        weights, failures = zip(*account.platform.failures, strict=True)
        return cast(Failure, random.choices(failures, weights)[0])

    def duration(self, account: Account, kind: str, random: Random) -> float:
        """How long an attempt of an account takes, in seconds."""
        seconds = account.platform.latency * random.lognormvariate(0, account.platform.spread)
        if self._struck("rate-limit-storm", account):
            seconds *= random.uniform(5, 12)
        if kind == "video" and self._struck("slow-video", account):
            seconds *= random.uniform(10, 20)
        return seconds

    def _struck(self, name: str, account: Account) -> bool:
        return any(
            incident.name == name and incident.platform in {None, account.platform.name} for incident in self.incidents
        )

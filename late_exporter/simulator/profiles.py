"""Profiles of customers by volume: how much they publish, when, to which accounts, and what fails.

Failures are drawn by post and account, not by attempt: most customers see few posts a day, and what
matters to them is whether a post was published in the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

import msgspec

from late_exporter.simulator.accounts import (
    ACCOUNTS,
    DENIED,
    PLATFORMS,
    TIMEOUT,
    PublishFailure,
    SimulatedAccount,
    hashed_id,
)

ALL_ATTEMPTS = 1000
"""More than the attempts of any post."""

MAX_HEALED_ATTEMPTS = 3
"""Failed attempts after which a retry at the latest publishes a post that is published at all."""


class Fate(msgspec.Struct, frozen=True):
    """Failure of the first attempts to publish a post to an account."""

    failure: PublishFailure
    attempt_count: int


class CustomerProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Customer, or many of them in one workspace.

    Args:
        accounts: Accounts, those of one customer with the same profile id.
        posts_per_day: Average number of posts per day.
        hours: Hours of the day in UTC at which one post each is due, on as many days as fit; any
            time if empty.
        post_kinds: Kinds of posts; those of the platform of the first account if empty.
        min_targets: Smallest number of accounts of a post, if the customer has as many.
        max_targets: Largest number.
        refused_rate: Share of posts, by account, that fail at the first attempt for good.
        exhausted_rate: Share that fails in all attempts.
        healed_rate: Share that a retry publishes after one to three failed attempts.
    """

    accounts: tuple[SimulatedAccount, ...]
    posts_per_day: float
    hours: tuple[int, ...] = ()
    post_kinds: tuple[str, ...] = ()
    min_targets: int = 1
    max_targets: int = 3
    refused_rate: float = 0.008
    exhausted_rate: float = 0.002
    healed_rate: float = 0.005

    def draw_fate(self, random: Random) -> Fate | None:
        """Return what fails of a post on an account, or None if its first attempt succeeds."""
        draw = random.random()
        if draw < self.refused_rate:
            return Fate(DENIED, 1)
        draw -= self.refused_rate
        if draw < self.exhausted_rate:
            return Fate(TIMEOUT, ALL_ATTEMPTS)
        draw -= self.exhausted_rate
        if draw < self.healed_rate:
            return Fate(TIMEOUT, random.randint(1, MAX_HEALED_ATTEMPTS))
        return None


def _accounts_of(handle: str, platforms: str) -> Iterator[SimulatedAccount]:
    """Yield the accounts of a customer, several on a platform that is named several times."""
    for number, name in enumerate(platforms.split(), 1):
        yield SimulatedAccount(
            id=hashed_id(f"account {handle} {number}"),
            profile_id=hashed_id(f"profile {handle}"),
            platform=PLATFORMS[name],
            username=f"@{handle}.{number}",
            method="oauth",
        )


_BRAND_PLATFORMS = (
    "instagram instagram facebook facebook linkedin twitter twitter threads tiktok youtube"
)
_BRANDS = ("nordwind", "sonnentor", "kiez.kaffee", "alpenglueck", "hafenkante", "gruenwerk")

PROFILES: Mapping[str, CustomerProfile] = {
    "weekly": CustomerProfile(
        accounts=tuple(_accounts_of("verein", "facebook")),
        posts_per_day=1 / 7,
        hours=(10,),
        post_kinds=("image",),
    ),
    "bakery": CustomerProfile(
        accounts=tuple(_accounts_of("baeckerei", "instagram facebook googlebusiness")),
        posts_per_day=3,
        hours=(8, 12, 17),
        post_kinds=("image",),
        min_targets=3,
    ),
    "shop": CustomerProfile(
        accounts=tuple(_accounts_of("laden", "instagram facebook pinterest threads")),
        posts_per_day=10,
        post_kinds=("image",),
    ),
    "agency": CustomerProfile(
        accounts=tuple(
            account for brand in _BRANDS for account in _accounts_of(brand, _BRAND_PLATFORMS)
        ),
        posts_per_day=300,
    ),
    "platform": CustomerProfile(accounts=ACCOUNTS, posts_per_day=2_400),
    "large": CustomerProfile(accounts=ACCOUNTS, posts_per_day=34_000),
}
"""Profiles by name, the smallest first: from one post a week to 100,000 logs a day."""

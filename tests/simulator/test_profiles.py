"""Profiles of customers by volume, and the incidents that hit a post or an account of theirs."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest

from late_exporter.config.sections import Profile
from late_exporter.simulator import SimulatedApi, SimulatedWorld, simulate_world
from late_exporter.simulator.log_list import LogRow, post_id
from late_exporter.simulator.profiles import PROFILES

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR
HEADERS = {"Authorization": f"Bearer sk_{'0' * 64}"}


def get(world: SimulatedWorld, path: str, query: str = "") -> Any:
    """Return a document of the API of a world."""
    api = SimulatedApi(world, clock=lambda: world.now)
    return msgspec.json.decode(api.handle("GET", path, query, HEADERS).body)


def attempts(world: SimulatedWorld) -> list[LogRow]:
    """Return the attempts of a world, newest first."""
    return [row for row in world.publishing.rows if row["action"] in {"publish", "retry"}]


def target_statuses(world: SimulatedWorld) -> Counter[str]:
    """Return how many posts of a world have each status, by account."""
    return Counter(status for post in world.posts.values() for status in post.statuses.values())


def test_option_has_all_profiles() -> None:
    """Every profile can be chosen on the command line."""
    assert get_args(Profile) == tuple(PROFILES)


@pytest.mark.parametrize(
    ("name", "days", "least", "most"),
    [
        ("weekly", 56, 0.14, 0.15),
        ("bakery", 28, 2.9, 3.1),
        ("shop", 28, 8, 12),
        ("agency", 7, 270, 330),
        ("platform", 1, 2_200, 2_700),
    ],
)
def test_posts_per_day(name: str, days: int, least: float, most: float) -> None:
    """Customers publish as often as their profile says, at the hours that it names."""
    world = simulate_world(1, NOON, history=days * DAY, profile=PROFILES[name])
    due_posts = [post for post in world.posts.values() if post.reference["status"] != "scheduled"]
    assert least <= len(due_posts) / days <= most


def test_hours_of_the_bakery() -> None:
    """A bakery posts at eight, noon and five o'clock to all of its accounts."""
    world = simulate_world(1, NOON, history=28 * DAY, profile=PROFILES["bakery"])
    hours = {str(post.scheduled_for)[11:16] for post in world.posts.values()}
    assert hours == {"08:00", "12:00", "17:00"}
    assert {len(post.statuses) for post in world.posts.values()} == {3}


@pytest.mark.exhaustive
def test_one_percent_of_the_posts_fails_for_good() -> None:
    """By post and account, one percent fails, and some more are published by a retry."""
    world = simulate_world(1, NOON, history=28 * DAY, profile=PROFILES["agency"])
    statuses = target_statuses(world)
    assert 0.007 < statuses["failed"] / (statuses["failed"] + statuses["published"]) < 0.013
    retries = [row["status"] for row in attempts(world) if row["action"] == "retry"]
    assert retries.count("success") > 20


def test_several_accounts_of_one_platform_share_request_and_time() -> None:
    """One call publishes to several accounts of a platform, in the same millisecond."""
    world = simulate_world(1, NOON, history=DAY, profile=PROFILES["agency"])
    accounts = defaultdict[tuple[str, ...], set[str]](set)
    for row in world.publishing.rows:
        if row["action"] == "publish":
            call = (str(post_id(row)), row["platform"], row["createdAt"])
            accounts[call].add(row["accountId"])
    assert max(map(len, accounts.values())) >= 2


def published_after(name: str, incident: str, hours: float) -> SimulatedWorld:
    """Return the world of a profile some hours after an incident began at noon."""
    profile = PROFILES[name]
    world = simulate_world(2, NOON - HOUR / 2, history=HOUR, profile=profile)
    world.start_incident(incident, duration=hours * HOUR)
    world.advance(NOON + hours * HOUR)
    return world


def test_one_post_fails_on_one_account() -> None:
    """The next post is refused on one account, and published on the others."""
    world = published_after("bakery", "one-post-fails", 23)
    assert target_statuses(world)["failed"] == 1
    (post,) = [post for post in world.posts.values() if post.failures]
    assert post.reference["status"] == "partial"
    failed = [row["action"] for row in attempts(world) if row["status"] == "failed"]
    assert failed == ["publish"]


def test_incident_of_the_next_post_waits_for_it() -> None:
    """The next post fails on the given platform, however long it takes until a post is due."""
    world = simulate_world(1, NOON + HOUR, history=HOUR, profile=PROFILES["bakery"])
    world.start_incident("one-post-fails", platform="instagram", duration=HOUR)
    world.advance(NOON + DAY)
    (post,) = [post for post in world.posts.values() if post.failures]
    (account,) = post.failures
    assert post.scheduled_for == "2026-11-24T17:00:00.000Z"
    assert account.platform.name == "instagram"
    assert world.incidents == ()


def test_each_incident_of_the_next_post_hits_a_post_of_its_own() -> None:
    """Of two incidents of the next post, the second waits for the post after the first one's."""
    world = simulate_world(1, NOON + HOUR, history=HOUR, profile=PROFILES["bakery"])
    world.start_incident("one-post-fails")
    world.start_incident("healed-retry")
    world.advance(NOON + DAY)
    hit = [post.scheduled_for for post in world.posts.values() if post.fates]
    assert hit == ["2026-11-24T17:00:00.000Z", "2026-11-25T08:00:00.000Z"]


def test_failed_post_in_the_list_of_posts() -> None:
    """The API lists the post with the account on which it failed, and the error."""
    world = published_after("bakery", "one-post-fails", 1)
    (post,) = get(world, "/v1/posts", "status=partial")["posts"]
    (failed,) = [target for target in post["platforms"] if target["status"] == "failed"]
    assert failed["errorMessage"] == "The account lacks the permission to publish"


def test_healed_retry() -> None:
    """The next post fails twice on one account, then a retry publishes it."""
    world = published_after("bakery", "healed-retry", 23)
    statuses = [row["status"] for row in attempts(world) if row["action"] == "retry"]
    assert sorted(statuses) == ["failed", "success"]
    assert "failed" not in target_statuses(world)


def test_dead_account() -> None:
    """All posts of one account are refused, although the API calls the account healthy."""
    world = published_after("bakery", "account-dead", 23)
    failed_accounts = {row["accountId"] for row in attempts(world) if row["status"] == "failed"}
    assert len(failed_accounts) == 1
    assert target_statuses(world)["failed"] == 3
    accounts = get(world, "/v1/accounts/health")["accounts"]
    assert {account["status"] for account in accounts} == {"healthy"}


def test_everything_fails() -> None:
    """All posts of all accounts are refused."""
    world = published_after("bakery", "everything-fails", 23)
    assert target_statuses(world)["failed"] == 9
    assert {row["status"] for row in attempts(world)} == {"failed"}


def test_outage_of_a_platform_without_accounts() -> None:
    """Customers without an account on the platform have the outage on that of their first one."""
    world = published_after("weekly", "platform-outage", 1)
    assert [incident.accounts for incident in world.incidents] == []
    world.start_incident("platform-outage")
    assert [incident.accounts for incident in world.incidents] == [world.accounts]

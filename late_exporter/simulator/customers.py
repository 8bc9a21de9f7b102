"""Customers, who publish, refresh tokens, connect accounts and call the API."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from math import cos, pi
from typing import Any, TypeAlias

import msgspec

from late_exporter.simulator.accounts import (
    ACCOUNTS,
    CAPTIONS,
    COMMON_FAILURES,
    RATE_LIMITED,
    TOKEN_EXPIRED,
    PublishFailure,
    SimulatedAccount,
)
from late_exporter.simulator.incidents import Outcome
from late_exporter.simulator.log_list import DAY, HOUR, MINUTE, JsonObject, LogRow, timestamp
from late_exporter.simulator.profiles import CustomerProfile
from late_exporter.simulator.world import Post, Process, SimulatedWorld

PublishStep: TypeAlias = Generator[float, None, PublishFailure | None]
"""Part of a process, which returns its failure."""

OUTCOMES: Mapping[str, Sequence[Outcome]] = {
    "webhooks": [("webhook.delivered", 200, None)],
    "api_request": [("GET /v1/posts", 200, None)],
}
"""Usual logs of what customers do beside publishing, by the type of the logs."""

CONNECT_FAILURE_RATE = 0.4
CONNECT_INTERVAL = 30 * DAY
"""Average time after which an account of a profile is connected again."""

LOGS_PER_POST = 2.94
MAX_TARGETS = 3
MAX_LOAD = 1.6
"""Traffic at its highest, relative to the mean."""

CANCELLED_PROBABILITY = 0.004
FAILURE_PROBABILITY = 0.004
"""Probability that an attempt fails without an incident, low enough for an objective of 99 %."""

RETRY_WAITS = (20.0, 60.0, 180.0)
"""Seconds before each further attempt after a passing failure."""

MAX_LEAD = 6 * HOUR
MAX_PLANNED_POSTS = 500
"""For how long posts are scheduled, and about how many may wait."""

STORAGE = "https://storage.getlate.dev"


def simulate_world(
    seed: int,
    start: float,
    *,
    logs_per_day: float = 5000,
    history: float = 7 * DAY,
    accounts: Sequence[SimulatedAccount] = ACCOUNTS,
    profile: CustomerProfile | None = None,
) -> SimulatedWorld:
    """Return a world with a history, whose customers go on.

    Without a profile, a history of more than two days has an outage two days and a revoked token
    one day before its end.

    Args:
        seed: Seed of the random generator.
        start: Unix time of the end of the history.
        logs_per_day: Approximate number of publishing logs per day, without a profile.
        history: Length of the history, in seconds.
        accounts: Accounts of all customers, without a profile.
        profile: Profile of the customers.
    """
    if profile is not None:
        world = SimulatedWorld(seed, start - history, profile.accounts, profile)
        _start_profile(world, profile)
        world.advance(start)
        return world

    world = SimulatedWorld(seed, start - history, accounts)
    # Half of the posts are scheduled, the others are published at once.
    posts_per_second = logs_per_day / LOGS_PER_POST / DAY / 2
    lead = min(MAX_LEAD, MAX_PLANNED_POSTS / posts_per_second)
    world.start(_create_posts(world, posts_per_second, 0))
    world.start(_create_posts(world, posts_per_second, lead))
    world.repeat(HOUR, partial(_connect_account, world))
    world.repeat(2 * MINUTE, partial(_call_api, world))
    for account in world.accounts:
        world.repeat(6 * HOUR, partial(_refresh_token, world, account))

    if history > 2 * DAY:
        world.start_incident("platform-outage", duration=3 * HOUR, start_time=start - 2 * DAY)
        world.start_incident("revoked-token", duration=5 * HOUR, start_time=start - DAY)
    world.advance(start)
    return world


def _start_profile(world: SimulatedWorld, profile: CustomerProfile) -> None:
    """Start the processes of the customers of a profile, all of whose posts are scheduled."""
    posts_per_second = profile.posts_per_day / DAY
    lead = min(MAX_LEAD, MAX_PLANNED_POSTS / posts_per_second)
    world.start(_create_posts(world, posts_per_second, lead))
    world.repeat(CONNECT_INTERVAL / len(world.accounts), partial(_connect_account, world))
    world.repeat(1 / posts_per_second, partial(_call_api, world))
    for account in world.accounts:
        world.repeat(6 * HOUR, partial(_refresh_token, world, account))


def _due_times(world: SimulatedWorld, posts_per_second: float) -> Iterator[float]:
    """Yield when posts are due: at the hours of the profile, or at random by the time of day."""
    due_at = world.now
    if world.profile is not None and world.profile.hours:
        hours = world.profile.hours
        pause = DAY * len(hours) / world.profile.posts_per_day
        midnight = due_at // DAY * DAY
        while True:
            yield from (midnight + hour * HOUR for hour in hours if midnight + hour * HOUR > due_at)
            midnight += pause
    while True:
        due_at += world.random.expovariate(posts_per_second * MAX_LOAD)
        if world.random.random() * MAX_LOAD < _relative_load(due_at):
            yield due_at


def _create_posts(world: SimulatedWorld, posts_per_second: float, lead: float) -> Process:
    """Create posts that are scheduled some seconds before they are due, or published at once."""
    for due_at in _due_times(world, posts_per_second):
        yield due_at - lead
        if not world.is_stopped("later" if lead else "once", world.accounts[0]):
            post = _create_post(world, due_at if lead else None)
            world.posts[post.id] = post
            world.start(_publish(world, post, due_at))


def _create_post(world: SimulatedWorld, due_at: float | None) -> Post:
    """Return a new post of a customer to some of the accounts that accept its kind."""
    first = world.random.choice(world.accounts)
    kinds = first.platform.post_kinds
    min_targets = 1
    max_targets = MAX_TARGETS
    if world.profile is not None:
        kinds = world.profile.post_kinds or kinds
        min_targets = world.profile.min_targets
        max_targets = world.profile.max_targets
    kind = world.random.choice(kinds)
    of_customer = [each for each in world.accounts if each.profile_id == first.profile_id]
    accounts = [each for each in of_customer if kind in each.platform.post_kinds]
    most = min(max_targets, len(accounts))
    target_count = world.random.randint(min(min_targets, most), most)
    content = world.random.choice(CAPTIONS)
    post_id = world.object_id()
    media = [] if kind == "text" else [kind]
    scheduled_for = timestamp(due_at // 1) if due_at else None
    return Post(
        id=post_id,
        profile_id=first.profile_id,
        kind=kind,
        created_at=timestamp(world.now),
        scheduled_for=scheduled_for,
        statuses=dict.fromkeys(world.random.sample(accounts, target_count), "pending"),
        reference={
            "_id": post_id,
            "content": content,
            "status": "scheduled" if scheduled_for else "publishing",
        },
        request={
            "contentPreview": content[:200],
            "mediaCount": len(media),
            "mediaTypes": media,
            "mediaUrls": [f"{STORAGE}/{post_id}.{each}" for each in media],
            "scheduledFor": scheduled_for,
        },
    )


def _publish(world: SimulatedWorld, post: Post, due_at: float) -> Process:
    """Publish a post when it is due."""
    yield due_at
    if post.scheduled_for:
        while world.is_stopped("scheduled", *post.statuses):
            yield world.now + MINUTE
        if world.is_stopped("schedule", world.accounts[0]):
            post.reference["status"] = "draft"
            return
        for incident in world.incidents:
            if incident.kind.hold:
                yield world.now + world.random.uniform(*incident.kind.hold)
    world.draw_fates(post)
    for account in post.statuses:
        world.start(_publish_to(world, post, account))


def _publish_to(world: SimulatedWorld, post: Post, account: SimulatedAccount) -> Process:
    post.set_status(account, "processing")
    if world.profile is None and world.random.random() < CANCELLED_PROBABILITY:
        _write_log(world, account, "cancelled", post, status="skipped")
        post.set_status(account, "cancelled")
        return

    failure: PublishFailure | None = None
    for incident in world.incidents_of(account):
        failure = failure or incident.kind.refusal
    if failure is None:
        failure = yield from _attempt_repeatedly(world, post, account)
    if failure is None:
        post.set_status(account, "published")
    else:
        post.failures[account] = failure
        post.set_status(account, "failed")
    _deliver_webhook(world, account, post)


def _attempt_repeatedly(
    world: SimulatedWorld, post: Post, account: SimulatedAccount
) -> PublishStep:
    """Upload a video, and attempt to publish until it succeeds or fails for good."""
    if post.kind == "video":
        started_at = timestamp(world.now)
        duration = _draw_duration(world, post, account)
        yield world.now + duration
        result = _result_fields(None, duration)
        _write_log(world, account, "media_upload", post, createdAt=started_at, **result)

    failure = yield from _attempt(world, post, account, 1)
    for number, wait in enumerate(RETRY_WAITS, 2):
        if failure is None or not failure.is_retryable:
            break
        if failure is RATE_LIMITED:
            pause = {"status": "skipped", "statusCode": 429, "durationMs": int(wait * 1000)}
            _write_log(world, account, "rate_limit_pause", post, **pause)
        yield world.now + wait
        failure = yield from _attempt(world, post, account, number)
    return failure


def _attempt(
    world: SimulatedWorld, post: Post, account: SimulatedAccount, number: int
) -> PublishStep:
    action = "publish" if number == 1 else "retry"
    log = _write_log(world, account, action, post, status="pending", attemptNumber=number)
    duration = _draw_duration(world, post, account)
    yield world.now + duration
    failure = _draw_failure(world, post, account, number)
    log |= _result_fields(failure, duration)
    if failure is None:
        platform_id = world.object_id()
        post.links[account] = f"https://www.{account.platform.name}.com/{platform_id}"
        log["response"] = {
            "platformPostId": platform_id,
            "platformPostUrl": post.links[account],
        }
    return failure


def _draw_failure(
    world: SimulatedWorld, post: Post, account: SimulatedAccount, number: int
) -> PublishFailure | None:
    """Return the failure of an attempt to publish, of which the first is 1; None if it succeeds."""
    fate = post.fates.get(account)
    if fate is not None and number <= fate.attempt_count:
        return fate.failure
    draw = world.random.random()
    for incident in world.incidents_of(account):
        if incident.kind.failure is not None:
            return incident.kind.failure if draw < incident.kind.failure_rate else None
    if world.profile is None and draw < FAILURE_PROBABILITY:
        return world.random.choice((account.platform.failure, *COMMON_FAILURES))
    return None


def _draw_duration(world: SimulatedWorld, post: Post, account: SimulatedAccount) -> float:
    seconds = account.platform.median_seconds * world.random.lognormvariate(0, 0.6)
    if post.kind == "video":
        for incident in world.incidents_of(account):
            seconds *= incident.kind.video_slowdown
    return seconds


def _refresh_token(world: SimulatedWorld, account: SimulatedAccount) -> None:
    failure = None if world.is_connected(account) else TOKEN_EXPIRED
    if failure is None:
        world.renew_token(account)
    result = _result_fields(failure, world.random.uniform(0.15, 1.2))
    _write_log(world, account, "token_refresh", **result)


def _deliver_webhook(world: SimulatedWorld, account: SimulatedAccount, post: Post) -> None:
    """Deliver the webhook of a post that ended, if the customer has one and it is active."""
    has_webhook = account.profile_id == world.accounts[0].profile_id
    if has_webhook and not world.is_stopped("webhooks", account):
        metadata = {"event": f"post.{post.statuses[account]}", "postId": post.id}
        text = msgspec.json.encode(metadata).decode()
        if _log_activity(world, "webhooks", account, metadata=text):
            world.webhook_fired_at = world.now


def _call_api(world: SimulatedWorld) -> None:
    _log_activity(world, "api_request", world.random.choice(world.accounts))


def _log_activity(
    world: SimulatedWorld, log_type: str, account: SimulatedAccount, **fields: str
) -> bool:
    """Write the usual logs of a type, or those of an incident; return whether all succeeded."""
    outcomes = OUTCOMES[log_type]
    for incident in world.incidents_of(account):
        outcomes = incident.kind.activity.get(log_type, outcomes)
    for action, status_code, error in outcomes:
        world.lists[log_type].insert(
            {
                **account.owner,
                "type": log_type,
                "action": action,
                "status": "failed" if error else "success",
                "statusCode": status_code,
                "errorMessage": error,
                "durationMs": world.random.randint(50, 500),
                "createdAt": timestamp(world.now),
                **fields,
            }
        )
    return all(error is None for _, _, error in outcomes)


def _connect_account(world: SimulatedWorld) -> None:
    account = world.random.choice(world.accounts)
    has_failed = world.random.random() < CONNECT_FAILURE_RATE or not world.is_connected(account)
    world.log_connection(account, "connect_failed" if has_failed else "connect_success")


def _write_log(
    world: SimulatedWorld,
    account: SimulatedAccount,
    action: str,
    post: Post | None = None,
    **fields: Any,
) -> LogRow:
    """Write a log and return it."""
    row = {
        "_id": world.object_id(),
        **({"postId": post.reference, "request": post.request} if post else {}),
        **account.owner,
        "accountUsername": account.username,
        "action": action,
        "endpoint": f"api.{account.platform.name}.com/v1/posts",
        "createdAt": timestamp(world.now),
        **fields,
    }
    world.publishing.insert(row)
    return row


def _result_fields(failure: PublishFailure | None, duration: float) -> JsonObject:
    """Return the fields that a log gets at the end of its attempt."""
    if failure is None:
        return {"status": "success", "statusCode": 200, "durationMs": int(duration * 1000)}
    return {
        "status": "failed",
        "statusCode": failure.status_code,
        "durationMs": int(duration * 1000),
        "response": {"errorMessage": failure.message, "errorCode": failure.code},
    }


def _relative_load(time: float) -> float:
    """Return the traffic relative to the mean: highest at 13:00 UTC, lowest at 01:00."""
    return 1 - (MAX_LOAD - 1) * cos(2 * pi * (time - HOUR) / DAY)

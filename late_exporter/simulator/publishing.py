"""Processes that create posts, publish them, and write the publishing logs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from math import cos, pi
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from late_exporter.simulator.accounts import (
    CAPTIONS,
    RATE_LIMITED,
    STUCK,
    TOKEN_EXPIRED,
    UPLOAD_FAILED,
    PublishFailure,
    SimulatedAccount,
)
from late_exporter.simulator.log_list import DAY, HOUR, MINUTE, JsonObject, LogRow, timestamp

if TYPE_CHECKING:
    from late_exporter.simulator.world import SimulatedWorld

Process: TypeAlias = Iterator[float]
"""Process of the world. It yields the Unix time until which it waits."""

PublishStep: TypeAlias = Generator[float, None, PublishFailure | None]
"""Part of a process, which returns its failure."""

LOGS_PER_POST = 2.57
KINDS = ("text", "image", "video")
CUMULATIVE_KINDS = (0.2, 0.7, 1.0)
TARGET_COUNTS = (1, 2, 3, 4)
CUMULATIVE_COUNTS = (0.45, 0.75, 0.9, 1.0)
MAX_ATTEMPTS = 4
RARE_PROBABILITY = 0.004
STUCK_PROBABILITY = 0.0001
LOGGED_AT_END_PROBABILITY = 0.4
STUCK_SECONDS = 20 * MINUTE

SCHEDULED_SHARE = 0.5
"""Share of posts that are scheduled rather than published at once."""

MAX_LEAD = 6 * HOUR
MAX_PLANNED_POSTS = 500
"""For how long posts are scheduled, and about how many may wait."""

STORAGE = "https://storage.getlate.dev"


class Post(msgspec.Struct):
    """Post to accounts of one customer.

    Args:
        id: Its id.
        profile_id: Profile of the customer.
        kind: ``text``, ``image`` or ``video``.
        created_at: Time of its creation, as the API shows it.
        scheduled_for: Time for which it is scheduled, if it is, as the API shows it.
        statuses: Its status on each account.
        failures: Why it failed, by account.
        links: Address of its publication, by account.
        reference: Field ``postId`` of its logs.
        request: Field ``request`` of its logs.
    """

    id: str
    profile_id: str
    kind: str
    created_at: str
    scheduled_for: str | None
    statuses: dict[SimulatedAccount, str]
    reference: JsonObject
    request: JsonObject
    failures: dict[SimulatedAccount, PublishFailure] = msgspec.field(default_factory=dict)
    links: dict[SimulatedAccount, str] = msgspec.field(default_factory=dict)

    def log_time(self, time: float) -> str:
        """Return a time as the logs of the post show it."""
        return timestamp(time, whole_seconds=self.scheduled_for is not None)

    def set_status(self, account: SimulatedAccount, status: str) -> None:
        """Change the status of the post on one account, from which that of the post follows."""
        self.statuses[account] = status
        results = set(self.statuses.values())
        if not results.isdisjoint({"pending", "processing"}):
            self.reference["status"] = "publishing"
        elif len(results) == 1:
            self.reference["status"] = results.pop()
        elif results == {"failed", "cancelled"}:
            self.reference["status"] = "failed"
        else:
            self.reference["status"] = "partial"


def start_publishing(world: SimulatedWorld, logs_per_day: float) -> None:
    """Start the processes that write about as many publishing logs per day."""
    posts_per_second = logs_per_day / LOGS_PER_POST / DAY
    lead = min(MAX_LEAD, MAX_PLANNED_POSTS / SCHEDULED_SHARE / posts_per_second)
    world.start(_create_posts(world, (1 - SCHEDULED_SHARE) * posts_per_second, 0))
    world.start(_create_posts(world, SCHEDULED_SHARE * posts_per_second, lead))
    for account in world.accounts:
        world.start(_refresh_tokens(world, account))


def _create_posts(world: SimulatedWorld, posts_per_second: float, lead: float) -> Process:
    """Create posts that are scheduled some seconds before they are due, or published at once."""

    def draw_next(time: float) -> float:
        return time + world.random.expovariate(posts_per_second * _relative_load(time))

    due_at = draw_next(world.now)
    while True:
        yield due_at - lead
        time = due_at
        due_at = draw_next(due_at)
        if world.is_stopped("later" if lead else "once", world.accounts[0]):
            continue
        scheduled_at = time if lead else None
        post = _draw_post(world, scheduled_at)
        if post is not None:
            world.posts[post.id] = post
            world.start(_publish(world, post, scheduled_at))


def _publish(world: SimulatedWorld, post: Post, due_at: float | None) -> Process:
    """Publish a post when it is due, or at once, and rarely delete it later."""
    if due_at is not None:
        yield due_at
        while world.is_stopped("scheduled", *post.statuses):
            yield world.now + MINUTE
        if world.is_stopped("schedule", world.accounts[0]):
            post.reference["status"] = "draft"
            return
        holds = [each.kind.hold for each in world.incidents_of(world.accounts[0]) if each.kind.hold]
        if holds:
            yield world.now + world.hold_random.uniform(*holds[0])
    for account in post.statuses:
        delay = world.random.uniform(0, 4) if due_at is None else 0.0
        world.start(_publish_to(world, post, account, world.now + delay))
    if world.random.random() < RARE_PROBABILITY:
        yield world.now + world.random.expovariate(1 / (6 * HOUR))
        del world.posts[post.id]
        world.publishing.delete(*(row["_id"] for row in world.publishing.rows_of_post(post.id)))


def _draw_post(world: SimulatedWorld, due_at: float | None) -> Post | None:
    """Return a new post; None if the drawn customer has no account for the drawn kind."""
    kind = world.random.choices(KINDS, cum_weights=CUMULATIVE_KINDS)[0]
    profiles = list(dict.fromkeys(account.profile_id for account in world.accounts))
    profile_id = world.random.choice(profiles)
    target_count = world.random.choices(TARGET_COUNTS, cum_weights=CUMULATIVE_COUNTS)[0]
    of_profile = [each for each in world.accounts if each.profile_id == profile_id]
    accounts = [each for each in of_profile if kind in each.platform.post_kinds]
    accounts.sort(
        key=lambda account: world.random.random() ** (1 / account.platform.weight), reverse=True
    )
    if not accounts:
        return None

    media_count = 1
    if kind == "text":
        media_count = 0
    elif kind == "image":
        media_count = world.random.choice((1, 1, 1, 3))
    content = world.random.choice(CAPTIONS)
    names = [f"{world.random.getrandbits(48):012x}.{kind}" for _ in range(media_count)]
    scheduled_for = timestamp(due_at, whole_seconds=True) if due_at else None
    post_id = world.object_id()
    return Post(
        id=post_id,
        profile_id=profile_id,
        kind=kind,
        created_at=timestamp(world.now),
        scheduled_for=scheduled_for,
        statuses=dict.fromkeys(accounts[:target_count], "pending"),
        reference={
            "_id": post_id,
            "content": content,
            "status": "scheduled" if scheduled_for else "publishing",
        },
        request={
            "contentPreview": content[:200],
            "mediaCount": media_count,
            "mediaTypes": [kind] * media_count,
            "mediaUrls": [f"{STORAGE}/{name}" for name in names],
            "scheduledFor": scheduled_for,
        },
    )


def _publish_to(
    world: SimulatedWorld, post: Post, account: SimulatedAccount, start_at: float
) -> Process:
    yield start_at
    post.set_status(account, "processing")
    draw = world.random.random()
    failure: PublishFailure | None = None
    for incident in world.incidents_of(account):
        failure = failure or incident.kind.refusal

    if failure is not None:
        result = "failed"
    elif draw < RARE_PROBABILITY:
        _write_log(world, account, "cancelled", post, status="skipped")
        result = "cancelled"
    elif draw < 2 * RARE_PROBABILITY:
        # It has been published already.
        _write_log(world, account, "publish", post, status="skipped")
        result = "published"
    else:
        if post.kind == "video":
            failure = yield from _upload(world, post, account)
        if failure is None:
            failure = yield from _attempt_repeatedly(world, post, account)
        result = "failed" if failure else "published"
    if failure is not None:
        post.failures[account] = failure
    post.set_status(account, result)
    world.deliver_webhook(account, post.id, result)


def _upload(world: SimulatedWorld, post: Post, account: SimulatedAccount) -> PublishStep:
    started_at = post.log_time(world.now)
    duration = 0.6 * _draw_duration(world, post, account)
    yield world.now + duration
    failure = UPLOAD_FAILED if world.random.random() < 2 * RARE_PROBABILITY else None
    result = _result_fields(failure, duration)
    _write_log(
        world, account, "media_upload", post, attemptNumber=1, createdAt=started_at, **result
    )
    return failure


def _attempt_repeatedly(
    world: SimulatedWorld, post: Post, account: SimulatedAccount
) -> PublishStep:
    """Attempt to publish until it succeeds or fails for good."""
    number = 1
    failure = yield from _attempt(world, post, account, 1)
    while failure is not None and failure.is_retryable and number < MAX_ATTEMPTS:
        wait = 20 * 3 ** (number - 1) * world.random.uniform(0.8, 1.3)
        if failure is RATE_LIMITED:
            _write_log(
                world,
                account,
                "rate_limit_pause",
                post,
                status="skipped",
                statusCode=429,
                attemptNumber=number,
                durationMs=int(wait * 1000),
            )
        yield world.now + wait
        number += 1
        failure = yield from _attempt(world, post, account, number)
    return failure


def _attempt(
    world: SimulatedWorld, post: Post, account: SimulatedAccount, number: int
) -> PublishStep:
    """Attempt to publish; some attempts are logged only at their end."""
    action = "publish" if number == 1 else "retry"
    log: JsonObject = {"attemptNumber": number, "createdAt": post.log_time(world.now)}
    duration = _draw_duration(world, post, account)
    failure = _draw_failure(world, account)
    draw = world.random.random()
    is_logged_at_end = draw < LOGGED_AT_END_PROBABILITY
    if not is_logged_at_end:
        log = _write_log(world, account, action, post, status="pending", **log)
    if draw >= 1 - STUCK_PROBABILITY:
        yield world.now + STUCK_SECONDS
        return STUCK  # The log stays pending, but the post must not be in progress for days.

    yield world.now + duration
    log |= _result_fields(failure, duration)
    if failure is None:
        platform_id = f"{world.random.getrandbits(56)}"
        post.links[account] = f"https://www.{account.platform.name}.com/{platform_id}"
        log["response"] = {
            "platformPostId": platform_id,
            "platformPostUrl": post.links[account],
        }
    if is_logged_at_end:
        _write_log(world, account, action, post, **log)
    return failure


def _draw_failure(world: SimulatedWorld, account: SimulatedAccount) -> PublishFailure | None:
    """Return the failure of a publish attempt, or None if it succeeds."""
    for incident in world.incidents_of(account):
        failure = incident.kind.failure
        if failure is not None:
            rate = incident.kind.failure_rate
            return failure if rate == 1 or world.random.random() < rate else None
    if world.random.random() >= account.platform.failure_rate:
        return None
    failures = account.platform.failures
    return world.random.choices(tuple(failures), tuple(failures.values()))[0]


def _draw_duration(world: SimulatedWorld, post: Post, account: SimulatedAccount) -> float:
    seconds = account.platform.median_seconds * world.random.lognormvariate(
        0, account.platform.sigma
    )
    for incident in world.incidents_of(account):
        factors = incident.kind.slowdown.get(post.kind)
        if factors is not None:
            seconds *= world.random.uniform(*factors)
    return seconds


def _refresh_tokens(world: SimulatedWorld, account: SimulatedAccount) -> Process:
    yield world.now + world.random.uniform(0, 6 * HOUR)
    while True:
        failure = None if world.is_connected(account) else TOKEN_EXPIRED
        if failure is None:
            world.renew_token(account)
        result = _result_fields(failure, world.random.uniform(0.15, 1.2))
        _write_log(world, account, "token_refresh", **result)
        yield world.now + world.random.uniform(4 * HOUR, 8 * HOUR)


def _write_log(
    world: SimulatedWorld,
    account: SimulatedAccount,
    action: str,
    post: Post | None = None,
    **fields: Any,
) -> LogRow:
    """Write a log, unless its post has been deleted, and return it."""
    row = {
        "_id": world.object_id(),
        **({"postId": post.reference, "request": post.request} if post else {}),
        **account.owner,
        "accountUsername": account.username,
        "action": action,
        "endpoint": f"api.{account.platform.name}.com/v1/posts",
        "createdAt": post.log_time(world.now) if post else timestamp(world.now),
        **fields,
    }
    if post is None or post.id in world.posts:
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
    """Return the traffic relative to the weekly mean.

    It is low at night, highest in the afternoon, and lower at weekends.
    """
    days, seconds = divmod(time, DAY)
    hour = seconds / HOUR
    hourly_load = 1 - 0.55 * cos(2 * pi * (hour - 2.5) / 24) - 0.2 * cos(4 * pi * (hour - 3) / 24)
    return hourly_load * (0.75 if (days + 3) % 7 in {5, 6} else 1.1)  # the epoch was a Thursday

"""Processes that create posts, publish them, and write the publishing logs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from math import cos, pi
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from late_exporter.simulator.accounts import CAPTIONS, SimulatedAccount
from late_exporter.simulator.activity import Activity
from late_exporter.simulator.log_list import DAY, HOUR, MINUTE, JsonObject, LogRow, timestamp
from late_exporter.simulator.platforms import RATE_LIMITED, STUCK, TOKEN_EXPIRED, UPLOAD_FAILED, PublishFailure

if TYPE_CHECKING:
    from late_exporter.simulator.world import SimulatedWorld

Process: TypeAlias = Iterator[float]
"""Process of the world. It yields the Unix time until which it waits."""

PublishStep: TypeAlias = Generator[float, None, PublishFailure | None]
"""Part of a process, which returns its failure."""

LOGS_PER_POST = 2.57
KINDS, CUMULATIVE_KINDS = ("text", "image", "video"), (0.2, 0.7, 1.0)
TARGET_COUNTS, CUMULATIVE_COUNTS = (1, 2, 3, 4), (0.45, 0.75, 0.9, 1.0)
MAX_ATTEMPTS = 4
RARE_PROBABILITY, STUCK_PROBABILITY, LOGGED_AT_END_PROBABILITY = 0.004, 0.0001, 0.4
STUCK_SECONDS = 20 * MINUTE
SCHEDULED_SHARE, MAX_LEAD, MAX_PLANNED_POSTS = 0.5, 6 * HOUR, 500
"""Share of posts that are scheduled rather than published at once, for how long, and about how many may wait."""


class Post(msgspec.Struct):
    """Post to accounts of one customer.

    Args:
        kind: ``text``, ``image`` or ``video``.
        created_at: Time of its creation, as the API shows it.
        statuses: Its status on each account.
        reference: Field ``postId`` of its logs.
        request: Field ``request`` of its logs.
    """

    kind: str
    created_at: str
    statuses: dict[SimulatedAccount, str]
    reference: JsonObject
    request: JsonObject

    @property
    def id(self) -> str:
        return str(self.reference["_id"])

    @property
    def profile_id(self) -> str:
        return next(iter(self.statuses)).profile_id

    @property
    def scheduled_for(self) -> str | None:
        return self.request.get("scheduledFor")

    @property
    def document(self) -> JsonObject:
        """The post in the format of ``GET /v1/posts``."""
        statuses = self.statuses.items()
        targets = [
            {"platform": each.platform.name, "accountId": each.id, "status": status} for each, status in statuses
        ]
        times = {"scheduledFor": self.scheduled_for, "createdAt": self.created_at}
        return {**self.reference, **times, "userId": next(iter(self.statuses)).user_id, "platforms": targets}

    def log_time(self, time: float) -> str:
        """Return a time as the logs of the post show it."""
        return timestamp(time, whole_seconds=self.scheduled_for is not None)

    def set_status(self, account: SimulatedAccount, status: str) -> None:
        """Change the status of the post on one account, from which that of the post follows."""
        self.statuses[account] = status
        results = set(self.statuses.values())
        is_active = bool(results & {"pending", "processing"})
        self.reference["status"] = "publishing" if is_active else results.pop() if len(results) == 1 else "partial"


class Publishing:
    """Posts of the customers of a world, and what becomes of them.

    Args:
        world: State of the world.
        activity: Activity that delivers the webhook of posts.
        logs_per_day: Approximate number of publishing logs per day.
    """

    def __init__(self, world: SimulatedWorld, activity: Activity, logs_per_day: float) -> None:
        self._world = world
        self._random = world.random
        self._activity = activity
        self._users = tuple(dict.fromkeys(account.user_id for account in world.accounts))
        self._posts_per_second = logs_per_day / LOGS_PER_POST / DAY
        lead = min(MAX_LEAD, MAX_PLANNED_POSTS / SCHEDULED_SHARE / self._posts_per_second)
        world.start(self._create_posts(1 - SCHEDULED_SHARE, 0))
        world.start(self._create_posts(SCHEDULED_SHARE, lead))
        for account in world.accounts:
            world.start(self._refresh_tokens(account))

    def _create_posts(self, share: float, lead: float) -> Process:
        """Create a share of all posts, scheduled some seconds before they are due, or published at once."""
        due_at = self._draw_next(self._world.now, share)
        while True:
            yield due_at - lead
            time, due_at = due_at, self._draw_next(due_at, share)
            if lead or not self._world.is_stopped("once", self._world.accounts[0]):
                self._create_post(time if lead else None)

    def _draw_next(self, time: float, share: float) -> float:
        """Return the Unix time of the next post of a share of all posts, after one at a time."""
        return time + self._random.expovariate(share * self._posts_per_second * _relative_load(time))

    def _create_post(self, due_at: float | None) -> None:
        """Create a post, unless the drawn customer has no account for the drawn kind."""
        kind = self._random.choices(KINDS, cum_weights=CUMULATIVE_KINDS)[0]
        user = self._random.choice(self._users)
        target_count = self._random.choices(TARGET_COUNTS, cum_weights=CUMULATIVE_COUNTS)[0]
        accounts = [each for each in self._world.accounts if each.user_id == user and kind in each.platform.post_kinds]
        accounts.sort(key=lambda account: self._random.random() ** (1 / account.platform.weight), reverse=True)
        if not accounts:
            return
        media_count = 0 if kind == "text" else self._random.choice((1, 1, 1, 3)) if kind == "image" else 1
        content, host = self._random.choice(CAPTIONS), "https://storage.getlate.dev"
        urls = [f"{host}/{self._random.getrandbits(48):012x}.{kind}" for _ in range(media_count)]
        request: JsonObject = {"contentPreview": content[:200], "mediaUrls": urls}
        if due_at is not None:
            request["scheduledFor"] = timestamp(due_at, whole_seconds=True)
        status = "publishing" if due_at is None else "scheduled"
        reference = {"_id": self._world.object_id(), "content": content, "status": status}
        statuses = dict.fromkeys(accounts[:target_count], "pending")
        post = self._world.posts[reference["_id"]] = Post(
            kind, timestamp(self._world.now), statuses, reference, request
        )
        self._world.start(self._publish(post, due_at))

    def _publish(self, post: Post, due_at: float | None) -> Process:
        if due_at is not None:
            yield due_at
            while self._world.is_stopped("scheduled", self._world.accounts[0]):
                yield self._world.now + MINUTE
        for account in post.statuses:
            delay = self._random.uniform(0, 4) if due_at is None else 0.0
            self._world.start(self._publish_to(post, account, self._world.now + delay))
        if self._random.random() < RARE_PROBABILITY:
            yield self._world.now + self._random.expovariate(1 / (6 * HOUR))
            self._world.posts.pop(post.id, None)
            self._world.publishing.delete(*(row["_id"] for row in self._world.publishing.rows_of_post(post.id)))

    def _publish_to(self, post: Post, account: SimulatedAccount, start_at: float) -> Process:
        yield start_at
        post.set_status(account, "processing")
        refusals = (incident.kind.refusal for incident in self._world.incidents_of(account))
        failure, draw = next(filter(None, refusals), None), self._random.random()
        if failure is None and draw < 2 * RARE_PROBABILITY:
            is_cancelled = draw < RARE_PROBABILITY  # or has been published already
            self._write_log(account, "cancelled" if is_cancelled else "publish", post, status="skipped")
            result = "cancelled" if is_cancelled else "published"
        else:
            if failure is None and post.kind == "video":
                failure = yield from self._upload(post, account)
            if failure is None:
                failure = yield from self._attempt(post, account)
            result = "failed" if failure else "published"
        post.set_status(account, result)
        self._activity.deliver_webhook(account, post.id, result)

    def _upload(self, post: Post, account: SimulatedAccount) -> PublishStep:
        started_at, duration = post.log_time(self._world.now), 0.6 * self._draw_duration(post, account)
        yield self._world.now + duration
        failure = UPLOAD_FAILED if self._random.random() < 2 * RARE_PROBABILITY else None
        result = {"attemptNumber": 1, "createdAt": started_at, **_result_fields(failure, duration)}
        self._write_log(account, "media_upload", post, **result)
        return failure

    def _attempt(self, post: Post, account: SimulatedAccount) -> PublishStep:
        """Attempt to publish until it succeeds or fails for good; some attempts are logged only at their end."""
        number = 0
        while True:
            number += 1
            action, log = (
                "retry" if number > 1 else "publish",
                {"attemptNumber": number, "createdAt": post.log_time(self._world.now)},
            )
            duration, failure = self._draw_duration(post, account), self._draw_failure(account)
            draw = self._random.random()
            is_stuck, is_logged_at_end = draw >= 1 - STUCK_PROBABILITY, draw < LOGGED_AT_END_PROBABILITY
            if not is_logged_at_end:
                log = self._write_log(account, action, post, status="pending", **log)
            if is_stuck:
                yield self._world.now + STUCK_SECONDS
                return STUCK  # The log stays pending, but the post must not be in progress for days.
            yield self._world.now + duration
            log |= _result_fields(failure, duration)
            if failure is None:
                platform_id = f"{self._random.getrandbits(56)}"
                url = f"https://www.{account.platform.name}.com/{platform_id}"
                log["response"] = {"platformPostId": platform_id, "platformPostUrl": url}
            if is_logged_at_end:
                self._write_log(account, action, post, **log)
            if failure is None or not failure.is_retryable or number == MAX_ATTEMPTS:
                return failure
            wait = 20 * 3 ** (number - 1) * self._random.uniform(0.8, 1.3)
            if failure is RATE_LIMITED:
                pause = {"statusCode": 429, "attemptNumber": number, "durationMs": int(wait * 1000)}
                self._write_log(account, "rate_limit_pause", post, status="skipped", **pause)
            yield self._world.now + wait

    def _draw_failure(self, account: SimulatedAccount) -> PublishFailure | None:
        """Return the failure of a publish attempt, or None if it succeeds."""
        for incident in self._world.incidents_of(account):
            if failure := incident.kind.failure:
                rate = incident.kind.failure_rate
                return failure if rate == 1 or self._random.random() < rate else None
        if self._random.random() >= account.platform.failure_rate:
            return None
        return self._random.choices(tuple(account.platform.failures), tuple(account.platform.failures.values()))[0]

    def _draw_duration(self, post: Post, account: SimulatedAccount) -> float:
        seconds = account.platform.median_seconds * self._random.lognormvariate(0, account.platform.sigma)
        for incident in self._world.incidents_of(account):
            if factors := incident.kind.slowdown.get(post.kind):
                seconds *= self._random.uniform(*factors)
        return seconds

    def _refresh_tokens(self, account: SimulatedAccount) -> Process:
        yield self._world.now + self._random.uniform(0, 6 * HOUR)
        while True:
            failure = None if self._world.is_connected(account) else TOKEN_EXPIRED
            if failure is None:
                self._world.renew_token(account)
            self._write_log(account, "token_refresh", **_result_fields(failure, self._random.uniform(0.15, 1.2)))
            yield self._world.now + self._random.uniform(4 * HOUR, 8 * HOUR)

    def _write_log(self, account: SimulatedAccount, action: str, post: Post | None = None, **fields: Any) -> LogRow:
        """Write a log, unless its post has been deleted, and return it."""
        row = {
            "_id": self._world.object_id(),
            **({"postId": post.reference, "request": post.request} if post else {}),
            **account.owner,
            "accountId": account.id,
            "accountUsername": account.username,
            "action": action,
            "endpoint": f"api.{account.platform.name}.com/v1/posts",
            "createdAt": post.log_time(self._world.now) if post else timestamp(self._world.now),
            **fields,
        }
        if post is None or post.id in self._world.posts:
            self._world.publishing.insert(row)
        return row


def _result_fields(failure: PublishFailure | None, duration: float) -> JsonObject:
    """Return the fields that a log gets at the end of its attempt."""
    result: JsonObject = {"status": "success", "statusCode": 200, "durationMs": int(duration * 1000)}
    if failure is not None:
        response = {"errorMessage": failure.message, "errorCode": failure.code}
        result |= {"status": "failed", "statusCode": failure.status_code, "response": response}
    return result


def _relative_load(time: float) -> float:
    """Return the traffic relative to the weekly mean: low at night, highest in the afternoon, lower at weekends."""
    days, seconds = divmod(time, DAY)
    hour = seconds / HOUR
    hourly_load = 1 - 0.55 * cos(2 * pi * (hour - 2.5) / 24) - 0.2 * cos(4 * pi * (hour - 3) / 24)
    is_weekend = (days + 3) % 7 in {5, 6}  # the epoch was a Thursday
    return hourly_load * (0.75 if is_weekend else 1.1)

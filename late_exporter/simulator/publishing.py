"""Simulation of posts, their publish attempts, and the publishing logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import cos, pi
from typing import Any

import msgspec

from late_exporter.simulator.accounts import CAPTIONS, SimulatedAccount
from late_exporter.simulator.events import DAY, HOUR, MINUTE, EventQueue, timestamp
from late_exporter.simulator.incidents import WorldConditions
from late_exporter.simulator.log_list import LogList
from late_exporter.simulator.platforms import (
    COOLDOWN,
    GATEWAY_TIMEOUT,
    MEDIA_UPLOAD_FAILED,
    RATE_LIMITED,
    TOKEN_EXPIRED,
    PublishFailure,
)
from late_exporter.simulator.posts import PostList, SimulatedPost

LOGS_PER_POST = 2.57
KINDS, CUMULATIVE_KINDS = ("text", "image", "video"), (0.2, 0.7, 1.0)
TARGET_COUNTS, CUMULATIVE_COUNTS = (1, 2, 3, 4), (0.45, 0.75, 0.9, 1.0)
MAX_ATTEMPTS = 4
RARE_PROBABILITY = 0.004
STUCK_PROBABILITY = 0.0001
STUCK_SECONDS = 20 * MINUTE
LOGGED_AT_END_PROBABILITY = 0.4

SCHEDULED_SHARE = 0.5
"""Share of posts that are scheduled; the others are published at once."""

MAX_LEAD = 6 * HOUR
"""Time between the creation of a scheduled post and its publication."""

MAX_PLANNED_POSTS = 500
"""Approximate number of scheduled posts that are waiting; with more traffic the lead is shorter."""


class PublishAttempt(msgspec.Struct, kw_only=True):
    """Attempt to publish a post on one account. ``log_id`` is None until its log is written."""

    post: SimulatedPost
    account: SimulatedAccount
    number: int
    started_at: float
    duration: float
    failure: PublishFailure | None
    log_id: str | None = None


class PublishingSimulation:
    """Create posts, publish them, and write the publishing logs.

    A post goes to accounts of one customer. ``on_result`` is called with the account, the post id and the result of
    every post that ends on an account.
    """

    def __init__(
        self,
        events: EventQueue,
        log_list: LogList,
        conditions: WorldConditions,
        accounts: Sequence[SimulatedAccount],
        logs_per_day: float,
        on_result: Callable[[SimulatedAccount, str, str], None] | None,
    ) -> None:
        self.posts = PostList()
        self._events = events
        self._random = events.random
        self._log_list = log_list
        self._conditions = conditions
        self._on_result = on_result
        user_ids = dict.fromkeys(account.user_id for account in accounts)
        self._accounts_by_user = [[account for account in accounts if account.user_id == user] for user in user_ids]
        self._posts_per_second = logs_per_day / LOGS_PER_POST / DAY
        self._lead = min(MAX_LEAD, MAX_PLANNED_POSTS / SCHEDULED_SHARE / self._posts_per_second)
        events.schedule_in(self._draw_interval(events.now, 1 - SCHEDULED_SHARE), self._publish_at_once)
        self._schedule_planning(events.now)
        for account in accounts:
            events.schedule_in(self._random.uniform(0, 6 * HOUR), partial(self._refresh_token, account))

    def _draw_interval(self, time: float, share: float) -> float:
        """Return the time until the next post of a share of all posts, after one at a Unix time."""
        return self._random.expovariate(share * self._posts_per_second * _relative_load(time))

    def _publish_at_once(self) -> None:
        interval = self._draw_interval(self._events.now, 1 - SCHEDULED_SHARE)
        self._events.schedule_in(interval, self._publish_at_once)
        if self._conditions.find_incident("suspended") is None:
            post = self._create_post(None)
            if post is not None:
                self._start_post(post)

    def _schedule_planning(self, previous: float) -> None:
        """Schedule the creation of the scheduled post that follows one that is due at ``previous``."""
        due_at = previous + self._draw_interval(previous, SCHEDULED_SHARE)
        self._events.schedule_at(due_at - self._lead, partial(self._plan_post, due_at))

    def _plan_post(self, due_at: float) -> None:
        self._schedule_planning(due_at)
        post = self._create_post(due_at)
        if post is not None:
            self._events.schedule_at(due_at, partial(self._publish_planned, post))

    def _publish_planned(self, post: SimulatedPost) -> None:
        if self._conditions.holds_scheduled_posts():
            self._events.schedule_in(MINUTE, partial(self._publish_planned, post))
        else:
            self._start_post(post)

    def _create_post(self, scheduled_at: float | None) -> SimulatedPost | None:
        """Create a post, unless the drawn customer has no account for the drawn kind."""
        kind = self._random.choices(KINDS, cum_weights=CUMULATIVE_KINDS)[0]
        accounts = self._choose_accounts(kind)
        if not accounts:
            return None
        media_count = 0 if kind == "text" else self._random.choice((1, 1, 1, 3)) if kind == "image" else 1
        suffix = "mp4" if kind == "video" else "jpg"
        post = SimulatedPost(
            self._events.object_id(),
            self._random.choice(CAPTIONS),
            kind,
            [f"https://storage.getlate.dev/{self._random.getrandbits(48):012x}.{suffix}" for _ in range(media_count)],
            accounts,
            created_at=self._events.now,
            scheduled_at=scheduled_at,
        )
        self.posts.add(post)
        return post

    def _start_post(self, post: SimulatedPost) -> None:
        for target in post.targets.values():
            delay = self._random.uniform(0, 4) if post.scheduled_at is None else 0.0
            self._events.schedule_in(delay, partial(self._start_publishing, post, target.account))
        if self._events.draw_bool(RARE_PROBABILITY):
            self._events.schedule_in(self._random.expovariate(1 / (6 * HOUR)), partial(self._delete_post, post))

    def _choose_accounts(self, kind: str) -> list[SimulatedAccount]:
        accounts = self._random.choice(self._accounts_by_user)
        candidates = [account for account in accounts if kind in account.platform.post_kinds]
        count = min(len(candidates), self._random.choices(TARGET_COUNTS, cum_weights=CUMULATIVE_COUNTS)[0])
        candidates.sort(key=lambda account: self._random.random() ** (1 / account.platform.weight), reverse=True)
        return candidates[:count]

    def _start_publishing(self, post: SimulatedPost, account: SimulatedAccount) -> None:
        post.start(account, self._events.now)
        draw = self._random.random()
        if self._conditions.find_incident("account-cooldown", account):
            self._end_post(post, account, "failed", failure=COOLDOWN)
        elif draw < RARE_PROBABILITY:
            self._write_log(account, "cancelled", "skipped", post=post)
            self._end_post(post, account, "cancelled")
        elif draw < 2 * RARE_PROBABILITY:
            self._write_log(account, "publish", "skipped", post=post, response={"errorMessage": "Already published"})
            self._end_post(post, account, "published")
        elif post.kind == "video":
            duration = 0.6 * self._conditions.draw_duration(account, post.kind, self._random)
            self._events.schedule_in(duration, partial(self._finish_upload, post, account, self._events.now, duration))
        else:
            self._start_attempt(post, account, 1)

    def _finish_upload(
        self, post: SimulatedPost, account: SimulatedAccount, started_at: float, duration: float
    ) -> None:
        failure = MEDIA_UPLOAD_FAILED if self._events.draw_bool(2 * RARE_PROBABILITY) else None
        result = _result_fields(failure, duration)
        self._write_log(account, "media_upload", started_at=started_at, post=post, attemptNumber=1, **result)
        if failure:
            self._end_post(post, account, "failed", failure=failure)
        else:
            self._start_attempt(post, account, 1)

    def _start_attempt(self, post: SimulatedPost, account: SimulatedAccount, number: int) -> None:
        post.start(account, self._events.now, attempt_count=number)
        attempt = PublishAttempt(
            post=post,
            account=account,
            number=number,
            started_at=self._events.now,
            duration=self._conditions.draw_duration(account, post.kind, self._random),
            failure=self._conditions.choose_failure(account, self._random),
        )
        draw = self._random.random()
        if draw >= LOGGED_AT_END_PROBABILITY:
            attempt.log_id = self._write_log(account, _attempt_action(number), post=post, attemptNumber=number)
        if draw < 1 - STUCK_PROBABILITY:
            self._events.schedule_in(attempt.duration, partial(self._finish_attempt, attempt))
        else:
            # The log stays pending, but the post must not be in progress for days.
            end = partial(self._end_post, post, account, "failed", failure=GATEWAY_TIMEOUT)
            self._events.schedule_in(STUCK_SECONDS, end)

    def _finish_attempt(self, attempt: PublishAttempt) -> None:
        account, post = attempt.account, attempt.post
        result = _result_fields(attempt.failure, attempt.duration)
        url = None
        if attempt.failure is None:
            platform_id = f"{self._random.getrandbits(56)}"
            url = account.platform.post_url_prefix + platform_id
            result["response"] = {"platformPostId": platform_id, "platformPostUrl": url}
        if attempt.log_id is not None:
            self._log_list.update(attempt.log_id, **result)
        else:
            action, number = _attempt_action(attempt.number), attempt.number
            self._write_log(account, action, started_at=attempt.started_at, post=post, attemptNumber=number, **result)
        self._retry_or_end(attempt, url)

    def _retry_or_end(self, attempt: PublishAttempt, url: str | None) -> None:
        failure, number = attempt.failure, attempt.number
        if failure is None:
            self._end_post(attempt.post, attempt.account, "published", url=url)
        elif not failure.retryable or number >= MAX_ATTEMPTS:
            self._end_post(attempt.post, attempt.account, "failed", failure=failure)
        else:
            wait = 20 * 3 ** (number - 1) * self._random.uniform(0.8, 1.3)
            if failure is RATE_LIMITED:
                pause = {"statusCode": 429, "attemptNumber": number, "durationMs": int(wait * 1000)}
                self._write_log(attempt.account, "rate_limit_pause", "skipped", post=attempt.post, **pause)
            self._events.schedule_in(wait, partial(self._start_attempt, attempt.post, attempt.account, number + 1))

    def _end_post(
        self,
        post: SimulatedPost,
        account: SimulatedAccount,
        result: str,
        *,
        url: str | None = None,
        failure: PublishFailure | None = None,
    ) -> None:
        post.end(account, result, self._events.now, url=url, failure=failure)
        if self._on_result is not None:
            self._on_result(account, post.id, result)

    def _refresh_token(self, account: SimulatedAccount) -> None:
        failure = TOKEN_EXPIRED if account.id in self._conditions.disconnected_ids else None
        if failure is None:
            self._conditions.extend_token(account, self._events.now)
        self._write_log(account, "token_refresh", **_result_fields(failure, self._random.uniform(0.15, 1.2)))
        self._events.schedule_in(self._random.uniform(4 * HOUR, 8 * HOUR), partial(self._refresh_token, account))

    def _delete_post(self, post: SimulatedPost) -> None:
        post.is_deleted = True
        self.posts.remove(post)
        for row in self._log_list.rows_of_post(post.id):
            self._log_list.delete(row["_id"])

    def _write_log(
        self,
        account: SimulatedAccount,
        action: str,
        status: str = "pending",
        *,
        started_at: float | None = None,
        post: SimulatedPost | None = None,
        **fields: Any,
    ) -> str | None:
        """Write a log and return its id, or None if its post has been deleted."""
        if post and post.is_deleted:
            return None
        log_id = self._events.object_id()
        created_at = self._events.now if started_at is None else started_at
        self._log_list.insert(
            {
                "_id": log_id,
                **({"postId": post.reference} if post else {}),
                "userId": account.user_id,
                "profileId": account.profile_id,
                "platform": account.platform.name,
                "accountId": account.id,
                "accountUsername": account.username,
                "action": action,
                "status": status,
                "endpoint": account.platform.endpoint,
                **({"request": post.request} if post else {}),
                "createdAt": timestamp(created_at, whole_seconds=post is not None and post.scheduled_at is not None),
                **fields,
            }
        )
        return log_id


def _attempt_action(number: int) -> str:
    return "publish" if number == 1 else "retry"


def _result_fields(failure: PublishFailure | None, duration: float) -> dict[str, Any]:
    """Return the fields that a log gets at the end of its attempt."""
    result: dict[str, Any] = {"durationMs": int(duration * 1000)}
    if failure is None:
        return {**result, "status": "success", "statusCode": 200}
    body = f'{{"error":{{"code":"{failure.code}","message":"{failure.message}"}}}}'
    response = {"errorMessage": failure.message, "errorCode": failure.code, "rawBody": body}
    return {**result, "status": "failed", "statusCode": failure.status_code, "response": response}


def _relative_load(time: float) -> float:
    """Return the traffic relative to the weekly mean: low at night, highest in the afternoon, lower at weekends."""
    days, seconds = divmod(time, DAY)
    hour = seconds / HOUR
    hourly_load = 1 - 0.55 * cos(2 * pi * (hour - 2.5) / 24) - 0.2 * cos(4 * pi * (hour - 3) / 24)
    is_weekend = (days + 3) % 7 in {5, 6}  # the epoch was a Thursday
    return hourly_load * (0.75 if is_weekend else 1.1)

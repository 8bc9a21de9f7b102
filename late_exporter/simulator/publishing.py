"""How posts come about and what the publishing log tells of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import cos, pi
from typing import Any

import msgspec

from late_exporter.simulator.accounts import CAPTIONS, Account
from late_exporter.simulator.events import DAY, HOUR, Agenda, timestamp
from late_exporter.simulator.incidents import Conditions
from late_exporter.simulator.log_list import Archive, Row
from late_exporter.simulator.platforms import MEDIA_UPLOAD_FAILED, RATE_LIMITED, TOKEN_EXPIRED, Failure

__all__ = ["Posting"]

LOGS_PER_POST = 2.57
KINDS = {"text": 0.2, "image": 0.5, "video": 0.3}
MAX_ATTEMPTS = 4
RARELY = 0.004
NEVER_SETTLING = 0.0001
WRITTEN_AT_END = 0.4


class Post:
    """A post under way to one or more accounts; its log rows share ``reference`` and ``request``."""

    def __init__(self, post_id: str, content: str, kind: str, media: Sequence[str], scheduled: str | None) -> None:
        self.kind = kind
        self.scheduled = scheduled
        self.deleted = False
        self.reference = {"_id": post_id, "content": content, "status": "publishing"}
        self.request: dict[str, Any] = {
            "contentPreview": content[:200],
            "mediaCount": len(media),
            "mediaTypes": [kind] * len(media),
            "mediaUrls": list(media),
        }
        if scheduled:
            self.request["scheduledFor"] = scheduled
        self._results: set[str] = set()

    def settle(self, result: str) -> None:
        """Note what became of the post on one account: ``published``, ``failed`` or ``cancelled``."""
        self._results.add(result)
        self.reference["status"] = result if len(self._results) == 1 else "partial"


class Attempt(msgspec.Struct, kw_only=True):
    """One try to publish a post on one account; ``row`` is the log that already tells of it."""

    post: Post
    account: Account
    number: int
    began: float
    duration: float
    failure: Failure | None
    row: str | None = None


def _ignore(account: Account, post: str, result: str) -> None:
    """Nobody listens."""


class Posting:
    """Keeps posts coming and writes their logs.

    Args:
        agenda: When things happen.
        archive: Where the logs go.
        conditions: What makes attempts fail.
        accounts: Whose posts they are; a post goes to accounts of one user.
        logs_per_day: About how many logs a day come of it.
        tell: Hears of every post that has ended on an account: the account, the post's id and the result.
    """

    def __init__(
        self,
        agenda: Agenda,
        archive: Archive,
        conditions: Conditions,
        accounts: Sequence[Account],
        logs_per_day: float,
        tell: Callable[[Account, str, str], None] = _ignore,
    ) -> None:
        self._agenda = agenda
        self._random = agenda.random
        self._archive = archive
        self._conditions = conditions
        self._tell = tell
        users = dict.fromkeys(account.user_id for account in accounts)
        self._customers = [[account for account in accounts if account.user_id == user] for user in users]
        self._rate = logs_per_day / LOGS_PER_POST / DAY
        agenda.after(self._gap(), self._post)
        for account in accounts:
            agenda.after(self._random.uniform(0, 6 * HOUR), partial(self._refresh_token, account))

    def _gap(self) -> float:
        return self._random.expovariate(self._rate * _busyness(self._agenda.now))

    def _post(self) -> None:
        self._agenda.after(self._gap(), self._post)
        kind = self._random.choices(tuple(KINDS), tuple(KINDS.values()))[0]
        accounts = self._targets(kind)
        post = self._compose(kind)
        for account in accounts:
            delay = 0.0 if post.scheduled else self._random.uniform(0, 4)
            self._agenda.after(delay, partial(self._begin, post, account))
        if self._agenda.chance(RARELY):
            self._agenda.after(self._random.expovariate(1 / (6 * HOUR)), partial(self._delete, post))

    def _targets(self, kind: str) -> list[Account]:
        fitting = [account for account in self._random.choice(self._customers) if kind in account.platform.media]
        count = min(len(fitting), self._random.choices((1, 2, 3, 4), (45, 30, 15, 10))[0])
        fitting.sort(key=lambda account: self._random.random() ** (1 / account.platform.share), reverse=True)
        return fitting[:count]

    def _compose(self, kind: str) -> Post:
        media = 0 if kind == "text" else self._random.choice((1, 1, 1, 3)) if kind == "image" else 1
        suffix = "mp4" if kind == "video" else "jpg"
        urls = [f"https://storage.getlate.dev/{self._random.getrandbits(48):012x}.{suffix}" for _ in range(media)]
        scheduled = timestamp(self._agenda.now, whole=True) if self._agenda.chance(0.5) else None
        return Post(self._agenda.object_id(), self._random.choice(CAPTIONS), kind, urls, scheduled)

    def _begin(self, post: Post, account: Account) -> None:
        chance = self._random.random()
        if chance < RARELY:
            self._write(account, "cancelled", "skipped", post=post)
            self._end(post, account, "cancelled")
        elif chance < 2 * RARELY:
            self._write(account, "publish", "skipped", post=post, response={"errorMessage": "Already published"})
            self._end(post, account, "published")
        elif post.kind == "video":
            duration = 0.6 * self._conditions.duration(account, post.kind, self._random)
            self._agenda.after(duration, partial(self._upload, post, account, self._agenda.now, duration))
        else:
            self._attempt(post, account, 1)

    def _upload(self, post: Post, account: Account, began: float, duration: float) -> None:
        failure = MEDIA_UPLOAD_FAILED if self._agenda.chance(2 * RARELY) else None
        result = _result(failure, duration)
        self._write(account, "media_upload", created=began, post=post, attemptNumber=1, **result)
        if failure:
            self._end(post, account, "failed")
        else:
            self._attempt(post, account, 1)

    def _attempt(self, post: Post, account: Account, number: int) -> None:
        attempt = Attempt(
            post=post,
            account=account,
            number=number,
            began=self._agenda.now,
            duration=self._conditions.duration(account, post.kind, self._random),
            failure=self._conditions.failure(account, self._random),
        )
        chance = self._random.random()
        if chance >= WRITTEN_AT_END:
            attempt.row = self._write(account, _action(number), "pending", post=post, attemptNumber=number)
        if chance < 1 - NEVER_SETTLING:
            self._agenda.after(attempt.duration, partial(self._settle, attempt))

    def _settle(self, attempt: Attempt) -> None:
        account, post = attempt.account, attempt.post
        result = _result(attempt.failure, attempt.duration)
        if attempt.failure is None:
            result["response"] = self._published(account)
        if attempt.row is not None:
            self._archive.update(attempt.row, **result)
        else:
            number = attempt.number
            self._write(account, _action(number), created=attempt.began, post=post, attemptNumber=number, **result)
        self._conclude(attempt)

    def _conclude(self, attempt: Attempt) -> None:
        failure, number = attempt.failure, attempt.number
        if failure is None:
            self._end(attempt.post, attempt.account, "published")
        elif not failure.retried or number >= MAX_ATTEMPTS:
            self._end(attempt.post, attempt.account, "failed")
        else:
            wait = 20 * 3 ** (number - 1) * self._random.uniform(0.8, 1.3)
            if failure is RATE_LIMITED:
                pause = {"statusCode": 429, "attemptNumber": number, "durationMs": int(wait * 1000)}
                self._write(attempt.account, "rate_limit_pause", "skipped", post=attempt.post, **pause)
            self._agenda.after(wait, partial(self._attempt, attempt.post, attempt.account, number + 1))

    def _end(self, post: Post, account: Account, result: str) -> None:
        post.settle(result)
        self._tell(account, post.reference["_id"], result)

    def _published(self, account: Account) -> Row:
        platform_id = f"{self._random.getrandbits(56)}"
        return {"platformPostId": platform_id, "platformPostUrl": account.platform.url + platform_id}

    def _refresh_token(self, account: Account) -> None:
        failure = TOKEN_EXPIRED if account.id in self._conditions.disconnected else None
        self._write(account, "token_refresh", **_result(failure, self._random.uniform(0.15, 1.2)))
        self._agenda.after(self._random.uniform(4 * HOUR, 8 * HOUR), partial(self._refresh_token, account))

    def _delete(self, post: Post) -> None:
        post.deleted = True
        for row in self._archive.of_post(post.reference["_id"]):
            self._archive.delete(row["_id"])

    def _write(
        self,
        account: Account,
        action: str,
        status: str = "pending",
        *,
        created: float | None = None,
        post: Post | None = None,
        **fields: Any,
    ) -> str | None:
        """Add a log and return its id; a deleted post gets none."""
        if post and post.deleted:
            return None
        log_id = self._agenda.object_id()
        moment = self._agenda.now if created is None else created
        self._archive.insert(
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
                "createdAt": timestamp(moment, whole=post is not None and post.scheduled is not None),
                **fields,
            }
        )
        return log_id


def _action(number: int) -> str:
    return "publish" if number == 1 else "retry"


def _result(failure: Failure | None, duration: float) -> dict[str, Any]:
    """The fields that a log gets when what it tells of has ended."""
    result: dict[str, Any] = {"durationMs": int(duration * 1000)}
    if failure is None:
        return {**result, "status": "success", "statusCode": 200}
    body = f'{{"error":{{"code":"{failure.code}","message":"{failure.message}"}}}}'
    response = {"errorMessage": failure.message, "errorCode": failure.code, "rawBody": body}
    return {**result, "status": "failed", "statusCode": failure.status_code, "response": response}


def _busyness(moment: float) -> float:
    """How much is posted compared to the week's mean: little at night, most in the afternoon, less at weekends."""
    days, seconds = divmod(moment, DAY)
    hour = seconds / HOUR
    curve = 1 - 0.55 * cos(2 * pi * (hour - 2.5) / 24) - 0.2 * cos(4 * pi * (hour - 3) / 24)
    weekend = (days + 3) % 7 in {5, 6}  # the epoch was a Thursday
    return curve * (0.75 if weekend else 1.1)

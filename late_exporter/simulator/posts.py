"""Posts of the simulated world, with their state on every account."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from late_exporter.simulator.accounts import SimulatedAccount
from late_exporter.simulator.events import timestamp
from late_exporter.simulator.log_list import JsonObject
from late_exporter.simulator.platforms import PublishFailure

RESULTS = frozenset({"published", "failed", "cancelled"})


class PostTarget(msgspec.Struct, gc=False):
    """State of a post on one account. ``url`` and ``failure`` belong to a published and a failed one."""

    account: SimulatedAccount
    status: str = "pending"
    attempt_count: int = 0
    url: str | None = None
    failure: PublishFailure | None = None

    def document(self) -> JsonObject:
        """Return the target in the format of ``GET /v1/posts``."""
        document: JsonObject = {
            "platform": self.account.platform.name,
            "accountId": self.account.id,
            "status": self.status,
            "publishAttempts": self.attempt_count,
        }
        if self.url is not None:
            document["platformPostUrl"] = self.url
        if self.failure is not None:
            document["errorMessage"] = self.failure.message
            document["errorCategory"] = self.failure.category
            document["errorSource"] = self.failure.source
        return document


class SimulatedPost:
    """Post to one or more accounts of a customer.

    Its log rows share ``reference`` and ``request``.

    Args:
        created_at: Unix time at which the customer created the post.
        scheduled_at: Unix time at which it is due; None if it is published at once.
    """

    def __init__(
        self,
        post_id: str,
        content: str,
        kind: str,
        media_urls: Sequence[str],
        accounts: Sequence[SimulatedAccount],
        *,
        created_at: float,
        scheduled_at: float | None,
    ) -> None:
        self.kind = kind
        self.created_at = created_at
        self.updated_at = created_at
        self.scheduled_at = scheduled_at
        self.is_deleted = False
        self.targets = {account.id: PostTarget(account) for account in accounts}
        status = "publishing" if scheduled_at is None else "scheduled"
        self.reference: JsonObject = {"_id": post_id, "content": content, "status": status}
        self.request: dict[str, Any] = {
            "contentPreview": content[:200],
            "mediaCount": len(media_urls),
            "mediaTypes": [kind] * len(media_urls),
            "mediaUrls": list(media_urls),
        }
        if scheduled_at is not None:
            self.request["scheduledFor"] = timestamp(scheduled_at, whole_seconds=True)

    @property
    def id(self) -> str:
        return str(self.reference["_id"])

    @property
    def status(self) -> str:
        return str(self.reference["status"])

    def start(self, account: SimulatedAccount, now: float, *, attempt_count: int = 0) -> None:
        target = self.targets[account.id]
        target.status, target.attempt_count = "processing", attempt_count
        self.updated_at = now
        self.reference["status"] = "publishing"

    def end(
        self,
        account: SimulatedAccount,
        result: str,
        now: float,
        *,
        url: str | None = None,
        failure: PublishFailure | None = None,
    ) -> None:
        """End the post on one account, with one of RESULTS. Different results make a ``partial`` post."""
        target = self.targets[account.id]
        target.status, target.url, target.failure = result, url, failure
        self.updated_at = now
        results = {target.status for target in self.targets.values()}
        if results <= RESULTS:
            self.reference["status"] = "partial" if len(results) > 1 else result
        else:
            self.reference["status"] = "publishing"

    def document(self) -> JsonObject:
        """Return the post in the format of ``GET /v1/posts``."""
        return {
            "_id": self.id,
            "userId": next(iter(self.targets.values())).account.user_id,
            "content": self.reference["content"],
            "mediaItems": [{"type": self.kind, "url": url} for url in self.request["mediaUrls"]],
            "platforms": [target.document() for target in self.targets.values()],
            "scheduledFor": self.request.get("scheduledFor"),
            "timezone": "UTC",
            "status": self.status,
            "createdAt": timestamp(self.created_at),
            "updatedAt": timestamp(self.updated_at),
        }


class PostList:
    """Posts in the order of their creation."""

    def __init__(self) -> None:
        self._posts: OrderedDict[str, SimulatedPost] = OrderedDict()

    def __iter__(self) -> Iterator[SimulatedPost]:
        return iter(self._posts.values())

    def add(self, post: SimulatedPost) -> None:
        self._posts[post.id] = post

    def remove(self, post: SimulatedPost) -> None:
        self._posts.pop(post.id, None)

    def expire(self, before: float) -> None:
        """Remove the posts that were created before a Unix time."""
        while self._posts and next(iter(self)).created_at < before:
            self._posts.popitem(last=False)

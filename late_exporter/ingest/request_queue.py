"""Order of the requests that do not decide the outcome of a poll: each gets its turn, whatever others do."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable
from typing import Literal, TypeAlias, TypeVar

import msgspec

RequestKind: TypeAlias = Literal["post", "pending", "scan", "window", "audit"]
"""Logs of a post, list of pending logs, page of a reconciliation scan, range of times, page of an audit."""

REQUEST_KINDS: tuple[RequestKind, ...] = ("post", "pending", "scan", "window", "audit")

RequestKey: TypeAlias = tuple[RequestKind, Hashable]
"""Kind of a request, and what it is about."""

MAX_DELAY = 64
"""Maximum number of polls for which a request that keeps failing waits."""

MAX_AGE = 1000
"""Polls after which attempts are forgotten, such as those about logs that are no longer pending."""

SubjectT = TypeVar("SubjectT", bound=Hashable)


class RequestAttempt(msgspec.Struct, frozen=True, gc=False):
    """The last time that a request was sent.

    Args:
        poll: Number of the poll.
        failure_count: Number of consecutive attempts that failed.
    """

    poll: int = 0
    failure_count: int = 0

    @property
    def next_poll(self) -> int:
        """Number of the first poll that may send the request again."""
        return self.poll + (min(2 ** (self.failure_count - 1), MAX_DELAY) if self.failure_count else 0)

    @property
    def rank(self) -> tuple[bool, int]:
        """Place in the queue: requests that failed are behind all others, those sent last behind those sent before."""
        return self.failure_count > 0, self.poll


NEVER_SENT = RequestAttempt()


class RequestQueue:
    """Requests take turns, and those that fail wait twice as many polls each time."""

    def __init__(self) -> None:
        self._poll = 0
        self._seed = 0
        self._attempts: dict[RequestKey, RequestAttempt] = {}

    def start_poll(self, seed: int) -> None:
        """Start the next poll; the order of requests that are equally due depends on ``seed``."""
        self._poll += 1
        self._seed = seed
        if self._poll % MAX_AGE == 0:
            oldest = self._poll - MAX_AGE
            self._attempts = {key: attempt for key, attempt in self._attempts.items() if attempt.poll >= oldest}

    def is_due(self, request: RequestKey) -> bool:
        """Return whether a request need not wait any longer after a failure."""
        return self._attempts.get(request, NEVER_SENT).next_poll <= self._poll

    def failure_count(self, request: RequestKey) -> int:
        """Return how many consecutive attempts of a request failed."""
        return self._attempts.get(request, NEVER_SENT).failure_count

    def select(self, kind: RequestKind, subjects: Iterable[SubjectT], limit: int) -> list[SubjectT]:
        """Return the subjects whose turn it is, at most ``limit``."""

        def rank(subject: SubjectT) -> tuple[tuple[bool, int], int]:
            # A process that runs for a single poll remembers no turns, and must not send the same requests each time.
            attempt = self._attempts.get((kind, subject), NEVER_SENT)
            return attempt.rank, zlib.crc32(f"{self._seed} {subject}".encode("utf-8", "replace"))

        return sorted((subject for subject in subjects if self.is_due((kind, subject))), key=rank)[:limit]

    def succeed(self, request: RequestKey) -> None:
        """Move a request to the end of the queue."""
        self._attempts[request] = RequestAttempt(self._poll)

    def fail(self, request: RequestKey) -> None:
        """Move a request to the end of the queue, and let it wait."""
        self._attempts[request] = RequestAttempt(self._poll, self.failure_count(request) + 1)

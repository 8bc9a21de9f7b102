"""Webhooks: which are genuine, what is counted of them, and when a feed that they concern is polled out of turn.

A webhook is a reason to look, never a thing to count: one that is lost, repeated or forged changes no metric of a log.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import accumulate
from types import MappingProxyType

import msgspec

from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.model import IncCounter, Increment, ObserveHistogram, SetLatest

__all__ = [
    "EVENT_FEEDS",
    "MAX_PAYLOAD_BYTES",
    "REJECTION_REASONS",
    "Debouncer",
    "ReplayCache",
    "RequestBudget",
    "WebhookReceiver",
    "WebhookStats",
    "matches_any",
    "sign",
]

EVENT_FEEDS = MappingProxyType(
    {
        "post.published": "publishing",
        "post.failed": "publishing",
        "post.partial": "publishing",
        "post.scheduled": "publishing",
        "account.connected": "connections",
        "account.disconnected": "connections",
    }
)
"""The events that there is something to read after, and in which feed."""

OTHER_EVENT = "other"
REJECTION_RESPONSES = MappingProxyType(
    {
        "signature": HTTPStatus.UNAUTHORIZED,
        "replay": HTTPStatus.NO_CONTENT,
        "expired": HTTPStatus.NO_CONTENT,
        "malformed": HTTPStatus.BAD_REQUEST,
        "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    }
)
"""Why a webhook is refused, and what is answered.

After some errors in a row Late switches a webhook off: so none is told to who repeats what was lost on the way.
"""

REJECTION_REASONS = tuple(REJECTION_RESPONSES)

MAX_PAYLOAD_BYTES = 256 * 1024
"""Bytes of a payload."""

CACHE_SIZE = 10_000
"""Signatures that are known to have come, and lags that wait to be saved."""

DEBOUNCE = 1.0
RECHECK_DELAY = 2.0
"""Seconds between two polls that webhooks bring about, and after one that found nothing: the log may come later."""

MINUTE = 60.0
MIN_LIVENESS_SECONDS = 3600.0
LIVENESS_POLLS = 10
"""Webhooks are alive for so long after the last one, or for so many polls."""

RECEIVED = "late_exporter_webhooks_received_total"
REJECTED = "late_exporter_webhooks_rejected_total"
LAG = "late_exporter_webhook_lag_seconds"
LAST_RECEIVED = "late_exporter_webhook_last_received_timestamp_seconds"


class WebhookPayload(msgspec.Struct):
    """What is read of a payload."""

    event: str
    timestamp: str | None = None


def sign(body: bytes, secret: str) -> str:
    """The signature of a payload."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def matches_any(signature: str, candidates: Iterable[bytes]) -> bool:
    """Whether a signature is one of those that were given."""
    return any(hmac.compare_digest(signature.encode(), one.strip().removeprefix(b"sha256=")) for one in candidates)


class ReplayCache:
    """What has come lately; bounded in number and in time."""

    def __init__(self, limit: int = CACHE_SIZE) -> None:
        self._limit = limit
        self._expiry_times: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._expiry_times)

    def add(self, key: tuple[str, str], now: float, lifetime: float) -> bool:
        """Whether it has not come yet; it is remembered from now on."""
        while self._expiry_times and (
            next(iter(self._expiry_times.values())) < now or len(self._expiry_times) >= self._limit
        ):
            self._expiry_times.popitem(last=False)
        if self._expiry_times.get(key, -math.inf) >= now:
            return False
        self._expiry_times[key] = now + lifetime
        self._expiry_times.move_to_end(key)
        return True


class Debouncer:
    """When a feed is to be polled out of turn: at once, then once a debounce, and once more where nothing was found.

    All times are monotonic, in seconds.
    """

    def __init__(self, *, debounce: float = DEBOUNCE, recheck_delay: float = RECHECK_DELAY) -> None:
        self._debounce = debounce
        self._recheck_delay = recheck_delay
        self._is_notified = False
        self._is_responding = False
        self._last_poll_at = -math.inf
        self._recheck_at = math.inf

    def notify(self) -> None:
        """Something has happened."""
        self._is_notified = True

    def due_at(self) -> float:
        """When to poll; infinite where there is no reason to."""
        return min(self._last_poll_at + self._debounce if self._is_notified else math.inf, self._recheck_at)

    def start_poll(self, now: float) -> None:
        """A poll begins, for whatever reason: it looks for all that has happened until now."""
        self._is_responding, self._is_notified = self._is_notified, False
        if self._is_responding:
            self._last_poll_at = now
        if self._is_responding or self._recheck_at <= now:
            self._recheck_at = math.inf

    def finish_poll(self, now: float, *, has_new_logs: bool) -> None:
        """The poll has ended; where it found nothing that it was to find, it is repeated, but a repetition is not."""
        if self._is_responding and not has_new_logs:
            self._recheck_at = now + self._recheck_delay
        self._is_responding = False


class RequestBudget:
    """The requests of the last minute that webhooks brought about, of all feeds whose key has one limit."""

    def __init__(self) -> None:
        self._requests: deque[tuple[float, int]] = deque()

    def add(self, now: float, requests: int) -> None:
        """So many more."""
        self._requests.append((now, requests))

    def remaining(self, now: float, limit: int) -> int:
        """How many may follow."""
        while self._requests and self._requests[0][0] <= now - MINUTE:
            self._requests.popleft()
        return max(0, limit - sum(requests for _, requests in self._requests))

    def seconds_until_free(self, now: float, limit: int) -> float:
        """Seconds until one may follow; infinite where there is no budget."""
        if limit < 1:
            return math.inf
        if self.remaining(now, limit):
            return 0.0
        total = sum(requests for _, requests in self._requests)
        cumulative = accumulate(requests for _, requests in self._requests)
        return (
            next(at for (at, _), older in zip(self._requests, cumulative, strict=True) if total - older < limit)
            + MINUTE
            - now
        )


class WebhookStats:
    """What a workspace counts of its webhooks until a poller saves it, and whom they wake.

    Args:
        workspace: Its name.
        budget: Of the workspace's key.
    """

    def __init__(self, workspace: str, budget: RequestBudget) -> None:
        self._workspace = workspace
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lags: deque[float] = deque(maxlen=CACHE_SIZE)
        self._last_received_at: float | None = None
        self._last_event_at = -math.inf
        self.budget = budget
        self.wake_callbacks: Mapping[str, Callable[[], object]] = {}

    def initial_zeros(self) -> list[IncCounter]:
        """The counters at 0, so that their first increment is seen."""
        received = [IncCounter(RECEIVED, (self._workspace, event), amount=0) for event in (*EVENT_FEEDS, OTHER_EVENT)]
        return [*received, *(IncCounter(REJECTED, (self._workspace, reason), amount=0) for reason in REJECTION_REASONS)]

    def record(self, event: str, sent_at: float | None, now: float) -> None:
        """Count a webhook, and wake whom it concerns."""
        feed = EVENT_FEEDS.get(event)
        self._counts[RECEIVED, event if feed else OTHER_EVENT] += 1
        self._last_received_at = now
        if sent_at is not None:
            self._lags.append(max(0.0, now - sent_at))
        if feed is None:
            return
        self._last_event_at = now
        if feed in self.wake_callbacks:
            self.wake_callbacks[feed]()

    def record_rejection(self, reason: str) -> None:
        """Count a webhook that is none."""
        self._counts[REJECTED, reason] += 1

    def is_alive(self, now: float, interval: float) -> bool:
        """Whether webhooks of posts or accounts have come, so that polls so many seconds apart will do."""
        return now - self._last_event_at <= max(LIVENESS_POLLS * interval, MIN_LIVENESS_SECONDS)

    def pop_increments(self) -> list[Increment]:
        """What was counted since last asked."""
        counts, self._counts = self._counts, Counter()
        lags, self._lags = self._lags, deque(maxlen=CACHE_SIZE)
        last, self._last_received_at = self._last_received_at, None
        labels = (self._workspace,)
        increments: list[Increment] = [
            IncCounter(family, (self._workspace, value), amount=amount) for (family, value), amount in counts.items()
        ]
        bounds = CATALOGUE[LAG].buckets
        increments += [ObserveHistogram(LAG, labels, micros=int(lag * 1_000_000), bounds=bounds) for lag in lags]
        if last is not None:
            increments.append(SetLatest(LAST_RECEIVED, labels, at=int(last * 1000), value=last))
        return increments


class WebhookReceiver:
    """Judges what is posted to the path, or for one workspace to its name below the path.

    What comes to the path itself is for every workspace, and is counted in each of them.

    Args:
        path: Where webhooks are taken.
        secret: They are signed with.
        window: Seconds by which the time of one may differ from now.
        clock: Unix time in seconds.
    """

    def __init__(
        self, path: str, *, secret: Callable[[], str], window: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._clock = clock
        self._replay_cache = ReplayCache()
        self.stats_by_workspace: dict[str, WebhookStats] = {}
        self.reconfigure(secret, window)

    def reconfigure(self, secret: Callable[[], str], window: float) -> None:
        """Go on with another secret and another window."""
        self._secret = secret
        self._window = window

    def handles(self, path: str) -> bool:
        """Whether webhooks are posted to such a path."""
        below = path.removeprefix(f"{self._path}/")
        return path == self._path or (below != path and "/" not in below)

    def receive(self, path: str, body: bytes, signatures: Iterable[bytes]) -> HTTPStatus:
        """Judge a webhook, count it and wake whom it concerns; gives what to answer."""
        name = path.removeprefix(self._path).removeprefix("/")
        recipients = [inbox for workspace, inbox in self.stats_by_workspace.items() if name in ("", workspace)]
        now = self._clock()
        verdict = self._verify(name, body, signatures, now)
        if isinstance(verdict, str):
            for inbox in recipients:
                inbox.record_rejection(verdict)
            return REJECTION_RESPONSES[verdict]
        for inbox in recipients:
            inbox.record(*verdict, now)
        # Which workspaces there are is told to nobody but who knows the secret.
        return HTTPStatus.NO_CONTENT if recipients else HTTPStatus.NOT_FOUND

    def _verify(
        self, name: str, body: bytes, signatures: Iterable[bytes], now: float
    ) -> tuple[str, float | None] | str:
        """The event and its time, or why it is refused."""
        if len(body) > MAX_PAYLOAD_BYTES:
            return "too_large"
        signature = sign(body, self._secret())
        if not matches_any(signature, signatures):
            return "signature"
        try:
            payload = msgspec.json.decode(body, type=WebhookPayload)
            sent_at = None if payload.timestamp is None else _parse_time(payload.timestamp)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return "malformed"
        if sent_at is not None and abs(now - sent_at) > self._window:
            return "expired"
        # One whose time is ahead of now is good for twice the window.
        if not self._replay_cache.add((name, signature), now, 2 * self._window):
            return "replay"
        return payload.event, sent_at


def _parse_time(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

"""Receive webhooks: verify their signatures, count them, and wake the pollers of the feeds concerned.

A webhook only triggers a poll; logs are never counted from it. A lost, repeated or forged webhook therefore changes no
metric of a log.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec

from late_exporter.feeds.decoder import parse_integer, parse_millis
from late_exporter.metrics.catalogue import CATALOGUE, WEBHOOK_BUCKETS
from late_exporter.series import IncCounter, Increment, ObserveHistogram, SetCurrent

POST_EVENTS = ("published", "failed", "partial", "scheduled", "cancelled", "recycled")
PLATFORM_EVENTS = ("platform.published", "platform.failed")
BALANCE_EVENTS = ("low", "empty", "charged")
EVENT_FEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {f"post.{event}": ("publishing",) for event in POST_EVENTS + PLATFORM_EVENTS}
    | dict.fromkeys(("account.connected", "account.disconnected"), ("connections", "accounts"))
    | {"account.rate_limited": ("accounts",)}
    | {f"balance.{event}": ("billing",) for event in BALANCE_EVENTS}
)
"""Log feeds that have new logs after an event, and status feeds that have changed.

The events of a platform are sent as soon as a post is published there, those of the whole post after the last platform.
"""

OTHER_EVENT = "other"
REJECTION_RESPONSES = MappingProxyType(
    {
        "signature": HTTPStatus.UNAUTHORIZED,
        "replay": HTTPStatus.NO_CONTENT,
        "malformed": HTTPStatus.BAD_REQUEST,
        "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    }
)
"""Response to a rejected webhook, by reason.

A delivery that is not acknowledged is repeated for days, and a webhook whose deliveries all fail is disabled, so a
repeated delivery is acknowledged anyway.
"""

MAX_PAYLOAD_BYTES = 256 * 1024

MAX_LAG = WEBHOOK_BUCKETS[-1]
"""Age in seconds up to which a delivery counts as prompt: the first three attempts are made within two minutes.

The age of a later one is the time for which the receiver was unreachable, not the duration of a delivery.
"""

MAX_ID_LENGTH = 64
"""Longest event id that is remembered; the documented ids are UUIDs."""

CACHE_SIZE = 10_000
"""Number of events that are remembered against replay, and of lags not committed yet."""

RECEIVED = "late_exporter_webhooks_received_total"
REJECTED = "late_exporter_webhooks_rejected_total"
LAG = "late_exporter_webhook_lag_seconds"
LAST_RECEIVED = "late_exporter_webhook_last_received_timestamp_seconds"


class _WebhookPayload(msgspec.Struct):
    event: str
    timestamp: str | None = None
    id: Any = None


def sign(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def matches_any(signature: str, candidates: Iterable[bytes]) -> bool:
    """Return whether a signature is among those of a request; compares in constant time."""
    return any(hmac.compare_digest(signature.encode(), each.strip().removeprefix(b"sha256=")) for each in candidates)


class WebhookStats:
    """Counts of a workspace's webhooks that a poller has not committed yet.

    Attributes:
        wake_callbacks: Called when a webhook concerns a log feed or a status feed, by name of the feed.
    """

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lags: deque[float] = deque(maxlen=CACHE_SIZE)
        self._last_received_at: float | None = None
        self.wake_callbacks: Mapping[str, Callable[[], object]] = {}

    def initial_zeros(self) -> list[IncCounter]:
        """Return the counters at 0, so that ``increase()`` sees their first increment."""
        series = [(RECEIVED, event) for event in (*EVENT_FEEDS, OTHER_EVENT)]
        series += [(REJECTED, reason) for reason in REJECTION_RESPONSES]
        return [IncCounter(family, (self._workspace, value), amount=0) for family, value in series]

    def record(self, event: str, sent_at: float | None, now: float) -> None:
        """Count a valid webhook, and wake the pollers of its feeds, however late it is; times are Unix times."""
        self._counts[RECEIVED, event if event in EVENT_FEEDS else OTHER_EVENT] += 1
        self._last_received_at = now
        if sent_at is not None and abs(now - sent_at) <= MAX_LAG:
            self._lags.append(max(0.0, now - sent_at))
        for feed in EVENT_FEEDS.get(event, ()):
            if feed in self.wake_callbacks:
                self.wake_callbacks[feed]()

    def record_rejection(self, reason: str) -> None:
        self._counts[REJECTED, reason] += 1

    def pop_increments(self) -> list[Increment]:
        counts, self._counts = self._counts, Counter()
        lags, self._lags = self._lags, deque(maxlen=CACHE_SIZE)
        last, self._last_received_at = self._last_received_at, None
        labels, bounds = (self._workspace,), CATALOGUE[LAG].buckets
        return [
            *(IncCounter(family, (*labels, value), amount=amount) for (family, value), amount in counts.items()),
            *(ObserveHistogram(LAG, labels, micros=int(lag * 1_000_000), bounds=bounds) for lag in lags),
            *([] if last is None else [SetCurrent(LAST_RECEIVED, labels, value=last)]),
        ]


class WebhookReceiver:
    """Endpoint of webhooks: ``PATH`` for all workspaces, ``PATH/WORKSPACE`` for one.

    A webhook to the shared path is counted in every workspace.

    Attributes:
        other_workspaces: Workspaces that another replica polls. Their webhooks are accepted, and wake nothing here.
    """

    other_workspaces: AbstractSet[str] = frozenset()

    def __init__(self, path: str, *, secret: Callable[[], str], clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self.secret = secret
        self._clock = clock
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.stats_by_workspace: dict[str, WebhookStats] = {}

    def handles(self, path: str) -> bool:
        below = path.removeprefix(f"{self._path}/")
        return path == self._path or (below != path and "/" not in below)

    def receive(self, path: str, body: bytes, signatures: Iterable[bytes]) -> HTTPStatus:
        """Verify and count a webhook, and wake the pollers concerned; return the status of the response."""
        name = path.removeprefix(self._path).removeprefix("/")  # Empty for all workspaces.
        recipients = [stats for workspace, stats in self.stats_by_workspace.items() if name in ("", workspace)]
        now = self._clock()
        verdict = self._verify(name, body, signatures)
        if isinstance(verdict, str):
            for stats in recipients:
                stats.record_rejection(verdict)
            return REJECTION_RESPONSES[verdict]
        for stats in recipients:
            stats.record(*verdict, now)
        # Only senders that know the secret learn which workspaces exist.
        is_elsewhere = name in self.other_workspaces or (not name and bool(self.other_workspaces))
        return HTTPStatus.NO_CONTENT if recipients or is_elsewhere else HTTPStatus.NOT_FOUND

    def _verify(self, name: str, body: bytes, signatures: Iterable[bytes]) -> tuple[str, float | None] | str:
        """Return the event and its time, or the reason to reject the webhook."""
        if len(body) > MAX_PAYLOAD_BYTES:
            return "too_large"
        signature = sign(body, self.secret())
        if not matches_any(signature, signatures):
            return "signature"
        try:
            # msgspec.json rejects texts that are cut within a character, as that of a post may be.
            document = json.loads(body.decode("utf-8", "replace"), parse_int=parse_integer)
            payload = msgspec.convert(document, _WebhookPayload)
            sent_at = parse_millis(payload.timestamp)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return "malformed"
        # All deliveries of an event have its id, but subscriptions have secrets of their own, and so signatures.
        has_id = isinstance(payload.id, str) and 0 < len(payload.id) <= MAX_ID_LENGTH
        if self._is_repeated(name, payload.id if has_id else signature):
            return "replay"
        return payload.event, None if sent_at is None else sent_at / 1000

    def _is_repeated(self, name: str, event_id: str) -> bool:
        """Return whether an event was received before, and remember it."""
        if (name, event_id) in self._seen:
            return True
        # Unknown workspaces are not remembered, so that made-up names do not displace remembered events.
        if not name or name in self.stats_by_workspace:
            self._seen[name, event_id] = None
            if len(self._seen) > CACHE_SIZE:
                self._seen.popitem(last=False)
        return False

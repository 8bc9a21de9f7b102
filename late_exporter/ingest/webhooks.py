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
from late_exporter.model import Add, Increment, Observe, Take

__all__ = ["FEEDS_OF", "LARGEST", "REASONS", "Alarm", "Inbox", "Memory", "Spending", "Webhooks", "is_among", "sign"]

FEEDS_OF = MappingProxyType(
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

OTHER = "other"
ANSWERS = MappingProxyType(
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

REASONS = tuple(ANSWERS)

LARGEST = 256 * 1024
"""Bytes of a payload."""

REMEMBERED = 10_000
"""Signatures that are known to have come, and lags that wait to be saved."""

DEBOUNCE = 1.0
ECHO = 2.0
"""Seconds between two polls that webhooks bring about, and after one that found nothing: the log may come later."""

MINUTE = 60.0
LEAST_LIFE = 3600.0
LIVES = 10
"""Webhooks are alive for so long after the last one, or for so many polls."""

RECEIVED = "late_exporter_webhooks_received_total"
REFUSED = "late_exporter_webhooks_rejected_total"
LAG = "late_exporter_webhook_lag_seconds"
LAST = "late_exporter_webhook_last_received_timestamp_seconds"


class Payload(msgspec.Struct):
    """What is read of a payload."""

    event: str
    timestamp: str | None = None


def sign(body: bytes, secret: str) -> str:
    """The signature of a payload."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def is_among(signature: str, given: Iterable[bytes]) -> bool:
    """Whether a signature is one of those that were given."""
    return any(hmac.compare_digest(signature.encode(), one.strip().removeprefix(b"sha256=")) for one in given)


class Memory:
    """What has come lately; bounded in number and in time."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._until: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def is_new(self, key: tuple[str, str], now: float, lifetime: float) -> bool:
        """Whether it has not come yet; it is remembered from now on."""
        while self._until and (next(iter(self._until.values())) < now or len(self._until) >= self._limit):
            self._until.popitem(last=False)
        if self._until.get(key, -math.inf) >= now:
            return False
        self._until[key] = now + lifetime
        self._until.move_to_end(key)
        return True


class Alarm:
    """When a feed is to be polled out of turn: at once, then once a debounce, and once more where nothing was found.

    All times are monotonic, in seconds.
    """

    def __init__(self, *, debounce: float = DEBOUNCE, echo: float = ECHO) -> None:
        self._debounce = debounce
        self._echo = echo
        self._rung = False
        self._answering = False
        self._last = -math.inf
        self._again = math.inf

    def ring(self) -> None:
        """Something has happened."""
        self._rung = True

    def due(self) -> float:
        """When to poll; infinite where there is no reason to."""
        return min(self._last + self._debounce if self._rung else math.inf, self._again)

    def begin(self, now: float) -> None:
        """A poll begins, for whatever reason: it looks for all that has happened until now."""
        self._answering, self._rung = self._rung, False
        if self._answering:
            self._last = now
        if self._answering or self._again <= now:
            self._again = math.inf

    def end(self, now: float, *, found: bool) -> None:
        """The poll has ended; where it found nothing that it was to find, it is repeated, but a repetition is not."""
        if self._answering and not found:
            self._again = now + self._echo
        self._answering = False


class Spending:
    """The requests of the last minute that webhooks brought about, of all feeds whose key has one limit."""

    def __init__(self) -> None:
        self._spent: deque[tuple[float, int]] = deque()

    def add(self, now: float, requests: int) -> None:
        """So many more."""
        self._spent.append((now, requests))

    def left(self, now: float, budget: int) -> int:
        """How many may follow."""
        while self._spent and self._spent[0][0] <= now - MINUTE:
            self._spent.popleft()
        return max(0, budget - sum(requests for _, requests in self._spent))

    def wait(self, now: float, budget: int) -> float:
        """Seconds until one may follow; infinite where there is no budget."""
        if budget < 1:
            return math.inf
        if self.left(now, budget):
            return 0.0
        spent = sum(requests for _, requests in self._spent)
        gone = accumulate(requests for _, requests in self._spent)
        return (
            next(at for (at, _), older in zip(self._spent, gone, strict=True) if spent - older < budget) + MINUTE - now
        )


class Inbox:
    """What a workspace counts of its webhooks until a poller saves it, and whom they wake.

    Args:
        workspace: Its name.
        spending: Of the workspace's key.
    """

    def __init__(self, workspace: str, spending: Spending) -> None:
        self._workspace = workspace
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lags: deque[float] = deque(maxlen=REMEMBERED)
        self._last: float | None = None
        self._alive_at = -math.inf
        self.spending = spending
        self.wakes: Mapping[str, Callable[[], object]] = {}

    def births(self) -> list[Add]:
        """The counters at 0, so that their first increment is seen."""
        received = [Add(RECEIVED, (self._workspace, event), amount=0) for event in (*FEEDS_OF, OTHER)]
        return [*received, *(Add(REFUSED, (self._workspace, reason), amount=0) for reason in REASONS)]

    def receive(self, event: str, sent: float | None, now: float) -> None:
        """Count a webhook, and wake whom it concerns."""
        feed = FEEDS_OF.get(event)
        self._counts[RECEIVED, event if feed else OTHER] += 1
        self._last = now
        if sent is not None:
            self._lags.append(max(0.0, now - sent))
        if feed is None:
            return
        self._alive_at = now
        if feed in self.wakes:
            self.wakes[feed]()

    def refuse(self, reason: str) -> None:
        """Count a webhook that is none."""
        self._counts[REFUSED, reason] += 1

    def is_alive(self, now: float, interval: float) -> bool:
        """Whether webhooks of posts or accounts have come, so that polls so many seconds apart will do."""
        return now - self._alive_at <= max(LIVES * interval, LEAST_LIFE)

    def drain(self) -> list[Increment]:
        """What was counted since last asked."""
        counts, self._counts = self._counts, Counter()
        lags, self._lags = self._lags, deque(maxlen=REMEMBERED)
        last, self._last = self._last, None
        labels = (self._workspace,)
        drained: list[Increment] = [
            Add(family, (self._workspace, value), amount=amount) for (family, value), amount in counts.items()
        ]
        bounds = CATALOGUE[LAG].buckets
        drained += [Observe(LAG, labels, micros=int(lag * 1_000_000), bounds=bounds) for lag in lags]
        if last is not None:
            drained.append(Take(LAST, labels, at=int(last * 1000), value=last))
        return drained


class Webhooks:
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
        self._memory = Memory()
        self.inboxes: dict[str, Inbox] = {}
        self.retune(secret, window)

    def retune(self, secret: Callable[[], str], window: float) -> None:
        """Go on with another secret and another window."""
        self._secret = secret
        self._window = window

    def takes(self, path: str) -> bool:
        """Whether webhooks are posted to such a path."""
        below = path.removeprefix(f"{self._path}/")
        return path == self._path or (below != path and "/" not in below)

    def take(self, path: str, body: bytes, signatures: Iterable[bytes]) -> HTTPStatus:
        """Judge a webhook, count it and wake whom it concerns; gives what to answer."""
        name = path.removeprefix(self._path).removeprefix("/")
        inboxes = [inbox for workspace, inbox in self.inboxes.items() if name in ("", workspace)]
        now = self._clock()
        judged = self._judge(name, body, signatures, now)
        if isinstance(judged, str):
            for inbox in inboxes:
                inbox.refuse(judged)
            return ANSWERS[judged]
        for inbox in inboxes:
            inbox.receive(*judged, now)
        # Which workspaces there are is told to nobody but who knows the secret.
        return HTTPStatus.NO_CONTENT if inboxes else HTTPStatus.NOT_FOUND

    def _judge(self, name: str, body: bytes, signatures: Iterable[bytes], now: float) -> tuple[str, float | None] | str:
        """The event and its time, or why it is refused."""
        if len(body) > LARGEST:
            return "too_large"
        signature = sign(body, self._secret())
        if not is_among(signature, signatures):
            return "signature"
        try:
            payload = msgspec.json.decode(body, type=Payload)
            sent = None if payload.timestamp is None else _moment(payload.timestamp)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return "malformed"
        if sent is not None and abs(now - sent) > self._window:
            return "expired"
        # One whose time is ahead of now is good for twice the window.
        if not self._memory.is_new((name, signature), now, 2 * self._window):
            return "replay"
        return payload.event, sent


def _moment(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

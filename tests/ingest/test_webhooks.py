from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from late_exporter.exposition.exposition import Exposition
from late_exporter.feeds import FEEDS
from late_exporter.ingest.webhooks import (
    EVENT_FEEDS,
    MAX_PAYLOAD_BYTES,
    REJECTION_REASONS,
    Debouncer,
    ReplayCache,
    RequestBudget,
    WebhookReceiver,
    WebhookStats,
    matches_any,
    sign,
)
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.model import IncCounter, ObserveHistogram, SetLatest
from late_exporter.status import WorkspaceHealth
from late_exporter.web.app import create_app

NOW = 1_795_600_000.0
SECRET = "whsec_0123456789"
WINDOW = 300.0


def written(moment: float) -> str:
    """A time as Late writes it."""
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def payload(event: str = "post.failed", *, at: float | None = NOW, **fields: Any) -> bytes:
    """What Late sends."""
    timestamp = {} if at is None else {"timestamp": written(at)}
    return json.dumps({"id": "evt_1", "event": event, "post": {"id": "p"}, **timestamp, **fields}).encode()


# Signatures.


def test_a_signature_is_that_of_the_raw_body() -> None:
    """It is the HMAC-SHA256 of the bytes as they came, in lower-case hex, with or without its algorithm in front."""
    body = payload()
    right = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert right == sign(body, SECRET)
    for given in (right, f"sha256={right}", f" {right} "):
        assert matches_any(right, [b"wrong", given.encode()])


@pytest.mark.parametrize("given", [[], [b""], [b"sha256="], [b"\xff" * 64], [b"0" * 64], [b"0" * 100_000]])
def test_other_signatures(given: Sequence[bytes]) -> None:
    """No signature, a strange one, or that of another body or secret, is none."""
    right = sign(payload(), SECRET)
    assert not matches_any(right, given)
    others = [sign(payload() + b" ", SECRET), sign(payload(), "other"), right.upper(), right[:-1], f"sha1={right}"]
    assert not matches_any(right, [other.encode() for other in others])


def test_the_memory_is_bounded_in_time() -> None:
    """What has come is new again once its lifetime is over, and takes no place from then on."""
    memory = ReplayCache()
    assert memory.add(("", "a"), 0.0, 10.0)
    assert not memory.add(("", "a"), 10.0, 10.0)
    assert memory.add(("acme", "a"), 10.0, 10.0)
    assert memory.add(("", "a"), 10.1, 10.0)
    assert memory.add(("", "b"), 30.0, 10.0)
    assert 1 == len(memory)


def test_the_memory_is_bounded_in_number() -> None:
    """Of more than it can hold, the memory lets the oldest go."""
    memory = ReplayCache(3)
    assert [True] * 5 == [memory.add(("", str(number)), 0.0, 10.0) for number in range(5)]
    assert 3 == len(memory)
    assert not memory.add(("", "4"), 0.0, 10.0)
    assert memory.add(("", "0"), 0.0, 10.0)


def test_the_memory_lasts_when_a_window_shrinks() -> None:
    """A lifetime shorter than that of others before it is kept all the same."""
    memory = ReplayCache()
    memory.add(("", "long"), 0.0, 100.0)
    memory.add(("", "short"), 0.0, 1.0)
    assert memory.add(("", "short"), 2.0, 1.0)
    assert not memory.add(("", "long"), 2.0, 1.0)


# When to poll.


def polled(alarm: Debouncer, now: float, *, found: bool) -> None:
    """A poll that takes no time."""
    alarm.start_poll(now)
    alarm.finish_poll(now, has_new_logs=found)


def test_without_a_ring_there_is_nothing_to_do() -> None:
    """Polls that find nothing by themselves are not repeated."""
    alarm = Debouncer()
    assert math.inf == alarm.due_at()
    polled(alarm, 5.0, found=False)
    assert math.inf == alarm.due_at()


def test_the_first_ring_is_answered_at_once_others_after_a_second() -> None:
    """However many rings come, there is one poll a debounce."""
    alarm = Debouncer()
    alarm.notify()
    assert alarm.due_at() <= 0.0
    polled(alarm, 5.0, found=True)
    assert math.inf == alarm.due_at()
    alarm.notify()
    alarm.notify()
    assert 6.0 == alarm.due_at()
    polled(alarm, 6.0, found=True)
    assert math.inf == alarm.due_at()


def test_a_ring_during_a_poll_is_kept() -> None:
    """What happened after a poll began may have escaped it."""
    alarm = Debouncer()
    alarm.notify()
    alarm.start_poll(5.0)
    alarm.notify()
    alarm.finish_poll(5.5, has_new_logs=True)
    assert 6.0 == alarm.due_at()


def test_what_was_not_found_is_looked_for_once_more() -> None:
    """A poll in vain is repeated two seconds after its end; the repetition is not, unless somebody rings again."""
    alarm = Debouncer()
    alarm.notify()
    alarm.start_poll(5.0)
    alarm.finish_poll(5.25, has_new_logs=False)
    assert 7.25 == alarm.due_at()
    alarm.start_poll(7.25)
    alarm.finish_poll(7.5, has_new_logs=False)
    assert math.inf == alarm.due_at()
    alarm.notify()
    polled(alarm, 8.0, found=False)
    alarm.notify()
    assert 9.0 == alarm.due_at()
    polled(alarm, 9.0, found=False)
    assert 11.0 == alarm.due_at()


def test_what_webhooks_may_spend() -> None:
    """Requests count for a minute; past the budget the next one waits until enough of them are older."""
    spending = RequestBudget()
    assert (3, 0.0) == (spending.remaining(0.0, 3), spending.seconds_until_free(0.0, 3))
    spending.add(0.0, 2)
    spending.add(10.0, 2)
    assert (0, 40.0) == (spending.remaining(20.0, 3), spending.seconds_until_free(20.0, 3))
    assert (0, 50.0) == (spending.remaining(20.0, 2), spending.seconds_until_free(20.0, 2))
    assert (1, 0.0) == (spending.remaining(60.0, 3), spending.seconds_until_free(60.0, 3))
    assert math.inf == spending.seconds_until_free(200.0, 0)


# What is counted.


def counted(inbox: WebhookStats) -> dict[str, float]:
    """What an inbox has counted since last asked, by the last label."""
    return {count.labels[-1]: count.amount for count in inbox.pop_increments() if isinstance(count, IncCounter)}


def test_births_cover_what_can_be_counted() -> None:
    """Every series that can come is there at 0, and is one of the catalogue."""
    inbox = WebhookStats("acme", RequestBudget())
    born = {(birth.family, birth.labels) for birth in inbox.initial_zeros()}
    for event in (*EVENT_FEEDS, "comment.received"):
        inbox.record(event, None, NOW)
    for reason in REJECTION_REASONS:
        inbox.record_rejection(reason)
    drained = inbox.pop_increments()
    assert born == {(count.family, count.labels) for count in drained if isinstance(count, IncCounter)}
    assert {0} == {birth.amount for birth in inbox.initial_zeros()}
    assert all(len(CATALOGUE[count.family].labels) == len(count.labels) for count in drained)
    assert {*EVENT_FEEDS.values()} == {*FEEDS}


def test_an_inbox_is_emptied_once() -> None:
    """What was drained is not counted again; a time ahead of the clock is no negative lag."""
    inbox = WebhookStats("acme", RequestBudget())
    inbox.record("post.failed", NOW - 2.5, NOW)
    inbox.record("post.failed", NOW + 9, NOW + 1)
    drained = inbox.pop_increments()
    assert [2] == [count.amount for count in drained if isinstance(count, IncCounter)]
    assert [2_500_000, 0] == [count.micros for count in drained if isinstance(count, ObserveHistogram)]
    assert [NOW + 1] == [count.value for count in drained if isinstance(count, SetLatest)]
    assert [] == inbox.pop_increments()


def test_a_flood_takes_little_memory() -> None:
    """Between two polls counts are one number each, and lags are bounded."""
    inbox = WebhookStats("acme", RequestBudget())
    for _ in range(20_000):
        inbox.record("post.failed", NOW, NOW)
        inbox.record_rejection("signature")
    assert 10_003 == len(inbox.pop_increments())


def test_how_long_webhooks_are_alive() -> None:
    """They are for ten intervals after the last one of a feed, or an hour if that is longer."""
    inbox = WebhookStats("acme", RequestBudget())
    inbox.record("comment.received", NOW, NOW)
    assert not inbox.is_alive(NOW, 60.0)
    inbox.record("account.connected", NOW, NOW)
    assert [True, True, False] == [inbox.is_alive(NOW + late, 60.0) for late in (-9, 3600, 3601)]
    assert [True, False] == [inbox.is_alive(NOW + late, 600.0) for late in (6000, 6001)]


# Over HTTP.


class House:
    """The application with webhooks for two workspaces, whose pollers remember that they were woken."""

    def __init__(self) -> None:
        self.now = NOW
        self.secret = SECRET
        self.woken: list[str] = []
        self.webhooks = WebhookReceiver("/webhook", secret=lambda: self.secret, window=WINDOW, clock=lambda: self.now)
        for name in ("acme", "beta"):
            inbox = WebhookStats(name, RequestBudget())
            inbox.wake_callbacks = {feed: self._waker(f"{name}/{feed}") for feed in FEEDS}
            self.webhooks.stats_by_workspace[name] = inbox
        health: list[WorkspaceHealth] = []
        self.app = create_app(Exposition({}), lambda: health, version="1", webhooks=self.webhooks)

    def _waker(self, who: str) -> Any:
        return lambda: self.woken.append(who)

    async def post(
        self,
        body: bytes,
        path: str = "/webhook",
        *,
        signature: str | None = "",
        header: str = "X-Late-Signature",
        method: str = "POST",
        pieces: int = 1,
    ) -> int:
        """Send a webhook, signed rightly if not told otherwise; gives the status of the answer."""
        return (await self.answer(body, path, signature=signature, header=header, method=method, pieces=pieces))[0]

    async def answer(
        self,
        body: bytes,
        path: str = "/webhook",
        *,
        signature: str | None = "",
        header: str = "X-Late-Signature",
        method: str = "POST",
        pieces: int = 1,
    ) -> tuple[int, Mapping[str, str]]:
        """As post, with the headers of the answer."""
        size = max(1, math.ceil(len(body) / pieces))
        cuts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        messages = [
            {"type": "http.request", "body": cut, "more_body": number + 1 < len(cuts)}
            for number, cut in enumerate(cuts)
        ]
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return messages.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        signature = sign(body, SECRET) if signature == "" else signature
        headers = [] if signature is None else [(header.lower().encode(), signature.encode())]
        await self.app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
        start, _ = sent
        return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}

    def counted(self) -> list[dict[str, float]]:
        """What every workspace has counted."""
        return [counted(inbox) for inbox in self.webhooks.stats_by_workspace.values()]


@pytest.fixture
def house() -> House:
    """Nothing has come yet."""
    return House()


async def test_a_webhook_for_all(house: House) -> None:
    """It is taken without a word, counts for every workspace, and wakes the pollers of its feed."""
    status, headers = await house.answer(payload())
    assert (204, False, "no-store") == (status, "content-length" in headers, headers["cache-control"])
    assert ["acme/publishing", "beta/publishing"] == house.woken
    assert [{"post.failed": 1}] * 2 == house.counted()


async def test_a_webhook_for_one(house: House) -> None:
    """Below the path stands the name of a workspace, which alone is woken."""
    assert 204 == await house.post(payload("account.disconnected"), "/webhook/beta")
    assert ["beta/connections"] == house.woken
    assert [{}, {"account.disconnected": 1}] == house.counted()


async def test_an_unknown_workspace(house: House) -> None:
    """Its name is nobody's; only who knows the secret is told."""
    assert 404 == await house.post(payload(), "/webhook/other")
    assert 401 == await house.post(payload(), "/webhook/other", signature=None)
    assert [404] * 2 == [await house.post(payload(), path) for path in ("/webhook/acme/", "/webhooks")]
    assert ([], [{}, {}]) == (house.woken, house.counted())


@pytest.mark.parametrize("header", ["X-Late-Signature", "X-Zernio-Signature"])
async def test_both_names_of_the_vendor(house: House, header: str) -> None:
    """The signature comes under the old name or the new one."""
    assert 204 == await house.post(payload(), header=header)


@pytest.mark.parametrize("event", ["comment.received", "post.recycled", "webhook.test", "x" * 1000, ""])
async def test_other_events(house: House, event: str) -> None:
    """An event that brings no log is taken, counted under one name for all of them, and wakes nobody."""
    assert 204 == await house.post(payload(event))
    assert ([], [{"other": 1}] * 2) == (house.woken, house.counted())


@pytest.mark.parametrize("signature", [None, "0" * 64, "sha256=", sign(payload(), "other")])
async def test_a_forged_webhook(house: House, signature: str | None) -> None:
    """Without the right signature it is refused, and wakes nobody."""
    assert 401 == await house.post(payload(), signature=signature)
    assert ([], [{"signature": 1}] * 2) == (house.woken, house.counted())


async def test_a_new_secret(house: House) -> None:
    """The secret in force is that of the moment."""
    house.secret = "another"
    assert 401 == await house.post(payload())
    assert 204 == await house.post(payload(), signature=sign(payload(), "another"))


async def test_a_replay(house: House) -> None:
    """The same once more is taken as if it were well, so that a retry does no harm, but counts as a refusal."""
    assert [204] * 3 == [await house.post(payload()) for _ in range(3)]
    assert (2, [{"post.failed": 1, "replay": 2}] * 2) == (len(house.woken), house.counted())
    assert 204 == await house.post(payload(), "/webhook/acme")
    assert 3 == len(house.woken)


@pytest.mark.parametrize("late", [-WINDOW, WINDOW])
async def test_the_window(house: House, late: float) -> None:
    """What is as old as the window, or as far ahead, is taken and cannot be replayed; beyond it is refused."""
    assert 204 == await house.post(payload(at=NOW - late))
    house.now = NOW - late + WINDOW
    assert 204 == await house.post(payload(at=NOW - late))
    assert 2 == len(house.woken)
    assert 204 == await house.post(payload(at=house.now - math.copysign(WINDOW + 1, late)))
    assert [{"post.failed": 1, "replay": 1, "expired": 1}] * 2 == house.counted()
    assert 2 == len(house.woken)


async def test_without_a_time(house: House) -> None:
    """A webhook that tells no time is taken; it cannot be replayed until it is forgotten."""
    body = payload(at=None)
    assert 204 == await house.post(body)
    house.now += 2 * WINDOW
    assert 204 == await house.post(body)
    assert 2 == len(house.woken)
    house.now += 1
    assert 204 == await house.post(body)
    assert 4 == len(house.woken)


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'"post.failed"',
    b'{"id": "evt"}',
    b'{"event": null}',
    b'{"event": 7}',
    b'{"event": "\xff"}',
    b'{"event": "post.failed", "timestamp": "yesterday"}',
    b'{"event": "post.failed", "timestamp": 17}',
    b'{"event": "post.failed", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
async def test_nonsense(house: House, body: bytes) -> None:
    """What is no JSON with an event is refused, even with the right signature."""
    assert 400 == await house.post(body)
    assert ([], [{"malformed": 1}] * 2) == (house.woken, house.counted())


async def test_the_largest_webhook(house: House) -> None:
    """A payload may come in pieces, and up to a size; beyond it no more is read, and nothing is computed of it."""
    room = MAX_PAYLOAD_BYTES - len(payload(more=""))
    assert 204 == await house.post(payload(more="x" * room), pieces=9)
    house.counted()
    assert 413 == await house.post(payload(more="x" * (room + 1)), pieces=9)
    assert 413 == await house.post(b"x" * 20 * MAX_PAYLOAD_BYTES, pieces=20, signature=None)
    assert [{"too_large": 2}] * 2 == house.counted()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods(house: House, method: str) -> None:
    """Only POST is for webhooks."""
    status, headers = await house.answer(payload(), method=method)
    assert (405, "POST", [{}, {}]) == (status, headers["allow"], house.counted())


async def test_a_webhook_that_breaks_off(house: House) -> None:
    """What did not come whole is no forgery."""
    sent: list[MutableMapping[str, Any]] = []
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await house.app({"type": "http", "method": "POST", "path": "/webhook", "headers": []}, receive, send)
    assert (400, [{}, {}]) == (sent[0]["status"], house.counted())


async def test_without_webhooks_there_is_no_path(house: House) -> None:
    """Where none are configured, the path is unknown."""
    house.app = create_app(Exposition({}), list, version="1")
    assert 404 == await house.post(payload())

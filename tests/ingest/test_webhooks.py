"""Webhooks over HTTP: whose are accepted, how they count, and which pollers they wake."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from late_exporter.feeds import FEEDS
from late_exporter.feeds.status_feeds import STATUS_FEEDS
from late_exporter.health import WorkspaceHealth
from late_exporter.ingest.webhooks import (
    CACHE_SIZE,
    EVENT_FEEDS,
    MAX_PAYLOAD_BYTES,
    REJECTION_RESPONSES,
    WebhookReceiver,
    WebhookStats,
    matches_any,
    sign,
)
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.series import IncCounter, ObserveHistogram, SetCurrent
from late_exporter.web.app import HealthSource, create_app
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.world import iso_time

NOW = 1_795_600_000.0
SECRET = "whsec_0123456789"
EVENT_ID = "7c0c1d1e-8a5b-4c3f-9d0e-000000000001"


def payload(event: str = "post.failed", *, at: float | None = NOW, **fields: Any) -> bytes:
    """Return a payload as Zernio sends it."""
    timestamp = {} if at is None else {"timestamp": iso_time(at)}
    return json.dumps({"id": EVENT_ID, "event": event, "post": {"id": "p"}, **timestamp, **fields}).encode()


# Signatures.


@pytest.mark.parametrize("given", [[], [b""], [b"sha256="], [b"\xff" * 64], [b"0" * 64], [b"0" * 100_000]])
def test_invalid_signatures(given: Sequence[bytes]) -> None:
    """A missing, malformed or foreign signature is rejected."""
    right = sign(payload(), SECRET)
    assert not matches_any(right, given)
    others = [sign(payload() + b" ", SECRET), sign(payload(), "other"), right.upper(), right[:-1], f"sha1={right}"]
    assert not matches_any(right, [other.encode() for other in others])


# Counting.


def pop_counts(stats: WebhookStats) -> dict[str, float]:
    """Return the counts since the last call, by the last label."""
    return {count.labels[-1]: count.amount for count in stats.pop_increments() if isinstance(count, IncCounter)}


def test_initial_zeros() -> None:
    """Every series that can be counted starts at 0 and is in the catalogue."""
    stats = WebhookStats("acme")
    zeros = {(zero.family, zero.labels) for zero in stats.initial_zeros()}
    for event in (*EVENT_FEEDS, "comment.received"):
        stats.record(event, None, NOW)
    for reason in REJECTION_RESPONSES:
        stats.record_rejection(reason)
    drained = stats.pop_increments()
    assert zeros == {(count.family, count.labels) for count in drained if isinstance(count, IncCounter)}
    assert {0} == {zero.amount for zero in stats.initial_zeros()}
    assert all(len(CATALOGUE[count.family].labels) == len(count.labels) for count in drained)
    assert {*FEEDS} < {feed for feeds in EVENT_FEEDS.values() for feed in feeds} < {*FEEDS, *STATUS_FEEDS}


def test_memory_is_bounded() -> None:
    """Between two polls there is one number per counter, and a bounded number of lags."""
    stats = WebhookStats("acme")
    for _ in range(20_000):
        stats.record("post.failed", NOW, NOW)
        stats.record_rejection("signature")
    assert 10_003 == len(stats.pop_increments())


# Over HTTP.


class WebHarness:
    """The web application with webhooks for two workspaces, and a log of the pollers that were woken."""

    def __init__(self) -> None:
        self.now = NOW
        self.secret = SECRET
        self.woken: list[str] = []
        self.webhooks = WebhookReceiver("/webhook", secret=lambda: self.secret, clock=lambda: self.now)
        for name in ("acme", "beta"):
            stats = WebhookStats(name)
            stats.wake_callbacks = {feed: self._waker(f"{name}/{feed}") for feed in (*FEEDS, *STATUS_FEEDS)}
            self.webhooks.stats_by_workspace[name] = stats
        health: list[WorkspaceHealth] = []
        self.app: Any = create_app(HealthSource(workspaces=lambda: health), version="1", webhooks=self.webhooks)

    def _waker(self, who: str) -> Any:
        return lambda: self.woken.append(who)

    async def post(self, body: bytes, path: str = "/webhook", **options: Any) -> int:
        """Send a webhook; return the status of the response."""
        return (await self.send(body, path, **options)).status_code

    async def send(
        self,
        body: bytes,
        path: str = "/webhook",
        *,
        signature: str | None = "",
        header: str = "X-Late-Signature",
        pieces: int = 1,
    ) -> httpx.Response:
        """Send a webhook in pieces, with a valid signature by default; return the response."""

        async def content() -> AsyncIterator[bytes]:
            size = math.ceil(len(body) / pieces) or 1
            for at in range(0, len(body), size):
                yield body[at : at + size]

        signature = sign(body, SECRET) if signature == "" else signature
        headers = {} if signature is None else {header: signature}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://exporter") as client:
            return await client.post(path, content=content(), headers=headers)

    def pop_counts(self) -> list[dict[str, float]]:
        """Return the counts of every workspace."""
        return [pop_counts(stats) for stats in self.webhooks.stats_by_workspace.values()]


@pytest.fixture
def web() -> WebHarness:
    """Return an application that has received nothing."""
    return WebHarness()


async def test_a_webhook_to_the_shared_path(web: WebHarness) -> None:
    """It is accepted, counts in every workspace, and wakes the pollers of its feed."""
    response = await web.send(payload())
    assert (204, "no-store") == (response.status_code, response.headers["cache-control"])
    assert "content-length" not in response.headers
    assert ["acme/publishing", "beta/publishing"] == web.woken
    assert [{"post.failed": 1}] * 2 == web.pop_counts()


async def test_a_webhook_to_one_workspace(web: WebHarness) -> None:
    """A path with the name of a workspace wakes only its pollers."""
    assert 204 == await web.post(payload("account.disconnected"), "/webhook/beta")
    assert ["beta/connections", "beta/accounts"] == web.woken
    assert [{}, {"account.disconnected": 1}] == web.pop_counts()


async def test_an_unknown_workspace(web: WebHarness) -> None:
    """A webhook for an unknown workspace is 404 with the right signature, 401 without."""
    assert 404 == await web.post(payload(), "/webhook/other")
    assert 401 == await web.post(payload(), "/webhook/other", signature=None)
    assert [404] * 2 == [await web.post(payload(), path) for path in ("/webhook/acme/", "/webhooks")]
    assert ([], [{}, {}]) == (web.woken, web.pop_counts())


async def test_a_workspace_of_another_replica(web: WebHarness) -> None:
    """Its webhooks are accepted, so that the sender does not give up, and wake nothing here."""
    web.webhooks.other_workspaces = {"other"}
    assert 204 == await web.post(payload(), "/webhook/other")
    assert 404 == await web.post(payload(), "/webhook/unknown")
    web.webhooks.stats_by_workspace.clear()
    assert 204 == await web.post(payload(), "/webhook")
    assert 401 == await web.post(payload(), "/webhook/other", signature="0" * 64)


async def test_unknown_workspaces_do_not_displace_remembered_events(web: WebHarness) -> None:
    """A recorded webhook stays a replay, to however many paths of unknown workspaces it is sent."""
    assert 204 == await web.post(payload())
    signature = sign(payload(), SECRET).encode()
    for number in range(CACHE_SIZE + 1):
        assert 404 == web.webhooks.receive(f"/webhook/nope{number}", payload(), [signature])
    assert 204 == await web.post(payload())
    assert [{"post.failed": 1, "replay": 1}] * 2 == web.pop_counts()


@pytest.mark.parametrize("header", ["X-Late-Signature", "X-Zernio-Signature"])
async def test_both_signature_headers(web: WebHarness, header: str) -> None:
    """The signature is accepted under the old and the new header."""
    assert 204 == await web.post(payload(), header=header)


@pytest.mark.parametrize(
    ("event", "feed"),
    [
        ("post.published", "publishing"),
        ("post.failed", "publishing"),
        ("account.disconnected", "connections accounts"),
        ("account.rate_limited", "accounts"),
        ("balance.low", "billing"),
    ],
)
async def test_events_of_feeds(web: WebHarness, event: str, feed: str) -> None:
    """An event that changes what feeds show is counted by its name, and wakes the pollers of these and no others."""
    assert 204 == await web.post(payload(event))
    woken = [f"{name}/{each}" for name in ("acme", "beta") for each in feed.split()]
    assert (woken, [{event: 1}] * 2) == (web.woken, web.pop_counts())


@pytest.mark.parametrize("event", ["comment.received", "post.platform.deleted", "webhook.test", "x" * 1000, ""])
async def test_other_events(web: WebHarness, event: str) -> None:
    """An event without logs is accepted, counted as ``other``, and wakes no poller."""
    assert 204 == await web.post(payload(event))
    assert ([], [{"other": 1}] * 2) == (web.woken, web.pop_counts())


@pytest.mark.parametrize("signature", [None, "0" * 64, "sha256=", sign(payload(), "other")])
async def test_a_forged_webhook(web: WebHarness, signature: str | None) -> None:
    """A webhook without a valid signature is rejected and wakes no poller."""
    assert 401 == await web.post(payload(), signature=signature)
    assert ([], [{"signature": 1}] * 2) == (web.woken, web.pop_counts())


async def test_a_replay(web: WebHarness) -> None:
    """A repeated webhook is acknowledged, so that it is not sent again, and counted as rejected."""
    assert [204] * 3 == [await web.post(payload()) for _ in range(3)]
    assert (2, [{"post.failed": 1, "replay": 2}] * 2) == (len(web.woken), web.pop_counts())
    assert 204 == await web.post(payload(), "/webhook/acme")
    assert 3 == len(web.woken)


async def test_deliveries_of_one_event(web: WebHarness) -> None:
    """Another subscription to the same event, with another body, secret and header, wakes no poller again."""
    assert 204 == await web.post(payload())
    web.secret = "secret-of-another-subscription"
    body = payload(attempt=2)
    assert 204 == await web.post(body, signature=sign(body, web.secret), header="X-Zernio-Signature")
    assert (2, [{"post.failed": 1, "replay": 1}] * 2) == (len(web.woken), web.pop_counts())


@pytest.mark.parametrize("event_id", [None, "", 7, ["x"], {"a": "b"}, "x" * 65])
async def test_an_unusable_event_id(web: WebHarness, event_id: object) -> None:
    """A webhook without a usable id is identified by its signature: only the same body is a replay."""
    bodies = [payload(id=event_id, number=number) for number in (1, 2, 1)]
    assert [204] * 3 == [await web.post(body) for body in bodies]
    assert (4, [{"post.failed": 2, "replay": 1}] * 2) == (len(web.woken), web.pop_counts())


ATTEMPTS = [0.0, 10.0, 110.0, 18.5 * MINUTE, 3 * HOUR, 27 * HOUR, 51 * HOUR]
"""Ages of an event at the documented attempts to deliver it, in seconds."""


@pytest.mark.parametrize("age", [*ATTEMPTS, 30 * DAY, -HOUR])
async def test_a_late_delivery(web: WebHarness, age: float) -> None:
    """Every attempt, a redelivery, and a wrong clock wake the pollers; only the age of a prompt delivery is a lag."""
    assert 204 == await web.post(payload(at=NOW - age))
    assert ["acme/publishing", "beta/publishing"] == web.woken
    increments = web.webhooks.stats_by_workspace["acme"].pop_increments()
    counts = [count for count in increments if isinstance(count, IncCounter)]
    lags = [lag.micros for lag in increments if isinstance(lag, ObserveHistogram)]
    assert [("acme", "post.failed")] == [count.labels for count in counts]
    assert ([int(age * 1_000_000)] if age in ATTEMPTS[:3] else []) == lags
    assert [NOW] == [latest.value for latest in increments if isinstance(latest, SetCurrent)]


async def test_a_replay_is_refused_while_its_event_is_remembered(web: WebHarness) -> None:
    """However long ago it was, with a timestamp or without, unless many others were received since then."""
    first = payload(at=None)
    await web.post(first)
    web.now += 90 * DAY
    for number in range(CACHE_SIZE - 1):
        web.webhooks.receive("/webhook", body := payload(id=f"e{number}"), [sign(body, SECRET).encode()])
    web.pop_counts()
    await web.post(first)
    assert [{"replay": 1}] * 2 == web.pop_counts()
    await web.post(payload(id="last"))
    await web.post(first)
    assert [{"post.failed": 2}] * 2 == web.pop_counts()


MALFORMED = [
    b"",
    b"[]",
    b'{"id": "evt"}',
    b'{"event": "post.failed", "timestamp": 17}',
    b'{"event": "post.failed", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
async def test_malformed_payload(web: WebHarness, body: bytes) -> None:
    """A body that is no JSON with an event is rejected, even with a valid signature."""
    assert 400 == await web.post(body)
    assert ([], [{"malformed": 1}] * 2) == (web.woken, web.pop_counts())


async def test_payload_size(web: WebHarness) -> None:
    """A payload may arrive in chunks up to a size; beyond it nothing is read or verified."""
    room = MAX_PAYLOAD_BYTES - len(payload(more=""))
    assert 204 == await web.post(payload(more="x" * room), pieces=9)
    web.pop_counts()
    assert 413 == await web.post(payload(more="x" * (room + 1)), pieces=9)
    assert 413 == await web.post(b"x" * 20 * MAX_PAYLOAD_BYTES, pieces=20, signature=None)
    assert [{"too_large": 2}] * 2 == web.pop_counts()

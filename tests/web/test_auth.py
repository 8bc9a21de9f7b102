"""Basic authentication."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Mapping

import bcrypt
import pytest

from late_exporter.config.web import WebConfig
from late_exporter.web import auth
from late_exporter.web.auth import MAX_WAITING, AuthMiddleware
from late_exporter.web.replies import Message, Receive, Reply, Send, send_reply
from tests.web.requests import Response, basic_auth, call, wait_until

ALICE = b"$2y$08$" + b"a" * 53
BOB = b"$2y$11$" + b"b" * 53
USERS: Mapping[str, bytes] = {"alice": ALICE, "bob": BOB}
CORRECT: Mapping[bytes, bytes] = {ALICE: b"wonderland", BOB: b"builder"}


async def application(scope: Message, _: Receive, send: Send) -> None:
    """Respond with the path."""
    await send_reply(Reply(body=scope["path"].encode()), scope, send)


class FakeBcrypt:
    """Replacement of bcrypt that records its calls, and waits while it is held."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, bytes]] = []
        self.released = threading.Event()
        self.released.set()

    def checkpw(self, password: bytes, password_hash: bytes) -> bool:
        """Return whether a password is correct."""
        self.calls.append((password, password_hash))
        assert self.released.wait(30)
        return CORRECT.get(password_hash) == password


class AuthHarness:
    """Middleware with two users."""

    def __init__(self, users: Mapping[str, bytes] = USERS) -> None:
        self.config = WebConfig(users=users)
        self.middleware = AuthMiddleware(application, lambda: self.config, needs_password=lambda _: True)

    async def request(self, *headers: tuple[bytes, bytes]) -> Response:
        """Send a request with some headers."""
        return await call(self.middleware, "/metrics", headers=headers)

    async def status(self, user: str, password: str) -> int:
        """Return the status of the response to a request."""
        return (await self.request(basic_auth(user, password))).status


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeBcrypt:
    """Replace bcrypt."""
    fake = FakeBcrypt()
    monkeypatch.setattr(bcrypt, "checkpw", fake.checkpw)
    return fake


@pytest.fixture
def harness(fake: FakeBcrypt) -> AuthHarness:
    """Return a middleware with two users."""
    assert fake.calls == []
    return AuthHarness()


async def test_wrong_password(harness: AuthHarness) -> None:
    """A wrong password is rejected, and the request does not reach the application."""
    response = await harness.request(basic_auth("alice", "builder"))
    assert (response.status, response.body) == (401, b"unauthorized\n")
    assert response.headers["www-authenticate"] == 'Basic realm="late-exporter", charset="UTF-8"'


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Basic !!!",
        b"Basic YWxpY2U=",
        b"Basic YWxpY2U6d29uZGVybGFuZA==\x00",
        b"Basic " + base64.b64encode(b"\xff:wonderland"),
        b"Basic " + base64.b64encode(b":wonderland"),
        b"Bearer " + base64.b64encode(b"alice:wonderland"),
    ],
)
async def test_no_password(harness: AuthHarness, fake: FakeBcrypt, header: bytes) -> None:
    """A header without user and password is rejected without a check."""
    response = await harness.request((b"authorization", header))
    assert (response.status, "www-authenticate" in response.headers) == (401, True)
    assert fake.calls == []


async def test_a_correct_password_is_checked_once(harness: AuthHarness, fake: FakeBcrypt) -> None:
    """It is remembered for its user only, also among requests that wait for it."""
    assert await asyncio.gather(*(harness.status("alice", "wonderland") for _ in range(5))) == [200] * 5
    assert fake.calls == [(b"wonderland", ALICE)]
    assert await harness.status("bob", "wonderland") == 401
    assert await harness.status("alic", "ewonderland") == 401


async def test_changed_hash(harness: AuthHarness) -> None:
    """A password is checked again if the hash changes, and rejected if the user is removed."""
    assert await harness.status("alice", "wonderland") == 200
    harness.config = WebConfig(users={"alice": BOB, "bob": BOB})
    assert await harness.status("alice", "wonderland") == 401
    harness.config = WebConfig(users={"bob": BOB})
    assert await harness.status("alice", "wonderland") == 401
    harness.config = WebConfig(users=USERS)
    assert await harness.status("alice", "wonderland") == 200


async def test_one_password_is_checked_at_a_time(harness: AuthHarness, fake: FakeBcrypt) -> None:
    """Few others wait, further ones are told to retry; a remembered password needs not wait."""
    assert await harness.status("bob", "builder") == 200
    fake.released.clear()
    waiting = [asyncio.ensure_future(harness.status("alice", str(number))) for number in range(MAX_WAITING)]
    await wait_until(lambda: len(fake.calls) == 2)
    response = await harness.request(basic_auth("alice", "one more"))
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    assert await harness.status("bob", "builder") == 200
    assert len(fake.calls) == 2
    fake.released.set()
    assert await asyncio.gather(*waiting) == [401] * MAX_WAITING
    assert await harness.status("alice", "wonderland") == 200


async def test_clients_that_leave(harness: AuthHarness, fake: FakeBcrypt) -> None:
    """A check that has begun is completed and remembered; others of clients that leave are not made."""
    fake.released.clear()
    requests = [asyncio.ensure_future(harness.status("alice", text)) for text in ("wonderland", "x", "y")]
    await wait_until(lambda: bool(fake.calls))
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    fake.released.set()
    assert await harness.status("alice", "wonderland") == 200
    assert fake.calls == [(b"wonderland", ALICE)]


async def test_the_hash_of_no_user_opens_nothing(harness: AuthHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown user is rejected even if the password matched the hash that stands in."""
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: True)
    assert await harness.status("nobody", "x") == 401


async def test_an_unknown_user_costs_a_check(harness: AuthHarness, fake: FakeBcrypt) -> None:
    """The time of a rejection does not tell which users exist, if all hashes have cost 10."""
    for name in ("nobody", "x" * 5000):
        assert await harness.status(name, "wrong") == 401
    assert [password_hash[4:6] for _, password_hash in fake.calls] == [b"10"] * 2


def test_the_hash_of_no_user_is_a_hash() -> None:
    """The work of bcrypt is done for the hash that stands in for unknown users, too."""
    assert not bcrypt.checkpw(b"x", auth.UNKNOWN_USER_HASH)


def make_hash(password: bytes) -> bytes:
    """Return a real hash of the lowest cost."""
    return bcrypt.hashpw(password, bcrypt.gensalt(4))


@pytest.mark.parametrize("password", ["pass:word ö€", "x" * 100, "ö" * 60])
async def test_bcrypt(password: str) -> None:
    """Real hashes of every prefix are verified by the first 72 bytes of the password."""
    password_hash = make_hash(password.encode()[:72])
    for prefix in (b"$2a$", b"$2b$", b"$2y$"):
        harness = AuthHarness({"alice": prefix + password_hash[4:]})
        assert await harness.status("alice", password) == 200
        assert await harness.status("alice", f"not {password}") == 401


@pytest.mark.parametrize("password", ["x", "wonder\0land", "\0", "wonderland\0", "x" * 10_000])
async def test_what_bcrypt_rejects(password: str) -> None:
    """A password that bcrypt rejects or would truncate is wrong, and a hash that it rejects accepts none."""
    for password_hash in (make_hash(b"wonder"), b"$2b$04$" + b"!" * 53):
        harness = AuthHarness({"alice": password_hash})
        assert await harness.status("alice", password) == 401

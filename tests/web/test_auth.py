from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from late_exporter.config.web import WebConfig
from late_exporter.web.asgi import Message
from late_exporter.web.auth import AuthMiddleware
from late_exporter.web.passwords import FAILED_LOGIN_RATE, PasswordVerifier
from late_exporter.web.token_bucket import LOG_RATE
from tests.support.clock import VirtualClock
from tests.support.loggers import RecordingLogger
from tests.web.requests import PEER, Response, basic_auth, call
from tests.web.test_passwords import ALICE, BOB, USERS, FakeBcrypt


async def application(scope: Message, _: Callable[[], Awaitable[Message]], send: Any) -> None:
    """Respond with the path."""
    headers = [(b"content-type", b"text/plain"), (b"X-Frame-Options", b"DENY"), (b"content-security-policy", b"old")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["path"].encode("utf-8", "replace")})


class AuthHarness:
    """Middleware with all its collaborators."""

    def __init__(self, *, unauthenticated_paths: Sequence[str] = (), **config: Any) -> None:
        self.clock, self.log = VirtualClock(), RecordingLogger()
        self.bcrypt, self.config = FakeBcrypt(), WebConfig(**config)
        self.middleware = AuthMiddleware(
            application,
            lambda: self.config,
            passwords=PasswordVerifier(monotonic=self.clock.monotonic, check_password=self.bcrypt),
            log=self.log,
            needs_password=lambda path: path not in unauthenticated_paths,
            monotonic=self.clock.monotonic,
        )

    async def request(
        self,
        user: str | None = None,
        password: str = "",
        *,
        authorization: bytes | None = None,
        path: str = "/metrics",
        peer: str = PEER,
    ) -> Response:
        """Send a request."""
        headers = [] if authorization is None else [(b"authorization", authorization)]
        headers += [] if user is None else [basic_auth(user, password)]
        return await call(self.middleware, path, headers=headers, peer=peer)


@pytest.fixture
def auth() -> AuthHarness:
    """Return a middleware with two users."""
    return AuthHarness(users=USERS)


async def test_open_without_users() -> None:
    """Without users no password is needed."""
    auth = AuthHarness()
    assert ((await auth.request()).status, (await auth.request("alice", "wrong")).body) == (200, b"/metrics")
    assert (auth.bcrypt.calls, auth.log.records) == ([], [])


async def test_wrong_password(auth: AuthHarness) -> None:
    """A wrong password is rejected and logged, and the request does not reach the application."""
    response = await auth.request("alice", "builder")
    assert (response.status, response.body) == (401, b"unauthorized\n")
    assert response.headers == {
        "content-type": "text/plain; charset=utf-8",
        "content-length": "13",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "www-authenticate": 'Basic realm="late-exporter", charset="UTF-8"',
    }
    assert auth.log.records == [("warning", "request rejected", {"peer": PEER, "status": 401})]


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"Basic !!!",
        b"Basic YWxpY2U=",
        b"Basic YWxpY2U6d29uZGVybGFuZA==\x00",
        b"Basic " + base64.b64encode(b"\xff:wonderland"),
        b"Basic " + base64.b64encode(b":wonderland"),
        b"Bearer " + base64.b64encode(b"alice:wonderland"),
    ],
)
async def test_no_password(auth: AuthHarness, header: bytes | None) -> None:
    """A header without user and password is rejected without a check and is not a login attempt."""
    for _ in range(FAILED_LOGIN_RATE.burst + 1):
        response = await auth.request(authorization=header)
        assert (response.status, "www-authenticate" in response.headers) == (401, True)
    assert auth.bcrypt.calls == []
    assert bool(header) == bool(auth.log.records)


async def test_password_with_colons(auth: AuthHarness) -> None:
    """The first colon ends the user name; the password may contain colons."""
    await auth.request("alice", "a:b:")
    assert auth.bcrypt.calls[0] == (b"a:b:", ALICE)


async def test_names_and_passwords_are_not_confused(auth: AuthHarness) -> None:
    """The cached password of one user is not accepted for another one."""
    assert (await auth.request("alice", "wonderland")).status == 200
    assert (await auth.request("bob", "wonderland")).status == 401
    assert (await auth.request("alic", "ewonderland")).status == 401


async def test_rejections_are_logged_at_a_limited_rate(auth: AuthHarness) -> None:
    """Rejected requests write a burst of lines, then few."""
    for _ in range(100):
        assert (await auth.request(authorization=b"Basic !")).status == 401
    assert LOG_RATE.burst == len(auth.log.records)
    auth.clock.advance(LOG_RATE.interval)
    await auth.request(authorization=b"Basic !")
    assert auth.log.records[-1][2] == {"peer": PEER, "status": 401}


async def test_changed_hash(auth: AuthHarness) -> None:
    """A cached password is checked again if the hash changes, and rejected if the user is removed."""
    assert (await auth.request("alice", "wonderland")).status == 200
    assert auth.log.records == []
    auth.config = WebConfig(users={"alice": BOB, "bob": BOB})
    assert (await auth.request("alice", "wonderland")).status == 401
    auth.config = WebConfig(users={"bob": BOB})
    assert (await auth.request("alice", "wonderland")).status == 401
    auth.config = WebConfig(users=USERS)
    assert (await auth.request("alice", "wonderland")).status == 200

"""Stands before the application: who may pass, how often, and what every answer carries."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TypeVar

import bcrypt

from late_exporter.config.web import RequestRate, WebConfig
from late_exporter.protocols import Logger
from late_exporter.threads import DaemonThreadExecutor
from late_exporter.web.asgi import App, Message, Receive, Send

__all__ = ["AuthMiddleware", "PasswordVerifier", "TokenBucket"]

CHALLENGE = 'Basic realm="late-exporter", charset="UTF-8"'
FAILED_LOGIN_RATE = RequestRate(interval=3.0, burst=10)
"""Wrong passwords that an address may try."""

MAX_PENDING_CHECKS = 16
"""Attempts that may wait for the one thread that hashes."""

MAX_CACHED = 100
"""Passwords that are known to be right, and addresses that tried a wrong one."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

BCRYPT_MAX_BYTES = 72
"""Bytes of a password that bcrypt looks at."""


class TokenBucket:
    """A token bucket.

    Args:
        rate: How much it holds, and how fast it fills.
        monotonic: Time in seconds that only goes forward.
    """

    def __init__(self, rate: RequestRate, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._monotonic = monotonic
        self._full_at = monotonic()

    def seconds_until_token(self) -> float:
        """Seconds until there is a token; 0 where there is one."""
        spare = self._full_at - self._monotonic() - self.rate.interval * (self.rate.burst - 1)
        return max(0.0, spare)

    def take(self) -> None:
        """Take a token."""
        self._full_at = max(self._full_at, self._monotonic()) + self.rate.interval


class PasswordVerifier:
    """Verifies passwords against bcrypt hashes, in a thread; the right ones are remembered.

    Args:
        monotonic: Time in seconds that only goes forward.
        check: Whether a password, UTF-8, has a hash.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        check_password: Callable[[bytes, bytes], bool] = bcrypt.checkpw,
    ) -> None:
        self._monotonic = monotonic
        self._check = check_password
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._tried: OrderedDict[str, TokenBucket] = OrderedDict()
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._thread = DaemonThreadExecutor()

    async def authenticate(self, users: Mapping[str, bytes], authorization: str, peer: str) -> tuple[HTTPStatus, float]:
        """OK, or why a request may not pass, and the seconds after which to try again.

        Args:
            users: The hash of each user's password.
            authorization: The header; empty where there is none.
            peer: The address that asks.
        """
        name, password = _credentials(authorization)
        if not name:
            return HTTPStatus.UNAUTHORIZED, 0.0
        # Whoever has no account waits as long as whoever has one.
        hashed = users.get(name) or max(users.values(), key=lambda other: other[4:6])
        token = self._token(name, hashed, password)
        if name in users and token in self._right:
            self._right.move_to_end(token)
            return HTTPStatus.OK, 0.0
        tried = self._tried.get(peer) or TokenBucket(FAILED_LOGIN_RATE, self._monotonic)
        _remember(self._tried, peer, tried)
        if (wait := tried.seconds_until_token()) or self._waiting >= MAX_PENDING_CHECKS:
            return HTTPStatus.TOO_MANY_REQUESTS, wait or FAILED_LOGIN_RATE.interval
        tried.take()
        if not await self._has(password, hashed) or name not in users:
            return HTTPStatus.UNAUTHORIZED, 0.0
        self._tried.pop(peer, None)
        _remember(self._right, token, None)
        return HTTPStatus.OK, 0.0

    async def _has(self, password: bytes, hashed: bytes) -> bool:
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._check, password[:BCRYPT_MAX_BYTES], hashed
                )
        except ValueError:  # a password that bcrypt does not take
            return False
        finally:
            self._waiting -= 1

    def _token(self, name: str, hashed: bytes, password: bytes) -> bytes:
        return hmac.digest(self._secret, b"\0".join((name.encode(), hashed, password)), "sha256")


class AuthMiddleware:
    """The application as the outside sees it.

    Args:
        app: The application.
        web: How the web server is to behave, as of now.
        passwords: Verifies passwords.
        log: Hears of refusals.
        opened: Whether a path is for those who cannot log in, and prove otherwise who they are.
        monotonic: Time in seconds that only goes forward.
    """

    def __init__(
        self,
        app: App,
        config: Callable[[], WebConfig],
        *,
        passwords: PasswordVerifier,
        log: Logger,
        is_public: Callable[[str], bool] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._opened = is_public
        self._web = config
        self._passwords = passwords
        self._log = log
        self._monotonic = monotonic
        self._bucket: TokenBucket | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        web = self._web()
        if web.headers:
            send = _adding(web.headers, send)
        status, wait = self._limit(web.rate)
        if status == HTTPStatus.OK and web.users and not self._is_open(web, scope["path"]):
            status, wait = await self._authenticate(web, scope)
        if status == HTTPStatus.OK:
            await self._app(scope, receive, send)
        else:
            await _refuse(status, wait, send, head=scope["method"] == "HEAD")

    def _is_open(self, web: WebConfig, path: str) -> bool:
        return path in web.open_paths or (self._opened is not None and self._opened(path))

    def _limit(self, rate: RequestRate | None) -> tuple[HTTPStatus, float]:
        if rate is None:
            return HTTPStatus.OK, 0.0
        if self._bucket is None or self._bucket.rate != rate:
            self._bucket = TokenBucket(rate, self._monotonic)
        wait = self._bucket.seconds_until_token()
        if wait:
            return HTTPStatus.TOO_MANY_REQUESTS, wait
        self._bucket.take()
        return HTTPStatus.OK, 0.0

    async def _authenticate(self, web: WebConfig, scope: Message) -> tuple[HTTPStatus, float]:
        authorization = next((value for name, value in scope["headers"] if name.lower() == b"authorization"), b"")
        client = scope.get("client")
        peer = str(client[0]) if client else ""
        status, wait = await self._passwords.authenticate(web.users, authorization.decode("latin-1"), peer)
        if authorization and status != HTTPStatus.OK:
            self._log.warning("request refused", peer=peer, status=int(status))
        return status, wait


def _credentials(authorization: str) -> tuple[str, bytes]:
    """User and password; no user where the header holds none."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
        name, colon, password = decoded.partition(b":")
        return (name.decode(), password) if colon and scheme.lower() == "basic" else ("", b"")
    except (binascii.Error, ValueError):
        return "", b""


def _remember(known: OrderedDict[KeyT, ValueT], key: KeyT, value: ValueT) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > MAX_CACHED:
        known.popitem(last=False)


def _adding(headers: tuple[tuple[str, str], ...], send: Send) -> Send:
    """Sends answers with these headers in place of what they have under the same names."""
    added = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    names = {name for name, _ in added}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in names]
            message = {**message, "headers": [*kept, *added]}
        await send(message)

    return sending


async def _refuse(status: HTTPStatus, wait: float, send: Send, *, head: bool) -> None:
    body = f"{status.phrase.lower()}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", CHALLENGE.encode()))
    if wait:
        headers.append((b"retry-after", str(math.ceil(wait)).encode()))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})

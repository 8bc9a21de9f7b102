"""Middleware for basic authentication, the rate limit and configured headers."""

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
from late_exporter.web.app import Reply, send_reply, text_reply
from late_exporter.web.asgi import App, Message, Receive, Send

CHALLENGE = 'Basic realm="late-exporter", charset="UTF-8"'
FAILED_LOGIN_RATE = RequestRate(interval=3.0, burst=10)
"""Rate at which an address may try wrong passwords."""

MAX_PENDING_CHECKS = 16
"""Maximum number of passwords that wait for the hashing thread; further attempts are rejected."""

MAX_CACHED = 100
"""Maximum number of cached passwords, and of addresses with failed attempts."""

BCRYPT_MAX_BYTES = 72
"""bcrypt uses only the first bytes of a password."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class TokenBucket:
    """Token bucket, full at first. ``rate`` has its capacity and the interval at which tokens are added."""

    def __init__(self, rate: RequestRate, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._monotonic = monotonic
        self._full_at = monotonic()

    def seconds_until_token(self) -> float:
        return max(0.0, self._full_at - self._monotonic() - self.rate.interval * (self.rate.burst - 1))

    def take(self) -> None:
        self._full_at = max(self._full_at, self._monotonic()) + self.rate.interval


class PasswordVerifier:
    """Verify passwords against bcrypt hashes in a thread, with a cache of correct passwords."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        check_password: Callable[[bytes, bytes], bool] = bcrypt.checkpw,
    ) -> None:
        self._monotonic = monotonic
        self._check_password = check_password
        self._secret = secrets.token_bytes(32)
        self._correct_passwords: OrderedDict[bytes, None] = OrderedDict()
        self._failed_attempts: OrderedDict[str, TokenBucket] = OrderedDict()
        self._pending_checks = 0
        self._lock = asyncio.Lock()
        self._executor = DaemonThreadExecutor()

    async def authenticate(self, users: Mapping[str, bytes], authorization: str, peer: str) -> tuple[HTTPStatus, float]:
        """Return OK, or the status of the rejection and the seconds after which to retry.

        Args:
            users: Password hash of each user.
            authorization: Value of the header ``Authorization``, empty if there is none.
            peer: Address of the client.
        """
        name, password = _credentials(authorization)
        if not name:
            return HTTPStatus.UNAUTHORIZED, 0.0
        # Unknown users cost as much time as the most expensive hash, so that timing does not reveal user names.
        password_hash = users.get(name) or max(users.values(), key=lambda bcrypt_hash: bcrypt_hash[4:6])
        cache_key = self._cache_key(name, password_hash, password)
        if name in users and cache_key in self._correct_passwords:
            self._correct_passwords.move_to_end(cache_key)
            return HTTPStatus.OK, 0.0
        attempts = self._failed_attempts.get(peer) or TokenBucket(FAILED_LOGIN_RATE, self._monotonic)
        _cache(self._failed_attempts, peer, attempts)
        if (retry_after := attempts.seconds_until_token()) or self._pending_checks >= MAX_PENDING_CHECKS:
            return HTTPStatus.TOO_MANY_REQUESTS, retry_after or FAILED_LOGIN_RATE.interval
        attempts.take()
        if not await self._matches(password, password_hash) or name not in users:
            return HTTPStatus.UNAUTHORIZED, 0.0
        self._failed_attempts.pop(peer, None)
        _cache(self._correct_passwords, cache_key, None)
        return HTTPStatus.OK, 0.0

    async def _matches(self, password: bytes, password_hash: bytes) -> bool:
        self._pending_checks += 1
        try:
            async with self._lock:
                return await asyncio.get_running_loop().run_in_executor(
                    self._executor, self._check_password, password[:BCRYPT_MAX_BYTES], password_hash
                )
        except ValueError:  # bcrypt rejects the password or the hash
            return False
        finally:
            self._pending_checks -= 1

    def _cache_key(self, name: str, password_hash: bytes, password: bytes) -> bytes:
        # A keyed digest, so that no password stays in memory.
        return hmac.digest(self._secret, b"\0".join((name.encode(), password_hash, password)), "sha256")


class AuthMiddleware:
    """Authenticate and limit requests before they reach the application.

    ``config`` returns the current configuration of the web server. ``is_public`` returns whether a path needs no
    password because its requests are authenticated in another way.
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
        self._is_public = is_public
        self._config = config
        self._passwords = passwords
        self._log = log
        self._monotonic = monotonic
        self._bucket: TokenBucket | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        config = self._config()
        if config.headers:
            send = _with_headers(config.headers, send)
        status, retry_after = self._limit(config.rate)
        if status == HTTPStatus.OK and config.users and not self._needs_no_password(config, scope["path"]):
            status, retry_after = await self._authenticate(config, scope)
        if status == HTTPStatus.OK:
            await self._app(scope, receive, send)
        else:
            await send_reply(_rejection(status, retry_after), send, head=scope["method"] == "HEAD")

    def _limit(self, rate: RequestRate | None) -> tuple[HTTPStatus, float]:
        if rate is None:
            return HTTPStatus.OK, 0.0
        if self._bucket is None or self._bucket.rate != rate:
            self._bucket = TokenBucket(rate, self._monotonic)
        retry_after = self._bucket.seconds_until_token()
        if retry_after:
            return HTTPStatus.TOO_MANY_REQUESTS, retry_after
        self._bucket.take()
        return HTTPStatus.OK, 0.0

    def _needs_no_password(self, config: WebConfig, path: str) -> bool:
        return path in config.open_paths or (self._is_public is not None and self._is_public(path))

    async def _authenticate(self, config: WebConfig, scope: Message) -> tuple[HTTPStatus, float]:
        authorization = next((value for name, value in scope["headers"] if name.lower() == b"authorization"), b"")
        client = scope.get("client")
        peer = str(client[0]) if client else ""
        status, retry_after = await self._passwords.authenticate(config.users, authorization.decode("latin-1"), peer)
        if authorization and status != HTTPStatus.OK:
            self._log.warning("request rejected", peer=peer, status=int(status))
        return status, retry_after


def _credentials(authorization: str) -> tuple[str, bytes]:
    """Return user and password, with an empty user if the header is invalid."""
    scheme, _, base64_text = authorization.partition(" ")
    try:
        credentials = base64.b64decode(base64_text.strip(), validate=True)
        name, colon, password = credentials.partition(b":")
        return (name.decode(), password) if colon and scheme.lower() == "basic" else ("", b"")
    except (binascii.Error, ValueError):
        return "", b""


def _cache(cache: OrderedDict[KeyT, ValueT], key: KeyT, value: ValueT) -> None:
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > MAX_CACHED:
        cache.popitem(last=False)


def _with_headers(headers: tuple[tuple[str, str], ...], send: Send) -> Send:
    """Return a ``send`` that sets headers of responses, replacing those of the same name."""
    new_headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    names = {name for name, _ in new_headers}

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            other_headers = [(name, value) for name, value in message["headers"] if name.lower() not in names]
            message = {**message, "headers": [*other_headers, *new_headers]}
        await send(message)

    return send_with_headers


def _rejection(status: HTTPStatus, retry_after: float) -> Reply:
    headers = []
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append(("www-authenticate", CHALLENGE))
    if retry_after:
        headers.append(("retry-after", str(math.ceil(retry_after))))
    return text_reply(status.phrase.lower(), status, *headers)

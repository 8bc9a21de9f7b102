"""Basic authentication with bcrypt hashes, as in the exporter-toolkit of Prometheus."""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from late_exporter.config.web import WebConfig
from late_exporter.web.replies import (
    AccessError,
    App,
    Message,
    Receive,
    Send,
    get_header,
    send_reply,
)

CHALLENGE = 'Basic realm="late-exporter", charset="UTF-8"'

BCRYPT_MAX_BYTES = 72
"""bcrypt uses only the first bytes of a password."""

MAX_WAITING = 10
"""Maximum number of passwords that wait for their check; further requests get 503."""

UNKNOWN_USER_HASH = b"$2b$10$" + b"." * 53
"""Hash that no password has, with the cost that the documentation recommends."""


class AuthMiddleware:
    """Authenticate requests before they reach the application.

    Passwords are checked one at a time, in a thread, and the correct ones are remembered. A check
    that has begun is completed and remembered even if its client has left, so that a client with a
    short timeout gets in with its next request.

    Args:
        config: Returns the current configuration of the web server.
        needs_password: Returns whether a path does, if there are users.
    """

    def __init__(
        self,
        app: App,
        config: Callable[[], WebConfig],
        needs_password: Callable[[str], bool],
    ) -> None:
        self._app = app
        self._config = config
        self._needs_password = needs_password
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._secret = secrets.token_bytes(32)
        self._correct_passwords: set[bytes] = set()
        self._waiting = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        users = self._config().users
        if users and self._needs_password(scope["path"]):
            try:
                await self._authenticate(users, scope)
            except AccessError as exc:
                await send_reply(exc.reply(), scope, send)
                return
        await self._app(scope, receive, send)

    async def _authenticate(self, users: Mapping[str, bytes], scope: Message) -> None:
        """Raise AccessError unless a request has a user and the correct password."""
        user, password = _credentials(get_header(scope, b"authorization"))
        if not user or not await self._verify(users, user, password):
            raise AccessError(HTTPStatus.UNAUTHORIZED, "", ("www-authenticate", CHALLENGE))

    async def _verify(self, users: Mapping[str, bytes], name: str, password: bytes) -> bool:
        """Return whether a user, of those with these password hashes, has a password.

        Raises:
            AccessError: Too many other passwords wait.
        """
        password = password[:BCRYPT_MAX_BYTES]
        # A keyed digest, so that no password stays in memory.
        identity = b"\0".join((name.encode(), users.get(name, b""), password))
        key = hmac.digest(self._secret, identity, "sha256")
        if key in self._correct_passwords:
            return True
        if self._waiting >= MAX_WAITING:
            raise AccessError(HTTPStatus.SERVICE_UNAVAILABLE, "", ("retry-after", "1"))

        def check() -> bool:
            is_correct = key in self._correct_passwords or _check(users, name, password)
            if is_correct:
                self._correct_passwords.add(key)
            return is_correct

        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, check)
        finally:
            self._waiting -= 1


def _credentials(authorization: str) -> tuple[str, bytes]:
    """Return user and password, with an empty user if the header is invalid."""
    scheme, _, base64_text = authorization.partition(" ")
    try:
        credentials = base64.b64decode(base64_text.strip(), validate=True)
        name, colon, password = credentials.partition(b":")
        return (name.decode(), password) if colon and scheme.lower() == "basic" else ("", b"")
    except ValueError:
        return "", b""


def _check(users: Mapping[str, bytes], name: str, password: bytes) -> bool:
    import bcrypt  # noqa: PLC0415 - not needed without users

    try:
        # An unknown user takes as long as another one.
        return bcrypt.checkpw(password, users.get(name, UNKNOWN_USER_HASH)) and name in users
    except ValueError:  # bcrypt rejects the password or the hash
        return False

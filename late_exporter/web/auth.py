"""Middleware for basic authentication."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass

from late_exporter.config.web import WebConfig
from late_exporter.protocols import Logger
from late_exporter.web.access import AccessError
from late_exporter.web.asgi import App, Message, Receive, Send
from late_exporter.web.passwords import PasswordVerifier
from late_exporter.web.reply import error_reply, get_header, send_reply
from late_exporter.web.token_bucket import LOG_RATE, TokenBucket


@dataclass(eq=False)
class AuthMiddleware:
    """Authenticate requests before they reach the application.

    Args:
        config: Returns the current configuration of the web server.
        needs_password: Returns whether a path does, if there are users.
    """

    app: App
    config: Callable[[], WebConfig]
    passwords: PasswordVerifier
    log: Logger
    needs_password: Callable[[str], bool]
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._log_bucket = TokenBucket(LOG_RATE, self.monotonic)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        config = self.config()
        try:
            if config.users and self.needs_password(scope["path"]):
                await self._authenticate(config, scope)
        except AccessError as exc:
            await send_reply(error_reply(exc), scope, send)
            return
        await self.app(scope, receive, send)

    async def _authenticate(self, config: WebConfig, scope: Message) -> None:
        """Raise AccessError unless a request has a user and the correct password."""
        authorization = get_header(scope, b"authorization")
        user, password = _credentials(authorization)
        peer = str(scope["client"][0]) if scope.get("client") else ""
        try:
            await self.passwords.authenticate(config.users, user, password, peer)
        except AccessError as exc:
            if authorization and not self._log_bucket.take():
                self.log.warning("request rejected", peer=peer, status=int(exc.status))
            raise


def _credentials(authorization: str) -> tuple[str, bytes]:
    """Return user and password, with an empty user if the header is invalid."""
    scheme, _, base64_text = authorization.partition(" ")
    try:
        credentials = base64.b64decode(base64_text.strip(), validate=True)
        name, colon, password = credentials.partition(b":")
        return (name.decode(), password) if colon and scheme.lower() == "basic" else ("", b"")
    except ValueError:
        return "", b""

"""Middleware for basic authentication, the rate limit and configured headers."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from late_exporter.config.web import RequestRate, WebConfig
from late_exporter.protocols import Logger
from late_exporter.web.access import ALLOWED_WORKSPACES, AccessError, too_many_requests
from late_exporter.web.asgi import App, Message, Receive, Send
from late_exporter.web.passwords import PasswordVerifier
from late_exporter.web.reply import error_reply, get_header, send_reply
from late_exporter.web.token_bucket import LOG_RATE, TokenBucket


@dataclass(eq=False)
class AuthMiddleware:
    """Authenticate and limit requests before they reach the application.

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
    _buckets: dict[RequestRate, TokenBucket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._log_bucket = TokenBucket(LOG_RATE, self.monotonic)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        config, user = self.config(), ""
        if config.headers:
            send = _with_headers(config.headers, send)
        try:
            if config.rate is not None:
                self._limit(config.rate)
            if (config.users or config.user_workspaces) and self.needs_password(scope["path"]):
                user = await self._authenticate(config, scope)
        except AccessError as exc:
            await send_reply(error_reply(exc), scope, send)
            return
        if config.user_workspaces:
            # A request without a user sees no workspace; a user who is not bound sees all of them.
            allowed = config.user_workspaces.get(user) if user else frozenset[str]()
            scope = scope if allowed is None else {**scope, ALLOWED_WORKSPACES: allowed}
        await self.app(scope, receive, send)

    def _limit(self, rate: RequestRate) -> None:
        if retry_after := self._buckets.setdefault(rate, TokenBucket(rate, self.monotonic)).take():
            raise too_many_requests(retry_after)

    async def _authenticate(self, config: WebConfig, scope: Message) -> str:
        """Return the user of a request; raise AccessError without a correct password."""
        authorization = get_header(scope, b"authorization")
        user, password = _credentials(authorization)
        peer = str(scope["client"][0]) if scope.get("client") else ""
        try:
            await self.passwords.authenticate(config.users, user, password, peer)
        except AccessError as exc:
            if authorization and not self._log_bucket.take():
                self.log.warning("request rejected", peer=peer, status=int(exc.status))
            raise
        return user


def _credentials(authorization: str) -> tuple[str, bytes]:
    """Return user and password, with an empty user if the header is invalid."""
    scheme, _, base64_text = authorization.partition(" ")
    try:
        credentials = base64.b64decode(base64_text.strip(), validate=True)
        name, colon, password = credentials.partition(b":")
        return (name.decode(), password) if colon and scheme.lower() == "basic" else ("", b"")
    except ValueError:
        return "", b""


def _with_headers(headers: tuple[tuple[str, str], ...], send: Send) -> Send:
    """Return a ``send`` that sets headers of responses, replacing those of the same name."""
    new_headers = {name.lower().encode(): value.encode("latin-1") for name, value in headers}

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            old_headers = {name.lower(): value for name, value in message["headers"]}
            message = {**message, "headers": [*(old_headers | new_headers).items()]}
        await send(message)

    return send_with_headers

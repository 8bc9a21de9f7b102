"""Middleware for basic authentication, the rate limit and configured headers."""

from __future__ import annotations

import base64
import binascii
import math
import time
from collections.abc import Callable, Collection
from http import HTTPStatus

from late_exporter.config.web import RequestRate, WebConfig
from late_exporter.protocols import Logger
from late_exporter.web.access import ALLOWED_WORKSPACES
from late_exporter.web.asgi import App, Message, Receive, Send
from late_exporter.web.passwords import PasswordVerifier
from late_exporter.web.rate import LineLimiter, TokenBucket
from late_exporter.web.reply import Reply, send_reply, text_reply

CHALLENGE = 'Basic realm="late-exporter", charset="UTF-8"'


class AuthMiddleware:
    """Authenticate and limit requests before they reach the application.

    ``config`` returns the current configuration of the web server. ``unauthenticated_paths`` need no password.
    ``is_public`` returns whether a path needs none because its requests are authenticated in another way.
    """

    def __init__(
        self,
        app: App,
        config: Callable[[], WebConfig],
        *,
        passwords: PasswordVerifier,
        log: Logger,
        unauthenticated_paths: Collection[str] = (),
        is_public: Callable[[str], bool] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._unauthenticated_paths = frozenset(unauthenticated_paths)
        self._is_public = is_public
        self._config = config
        self._passwords = passwords
        self._log = log
        self._monotonic = monotonic
        self._bucket: TokenBucket | None = None
        self._line_limiter = LineLimiter(monotonic)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        config = self._config()
        if config.headers:
            send = _with_headers(config.headers, send)
        status, retry_after = self._limit(config.rate)
        has_users = bool(config.users or config.user_workspaces)
        needs_password = has_users and not self._needs_no_password(scope["path"])
        if status == HTTPStatus.OK and needs_password:
            status, retry_after = await self._authenticate(config, scope)
        if status == HTTPStatus.OK:
            scope = self._with_workspaces(config, scope, is_authenticated=needs_password)
            await self._app(scope, receive, send)
        else:
            await send_reply(_rejection(status, retry_after), scope, send)

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

    def _needs_no_password(self, path: str) -> bool:
        return path in self._unauthenticated_paths or (self._is_public is not None and self._is_public(path))

    def _with_workspaces(self, config: WebConfig, scope: Message, *, is_authenticated: bool) -> Message:
        """Limit a request to the workspaces of its user, or to none if it has no user although some are bound."""
        if not config.user_workspaces:
            return scope
        allowed: frozenset[str] | None = frozenset()
        if is_authenticated:
            user, _ = _credentials(_authorization(scope))
            allowed = config.user_workspaces.get(user)
        elif self._is_public is not None and self._is_public(scope["path"]):
            allowed = None
        return scope if allowed is None else {**scope, ALLOWED_WORKSPACES: allowed}

    async def _authenticate(self, config: WebConfig, scope: Message) -> tuple[HTTPStatus, float]:
        authorization = _authorization(scope)
        name, password = _credentials(authorization)
        client = scope.get("client")
        peer = str(client[0]) if client else ""
        status, retry_after = HTTPStatus.UNAUTHORIZED, 0.0
        if name and config.users:
            status, retry_after = await self._passwords.authenticate(config.users, name, password, peer)
        if authorization and status != HTTPStatus.OK:
            self._log_rejection(peer, status)
        return status, retry_after

    def _log_rejection(self, peer: str, status: HTTPStatus) -> None:
        dropped = self._line_limiter.take()
        if dropped is not None:
            more = {"dropped_lines": dropped} if dropped else {}
            self._log.warning("request rejected", peer=peer, status=int(status), **more)


def _authorization(scope: Message) -> str:
    value: bytes = next((value for name, value in scope["headers"] if name.lower() == b"authorization"), b"")
    return value.decode("latin-1")


def _credentials(authorization: str) -> tuple[str, bytes]:
    """Return user and password, with an empty user if the header is invalid."""
    scheme, _, base64_text = authorization.partition(" ")
    try:
        credentials = base64.b64decode(base64_text.strip(), validate=True)
        name, colon, password = credentials.partition(b":")
        return (name.decode(), password) if colon and scheme.lower() == "basic" else ("", b"")
    except (binascii.Error, ValueError):
        return "", b""


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

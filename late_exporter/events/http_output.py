"""Deliver events to a receiver over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

import httpx
import msgspec

from late_exporter.api.headers import is_compressed
from late_exporter.errors import DeliveryError, EventsRejected
from late_exporter.format import mask_addresses
from late_exporter.model import QueuedEvent

DELIVERY_SECONDS = 30.0
"""Time for a request with all of its response; the client limits the time without any progress."""

MAX_RESPONSE_BYTES = 65_536
MAX_MESSAGE = 300

TOO_MANY_OR_INVALID = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)
"""Statuses by which a receiver rejects the content of a request, so that repeating it is of no use."""


class EventFormat(Protocol):
    """The requests and responses of one kind of receiver."""

    @property
    def path(self) -> str:
        """Path below the URL."""

    def encode(self, events: Sequence[QueuedEvent]) -> bytes:
        """Return the body of a request, which is JSON."""

    def rejected_count(self, body: bytes) -> int:
        """Return how many events a successful response reports as rejected."""

    def rejection_reason(self, message: str) -> str:
        """Return the reason of a rejection, given the message of the response: a word."""


class HttpOutput:
    """A receiver of events over HTTP.

    Args:
        kind: Kind of receiver, for messages.
        url: URL of the receiver, without its path.
        client: HTTP client.
        headers: Returns headers of each request; raises ValueError.
    """

    def __init__(
        self,
        kind: str,
        url: str,
        *,
        format: EventFormat,  # noqa: A002 - the term of the receivers
        client: httpx.AsyncClient,
        headers: Callable[[], Mapping[str, str]],
    ) -> None:
        self.name = f"{kind}:{url}"
        self._url = url if url.endswith(format.path) else url + format.path
        self._format = format
        self._client = client
        self._headers = headers

    def reopen(self) -> None:
        """Do nothing: the client reconnects by itself."""

    async def deliver(self, events: Sequence[QueuedEvent]) -> int:
        try:
            content = self._format.encode(events)
        except msgspec.MsgspecError as exc:  # A newer version has queued it.
            raise EventsRejected(f"{self.name}: {exc}", reason="unreadable") from None
        status, retry_after, body = await self._post(content)
        if HTTPStatus(200) <= status < HTTPStatus.MULTIPLE_CHOICES:
            return min(self._format.rejected_count(body), len(events))
        message = mask_addresses(body.decode("utf-8", "replace")[:MAX_MESSAGE].strip())
        text = f"{self.name}: HTTP {status}{': ' if message else ''}{message}"
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise EventsRejected(text, reason="too_large")
        if status in TOO_MANY_OR_INVALID:
            raise EventsRejected(text, reason=self._format.rejection_reason(body.decode("utf-8", "replace")))
        raise DeliveryError(text, reason=_reason(status), retry_after=retry_after)

    async def _post(self, content: bytes) -> tuple[int, float, bytes]:
        """Send a request; return status, seconds to wait if the response says so, and the beginning of its body."""
        try:
            headers = {**self._headers(), "Content-Type": "application/json", "Accept-Encoding": "identity"}
        except ValueError as exc:
            raise DeliveryError(f"--events.headers-file: {exc}", reason="headers_file") from None
        try:
            async with (
                asyncio.timeout(DELIVERY_SECONDS),
                self._client.stream("POST", self._url, content=content, headers=headers) as response,
            ):
                body = b""
                if not is_compressed(response.headers):  # it could decompress to any size
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > MAX_RESPONSE_BYTES:
                            break
                return response.status_code, _seconds(response.headers.get("Retry-After", "")), body
        except TimeoutError:
            text = f"{self.name}: no complete response within {DELIVERY_SECONDS:g} s"
            raise DeliveryError(text, reason="network") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
            raise DeliveryError(f"{self.name}: {str(exc) or type(exc).__name__}", reason="network") from None


def _reason(status: int) -> str:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return "unauthorized"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limited"
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "refused"


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0  # noqa: PLR2004 - seconds

"""HTTP client of the Zernio API, with one key; every failure is an ApiError."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.cookiejar import CookieJar
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import httpx
import msgspec

from late_exporter.api.body import MAX_LARGE_BODIES, read_body
from late_exporter.api.rate_limiter import RateLimiter
from late_exporter.api.responses import (
    MAX_MESSAGE_LENGTH,
    ApiResponse,
    RequestRecord,
    parse_date,
    parse_error,
    parse_quota,
    request_id,
    retry_delay,
    status_error,
)
from late_exporter.errors import (
    ApiError,
    ApiUnavailable,
    BadPayload,
    CertificateRejected,
    EndpointNotFound,
    RateLimited,
    ResponseTooLarge,
)
from late_exporter.health import Quota

CERTIFICATE_REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "certificate has expired": (
            "if the clock of this machine is right, the owner of the certificate must renew it: "
            "that of the API, or of a proxy in between"
        ),
        "certificate is not yet valid": "set the clock of this machine",
        "certificate is not valid for": "check --api.base-url, DNS, and a proxy in between",
        "": (
            "to trust it, for example that of a proxy, set SSL_CERT_FILE to a file with the "
            "certificate of its CA"
        ),
    }
)
"""What to do about a certificate, by the reason of OpenSSL; the last entry is for all others.

Every version of OpenSSL has words of its own for an unknown CA.
"""

BILLING_PATHS = ("/v1/billing", "/v1/usage")
"""Paths whose backend has a rate limit of its own: a 429 concerns only them if the key has requests
left."""

AUTO = "auto"
"""Value of ``--api.generation`` that leaves the generation to the first sync."""


class NoCookies(CookieJar):
    """Cookies that stay empty, so that several API keys can share a client.

    None is sent with another key.
    """

    def extract_cookies(self, response: object, request: object) -> None:
        """Ignore the cookies of a response."""


class ApiKey:
    """An API key, optionally from a file that is read each time.

    Args:
        value: The key; if there is a file, its content at the start.
        on_change: Called with every other key that is read from the file.
    """

    def __init__(
        self,
        value: str,
        file: Path | None = None,
        *,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        self._value = value
        self._file = file
        self._on_change = on_change

    def value(self) -> str:
        """Return the current key; if the file has none, the last one stays in use."""
        value = self._read()
        if value != self._value:
            self._value = value
            if self._on_change is not None:
                self._on_change(value)
        return value

    def _read(self) -> str:
        text = ""
        with suppress(OSError, UnicodeDecodeError):
            if self._file is not None and self._file.is_file():  # Reading a pipe would wait.
                text = self._file.read_text("ascii").strip()
        return text if text and text.isprintable() and " " not in text else self._value


class LateClient:
    """API client of one workspace.

    Args:
        http: HTTP client; must neither follow redirects nor keep cookies.
        rate_limiter: Rate limiter of the key, shared by all clients that use it.
        timeout: Timeout of a whole request, in seconds.
        profile_id: Profile to which the workspace is limited, for the requests that support one.
        configured_generation: API generation whose log lists are to be read: ``late``, ``zernio``
            or ``auto``.

    Attributes:
        quota: Rate limit of the key as last reported by the API.
        large_bodies: Limits how many large responses are read at a time; the clients of a process
            should share it.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        base_url: str,
        key: ApiKey,
        rate_limiter: RateLimiter,
        timeout: float,
        profile_id: str | None = None,
        configured_generation: str = AUTO,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self.base_url = base_url
        self._key = key
        self._rate_limiter = rate_limiter
        self._timeout = timeout
        self.profile_id = profile_id
        self.configured_generation = configured_generation
        self._monotonic = monotonic
        self._request_log: list[RequestRecord] = []
        self._reported_wait = 0.0
        self.quota: Quota | None = None
        self.large_bodies = asyncio.Semaphore(MAX_LARGE_BODIES)

    @property
    def rate_limit(self) -> int:
        """Requests per minute that the key allows."""
        return self._rate_limiter.rate_limit

    @property
    def key(self) -> str:
        """The current key, from its file if it has one."""
        return self._key.value()

    def pop_request_log(self) -> tuple[list[RequestRecord], float]:
        """Return the requests that finished since the last call.

        Also return the seconds that they waited for the rate limiter.
        """
        requests = self._request_log
        self._request_log = []
        total_wait = self._rate_limiter.wait_seconds
        wait_seconds = total_wait - self._reported_wait
        self._reported_wait = total_wait
        return requests, wait_seconds

    def quota_wait(self) -> float:
        """Return the seconds until the quota allows the next request."""
        return self._rate_limiter.delay()

    async def get(
        self, path: str, params: Mapping[str, str | int], *, path_template: str
    ) -> ApiResponse:
        """Send a GET request.

        Raises:
            EndpointNotFound: 404.
            ApiError: The request failed.
        """
        await self._rate_limiter.acquire()
        start = self._monotonic()
        code = "cancelled"
        key = self._key.value()
        try:
            async with asyncio.timeout(self._timeout):
                response, body = await self._fetch(path, params, key)
            code = str(response.status_code)
            return self._check_response(path, response, body, key)
        except BadPayload as exc:
            code = "too_large" if isinstance(exc, ResponseTooLarge) else "decoding"
            raise
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError) as exc:
            code, error = network_error(exc, urlsplit(self.base_url).netloc, self._timeout)
            raise error from exc
        finally:
            self._rate_limiter.release()
            self._request_log.append(RequestRecord(path_template, code, self._monotonic() - start))

    async def _fetch(
        self, path: str, params: Mapping[str, str | int], key: str
    ) -> tuple[httpx.Response, bytes]:
        headers = {
            "Authorization": f"Bearer {key}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        }
        request = self._http.build_request(
            "GET", f"{self.base_url}{path}", params=params, headers=headers
        )
        response = await self._http.send(request, stream=True)
        return response, await read_body(response, self.large_bodies)

    def _check_response(
        self, path: str, response: httpx.Response, body: bytes, key: str
    ) -> ApiResponse:
        date = parse_date(response.headers.get("Date"))
        quota = parse_quota(response.headers)
        if quota is not None:
            self._rate_limiter.update(quota)
            self.quota = msgspec.structs.replace(
                quota, customer_requests=self._rate_limiter.customer_requests
            )
        if response.is_success:
            return ApiResponse(body, date)
        if response.status_code == httpx.codes.NOT_FOUND:
            raise EndpointNotFound(f"404: the API has no {path}", status=404)
        error = parse_error(body, key)
        headers = response.headers
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            delay = retry_delay(headers)
            if path in BILLING_PATHS and quota is not None and quota.remaining > 0:
                until = self._monotonic() + delay
            else:
                until = self._rate_limiter.pause(delay)
            failure: ApiError = RateLimited(f"429: {error}", until=until)
        else:
            failure = status_error(response.status_code, error, headers.get("Location", ""))
        failure.request_id = request_id(headers)
        raise failure


def network_error(exc: Exception, place: str, timeout: float) -> tuple[str, ApiUnavailable]:
    """Return the code and the error of a request without a complete response.

    Args:
        exc: What httpx has raised.
        place: Host of the API, with its port if the URL has one.
        timeout: Seconds that the request may take.
    """
    reason = str(exc)[:MAX_MESSAGE_LENGTH] or type(exc).__name__
    if isinstance(exc, TimeoutError | httpx.TimeoutException):
        return "timeout", ApiUnavailable(f"no response within {timeout:g} s")
    if not isinstance(exc, httpx.ConnectError):
        return "network", ApiUnavailable(f"the connection failed: {reason}")
    message = f"no connection to {place}: {reason}"
    if "CERTIFICATE_VERIFY_FAILED" not in reason:
        return "connect", ApiUnavailable(message)
    remedy = next(text for words, text in CERTIFICATE_REMEDIES.items() if words in reason)
    return "connect", CertificateRejected(f"{message}; {remedy}")

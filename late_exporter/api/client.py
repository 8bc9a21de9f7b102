"""HTTP client of the Zernio API, with one key; every failure is an ApiError."""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from urllib.parse import quote_plus, urlsplit

import httpx
import msgspec

from late_exporter.api.body import MAX_LARGE_BODIES, read_body
from late_exporter.api.failures import MAX_MESSAGE_LENGTH, connection_error, parse_error, status_error
from late_exporter.api.headers import parse_date, parse_quota, request_id, retry_delay
from late_exporter.api.quota import RateLimiter
from late_exporter.errors import ApiError, ApiUnavailable, BadPayload, RateLimited, ResponseTooLarge, Unauthorized
from late_exporter.protocols import ApiResponse, RequestRecord
from late_exporter.status import Quota

# httpx imports these with the first client and its first request, while all other tasks wait.
for _name in ("httpcore", "anyio.streams.tls", "anyio._backends._asyncio"):
    with suppress(ImportError):
        import_module(_name)

CACHED_REQUESTS = 8
"""Number of requests that are cached; a poll of a feed at rest sends the same one each time."""


class ApiKey:
    """An API key, optionally from a file that is read again when it changes.

    Args:
        value: The key; if there is a file, its content at the start.
        on_change: Called with every other key that is read from the file.
    """

    def __init__(self, value: str, file: Path | None = None, *, on_change: Callable[[str], None] | None = None) -> None:
        self._value = value
        self._file = file
        self._on_change = on_change
        self._stamp = self._read_stamp()
        self.reload_count = 0

    def _read_stamp(self) -> tuple[int, int, int] | None:
        if self._file is None:
            return None
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def value(self) -> str:
        """Return the current key; if the file cannot be read, the last one stays in use."""
        stamp = self._read_stamp()
        if self._file is not None and stamp is not None and stamp != self._stamp:
            self._stamp = stamp
            self.reload()
        return self._value

    def file_changed(self) -> bool:
        """Return whether the file has changed since it was last read."""
        stamp = self._read_stamp()
        return stamp is not None and stamp != self._stamp

    def reload(self) -> bool:
        """Read the file; return whether its key has changed."""
        if self._file is None:
            return False
        try:
            value = self._file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return False
        if not value.isprintable() or not value or " " in value or value == self._value:
            return False
        self._value = value
        self.reload_count += 1
        if self._on_change is not None:
            self._on_change(value)
        return True


class LateClient:
    """API client of one workspace.

    Args:
        http: HTTP client; must not follow redirects.
        rate_limiter: Rate limiter of the key, shared by all clients that use it.
        timeout: Timeout of a whole request, in seconds.
        profile_id: Profile to which the workspace is limited, for the requests that support one.

    Attributes:
        large_bodies: Limits how many large responses are read at a time; the clients of a process should share it.
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
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._base_url = base_url
        self._key = key
        self._rate_limiter = rate_limiter
        self._timeout = timeout
        self.profile_id = profile_id
        self._clock = clock
        self._monotonic = monotonic
        self._build_request = lru_cache(CACHED_REQUESTS)(self._new_request)
        self._build_defaults = lru_cache(1)(self._new_defaults)
        self._request_log: list[RequestRecord] = []
        self._reported_wait = 0.0
        self.quota: Quota | None = None
        self.large_bodies = asyncio.Semaphore(MAX_LARGE_BODIES)

    @property
    def rate_limit(self) -> int:
        return self._rate_limiter.rate_limit

    @property
    def key_reload_count(self) -> int:
        return self._key.reload_count

    def key_file_changed(self) -> bool:
        return self._key.file_changed()

    def pop_request_log(self) -> tuple[list[RequestRecord], float]:
        requests, self._request_log = self._request_log, []
        total_wait = self._rate_limiter.wait_seconds
        wait_seconds, self._reported_wait = total_wait - self._reported_wait, total_wait
        return requests, wait_seconds

    def quota_wait(self, requests: int = 1) -> float:
        return self._rate_limiter.wait_for(requests)

    async def get(self, path: str, params: Mapping[str, str | int], *, path_template: str) -> ApiResponse | None:
        """Send a GET request; return None for 404.

        A rejected key is read again from its file, and the request is repeated if the file has another key.

        Raises:
            ApiError: The request failed.
        """
        key = self._key.value()
        try:
            return await self._send(path, params, path_template, key)
        except Unauthorized:
            self._key.reload()  # Another request may have reloaded it already.
            if self._key.value() == key:
                raise
            return await self._send(path, params, path_template, self._key.value())

    async def _send(
        self, path: str, params: Mapping[str, str | int], path_template: str, key: str
    ) -> ApiResponse | None:
        sent_at = await self._rate_limiter.acquire()
        start = self._monotonic()
        code = "error"
        try:
            async with asyncio.timeout(self._timeout):
                response, body = await self._fetch(path, params, key)
            code = str(response.status_code)
            return self._check_response(response, body, key, sent_at)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError, zlib.error) as exc:
            code, error = _translate_error(exc, self._timeout, self._base_url)
            raise error from exc
        except BadPayload as exc:
            code = "too_large" if isinstance(exc, ResponseTooLarge) else "decoding"
            raise
        except asyncio.CancelledError:
            code = "cancelled"
            raise
        finally:
            self._rate_limiter.release()
            self._request_log.append(RequestRecord(path_template, code, self._monotonic() - start))

    async def _fetch(self, path: str, params: Mapping[str, str | int], key: str) -> tuple[httpx.Response, bytes]:
        response = await self._http.send(self._build_request(path, tuple(params.items()), key), stream=True)
        # The memory is free once the body is decoded, which happens before another task can wake up.
        async with AsyncExitStack() as memory, aclosing(response):
            body = await read_body(
                response.aiter_raw(),
                response.headers,
                is_success=response.is_success,
                wait_for_memory=partial(memory.enter_async_context, self.large_bodies),
            )
            return response, body

    def _new_request(self, path: str, params: tuple[tuple[str, str | int], ...], key: str) -> httpx.Request:
        defaults = self._build_defaults(key)
        query = "&".join([f"{name}={each if isinstance(each, int) else quote_plus(each)}" for name, each in params])
        url = f"{self._base_url}{path}?{query}" if params else f"{self._base_url}{path}"
        return httpx.Request("GET", url, headers=defaults.headers, extensions=defaults.extensions)

    def _new_defaults(self, key: str) -> httpx.Request:
        """Return a request with what all requests have in common, which takes longer than all else."""
        headers = {"Authorization": f"Bearer {key}", "Accept": "application/json", "Accept-Encoding": "gzip"}
        return self._http.build_request("GET", self._base_url, headers=headers)

    def _check_response(self, response: httpx.Response, body: bytes, key: str, sent_at: float) -> ApiResponse | None:
        date = parse_date(response.headers.get("Date"))
        now = date if date is not None else self._clock()
        status = response.status_code
        self._update_quota(response.headers, now, None if status == httpx.codes.TOO_MANY_REQUESTS else sent_at)
        if response.is_success:
            return ApiResponse(body, date)
        if status == httpx.codes.NOT_FOUND:
            return None
        ident = request_id(response.headers)
        if response.is_redirect:
            host = httpx.URL(response.headers.get("Location", "")).host
            host = host if re.fullmatch(r"[a-z0-9.-]{1,100}", host) else "elsewhere"
            raise ApiUnavailable(
                f"{status}: redirected to {host}; redirects are not followed, to keep the API key from other hosts",
                status=status,
                request_id=ident,
            )
        error = parse_error(body, key)
        if status == httpx.codes.TOO_MANY_REQUESTS:
            resume_at = self._rate_limiter.pause(retry_delay(response.headers, now))
            raise RateLimited(f"429: {error}", until=resume_at, request_id=ident)
        raise status_error(status, error, ident)

    def _update_quota(self, headers: httpx.Headers, now: float, sent_at: float | None) -> None:
        quota = parse_quota(headers)
        if quota is not None:
            until_reset = None if quota.reset is None else quota.reset - now
            self._rate_limiter.update(quota, until_reset, sent_at=sent_at)
            self.quota = msgspec.structs.replace(quota, customer_requests=self._rate_limiter.customer_requests)


def _translate_error(exc: Exception, timeout: float, base_url: str) -> tuple[str, ApiError]:
    """Return the code of a network failure for metrics, and the error to raise."""
    if isinstance(exc, TimeoutError | httpx.TimeoutException):
        return "timeout", ApiUnavailable(f"no response within {timeout:g} s")
    if isinstance(exc, httpx.ConnectError):
        return "connect", connection_error(urlsplit(base_url).netloc, _describe_error(exc))
    if isinstance(exc, UnicodeError):  # httpx decodes host names, even that of a redirect that it does not follow
        return "network", ApiUnavailable(f"a host name is invalid: {_describe_error(exc)}")
    if isinstance(exc, zlib.error):
        return "decoding", BadPayload(f"the response cannot be decompressed: {_describe_error(exc)}")
    return "network", ApiUnavailable(f"the connection failed: {_describe_error(exc)}")


def _describe_error(exc: Exception) -> str:
    return str(exc)[:MAX_MESSAGE_LENGTH] or type(exc).__name__

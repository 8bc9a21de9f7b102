"""HTTP client of the Late API: one key, its share of the quota, and every failure as an ApiError."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from late_exporter.errors import ApiError, ApiUnavailable, BadPayload, BadRequest, RateLimited, Unauthorized
from late_exporter.protocols import ApiResponse, RequestRecord
from late_exporter.status import Quota

MAX_BODY_BYTES = 32 * 1024 * 1024
MINUTE = 60.0
INITIAL_RATE_LIMIT = 60
"""Requests per minute of the smallest plan, assumed until the API reports the limit."""

RESERVED_SHARE = 0.1
"""Share of the quota that is left to the user's own calls."""

MAX_WAIT = 3600.0
MAX_MESSAGE_LENGTH = 200


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
        """Read the file; return whether it has another key than before."""
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


class RateLimiter:
    """Rate limiter of one key: at most a share, 0 to 1, of its limit within any 60 seconds."""

    def __init__(
        self,
        quota_share: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.quota_share = quota_share
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = asyncio.Lock()
        self._send_times: deque[float] = deque()
        self._paused_until = 0.0
        self.rate_limit = INITIAL_RATE_LIMIT
        self.wait_seconds = 0.0

    @property
    def max_requests(self) -> int:
        """Maximum number of requests within any 60 seconds."""
        return max(1, math.floor(self.rate_limit * self.quota_share))

    async def acquire(self) -> None:
        """Wait until the next request may be sent; callers are served in order."""
        async with self._lock:
            while (delay := self._delay()) > 0:
                self.wait_seconds += delay
                await self._sleep(delay)
            self._send_times.append(self._monotonic())

    def _delay(self) -> float:
        now = self._monotonic()
        while self._send_times and self._send_times[0] <= now - MINUTE:
            self._send_times.popleft()
        delay = self._paused_until - now
        if len(self._send_times) >= self.max_requests:
            delay = max(delay, self._send_times[-self.max_requests] + MINUTE - now)
        return delay

    def update(self, quota: Quota, until_reset: float) -> None:
        """Apply the quota reported by a response; pause if it is nearly used up."""
        self.rate_limit = quota.limit
        if quota.remaining <= math.floor(quota.limit * min(RESERVED_SHARE, 1 - self.quota_share)):
            self.pause(min(until_reset, MINUTE))

    def pause(self, seconds: float) -> float:
        """Block all requests for some seconds; return the monotonic time at which the pause ends."""
        self._paused_until = max(self._paused_until, self._monotonic() + seconds)
        return self._paused_until


class LateClient:
    """API client of one workspace.

    Args:
        http: HTTP client; must not follow redirects.
        rate_limiter: Rate limiter of the key, shared by all clients that use it.
        timeout: Timeout of a whole request, in seconds.
        profile_id: Profile to which the workspace is limited, for the requests that support one.
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
        self._request_log: list[RequestRecord] = []
        self._reported_wait = 0.0
        self.quota: Quota | None = None

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
        await self._rate_limiter.acquire()
        start = self._monotonic()
        code = "error"
        try:
            async with asyncio.timeout(self._timeout):
                response, body = await self._fetch(path, params, key)
            code = str(response.status_code)
            # An error response may echo the request, and its text is shortened, which could split the key.
            return self._check_response(
                response, body if response.is_success else body.replace(key.encode(), b"[redacted]")
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError, zlib.error) as exc:
            code, error = _translate_error(exc, self._timeout)
            raise error from exc
        except BadPayload:
            code = "too_large" if code == "error" else code
            raise
        except ApiError as exc:
            # The decoded error response may echo the request as well.
            exc.args = tuple(str(arg).replace(key, "[redacted]") for arg in exc.args)
            raise
        except asyncio.CancelledError:
            code = "cancelled"
            raise
        finally:
            self._request_log.append(RequestRecord(path_template, code, self._monotonic() - start))

    async def _fetch(self, path: str, params: Mapping[str, str | int], key: str) -> tuple[httpx.Response, bytes]:
        headers = {"Authorization": f"Bearer {key}", "Accept": "application/json", "Accept-Encoding": "gzip"}
        async with self._http.stream("GET", f"{self._base_url}{path}", params=params, headers=headers) as response:
            decompress = _decompressor(response)
            body = bytearray()
            async for chunk in response.aiter_raw():
                # One byte may expand to a thousand, and httpx would decompress the whole chunk at once.
                body += decompress(chunk, MAX_BODY_BYTES + 1 - len(body))
                if len(body) > MAX_BODY_BYTES:
                    raise BadPayload(f"the response is larger than {MAX_BODY_BYTES // 1024**2} MiB")
            return response, bytes(body)

    def _check_response(self, response: httpx.Response, body: bytes) -> ApiResponse | None:
        date = _parse_date(response.headers.get("Date"))
        now = date if date is not None else self._clock()
        self._update_quota(response.headers, now)
        status = response.status_code
        if status == httpx.codes.NOT_FOUND:
            return None
        if status == httpx.codes.TOO_MANY_REQUESTS:
            resume_at = self._rate_limiter.pause(_retry_delay(response.headers, now))
            raise RateLimited(f"429: {_error_message(body)}", until=resume_at)
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise Unauthorized(f"{status}: the API key was rejected: {_error_message(body)}")
        if response.is_redirect:
            host = httpx.URL(response.headers.get("Location", "")).host
            host = host if re.fullmatch(r"[a-z0-9.-]{1,100}", host) else "elsewhere"
            raise ApiUnavailable(
                f"{status}: redirected to {host}; redirects are not followed, to keep the API key from other hosts"
            )
        if status == httpx.codes.BAD_REQUEST:
            raise BadRequest(f"400: {_error_message(body)}")
        if not response.is_success:
            raise ApiUnavailable(f"{status}: {_error_message(body)}")
        return ApiResponse(body, date)

    def _update_quota(self, headers: httpx.Headers, now: float) -> None:
        limit, remaining, reset = (
            _parse_number(headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining", "Reset")
        )
        if limit is None or limit < 1 or remaining is None:
            return
        self.quota = Quota(int(limit), int(remaining), reset if reset is not None else now + MINUTE)
        self._rate_limiter.update(self.quota, max(0.0, self.quota.reset - now))


def _decompressor(response: httpx.Response) -> Callable[[bytes, int], bytes]:
    """Return a function that decompresses a chunk, up to a number of bytes; only gzip is accepted."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress
    if encoding not in ("", "identity") and response.is_success:
        raise BadPayload("the response has an unsupported Content-Encoding; only gzip was requested")
    return lambda chunk, _: chunk


def _translate_error(exc: Exception, timeout: float) -> tuple[str, ApiError]:
    """Return the code of a network failure for metrics, and the error to raise."""
    if isinstance(exc, TimeoutError | httpx.TimeoutException):
        return "timeout", ApiUnavailable(f"no response within {timeout:g} s")
    if isinstance(exc, httpx.ConnectError):
        return "connect", ApiUnavailable(f"no connection: {_describe_error(exc)}")
    if isinstance(exc, zlib.error):
        return "decoding", BadPayload(f"the response cannot be decompressed: {_describe_error(exc)}")
    return "network", ApiUnavailable(f"the connection failed: {_describe_error(exc)}")


def _describe_error(exc: Exception) -> str:
    return str(exc)[:MAX_MESSAGE_LENGTH] or type(exc).__name__


def _error_message(body: bytes) -> str:
    try:
        document = json.loads(body)
        message = document["error"] if isinstance(document, dict) else ""
        details = document.get("details") if isinstance(document, dict) else None
        if isinstance(details, dict):
            message = "; ".join([str(message), *(f"{name} {detail}" for name, detail in details.items())])
    except (ValueError, KeyError, RecursionError):
        message = body[:MAX_MESSAGE_LENGTH].decode("utf-8", "replace")
    line = " ".join("".join(char if char.isprintable() else " " for char in str(message)).split())
    return line[:MAX_MESSAGE_LENGTH] or "no error message"


def _retry_delay(headers: httpx.Headers, now: float) -> float:
    """Return the seconds to wait after a 429, by X-RateLimit-Reset and Retry-After; a minute without either."""
    delays = []
    reset = _parse_number(headers.get("X-RateLimit-Reset"))
    if reset is not None and 0 <= reset - now <= MAX_WAIT:
        delays.append(reset - now)
    retry_after = headers.get("Retry-After")
    seconds = _parse_number(retry_after)
    retry_at = _parse_date(retry_after) if seconds is None else now + seconds
    if retry_at is not None and retry_at >= now:
        delays.append(min(retry_at - now, MAX_WAIT))
    return max(delays, default=MINUTE)


def _parse_number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _parse_date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return None

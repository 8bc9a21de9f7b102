"""The Late API over HTTP: one key, its share of the quota, and every failure as an ApiError."""

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
from typing import NamedTuple

import httpx

from late_exporter.errors import ApiError, ApiUnavailable, BadPayload, BadRequest, RateLimited, Unauthorized
from late_exporter.status import Quota

__all__ = ["ApiKey", "ApiResponse", "LateClient", "RateLimiter", "RequestRecord"]

MAX_BODY_BYTES = 32 * 1024 * 1024
MINUTE = 60.0
INITIAL_RATE_LIMIT = 60
"""Requests a minute of the smallest plan: what is assumed until the API has said more."""

RESERVED_SHARE = 0.1
"""Of the quota; the last requests of a minute are left to the user's own calls."""

MAX_WAIT = 3600.0
MAX_MESSAGE_LENGTH = 200


class ApiResponse(NamedTuple):
    """A good answer: its body, and the API's own clock as a Unix time in seconds where it told."""

    body: bytes
    date: float | None


class RequestRecord(NamedTuple):
    """A request that ended: ``code`` is the HTTP status, or the kind of error where there was none."""

    path_template: str
    code: str
    seconds: float


class ApiKey:
    """An API key, given or in a file that is read again when it changes.

    Args:
        value: The key.
        file: Where it is; ``value`` is then what the file held at the start.
        learn: Is told every other key that the file comes to hold.
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
        """The key as it is now; a file that cannot be read leaves the last one in force."""
        stamp = self._read_stamp()
        if self._file is not None and stamp is not None and stamp != self._stamp:
            self._stamp = stamp
            self.reload()
        return self._value

    def file_changed(self) -> bool:
        """Whether the file looks other than when it was last read."""
        stamp = self._read_stamp()
        return stamp is not None and stamp != self._stamp

    def reload(self) -> bool:
        """Read the file now; tells whether it holds another key than before."""
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
    """Keeps the requests of one key within a share of its limit, in any sixty seconds, and waits where it is told to.

    Args:
        quota_share: Of the limit, 0 to 1.
    """

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
        """Requests allowed in any sixty seconds."""
        return max(1, math.floor(self.rate_limit * self.quota_share))

    async def acquire(self) -> None:
        """Return when the next request may be sent; callers take turns."""
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
        """Take note of what an answer says of the quota."""
        self.rate_limit = quota.limit
        if quota.remaining <= math.floor(quota.limit * min(RESERVED_SHARE, 1 - self.quota_share)):
            self.pause(min(until_reset, MINUTE))

    def pause(self, seconds: float) -> float:
        """Send nothing for so long; returns the monotonic time at which that ends."""
        self._paused_until = max(self._paused_until, self._monotonic() + seconds)
        return self._paused_until


class LateClient:
    """Reads the API of one workspace.

    Args:
        http: Carries the requests; must not follow redirects.
        base_url: Of the API, without a slash at its end.
        key: The API key.
        throttle: Shared by all who use the key.
        timeout: For a whole request, in seconds.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        base_url: str,
        key: ApiKey,
        rate_limiter: RateLimiter,
        timeout: float,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._base_url = base_url
        self._key = key
        self._rate_limiter = rate_limiter
        self._timeout = timeout
        self._clock = clock
        self._monotonic = monotonic
        self._request_log: list[RequestRecord] = []
        self._reported_wait = 0.0
        self.quota: Quota | None = None

    @property
    def rate_limit(self) -> int:
        """Requests a minute allowed to the key, as far as is known."""
        return self._rate_limiter.rate_limit

    @property
    def key_reload_count(self) -> int:
        """How often another key was read from the file."""
        return self._key.reload_count

    def key_file_changed(self) -> bool:
        """Whether the key file was changed since it was read."""
        return self._key.file_changed()

    def pop_request_log(self) -> tuple[list[RequestRecord], float]:
        """The requests that ended, and the seconds they had to wait, since this was last asked."""
        requests, self._request_log = self._request_log, []
        wait_seconds, self._reported_wait = (
            self._rate_limiter.wait_seconds - self._reported_wait,
            self._rate_limiter.wait_seconds,
        )
        return requests, wait_seconds

    async def get(self, path: str, params: Mapping[str, str | int], *, path_template: str) -> ApiResponse | None:
        """The answer to a GET, or None where the API answers 404.

        Args:
            path: Below the base URL.
            params: Query parameters.
            path_template: The path as metrics name it.

        Raises:
            ApiError: There is no good answer.
        """
        key = self._key.value()
        try:
            return await self._send(path, params, path_template, key)
        except Unauthorized:
            self._key.reload()  # another request may have done so already
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
            # An error may repeat what was asked, and its text is cut.
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
            # An answer may repeat what it was asked.
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
                # A byte may unpack to a thousand, and httpx unpacks all of a piece at once.
                body += decompress(chunk, MAX_BODY_BYTES + 1 - len(body))
                if len(body) > MAX_BODY_BYTES:
                    raise BadPayload(f"the answer is larger than {MAX_BODY_BYTES // 1024**2} MiB")
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
            raise Unauthorized(f"{status}: the key was refused: {_error_message(body)}")
        if response.is_redirect:
            host = httpx.URL(response.headers.get("Location", "")).host
            host = host if re.fullmatch(r"[a-z0-9.-]{1,100}", host) else "elsewhere"
            raise ApiUnavailable(f"{status}: redirected to {host}; not followed, the key goes to no other address")
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
    """Unpacks the pieces of a body, to so many bytes at most: only what was asked for, and one layer of it."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress
    if encoding not in ("", "identity") and response.is_success:
        raise BadPayload("the answer is packed other than with gzip, which alone was asked for")
    return lambda piece, _: piece


def _translate_error(exc: Exception, timeout: float) -> tuple[str, ApiError]:
    """The kind of a failure of the network, and the error that says so."""
    if isinstance(exc, TimeoutError | httpx.TimeoutException):
        return "timeout", ApiUnavailable(f"no answer within {timeout:g} s")
    if isinstance(exc, httpx.ConnectError):
        return "connect", ApiUnavailable(f"no connection: {_describe_error(exc)}")
    if isinstance(exc, zlib.error):
        return "decoding", BadPayload(f"the answer cannot be unpacked: {_describe_error(exc)}")
    return "network", ApiUnavailable(f"the connection failed: {_describe_error(exc)}")


def _describe_error(exc: Exception) -> str:
    return str(exc)[:MAX_MESSAGE_LENGTH] or type(exc).__name__


def _error_message(body: bytes) -> str:
    """What an answer says went wrong, in a line."""
    try:
        document = json.loads(body)
        message = document["error"] if isinstance(document, dict) else ""
        details = document.get("details") if isinstance(document, dict) else None
        if isinstance(details, dict):
            message = "; ".join([str(message), *(f"{name} {detail}" for name, detail in details.items())])
    except (ValueError, KeyError, RecursionError):
        message = body[:MAX_MESSAGE_LENGTH].decode("utf-8", "replace")
    line = " ".join("".join(char if char.isprintable() else " " for char in str(message)).split())
    return line[:MAX_MESSAGE_LENGTH] or "no reason given"


def _retry_delay(headers: httpx.Headers, now: float) -> float:
    """Seconds to wait after a 429: until the reset and as long as Retry-After says, a minute where neither tells."""
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

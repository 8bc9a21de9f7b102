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

__all__ = ["Answer", "Key", "LateClient", "Request", "Throttle"]

BODY_LIMIT = 32 * 1024 * 1024
MINUTE = 60.0
FIRST_LIMIT = 60
"""Requests a minute of the smallest plan: what is assumed until the API has said more."""

RESERVE = 0.1
"""Of the quota; the last requests of a minute are left to the user's own calls."""

LONGEST_WAIT = 3600.0
MESSAGE_LENGTH = 200


class Answer(NamedTuple):
    """A good answer: its body, and the API's own clock as a Unix time in seconds where it told."""

    body: bytes
    date: float | None


class Request(NamedTuple):
    """A request that ended: ``code`` is the HTTP status, or the kind of error where there was none."""

    endpoint: str
    code: str
    seconds: float


class Key:
    """An API key, given or in a file that is read again when it changes.

    Args:
        value: The key.
        file: Where it is; ``value`` is then what the file held at the start.
        learn: Is told every other key that the file comes to hold.
    """

    def __init__(self, value: str, file: Path | None = None, *, learn: Callable[[str], None] | None = None) -> None:
        self._value = value
        self._file = file
        self._learn = learn
        self._stamp = self._look()
        self.readings = 0

    def _look(self) -> tuple[int, int, int] | None:
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def value(self) -> str:
        """The key as it is now; a file that cannot be read leaves the last one in force."""
        stamp = self._look()
        if self._file is not None and stamp is not None and stamp != self._stamp:
            self._stamp = stamp
            self.read()
        return self._value

    def changed(self) -> bool:
        """Whether the file looks other than when it was last read."""
        stamp = self._look()
        return stamp is not None and stamp != self._stamp

    def read(self) -> bool:
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
        self.readings += 1
        if self._learn is not None:
            self._learn(value)
        return True


class Throttle:
    """Keeps the requests of one key within a share of its limit, in any sixty seconds, and waits where it is told to.

    Args:
        share: Of the limit, 0 to 1.
    """

    def __init__(
        self,
        share: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.share = share
        self._monotonic = monotonic
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._sent: deque[float] = deque()
        self._blocked_until = 0.0
        self.limit = FIRST_LIMIT
        self.waited = 0.0

    @property
    def allowance(self) -> int:
        """Requests allowed in any sixty seconds."""
        return max(1, math.floor(self.limit * self.share))

    async def admit(self) -> None:
        """Return when the next request may be sent; callers take turns."""
        async with self._turn:
            while (delay := self._delay()) > 0:
                self.waited += delay
                await self._sleep(delay)
            self._sent.append(self._monotonic())

    def _delay(self) -> float:
        now = self._monotonic()
        while self._sent and self._sent[0] <= now - MINUTE:
            self._sent.popleft()
        delay = self._blocked_until - now
        if len(self._sent) >= self.allowance:
            delay = max(delay, self._sent[-self.allowance] + MINUTE - now)
        return delay

    def learn(self, quota: Quota, until_reset: float) -> None:
        """Take note of what an answer says of the quota."""
        self.limit = quota.limit
        if quota.remaining <= math.floor(quota.limit * min(RESERVE, 1 - self.share)):
            self.block(min(until_reset, MINUTE))

    def block(self, seconds: float) -> float:
        """Send nothing for so long; returns the monotonic time at which that ends."""
        self._blocked_until = max(self._blocked_until, self._monotonic() + seconds)
        return self._blocked_until


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
        key: Key,
        throttle: Throttle,
        timeout: float,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._base_url = base_url
        self._key = key
        self._throttle = throttle
        self._timeout = timeout
        self._clock = clock
        self._monotonic = monotonic
        self._requests: list[Request] = []
        self._waited = 0.0
        self.quota: Quota | None = None

    @property
    def limit(self) -> int:
        """Requests a minute allowed to the key, as far as is known."""
        return self._throttle.limit

    @property
    def key_readings(self) -> int:
        """How often another key was read from the file."""
        return self._key.readings

    def key_changed(self) -> bool:
        """Whether the key file was changed since it was read."""
        return self._key.changed()

    def drain(self) -> tuple[list[Request], float]:
        """The requests that ended, and the seconds they had to wait, since this was last asked."""
        requests, self._requests = self._requests, []
        waited, self._waited = self._throttle.waited - self._waited, self._throttle.waited
        return requests, waited

    async def get(self, path: str, params: Mapping[str, str | int], *, endpoint: str) -> Answer | None:
        """The answer to a GET, or None where the API answers 404.

        Args:
            path: Below the base URL.
            params: Query parameters.
            endpoint: The path as metrics name it.

        Raises:
            ApiError: There is no good answer.
        """
        key = self._key.value()
        try:
            return await self._send(path, params, endpoint, key)
        except Unauthorized:
            self._key.read()  # another request may have done so already
            if self._key.value() == key:
                raise
            return await self._send(path, params, endpoint, self._key.value())

    async def _send(self, path: str, params: Mapping[str, str | int], endpoint: str, key: str) -> Answer | None:
        await self._throttle.admit()
        started = self._monotonic()
        code = "error"
        try:
            async with asyncio.timeout(self._timeout):
                response, body = await self._exchange(path, params, key)
            code = str(response.status_code)
            # An error may repeat what was asked, and its text is cut.
            return self._judge(response, body if response.is_success else body.replace(key.encode(), b"[redacted]"))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, zlib.error) as exc:
            code, failure = _translated(exc, self._timeout)
            raise failure from exc
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
            self._requests.append(Request(endpoint, code, self._monotonic() - started))

    async def _exchange(self, path: str, params: Mapping[str, str | int], key: str) -> tuple[httpx.Response, bytes]:
        headers = {"Authorization": f"Bearer {key}", "Accept": "application/json", "Accept-Encoding": "gzip"}
        async with self._http.stream("GET", f"{self._base_url}{path}", params=params, headers=headers) as response:
            unpack = _unpacking(response)
            body = bytearray()
            async for piece in response.aiter_raw():
                # A byte may unpack to a thousand, and httpx unpacks all of a piece at once.
                body += unpack(piece, BODY_LIMIT + 1 - len(body))
                if len(body) > BODY_LIMIT:
                    raise BadPayload(f"the answer is larger than {BODY_LIMIT // 1024**2} MiB")
            return response, bytes(body)

    def _judge(self, response: httpx.Response, body: bytes) -> Answer | None:
        date = _date(response.headers.get("Date"))
        now = date if date is not None else self._clock()
        self._note_quota(response.headers, now)
        status = response.status_code
        if status == httpx.codes.NOT_FOUND:
            return None
        if status == httpx.codes.TOO_MANY_REQUESTS:
            until = self._throttle.block(_wait(response.headers, now))
            raise RateLimited(f"429: {_reason(body)}", until=until)
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise Unauthorized(f"{status}: the key was refused: {_reason(body)}")
        if response.is_redirect:
            host = httpx.URL(response.headers.get("Location", "")).host
            host = host if re.fullmatch(r"[a-z0-9.-]{1,100}", host) else "elsewhere"
            raise ApiUnavailable(f"{status}: redirected to {host}; not followed, the key goes to no other address")
        if status == httpx.codes.BAD_REQUEST:
            raise BadRequest(f"400: {_reason(body)}")
        if not response.is_success:
            raise ApiUnavailable(f"{status}: {_reason(body)}")
        return Answer(body, date)

    def _note_quota(self, headers: httpx.Headers, now: float) -> None:
        limit, remaining, reset = (
            _number(headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining", "Reset")
        )
        if limit is None or limit < 1 or remaining is None:
            return
        self.quota = Quota(int(limit), int(remaining), reset if reset is not None else now + MINUTE)
        self._throttle.learn(self.quota, max(0.0, self.quota.reset - now))


def _unpacking(response: httpx.Response) -> Callable[[bytes, int], bytes]:
    """Unpacks the pieces of a body, to so many bytes at most: only what was asked for, and one layer of it."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress
    if encoding not in ("", "identity") and response.is_success:
        raise BadPayload("the answer is packed other than with gzip, which alone was asked for")
    return lambda piece, _: piece


def _translated(exc: Exception, timeout: float) -> tuple[str, ApiError]:
    """The kind of a failure of the network, and the error that says so."""
    if isinstance(exc, TimeoutError | httpx.TimeoutException):
        return "timeout", ApiUnavailable(f"no answer within {timeout:g} s")
    if isinstance(exc, httpx.ConnectError):
        return "connect", ApiUnavailable(f"no connection: {_words(exc)}")
    if isinstance(exc, zlib.error):
        return "decoding", BadPayload(f"the answer cannot be unpacked: {_words(exc)}")
    return "network", ApiUnavailable(f"the connection failed: {_words(exc)}")


def _words(exc: Exception) -> str:
    return str(exc)[:MESSAGE_LENGTH] or type(exc).__name__


def _reason(body: bytes) -> str:
    """What an answer says went wrong, in a line."""
    try:
        answer = json.loads(body)
        words = answer["error"] if isinstance(answer, dict) else ""
        details = answer.get("details") if isinstance(answer, dict) else None
        if isinstance(details, dict):
            words = "; ".join([str(words), *(f"{name} {detail}" for name, detail in details.items())])
    except (ValueError, KeyError, RecursionError):
        words = body[:MESSAGE_LENGTH].decode("utf-8", "replace")
    line = " ".join("".join(char if char.isprintable() else " " for char in str(words)).split())
    return line[:MESSAGE_LENGTH] or "no reason given"


def _wait(headers: httpx.Headers, now: float) -> float:
    """Seconds to wait after a 429: until the reset and as long as Retry-After says, a minute where neither tells."""
    waits = []
    reset = _number(headers.get("X-RateLimit-Reset"))
    if reset is not None and 0 <= reset - now <= LONGEST_WAIT:
        waits.append(reset - now)
    after = headers.get("Retry-After")
    seconds = _number(after)
    moment = _date(after) if seconds is None else now + seconds
    if moment is not None and moment >= now:
        waits.append(min(moment - now, LONGEST_WAIT))
    return max(waits, default=MINUTE)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return None

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import random
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest

from late_exporter.api import body
from late_exporter.api.body import (
    MAX_BODY_BYTES,
    MAX_LARGE_BODIES,
    SMALL_BODY_BYTES,
)
from late_exporter.api.client import ApiKey
from late_exporter.api.responses import ApiResponse
from late_exporter.errors import (
    ApiError,
    ApiUnavailable,
    BadPayload,
    BadRequest,
    CertificateRejected,
    EndpointNotFound,
    Forbidden,
    RateLimited,
    ResponseTooLarge,
    Unauthorized,
)
from late_exporter.health import Quota
from tests.support.api import KEY, create_client
from tests.support.clock import LoopClock

NOW = 1_763_993_002.0
OTHER = "sk_" + "fedcba9876543210" * 4
RESTRICTED = "zrk_" + "AbcXyz0123456789" * 3
BASE = "https://zernio.com/api"
PATH = "/v1/posts/logs"

Handler: TypeAlias = Callable[[httpx.Request], httpx.Response]


class ClientHarness:
    """A client of an API whose responses are up to a test."""

    def __init__(self, handler: Handler, key: ApiKey | None = None, *, timeout: float = 30.0) -> None:
        self.requests: list[httpx.Request] = []
        self.times: list[float] = []
        self.clock = LoopClock(NOW, elapsed=1000.0)
        self._handler = handler
        self.client = create_client(
            self._handle,
            monotonic=self.clock.monotonic,
            sleep=self.clock.sleep,
            share=0.5,
            key=key,
            timeout=timeout,
        )

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.times.append(self.clock.elapsed)
        return self._handler(request)

    async def get(self, path: str = PATH, **params: str | int) -> ApiResponse:
        """Send a request."""
        return await self.client.get(path, params, path_template=path)

    async def fail(self) -> ApiError:
        """Send a request that must fail; return the error."""
        with pytest.raises(ApiError) as caught:
            await self.get()
        return caught.value

    @property
    def codes(self) -> list[str]:
        """Codes of the requests since the last call."""
        return [request.code for request in self.client.pop_request_log()[0]]


def respond_with(status: int = 200, body: str | bytes | ChunkStream = b"{}", /, **headers: str) -> Handler:
    """Return a handler that always sends the same response, whose body is still to come, as from a network."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    whole = body.encode() if isinstance(body, str) else body
    stream = httpx.ByteStream(whole) if isinstance(whole, bytes) else whole
    return lambda _: httpx.Response(status, stream=stream, headers=named)


def http_date(seconds: float = 0.0) -> str:
    """Return an HTTP date, in seconds from now."""
    return formatdate(NOW + seconds, usegmt=True)


async def test_request() -> None:
    """A request has the path, its parameters and the key, asks for JSON, and has no body."""
    api = ClientHarness(respond_with(200, '{"logs": []}', Date=http_date(-7)))
    answer = await api.get(days=7, limit=100, skip=0, status="pending")

    (request,) = api.requests
    assert ApiResponse(b'{"logs": []}', NOW - 7) == answer
    assert ("GET", f"{BASE}{PATH}?days=7&limit=100&skip=0&status=pending") == (request.method, str(request.url))
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert (request.headers["Accept"], request.headers["Accept-Encoding"]) == ("application/json", "gzip")
    assert request.content == b""


async def test_quoted_path() -> None:
    """An id with special characters in the path reaches the API as one segment."""
    api = ClientHarness(respond_with())
    await api.get("/v1/posts/a%2F%3Fb%25/logs", limit=100)

    assert api.requests[0].url.raw_path == b"/api/v1/posts/a%2F%3Fb%25/logs?limit=100"


CA_FILE = "set SSL_CERT_FILE to a file with the certificate of its CA"
REMEDY = f"to trust it, for example that of a proxy, {CA_FILE}"
RENEW = (
    "if the clock of this machine is right, the owner of the certificate must renew it: that of the"
    " API, or of a proxy in between"
)
CERTIFICATES = [  # Every version of OpenSSL has words of its own for an unknown CA.
    ("self-signed certificate", REMEDY),
    ("unable to get local issuer certificate", REMEDY),
    ("unable to verify the first certificate", REMEDY),
    ("certificate has expired", RENEW),
    ("certificate is not yet valid", "set the clock of this machine"),
    (
        "Hostname mismatch, certificate is not valid for 'zernio.com'.",
        "check --api.base-url, DNS, and a proxy in between",
    ),
    (
        "IP address mismatch, certificate is not valid for '127.0.0.1'.",
        "check --api.base-url, DNS, and a proxy in between",
    ),
]


@pytest.mark.parametrize(("reason", "remedy"), CERTIFICATES)
async def test_rejected_certificates(reason: str, remedy: str) -> None:
    """The message has the reason and what to do about the certificate."""
    words = f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {reason} (_ssl.c:1028)"

    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(words)

    api = ClientHarness(fail)
    failure = await api.fail()

    assert type(failure) is CertificateRejected
    assert str(failure) == f"no connection to zernio.com: {words}; {remedy}"
    assert api.codes == ["connect"]


NETWORK = [
    (httpx.ConnectError("[Errno -2] Name or service not known"), "connect",
     "no connection to zernio.com: [Errno -2] Name or service not known"),
    (TimeoutError(), "timeout", "no response within 30 s"),
    (httpx.ReadError("reset"), "network", "the connection failed: reset"),
    (httpx.InvalidURL("x" * 500), "network", f"the connection failed: {'x' * 200}"),
    (OSError("[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC]"), "network",
     "the connection failed: [SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC]"),
]  # fmt: skip


@pytest.mark.parametrize(("exc", "code", "words"), NETWORK)
async def test_network_errors(exc: Exception, code: str, words: str) -> None:
    """A network error is ApiUnavailable with a message, and is recorded by its kind."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise exc

    api = ClientHarness(fail)
    failure = await api.fail()

    assert (ApiUnavailable, words) == (type(failure), str(failure))
    assert exc is failure.__cause__
    assert api.codes == [code]


HTML = "<html>\n<head><title>502 Bad Gateway</title></head>\n" + "<hr>" * 100
STATUSES = [
    (400, '{"error": "Invalid limit"}', BadRequest, "400: Invalid limit"),
    (400, '{"error": "Invalid query", "details": {"status": "must be one of: failed", "days": [1, 7]}}', BadRequest,
     "400: Invalid query; status must be one of: failed; days [1, 7]"),
    (401, '{"error": "Unauthorized"}', Unauthorized, "401: the API key was rejected: Unauthorized"),
    (400, '{"error": "Invalid", "code": "bad_value", "param": "days"}', BadRequest,
     "400: Invalid (code bad_value, param days)"),
    (403, '{"error": "No rights", "code": "x"}', Forbidden, "403: the API key was rejected: No rights (code x)"),
    (403, '{"error": "No", "code": "x", "required_group": "publishing"}', Forbidden,
     "403: the API key lacks a right: No (code x); grant the key the group publishing"),
    (403, '{"error": "No", "code": "unclassified_resource"}', Forbidden,
     "403: a restricted API key cannot use this path: No (code unclassified_resource)"),
    (500, "{" + '"error":[' * 1 + "[" * 100_000, ApiUnavailable, "500: " + ('{"error":[' + "[" * 200)[:200]),
    (404, "", EndpointNotFound, "404: the API has no /v1/posts/logs"),
    (403, '{"error": "No", "code": "' + "c\\n" * 100 + '"}', Forbidden,
     f"403: the API key was rejected: No (code {('c ' * 100)[:60]})"),
    (500, '{"error": "line one\\nline\\ttwo \\u001b[31mred\\u001b[0m \\u202e"}', ApiUnavailable,
     "500: line one line two [31mred [0m"),
    (502, HTML, ApiUnavailable, "502: " + " ".join(HTML[:200].split())),
    (503, '{"error": "' + "long " * 100 + '"}', ApiUnavailable, "503: " + ("long " * 100)[:200]),
    (204, "", None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "words"), STATUSES)
async def test_statuses(status: int, body: str | bytes, kind: type[ApiError] | None, words: str) -> None:
    """Every unsuccessful status is an error with a short message in one line."""
    api = ClientHarness(respond_with(status, body))
    if kind is None:
        assert ApiResponse(b"", None) == await api.get()
    else:
        failure = await api.fail()
        assert (kind, status, words) == (type(failure), failure.status, str(failure))
        assert str(failure).isprintable()
    assert api.codes == [str(status)]


@pytest.mark.parametrize("name", ["req_01-ab", "5f0c9d3e-7a6b-4f6e-9d0b-2a1c3b4d5e6f", "iad1::abc-123", "x" * 64])
async def test_a_failure_names_the_request(name: str) -> None:
    """The id of a request is in the message and in an attribute, but not in the arguments, and the status is kept."""
    failure = await ClientHarness(respond_with(502, '{"error": "Bad Gateway"}', X_Request_Id=f" {name} ")).fail()

    assert str(failure) == f"502: Bad Gateway (request id {name})"
    assert (failure.args, failure.status, failure.request_id) == (("502: Bad Gateway",), 502, name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a\x1b[31m", "ä", "<b>"])
async def test_unusable_request_ids(name: str) -> None:
    """An id that is missing, long or not plain is left out."""
    failure = await ClientHarness(respond_with(502, "{}", X_Request_Id=name)).fail()
    assert failure.request_id == ""


@pytest.mark.parametrize(
    ("location", "host"), [("https://evil.example/v1/posts/logs", "evil.example"), ("/elsewhere", "elsewhere")]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int, location: str, host: str) -> None:
    """The key is sent to no other host than the configured one."""
    api = ClientHarness(respond_with(status, Location=location))
    failure = await api.fail()

    assert ApiUnavailable is type(failure)
    words = f"{status}: redirected to {host}; redirects are not followed, to keep the API key from other hosts"
    assert words == str(failure)
    assert [str(request.url) for request in api.requests] == [BASE + PATH]


# The key.


@pytest.mark.parametrize("key", [KEY, OTHER, RESTRICTED])
@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
@pytest.mark.parametrize(
    "text",
    [
        "{key}",
        '{{"error": "bad key {key}"}}',
        "x" * 149 + " {key}",
        '{{"error": "' + "x" * 190 + ' {key}"}}',
        '{{"error": "no", "code": "' + "x" * 50 + ' {key}", "param": "{key}", "required_group": "{key}"}}',
        '{{"error": "no", "details": {{"field": "{key}"}}}}',
    ],
)
async def test_an_echoed_key_is_redacted(status: int, text: str, key: str) -> None:
    """A response with the key, or another one, puts no part of it into an error, however the text is cut."""
    failure = await ClientHarness(respond_with(status, text.format(key=key))).fail()

    assert key[:8] not in str(failure)
    assert key[-8:] not in repr(failure)
    assert str(status) in str(failure)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Return a file with the key."""
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


def rewrite(key_file: Path, content: str | bytes) -> None:
    """Write a file that does not look changed: its time stays the same."""
    before = key_file.stat().st_mtime_ns
    key_file.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(key_file, ns=(before, before))


async def test_a_key_file_is_read_for_each_request(key_file: Path) -> None:
    """A changed file is read at once, even if its metadata is unchanged, and its key is reported once."""
    reported: list[str] = []
    api = ClientHarness(respond_with(), ApiKey(KEY, key_file, on_change=reported.append))
    await api.get()
    rewrite(key_file, f"  {OTHER} \n")
    await api.get()
    await api.get()

    sent = [request.headers["Authorization"] for request in api.requests]
    assert sent == [f"Bearer {KEY}", f"Bearer {OTHER}", f"Bearer {OTHER}"]
    assert reported == [OTHER]


@pytest.mark.parametrize("content", ["", "\n", "two words", "a\nb", b"sk_\xff", "sk_\u00e9", "sk_\x00", KEY])
def test_a_key_file_without_another_key(key_file: Path, content: str | bytes) -> None:
    """A file without a key, or with the same one, leaves the last key in use."""
    told: list[str] = []
    key = ApiKey(KEY, key_file, on_change=told.append)
    rewrite(key_file, content)

    assert key.value() == KEY
    assert told == []


def test_a_key_file_that_cannot_be_reached(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a folder of the file becomes unreadable, the last key stays in use."""
    key = ApiKey(KEY, key_file)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.stat", refuse)
    assert key.value() == KEY


async def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    """A key that a pipe has delivered stays in use: reading it again would wait for a writer."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    key = ApiKey(KEY, pipe)
    assert key.value() == KEY


# The quota.


LIMITED = [
    # expected wait, headers
    (60.0, {}),
    (60.0, {"X-RateLimit-Reset": f"{NOW + 5:.0f}", "Retry-After": "later"}),
    (60.0, {"Retry-After": http_date(90)}),
    (17.0, {"Retry-After": "17"}),
    (86_400.0, {"Retry-After": "1000000"}),
]


@pytest.mark.parametrize(("wait", "headers"), LIMITED)
async def test_rate_limited(wait: float, headers: dict[str, str]) -> None:
    """A 429 waits for the seconds of Retry-After, or for a minute."""
    api = ClientHarness(respond_with(429, '{"error": "Rate limit exceeded."}', **headers))
    failure = await api.fail()

    assert isinstance(failure, RateLimited)
    assert str(failure) == "429: Rate limit exceeded."
    assert api.clock.elapsed + wait == failure.until
    assert api.codes == ["429"]


async def test_nothing_is_sent_before_the_end_of_a_429() -> None:
    """After a 429 no request with the key is sent before its wait has ended, and the wait is reported."""
    api = ClientHarness(respond_with(429, Retry_After="30"))
    await api.fail()
    await asyncio.gather(api.fail(), api.fail())

    assert api.times == [1000.0, 1030.0, 1060.0]
    assert api.client.pop_request_log()[1] == 60.0


@pytest.mark.parametrize(
    ("path", "remaining", "wait"),
    [("/v1/usage", 590, 0.0), ("/v1/billing", 590, 0.0), ("/v1/usage", 0, 90.0), ("/v1/posts", 590, 90.0)],
)
async def test_a_429_of_the_billing_backend(path: str, remaining: int, wait: float) -> None:
    """While the key has requests left, it stops only the request that it answers."""
    quota = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": f"{remaining}"}
    api = ClientHarness(respond_with(429, Retry_After="90", **quota))
    with pytest.raises(RateLimited) as caught:
        await api.client.get(path, {}, path_template=path)

    assert caught.value.until == api.clock.elapsed + 90
    assert api.client.quota_wait() == wait


async def test_reported_quota() -> None:
    """The reported quota is kept, with an estimate of what other users of the key send."""
    headers = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "588", "X-RateLimit-Reset": f"{NOW + 10:.0f}"}
    api = ClientHarness(respond_with(**headers, Date=http_date()))
    assert api.client.quota is None
    await api.get()

    assert api.client.quota == Quota(600, 588, NOW + 10, customer_requests=11)
    assert api.client.rate_limit == 600


# Bodies.


class ChunkStream(httpx.AsyncByteStream):
    """A body in chunks."""

    def __init__(self, *pieces: bytes, forever: bytes = b"", then: Callable[[], Awaitable[Any]] | None = None) -> None:
        self._pieces = pieces
        self._forever = forever
        self._then = then
        self.sent = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the chunks."""
        for piece in self._pieces:
            self.sent += len(piece)
            yield piece
        while self._forever:
            self.sent += len(self._forever)
            yield self._forever
        if self._then is not None:
            await self._then()

    async def aclose(self) -> None:
        """Record that the stream was closed."""
        self.closed = True


async def test_endless_body() -> None:
    """A response is not read beyond 2 MiB."""
    stream = ChunkStream(forever=b" " * 1024 * 1024)
    api = ClientHarness(respond_with(200, stream))
    failure = await api.fail()

    assert (ResponseTooLarge, "the response is larger than 2 MiB") == (type(failure), str(failure))
    assert MAX_BODY_BYTES < stream.sent <= MAX_BODY_BYTES + 1024 * 1024
    assert stream.closed
    assert api.codes == ["too_large"]


async def test_a_body_in_tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece of a response counts 16 bytes at least, and other tasks run while many arrive together."""
    monkeypatch.setattr(body, "MAX_BODY_BYTES", 1024**2)
    pieces = [b"x"] * (body.MAX_BODY_BYTES // 16 + 1)
    reading = asyncio.ensure_future(ClientHarness(respond_with(200, ChunkStream(*pieces))).fail())
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)

    assert str(await reading) == "the response is larger than 1 MiB"
    assert turns > len(pieces) / 1000


@pytest.mark.parametrize("chunk_size", [100, 65_536])
async def test_decompression_bomb(chunk_size: int) -> None:
    """A response is not decompressed beyond its limit, in whatever pieces."""
    bomb = gzip.compress(b" " * 40 * MAX_BODY_BYTES)
    chunks = [bomb[start : start + chunk_size] for start in range(0, len(bomb), chunk_size)]
    stream = ChunkStream(*chunks)
    failure = await ClientHarness(respond_with(200, stream, Content_Encoding="gzip")).fail()

    assert (ResponseTooLarge, "the response is larger than 2 MiB") == (type(failure), str(failure))
    assert stream.sent < 2 * MAX_BODY_BYTES / 1000 + chunk_size


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_few_large_responses_are_read_at_a_time(encoding: str) -> None:
    """Of any number of large responses, a few are read beyond 256 KiB; the next one goes on when one of them ends."""
    body = random.Random(3).randbytes(1024 * 1024)
    content = gzip.compress(body) if encoding == "gzip" else body
    chunks = [content[start : start + 65_536] for start in range(0, len(content), 65_536)]
    may_end, large_bodies = asyncio.Event(), asyncio.Semaphore(MAX_LARGE_BODIES)
    streams = [ChunkStream(*chunks, then=may_end.wait) for _ in range(MAX_LARGE_BODIES + 3)]
    tasks = []
    for stream in streams:
        client = ClientHarness(respond_with(200, stream, Content_Encoding=encoding)).client
        client.large_bodies = large_bodies
        tasks.append(asyncio.ensure_future(client.get(PATH, {}, path_template=PATH)))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert [stream.sent for stream in streams[:MAX_LARGE_BODIES]] == [len(content)] * MAX_LARGE_BODIES
    assert max(stream.sent for stream in streams[MAX_LARGE_BODIES:]) < SMALL_BODY_BYTES + 2 * 65_536
    may_end.set()
    answers = await asyncio.gather(*tasks)
    assert [len(answer.body) for answer in answers] == [len(body)] * len(tasks)


async def test_bytes_after_compressed_data() -> None:
    """A response that continues after the end of its compressed data is rejected at once, however long it lasts."""
    stream = ChunkStream(gzip.compress(b'{"logs": []}'), forever=b" ")
    api = ClientHarness(respond_with(200, stream, Content_Encoding="gzip"))

    assert str(await api.fail()) == "the response continues after the end of its compressed data"
    assert stream.sent < 1024**2
    assert api.codes == ["decoding"]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_memory_of_an_error(encoding: str) -> None:
    """Of an error response only the beginning is read, and its status counts."""
    body = b'{"error": "no", "x": [' + b"[]," * 3_000_000
    tracemalloc.start()
    try:
        content = gzip.compress(body) if encoding == "gzip" else body
        api = ClientHarness(respond_with(500, content, Content_Encoding=encoding))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        failure = await api.fail()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (ApiUnavailable, 500) == (type(failure), getattr(failure, "status", None))
    assert peak - before < 2_000_000


@pytest.mark.parametrize("encoding", ["gzip, gzip", "deflate", "br", "zstd", "gzip, br", "nonsense"])
async def test_unsupported_encoding(encoding: str) -> None:
    """A response with another or a repeated encoding is rejected before it is read."""
    stream = ChunkStream(gzip.compress(gzip.compress(b" " * MAX_BODY_BYTES)), forever=b" ")
    api = ClientHarness(respond_with(200, stream, Content_Encoding=encoding))
    failure = await api.fail()

    assert BadPayload is type(failure)
    assert str(failure) == "the response has an unsupported Content-Encoding; only gzip was requested"
    assert stream.sent == 0
    assert api.codes == ["decoding"]


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"{}")[:-8] + bytes(8)], ids=["text", "sum"])
async def test_damaged_body(body: bytes) -> None:
    """Damaged compression is a bad payload."""
    failure = await ClientHarness(respond_with(200, body, Content_Encoding="gzip")).fail()
    assert type(failure) is BadPayload
    assert str(failure).startswith("the response cannot be decompressed: ")


async def test_slow_body() -> None:
    """The timeout covers the whole response, even while bytes keep arriving."""
    stream = ChunkStream(b'{"logs"', b": [", then=asyncio.Event().wait)
    api = ClientHarness(respond_with(200, stream), timeout=0.02)
    failure = await api.fail()

    assert (ApiUnavailable, "no response within 0.02 s") == (type(failure), str(failure))
    assert stream.closed
    assert api.codes == ["timeout"]

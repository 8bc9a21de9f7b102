"""Fuzz tests of everything that parses foreign input: with new input for FUZZ_SECONDS, else with the same in every run.

A failure prints its example, and how to repeat it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import bcrypt
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from late_exporter.config.web import WebConfig
from late_exporter.errors import ApiError
from late_exporter.exposition.exposition import Exposition
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.web.app import ExporterApp, HealthSource
from late_exporter.web.auth import AuthMiddleware
from tests.support.api import KEY, create_client
from tests.support.clock import VirtualClock
from tests.web.requests import Response, call

pytestmark = pytest.mark.fuzz


TARGETS = 4
PASSWORD_HASH = bcrypt.hashpw(b"b", bcrypt.gensalt(4))
SECONDS = float(os.environ.get("FUZZ_SECONDS") or 0) / TARGETS

ROUND = settings(
    max_examples=100,
    deadline=None,
    database=None,
    derandomize=not SECONDS,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
"""One round of a target. Only `make fuzz` has new input in every run."""


def for_a_while(target: Callable[[], None]) -> None:
    """Run rounds of a target until its time is over, at least one."""
    until = time.monotonic() + SECONDS
    while True:
        target()
        if time.monotonic() >= until:
            return


NASTY = [
    "",
    "\0",
    "\ud800",
    "\x1b[2J\x07",
    'a"b\\c\nlate_up 1',
    "\u202e\u2066",
    "\r\nSet-Cookie: a=b",
    "9" * 400,
    "A" * 5000,
    "2026-11-24T19:00:00Z",
    "9999-12-31T23:59:59.999Z",
    "..",
    "../../admin?x=#",
]


texts = st.sampled_from(NASTY) | st.text(st.characters(), max_size=6)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Cut, insert, repeat or change bytes."""
    data = whole
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        piece = draw(st.binary(max_size=6) | st.just(data[start:end] * 2) | texts.map(_encoded))
        data = data[:start] + piece + data[end:]
    return data


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


HEADERS = [
    *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After", "Date"),
    *("Location", "Set-Cookie"),
]
header_values = (
    st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(
        ["1e308", "-1", "0x10", "1_0", "9" * 400, "Thu, 01 Jan 1970 00:00:00 GMT", "//\x7f", "http://[::", "a=日本"]
    )
    | st.from_regex(r"https://xn--[a-z0-9-]{0,8}\.example/", fullmatch=True)
    | st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30)
)


@given(
    status=st.sampled_from([200, 204, 301, 302, 307, 401, 403, 404, 418, 429, 500, 503, 599]),
    headers=st.dictionaries(st.sampled_from(HEADERS), header_values, max_size=7),
    encoding=st.none() | st.sampled_from(["gzip", "deflate", "gzip, gzip", "identity", "br", "zstd", "nonsense", ""]),
    body=st.binary(max_size=60),
)
@ROUND
def _any_response(status: int, headers: dict[str, str], encoding: str | None, body: bytes) -> None:
    fields = {name.encode(): value.encode() for name, value in headers.items()}
    if encoding is not None:
        fields[b"Content-Encoding"] = encoding.encode()
    clock = VirtualClock()

    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=fields, stream=httpx.ByteStream(body))

    client = create_client(respond, monotonic=clock.monotonic, sleep=clock.sleep)

    async def ask() -> str:
        try:
            return str(await client.get("/v1/posts/logs", {}, path_template="/v1/posts/logs"))[:0]
        except ApiError as exc:
            return str(exc)

    assert KEY not in asyncio.run(ask()) + asyncio.run(ask())
    assert client.rate_limit >= 1


def test_any_response() -> None:
    """Any status, headers and body give a response or an ApiError that does not contain the key."""
    for_a_while(_any_response)


REQUEST_HEADERS = [b"accept", b"accept-encoding", b"authorization", b"origin", b"host", b"connection"]
PATHS = ["/", "/metrics", "/-/healthy", "/-/ready", "/-/reload", "/-/quit", "//metrics", "/metrics/", "/%6detrics"]
heads = st.lists(
    st.tuples(
        st.sampled_from(REQUEST_HEADERS),
        st.binary(max_size=40)
        | st.lists(st.sampled_from(list(b'*/;,=q01."\\ avpxtion-')), max_size=40).map(bytes)
        | st.sampled_from(
            [b"Basic Og==", b"Basic YTpi", b"Basic /w==", b"application/openmetrics-text;q=" + b"9" * 400]
        ),
    ),
    max_size=6,
)


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "Å"]),
    path=st.sampled_from(PATHS) | texts,
    head=heads,
)
@ROUND
def _any_request(method: str, path: str, head: list[tuple[bytes, bytes]]) -> None:
    web = WebConfig(users={"a": PASSWORD_HASH})

    async def respond() -> Response:
        gate = AuthMiddleware(
            ExporterApp(HealthSource(), Exposition(CATALOGUE), version="1"),
            lambda: web,
            needs_password=lambda path: path != "/-/healthy",
        )
        return await call(gate, path, method, headers=head)

    response = asyncio.run(respond())
    is_allowed = path == "/-/healthy" or any(name == b"authorization" for name, _ in head)
    assert is_allowed or response.status == 401


def test_any_request() -> None:
    """Any request gets one response, which is a rejection without a password."""
    for_a_while(_any_request)

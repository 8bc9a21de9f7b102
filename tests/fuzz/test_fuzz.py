"""Fuzz tests of everything that parses foreign input, with new input in every run, for FUZZ_SECONDS.

A failure prints its example, and how to repeat it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from late_exporter.api.client import ApiKey, LateClient
from late_exporter.api.cookies import CookielessAsyncClient
from late_exporter.api.quota import RateLimiter
from late_exporter.config import web_file as webconfig
from late_exporter.config.settings import OPTIONS
from late_exporter.config.sources import load
from late_exporter.config.web import WebConfig
from late_exporter.errors import ApiError, BadPayload, ConfigError
from late_exporter.exposition.exposition import Exposition
from late_exporter.feeds import FEEDS
from late_exporter.feeds.decoder import UNSAFE_CHARACTERS
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.labels import KNOWN_VALUES, OTHER
from late_exporter.web.app import HealthSource, create_app
from late_exporter.web.asgi import Message, by_path
from late_exporter.web.auth import AuthMiddleware
from late_exporter.web.metrics import create_metrics_app
from late_exporter.web.passwords import PasswordVerifier
from tests.support.clock import VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import TIME_FILTERS, FakeLateApi, ListQuirks
from tests.support.loggers import NullLogger
from tests.support.world import World

pytestmark = pytest.mark.fuzz

Document: TypeAlias = dict[str, Any]

TARGETS = 10
SECONDS = float(os.environ.get("FUZZ_SECONDS") or 15) / TARGETS
MAX_VALUES = 3
REQUESTS = 200
"""More than a poll sends."""

ROUND = settings(
    max_examples=100,
    deadline=None,
    database=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
"""One round of a target. Not derandomized, although Hypothesis does that by default if CI is set."""


def for_a_while(target: Callable[[], None]) -> None:
    """Run rounds of a target until its time is over."""
    until = time.monotonic() + SECONDS
    while True:
        target()
        if time.monotonic() >= until:
            return


NASTY = [
    "",
    " ",
    "\0",
    "\ud800",
    "\x1b[2J\x07",
    'a"b\\c\nlate_up 1',
    "<script>alert(1)</script>",
    "\u202e\u2066",
    "\r\nSet-Cookie: a=b",
    "9" * 400,
    "A" * 5000,
    "other",
    "unknown",
    "2026-11-24T19:00:00Z",
    "9999-12-31T23:59:59.999Z",
    "0001-01-01T00:00:00+14:00",
    "1e999",
    "..",
    "../../admin?x=#",
]
FIELDS = [
    "_id",
    "postId",
    "platform",
    "accountId",
    "accountUsername",
    "action",
    "status",
    "statusCode",
    "response",
    "errorCode",
    "durationMs",
    "attemptNumber",
    "createdAt",
    "eventType",
    "connectionMethod",
    "error",
    "code",
    "success",
    "username",
    "tokenExpiresAt",
    "logs",
    "pagination",
    "total",
    "hasMore",
]

HUGE = "a number of 5000 digits"
"""Placeholder of a number that json cannot encode."""

NASTY_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1.5, -0.0, 2**63, -(2**63) - 1, 10**400, HUGE),
    *(float("nan"), float("inf"), float("-inf"), 5e-324, 1.7e308),
    *([], {}, [[]], [None], {"_id": None}, {"_id": "x"}, {"code": 5}, {"errorCode": []}, {"username": "\ud83d"}),
]

texts = st.sampled_from(NASTY) | st.text(st.characters(), max_size=6)
nasty = st.sampled_from(NASTY_VALUES + NASTY)
nonsense = nasty | st.recursive(
    nasty | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | texts, inner, max_size=6),
    max_leaves=10,
)
odd_fields = st.dictionaries(st.sampled_from(FIELDS), nonsense, max_size=5)
odd_rows = st.lists(st.tuples(st.sampled_from(FIELDS[2:]), nasty | texts), min_size=1, max_size=4).map(dict[str, Any])


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


def _rows(*, connections: bool) -> list[Document]:
    clock = VirtualClock()
    world = World(clock)
    if connections:
        for event in ("connect_success", "connect_failed", "disconnect"):
            clock.advance(1)
            world.add_connection(event)
        return [dict(row) for row in world.archives.connections.rows]
    world.publish(5, over=100, kinds=({}, {"status": "failed", "statusCode": 429}, {"status": "pending"}))
    return [dict(row) for row in world.rows]


GOOD = {"publishing": _rows(connections=False), "connections": _rows(connections=True)}


def _encode(value: object) -> bytes:
    return json.dumps(value).replace(f'"{HUGE}"', "9" * 5000).encode()


def _answer(rows: Iterable[object], pagination: object) -> bytes:
    return _encode({"logs": list(rows), "pagination": pagination})


def _exporter(generation: str = "late", **options: Any) -> ExporterHarness:
    api = FakeLateApi(World(VirtualClock()), generation=generation, **options)
    return ExporterHarness(api, feeds=tuple(FEEDS), max_label_values=MAX_VALUES, generation=generation)


def _check_labels(exporter: ExporterHarness) -> None:
    """Assert that label values are bounded in number and length, and that the metrics can be parsed."""
    values: dict[str, set[str]] = defaultdict(set)
    families = list(text_string_to_metric_families(exporter.scrape().text))
    for sample in (sample for family in families for sample in family.samples):
        for label, value in sample.labels.items():
            assert len(value) <= 128
            assert not UNSAFE_CHARACTERS.search(value)
            values[label].add(value)
    for label, vocabulary in KNOWN_VALUES.items():
        limit = 500 if label == "account_id" else MAX_VALUES
        assert len(values[label] - vocabulary - {OTHER, "unknown"}) <= limit
    assert {family.name for family in families} >= {"late_up"}


bodies = (
    st.binary(max_size=200)
    | st.sampled_from(sorted(FEEDS)).flatmap(lambda feed: damaged(_answer(GOOD[feed], {"total": 5, "hasMore": False})))
    | nonsense.map(_encode)
)


@given(
    number=st.integers(0, 8),
    time_filter=st.none() | st.sampled_from(TIME_FILTERS),
    data=damaged(_answer(GOOD["publishing"], {"total": 5})) | odd_fields.map(lambda row: _answer([row], row)),
)
@ROUND
def _deeper(number: int, time_filter: str | None, data: bytes) -> None:
    quirks = ListQuirks(max_page_size=2, time_filter=time_filter or "inclusive")
    exporter = _exporter("zernio" if time_filter else "late", quirks=quirks)
    late = exporter.api
    try:
        late.world.publish(9, over=900, kinds=({"status": "pending"}, {}))
        exporter.poll(feed="publishing")
        late.world.publish(5)
        late.fail_request(number, lambda _late, _body: data)
        for _ in range(3):
            exporter.clock.advance(30)
            assert exporter.poll(feed="publishing").outcome in ("success", "bad_payload")
        _check_labels(exporter)
    finally:
        exporter.close()


def test_any_bytes_at_any_request() -> None:
    """A poll survives any response to any of its requests: a later page, one by time, pending logs, or a post."""
    for_a_while(_deeper)


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
    body=st.binary(max_size=60) | nonsense.map(_encode),
)
@ROUND
def _any_response(status: int, headers: Document, encoding: str | None, body: bytes) -> None:
    fields = {name.encode(): value.encode() for name, value in headers.items()}
    if encoding is not None:
        fields[b"Content-Encoding"] = encoding.encode()
    clock = VirtualClock()
    http = CookielessAsyncClient(transport=httpx.MockTransport(_answering(status, fields, body)))
    client = LateClient(
        http,
        base_url="https://getlate.dev/api",
        key=ApiKey("sk_0123456789abcdef"),
        rate_limiter=RateLimiter(0.5, monotonic=clock.monotonic, sleep=clock.sleep),
        timeout=30.0,
        clock=clock.time,
        monotonic=clock.monotonic,
    )

    async def ask() -> str:
        try:
            return str(await client.get("/v1/posts/logs", {}, path_template="/v1/posts/logs"))[:0]
        except ApiError as exc:
            return str(exc)

    assert "sk_0123456789abcdef" not in asyncio.run(ask()) + asyncio.run(ask())
    assert client.rate_limit >= 1


def _answering(status: int, headers: Mapping[bytes, bytes], body: bytes) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


def test_any_response() -> None:
    """Any status, headers and body give a response or an ApiError that does not contain the key."""
    for_a_while(_any_response)


WEB = """tls_server_config:
  cert_file: tls.crt
  key_file: tls.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [a, "b"]
  min_version: TLS12
  cipher_suites: [TLS_AES_128_GCM_SHA256]
http_server_config:
  http2: false
  headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=31536000}
basic_auth_users:
  alice: $2b$04$1111111111111111111111uG2FqkPmRo5VLjWqoBDbiTI1cZ1pMq2
rate_limit: {interval: 1s, burst: 3}
"""
CONFIG = """poll: {interval: 30s, feeds: "publishing,connections"}
web:
  listen-address: [":10077", "unix:/run/late.sock"]
metrics: {duration-buckets: "1,2,3"}
workspaces:
  - name: brand
    api_key_file: brand.key
    api_base_url: https://getlate.dev/api
"""
TOKENS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    "- ",
    "? ",
    ", ",
    "\n",
    "\n  ",
    "&a ",
    "*a",
    "!!int ",
    "|",
    ">",
    "#",
    "%YAML 1.1\n",
    "---",
    "...",
]
WORDS = [
    *("tls_server_config", "cert", "cert_file", "client_auth_type", "http_server_config", "headers"),
    *("basic_auth_users", "rate_limit", "interval", "burst", "workspaces", "name"),
    *("api_key_file", "api_base_url", *(part for option in OPTIONS for part in option.name.split("."))),
    *('"\\ud800"', '"\\UFFFFFFFF"', '"\\0"', "/etc", "1s", "true", "null", "~"),
]


def _mapping(pairs: Iterable[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key} : {value}" for key, value in pairs) + "}"


def _document(pairs: Iterable[tuple[str, str]]) -> bytes:
    return "\n".join(f"{key} : {value}" for key, value in pairs).encode()


word_lists = st.sampled_from([*WORDS, "*a", "*b"]) | st.text("aZ0_./-", min_size=1, max_size=5)
anchors = st.sampled_from(["", "", "&a ", "&b "])
nodes = st.recursive(
    word_lists,
    lambda inner: (
        st.tuples(anchors, st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")).map("".join)
        | st.tuples(anchors, st.lists(st.tuples(word_lists | inner, inner), max_size=3).map(_mapping)).map("".join)
    ),
    max_leaves=8,
)
yaml_documents = (
    st.binary(max_size=100)
    | st.lists(st.sampled_from(TOKENS + WORDS) | texts, max_size=25).map(lambda parts: _encoded("".join(parts)))
    | st.lists(st.tuples(word_lists, nodes), max_size=4).map(_document)
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file for the input."""
    return tmp_path_factory.mktemp("fuzz") / "nonsense.yml"


def test_any_web_configuration(file: Path) -> None:
    """Any web configuration is valid or raises a ConfigError that names the file."""

    @given(yaml_documents | damaged(WEB.encode()))
    @ROUND
    def target(data: bytes) -> None:
        file.write_bytes(data)
        problems: Sequence[str] = [str(file)]
        try:
            webconfig.load(file)
        except ConfigError as exc:
            problems = exc.problems
        assert problems
        assert all(problem.startswith(str(file)) for problem in problems)

    for_a_while(target)


def test_any_configuration(file: Path) -> None:
    """Any configuration is valid or raises a ConfigError."""

    @given(yaml_documents | damaged(CONFIG.encode()))
    @ROUND
    def target(data: bytes) -> None:
        file.write_bytes(data)
        message: Sequence[object]
        try:
            message = load("run", {"config.file": [str(file)]}, {"LATE_API_KEY": "sk_0123456789abcdef"}).workspaces
        except ConfigError as exc:
            message = exc.problems
        assert message

    for_a_while(target)


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
    exposition = Exposition(CATALOGUE)
    exposition.publish()
    app = create_app(HealthSource(workspaces=tuple), version="1")
    app = by_path("/metrics", create_metrics_app(exposition, tuple), app)
    users = {"a": b"$2b$04$" + b"." * 53}
    web = WebConfig(users=users)
    gate = AuthMiddleware(
        app,
        lambda: web,
        passwords=PasswordVerifier(check_password=lambda password, _: password == b"b"),
        unauthenticated_paths=["/-/healthy"],
        log=NullLogger(),
    )
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": head, "client": ("127.0.0.1", 1)}
    asyncio.run(gate(scope, receive, send))
    assert ["http.response.start", "http.response.body"] == [message["type"] for message in sent]
    is_allowed = path == "/-/healthy" or any(name == b"authorization" for name, _ in head)
    assert is_allowed or sent[0]["status"] == 401


def test_any_request() -> None:
    """Any request gets one response, which is a rejection without a password."""
    for_a_while(_any_request)


def test_examples_are_valid() -> None:
    """The examples are valid before they are damaged."""
    for name, feed in FEEDS.items():
        page = feed.parse(_answer(GOOD[name], {"total": 5}))
        assert [row["_id"] for row in GOOD[name]] == [entry.key for entry in page.entries]
    with pytest.raises(BadPayload):
        FEEDS["publishing"].parse(b"")
    assert {"tls_server_config", "basic_auth_users"} <= set(yaml.safe_load(WEB))
    assert {"poll", "workspaces"} <= set(yaml.safe_load(CONFIG))

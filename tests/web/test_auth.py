from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import bcrypt
import msgspec
import pytest

from late_exporter.config.web import RequestRate, WebConfig
from late_exporter.ingest.webhooks import WebhookReceiver
from late_exporter.web.auth import (
    FAILED_LOGIN_RATE,
    MAX_CACHED,
    MAX_PENDING_CHECKS,
    AuthMiddleware,
    PasswordVerifier,
    TokenBucket,
)

Message = MutableMapping[str, Any]

ALICE = b"$2y$10$" + b"a" * 53
BOB = b"$2y$12$" + b"b" * 53
USERS: Mapping[str, bytes] = {"alice": ALICE, "bob": BOB}
RIGHT: Mapping[bytes, bytes] = {ALICE: b"wonderland", BOB: b"builder"}
PEER = "192.0.2.1"


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


class Checks:
    """Takes the place of bcrypt, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, password: bytes, hashed: bytes) -> bool:
        """Whether it is the one password of the hash."""
        self.asked.append((password, hashed))
        assert self.may_go.wait(30)
        return RIGHT.get(hashed) == password


class Lines:
    """A log that keeps its warnings."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def debug(self, event: str, **fields: Any) -> None:
        """Not kept."""

    def info(self, event: str, **fields: Any) -> None:
        """Not kept."""

    def warning(self, event: str, **fields: Any) -> None:
        """Keep it."""
        self.told.append((event, fields))


class Response(msgspec.Struct):
    """What was sent."""

    status: int
    headers: dict[str, str]
    body: bytes


async def application(scope: Message, _: Callable[[], Awaitable[Message]], send: Any) -> None:
    """Says its path; other scopes are told that they came through."""
    if scope["type"] != "http":
        await send({"type": f"{scope['type']}.seen"})
        return
    headers = [(b"content-type", b"text/plain"), (b"X-Frame-Options", b"DENY"), (b"content-security-policy", b"old")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["path"].encode("utf-8", "replace")})


class Door:
    """A gate with everything around it that a test looks at."""

    def __init__(self, **config: Any) -> None:
        self.clock, self.checks, self.lines = Clock(), Checks(), Lines()
        self.config = WebConfig(**config)
        self.passwords = PasswordVerifier(monotonic=self.clock, check_password=self.checks)
        self.gate = AuthMiddleware(
            application,
            lambda: self.config,
            passwords=self.passwords,
            log=self.lines,
            is_public=WebhookReceiver("/late/hook", secret=str, window=1.0).handles,
            monotonic=self.clock,
        )

    async def knock(
        self,
        user: str | None = None,
        password: str = "",
        *,
        path: str = "/metrics",
        peer: str | None = PEER,
        method: str = "GET",
        authorization: bytes | None = None,
    ) -> Response:
        """Send one request."""
        if user is not None:
            authorization = basic(user, password)
        headers = [(b"host", b"x")] + ([] if authorization is None else [(b"Authorization", authorization)])
        client = (peer, 12345) if peer is not None else None
        return await answer(
            self.gate, {"type": "http", "method": method, "path": path, "headers": headers, "client": client}
        )


async def answer(gate: AuthMiddleware, scope: Message) -> Response:
    """What the gate sends for a request."""
    sent: list[Message] = []

    async def receive() -> Message:
        pytest.fail("the body of a request is never read")

    async def send(message: Message) -> None:
        sent.append(message)

    await gate(scope, receive, send)
    start, body = sent
    assert "http.response.start" == start["type"]
    names = [name.lower() for name, _ in start["headers"]]
    assert len(set(names)) == len(names)
    headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Response(start["status"], headers, body["body"])


def basic(user: str, password: str) -> bytes:
    """The header of a user and a password."""
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


@pytest.fixture
def door() -> Door:
    """A gate with two users."""
    return Door(users=USERS)


async def test_open_without_users() -> None:
    """Where there are no users nobody is asked."""
    door = Door()
    assert (200, b"/metrics") == ((await door.knock()).status, (await door.knock("alice", "wrong")).body)
    assert ([], []) == (door.checks.asked, door.lines.told)


async def test_right_password(door: Door) -> None:
    """A right password passes, and is checked once however often it comes."""
    for _ in range(5):
        assert (200, b"/metrics") == ((got := await door.knock("alice", "wonderland")).status, got.body)
    assert [(b"wonderland", ALICE)] == door.checks.asked
    assert 200 == (await door.knock("bob", "builder", peer="192.0.2.2")).status
    assert [] == door.lines.told


async def test_wrong_password(door: Door) -> None:
    """A wrong password is refused and told of; the application hears nothing."""
    got = await door.knock("alice", "builder")
    assert (401, b"unauthorized\n") == (got.status, got.body)
    assert {
        "content-type": "text/plain; charset=utf-8",
        "content-length": "13",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "www-authenticate": 'Basic realm="late-exporter", charset="UTF-8"',
    } == got.headers
    assert [("request rejected", {"peer": PEER, "status": 401})] == door.lines.told


async def test_wrong_passwords_are_not_remembered(door: Door) -> None:
    """A wrong password is checked each time: what was wrong may be right later."""
    assert [401, 401] == [(await door.knock("alice", "x")).status for _ in range(2)]
    assert 2 == len(door.checks.asked)


@pytest.mark.parametrize("user", ["mallory", "Alice", "alice ", "élise", "a\0b", "x" * 5000])
async def test_unknown_user(door: Door, user: str) -> None:
    """Who has no account costs as much time as the dearest account, and never passes, whatever the password."""
    assert 401 == (await door.knock(user, "builder")).status
    assert [(b"builder", BOB)] == door.checks.asked
    assert 401 == (await door.knock(user, "builder")).status
    assert 2 == len(door.checks.asked)


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Basic",
        b"Basic ",
        b"Basic !!!",
        b"Basic YWxpY2U=",
        b"Basic YWxpY2U6d29uZGVybGFuZA",
        b"Basic YWxpY2U6d29uZGVybGFuZA==\x00",
        b"Basic " + base64.b64encode(b"alice"),
        b"Basic " + base64.b64encode(b"\xff:wonderland"),
        b"Basic " + base64.b64encode(b":wonderland"),
        b"Basic YWxpY2U6\xc3\xa9",
        b"Bearer " + base64.b64encode(b"alice:wonderland"),
        b"Digest username=alice",
        base64.b64encode(b"alice:wonderland"),
        b"alice:wonderland",
        b"\xff\xfe",
        b"Basic " + b"A" * 20_000,
    ],
)
async def test_no_password(door: Door, header: bytes | None) -> None:
    """A header that holds no user and password is refused without a check, and is no attempt."""
    for _ in range(FAILED_LOGIN_RATE.burst + 1):
        got = await door.knock(authorization=header)
        assert (401, True) == (got.status, "www-authenticate" in got.headers)
    assert [] == door.checks.asked
    assert bool(header) == bool(door.lines.told)


@pytest.mark.parametrize("scheme", [b"Basic ", b"basic ", b"BASIC   "])
async def test_scheme(door: Door, scheme: bytes) -> None:
    """The scheme is told by its name, in whichever case."""
    assert 200 == (await door.knock(authorization=scheme + base64.b64encode(b"alice:wonderland"))).status


async def test_password_with_colons(door: Door) -> None:
    """The first colon ends the name; the rest is the password."""
    await door.knock("alice", "a:b:")
    assert [(b"a:b:", ALICE)] == door.checks.asked


async def test_names_and_passwords_are_not_confused(door: Door) -> None:
    """A password that was right for one user is not so for another one."""
    assert 200 == (await door.knock("alice", "wonderland")).status
    assert 401 == (await door.knock("bob", "wonderland")).status
    assert 401 == (await door.knock("alic", "ewonderland")).status


async def test_nothing_is_told_of_a_password(door: Door) -> None:
    """The log names the address, and neither the user nor the password: both may be the password."""
    await door.knock("wonderland", "builder")
    assert "wonderland" not in str(door.lines.told)
    assert "builder" not in str(door.lines.told)


async def test_attempts_are_limited(door: Door) -> None:
    """An address has a number of wrong attempts, and then one now and then; the answer says when."""
    for _ in range(FAILED_LOGIN_RATE.burst):
        assert 401 == (await door.knock("alice", "x")).status
    got = await door.knock("alice", "wonderland")
    assert (429, b"too many requests\n") == (got.status, got.body)
    assert "3" == got.headers["retry-after"]
    assert "www-authenticate" not in got.headers
    assert FAILED_LOGIN_RATE.burst == len(door.checks.asked)

    door.clock.now += 2.5
    got = await door.knock("alice", "x")
    assert (429, "1") == (got.status, got.headers["retry-after"])
    door.clock.now += 0.5
    assert [401, 429] == [(await door.knock("alice", "x")).status for _ in range(2)]
    assert ("request rejected", {"peer": PEER, "status": 429}) == door.lines.told[-1]


async def test_another_address_is_not_limited(door: Door) -> None:
    """Who guesses does not lock out others."""
    for _ in range(FAILED_LOGIN_RATE.burst + 1):
        await door.knock("alice", "x")
    assert 200 == (await door.knock("alice", "wonderland", peer="192.0.2.2")).status


async def test_known_passwords_are_not_limited(door: Door) -> None:
    """Behind one address with somebody who guesses, a password that was right before still passes."""
    assert 200 == (await door.knock("alice", "wonderland")).status
    for _ in range(FAILED_LOGIN_RATE.burst + 1):
        await door.knock("alice", "x")
    assert 429 == (await door.knock("alice", "x")).status
    assert 200 == (await door.knock("alice", "wonderland")).status


async def test_right_password_clears_the_record(door: Door) -> None:
    """Who mistypes and then does not has all attempts again."""
    for _ in range(FAILED_LOGIN_RATE.burst - 1):
        await door.knock("alice", "x")
    assert 200 == (await door.knock("alice", "wonderland")).status
    assert [401] * FAILED_LOGIN_RATE.burst == [
        (await door.knock("alice", "x")).status for _ in range(FAILED_LOGIN_RATE.burst)
    ]


async def test_attempts_without_an_address(door: Door) -> None:
    """Those who come over a path of the file system share one record."""
    for _ in range(FAILED_LOGIN_RATE.burst):
        assert 401 == (await door.knock("alice", "x", peer=None)).status
    assert 429 == (await door.knock("alice", "x", peer=None)).status


async def settled(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)


async def test_few_attempts_wait(door: Door) -> None:
    """While one password is checked a number of others may wait; the next one is sent away, a known one passes."""
    assert 200 == (await door.knock("alice", "wonderland")).status
    door.checks.may_go.clear()
    waiting = [asyncio.ensure_future(door.knock("alice", "x", peer=f"192.0.2.{n}")) for n in range(MAX_PENDING_CHECKS)]
    try:
        await settled(lambda: 2 == len(door.checks.asked))
        got = await door.knock("bob", "builder", peer="198.51.100.1")
        assert (429, "3") == (got.status, got.headers["retry-after"])
        assert 200 == (await door.knock("alice", "wonderland")).status
    finally:
        door.checks.may_go.set()
    assert [401] * MAX_PENDING_CHECKS == [(await one).status for one in waiting]
    assert 200 == (await door.knock("bob", "builder", peer="198.51.100.1")).status


async def test_attempts_at_once_are_counted(door: Door) -> None:
    """Attempts that are made side by side count as much as those one after another."""
    many = [door.knock("alice", f"x{n}") for n in range(MAX_PENDING_CHECKS)]
    statuses = [got.status for got in await asyncio.gather(*many)]
    assert FAILED_LOGIN_RATE.burst == statuses.count(401)
    assert MAX_PENDING_CHECKS - FAILED_LOGIN_RATE.burst == statuses.count(429)


async def test_the_loop_goes_on(door: Door) -> None:
    """While a password is checked the loop is free: checking is done in a thread."""
    door.checks.may_go.clear()
    knocking = asyncio.ensure_future(door.knock("alice", "wonderland"))
    await settled(lambda: bool(door.checks.asked))
    assert not knocking.done()
    door.checks.may_go.set()
    assert 200 == (await knocking).status


async def test_known_passwords_are_bounded() -> None:
    """The passwords that came last are remembered, and no more than that."""
    users = {f"user{n}": b"$2y$04$" + f"{n:053}".encode() for n in range(MAX_CACHED + 1)}
    asked: list[bytes] = []

    def check(password: bytes, _: bytes) -> bool:
        asked.append(password)
        return True

    passwords = PasswordVerifier(monotonic=Clock(), check_password=check)

    async def enter(number: int) -> None:
        header = basic(f"user{number}", str(number)).decode()
        assert 200 == (await passwords.authenticate(users, header, PEER))[0]

    for number in range(MAX_CACHED):
        await enter(number)
    await enter(0)
    assert MAX_CACHED == len(asked)
    await enter(MAX_CACHED)
    await enter(0)
    assert MAX_CACHED + 1 == len(asked)
    await enter(1)
    assert MAX_CACHED + 2 == len(asked)


async def test_addresses_are_bounded(door: Door) -> None:
    """The addresses that tried last are remembered, and no more than that."""
    for _ in range(FAILED_LOGIN_RATE.burst):
        await door.knock("alice", "x")
    assert 429 == (await door.knock("alice", "x")).status
    for number in range(MAX_CACHED):
        await door.knock("alice", "x", peer=f"198.51.100.{number}")
    assert 401 == (await door.knock("alice", "x")).status


async def test_an_address_that_is_refused_is_not_forgotten(door: Door) -> None:
    """Who goes on guessing stays limited while others come and go."""
    for _ in range(FAILED_LOGIN_RATE.burst):
        await door.knock("alice", "x")
    for number in range(MAX_CACHED + 10):
        await door.knock("alice", "x", peer=f"198.51.100.{number}")
        assert 429 == (await door.knock("alice", "x")).status


async def test_changed_hash(door: Door) -> None:
    """A password that was right is checked anew when its hash changes, and a user that is gone does not pass."""
    assert 200 == (await door.knock("alice", "wonderland")).status
    door.config = WebConfig(users={"alice": BOB, "bob": BOB})
    assert 401 == (await door.knock("alice", "wonderland")).status
    door.config = WebConfig(users={"bob": BOB})
    assert 401 == (await door.knock("alice", "wonderland")).status
    door.config = WebConfig(users=USERS)
    assert 200 == (await door.knock("alice", "wonderland")).status


async def test_renamed_user(door: Door) -> None:
    """The old name does not pass any more, even where the new one has the same hash, and so the same password."""
    assert 200 == (await door.knock("bob", "builder")).status
    door.config = WebConfig(users={"robert": BOB})
    assert 401 == (await door.knock("bob", "builder")).status
    assert 200 == (await door.knock("robert", "builder")).status


@pytest.mark.parametrize(
    ("status", "path"),
    [
        (200, "/-/healthy"),
        (401, "/-/healthy/"),
        (401, "/-/healthy2"),
        (401, "/-/Healthy"),
        (401, "//-/healthy"),
        (401, "/-/healthy/../../metrics"),
        (401, "/-/healthy/..;/metrics"),
        (401, "/./-/healthy"),
        (401, "/-/healthy?"),
        (401, "/-/healthy\0"),
        (401, "/-/%68ealthy"),
        (401, "http://x/-/healthy"),
        (401, "/metrics"),
        (401, "/metrics#/-/healthy"),
        (401, ""),
        (401, "\udcff"),
    ],
)
async def test_open_paths(status: int, path: str) -> None:
    """A path is open where it is exactly one that the file names, as the application sees it."""
    door = Door(users=USERS, open_paths=frozenset({"/-/healthy", "/-/ready"}))
    assert status == (await door.knock(path=path)).status
    assert 200 == (await door.knock("alice", "wonderland", path=path)).status


async def test_open_paths_do_not_check() -> None:
    """On an open path a password is neither checked nor counted."""
    door = Door(users=USERS, open_paths=frozenset({"/-/healthy"}))
    for _ in range(FAILED_LOGIN_RATE.burst + 1):
        assert 200 == (await door.knock("alice", "x", path="/-/healthy")).status
    assert [] == door.checks.asked


@pytest.mark.parametrize(
    ("status", "path"),
    [
        (200, "/late/hook"),
        (200, "/late/hook/acme"),
        (200, "/late/hook/"),
        (401, "/late/hook/acme/metrics"),
        (401, "/late/hooks"),
        (401, "/late"),
        (401, "/late/hook/../metrics"),
        (401, "/x/late/hook"),
        (401, "//late/hook"),
        (401, "/metrics"),
    ],
)
async def test_webhooks_need_no_password(status: int, path: str) -> None:
    """The sender of webhooks cannot log in: their path and one step below is open, and no other."""
    assert status == (await Door(users=USERS).knock(path=path)).status


async def test_webhooks_are_limited_too() -> None:
    """The rate limit of the file holds for webhooks as for all others."""
    door = Door(users=USERS, rate=RequestRate(interval=10.0, burst=1))
    assert [200, 429] == [(await door.knock(path="/late/hook")).status for _ in range(2)]


HEADERS = (("X-Frame-Options", "sameorigin"), ("Strict-Transport-Security", "max-age=1"))


async def test_headers() -> None:
    """The headers of the file take the place of the application's own of the same name, and leave the others."""
    door = Door(headers=HEADERS)
    got = await door.knock()
    assert {
        "content-type": "text/plain",
        "content-security-policy": "old",
        "x-frame-options": "sameorigin",
        "strict-transport-security": "max-age=1",
    } == got.headers
    assert b"/metrics" == got.body


async def test_headers_of_refusals() -> None:
    """Refusals carry them as well."""
    door = Door(headers=(*HEADERS, ("X-Content-Type-Options", "nosniff")), users=USERS, rate=RequestRate(60.0, 1))
    for status in (401, 429):
        got = await door.knock()
        assert (status, "sameorigin", "max-age=1") == (
            got.status,
            got.headers["x-frame-options"],
            got.headers["strict-transport-security"],
        )


async def test_rate_limit() -> None:
    """So many requests pass at once, whoever sends them, and then one after each interval."""
    door = Door(rate=RequestRate(2.0, 3))
    assert [200] * 3 == [(await door.knock(peer=f"192.0.2.{n}")).status for n in range(3)]
    got = await door.knock()
    assert (429, b"too many requests\n", "2") == (got.status, got.body, got.headers["retry-after"])
    assert "www-authenticate" not in got.headers

    door.clock.now += 1.9
    assert 429 == (await door.knock()).status
    door.clock.now += 0.1
    assert [200, 429] == [(await door.knock()).status for _ in range(2)]
    door.clock.now += 3600.0
    assert [200] * 3 + [429] == [(await door.knock()).status for _ in range(4)]


async def test_refused_requests_take_no_token() -> None:
    """Who is refused does not push the next pass further away."""
    door = Door(rate=RequestRate(2.0, 1))
    await door.knock()
    for _ in range(10):
        door.clock.now += 0.15
        assert 429 == (await door.knock()).status
    door.clock.now += 0.6
    assert 200 == (await door.knock()).status


async def test_rate_limit_comes_before_passwords() -> None:
    """Requests past the rate are refused without a check, on open paths as well."""
    door = Door(users=USERS, rate=RequestRate(2.0, 1), open_paths=frozenset({"/-/healthy"}))
    assert 401 == (await door.knock("alice", "x")).status
    assert 429 == (await door.knock("alice", "wonderland")).status
    assert 429 == (await door.knock(path="/-/healthy")).status
    assert 1 == len(door.checks.asked)


async def test_changed_rate() -> None:
    """Another rate counts at once; the same one goes on."""
    door = Door(rate=RequestRate(60.0, 1))
    assert [200, 429] == [(await door.knock()).status for _ in range(2)]
    door.config = WebConfig(rate=RequestRate(60.0, 1))
    assert 429 == (await door.knock()).status
    door.config = WebConfig(rate=RequestRate(60.0, 2))
    assert [200, 200, 429] == [(await door.knock()).status for _ in range(3)]
    door.config = WebConfig()
    assert 200 == (await door.knock()).status
    door.config = WebConfig(rate=RequestRate(60.0, 2))
    assert 429 == (await door.knock()).status


def test_bucket() -> None:
    """A bucket tells how long it takes until there is something in it."""
    clock = Clock()
    bucket = TokenBucket(RequestRate(10.0, 2), clock)
    assert 0.0 == bucket.seconds_until_token()
    bucket.take()
    assert 0.0 == bucket.seconds_until_token()
    bucket.take()
    assert 10.0 == bucket.seconds_until_token()
    clock.now += 4.0
    assert 6.0 == bucket.seconds_until_token()


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_other_scopes(kind: str) -> None:
    """What is no request passes untouched: the application closes or acknowledges it."""
    door = Door(users=USERS, rate=RequestRate(60.0, 1), headers=HEADERS)
    sent: list[Message] = []

    async def receive() -> Message:
        pytest.fail("nothing is read")

    async def send(message: Message) -> None:
        sent.append(message)

    for _ in range(3):
        await door.gate({"type": kind, "path": "/metrics", "headers": []}, receive, send)
    assert [{"type": f"{kind}.seen"}] * 3 == sent


@pytest.mark.parametrize("status", [401, 429])
async def test_head(status: int) -> None:
    """A refusal of HEAD has the headers of one of GET, and no body."""
    rate = RequestRate(60.0, 1) if status == 429 else None
    door = Door(users=USERS, rate=rate)
    if rate:
        await door.knock()
    got, head = await door.knock(), await door.knock(method="HEAD")
    assert (status, got.headers, b"") == (head.status, head.headers, head.body)
    assert str(len(got.body)) == head.headers["content-length"]


def hashed(password: bytes) -> bytes:
    """A real hash, the cheapest there is."""
    return bcrypt.hashpw(password, bcrypt.gensalt(4))


@pytest.mark.parametrize(
    ("password", "right"),
    [
        ("pass word:ö€", "pass word:ö€"),
        ("x" * 72, "x" * 72),
        ("x" * 100, "x" * 100),
        ("ö" * 60, "ö" * 60),
        ("", ""),
    ],
)
async def test_bcrypt(password: str, right: str) -> None:
    """Real hashes are verified, however they are marked; bcrypt looks at 72 bytes of a password."""
    made = hashed(right.encode()[:72])
    for mark in (b"$2a$", b"$2b$", b"$2y$"):
        users = {"alice": mark + made[4:]}
        passwords = PasswordVerifier()
        assert (200, 0.0) == await passwords.authenticate(users, basic("alice", password).decode(), PEER)
        assert (401, 0.0) == await passwords.authenticate(users, basic("alice", f"not {password}").decode(), PEER)


@pytest.mark.parametrize("password", ["wonder\0land", "\0", "wonderland\0", "x" * 10_000])
async def test_bcrypt_refuses(password: str) -> None:
    """What bcrypt would cut, or does not take, is a wrong password and no error."""
    passwords = PasswordVerifier()
    assert (401, 0.0) == await passwords.authenticate(
        {"alice": hashed(b"wonder")}, basic("alice", password).decode(), PEER
    )


async def test_check_that_refuses() -> None:
    """A hash that bcrypt does not take lets nobody in, and is no error."""

    def check(_: bytes, __: bytes) -> bool:
        raise ValueError("Invalid salt")

    assert (401, 0.0) == await PasswordVerifier(check_password=check).authenticate(
        USERS, basic("alice", "x").decode(), PEER
    )

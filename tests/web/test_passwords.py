from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Mapping

import bcrypt
import pytest

from late_exporter.web.passwords import (
    COUNTERS,
    FAILED_LOGIN_RATE,
    MAX_CACHED,
    MAX_NETWORKS,
    MAX_PENDING_CHECKS,
    NetworkLimits,
    PasswordVerifier,
    RepetitionCounter,
    network_of,
)
from tests.support.clock import LoopClock, VirtualClock

ALICE = b"$2y$08$" + b"a" * 53
BOB = b"$2y$11$" + b"b" * 53
USERS: Mapping[str, bytes] = {"alice": ALICE, "bob": BOB}
CORRECT: Mapping[bytes, bytes] = {ALICE: b"wonderland", BOB: b"builder"}
PROMETHEUS = "192.0.2.1"


class FakeBcrypt:
    """Replacement of bcrypt that records its calls, and the time that they would take."""

    def __init__(self, clock: VirtualClock, seconds: float = 0.0) -> None:
        self.calls: list[tuple[bytes, bytes]] = []
        self.released = threading.Event()
        self.released.set()
        self._clock = clock
        self._seconds = seconds

    def __call__(self, password: bytes, password_hash: bytes) -> bool:
        self.calls.append((password, password_hash))
        assert self.released.wait(30)
        self._clock.advance(self._seconds)
        return CORRECT.get(password_hash) == password

    @property
    def work(self) -> int:
        """Return the rounds of bcrypt so far."""
        return sum(1 << int(password_hash[4:6]) for _, password_hash in self.calls)


class Harness:
    """A verifier with its clock and its bcrypt."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.clock = LoopClock()
        self.bcrypt = FakeBcrypt(self.clock, seconds)
        self.verifier = PasswordVerifier(
            monotonic=self.clock.monotonic, sleep=self.clock.sleep, check_password=self.bcrypt
        )

    async def status(self, name: str, password: str, peer: str = PROMETHEUS) -> int:
        """Return the status of an attempt."""
        status, retry_after = await self.verifier.authenticate(USERS, name, password.encode(), peer)
        assert (status == 429) == bool(retry_after)
        return int(status)

    def start(self, name: str, password: str, peer: str = PROMETHEUS) -> asyncio.Task[int]:
        """Start an attempt."""
        return asyncio.ensure_future(self.status(name, password, peer))


@pytest.fixture
def harness() -> Harness:
    """Return a verifier."""
    return Harness()


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


async def test_attempts_of_a_network_are_limited(harness: Harness) -> None:
    """An address has a burst of wrong attempts; each further one waits until the rate allows it."""
    for number in range(FAILED_LOGIN_RATE.burst):
        assert 401 == await harness.status("alice", f"x{number}")
    assert 0.0 == harness.clock.elapsed
    for number in range(1, 6):
        assert 401 == await harness.status("alice", f"y{number}")
        assert 0.0 <= harness.clock.elapsed - FAILED_LOGIN_RATE.interval * number < 0.5
    assert 401 == await harness.status("alice", "z", "192.0.2.2")
    assert harness.clock.elapsed < FAILED_LOGIN_RATE.interval * 5 + 0.5


async def guess(harness: Harness, addresses: list[str], stopped: asyncio.Event) -> None:
    """Guess one password after the other, each from another address."""
    for number, address in zip(itertools.count(), itertools.cycle(addresses)):
        if stopped.is_set():
            return
        await harness.status("alice", f"{id(addresses)}-{number}", address)
        await asyncio.sleep(0)


@pytest.mark.parametrize("addresses", [[PROMETHEUS], [f"198.51.100.{n}" for n in range(200)]])
@pytest.mark.parametrize("guessers", [2, 24, 200])
async def test_guessing_keeps_a_correct_password_out_at_most_once(addresses: list[str], guessers: int) -> None:
    """A password that was never used before gets in while others guess, from its own address or from many."""
    harness, stopped = Harness(seconds=0.05), asyncio.Event()
    tasks = [asyncio.ensure_future(guess(harness, list(addresses), stopped)) for _ in range(guessers)]
    await wait_until(lambda: len(harness.bcrypt.calls) > FAILED_LOGIN_RATE.burst)
    statuses = [await harness.status("alice", "wonderland")]
    while statuses[-1] != 200 and len(statuses) < 3:
        await asyncio.sleep(0)
        statuses.append(await harness.status("alice", "wonderland"))
    assert 200 == await harness.status("alice", "wonderland")
    stopped.set()
    await asyncio.gather(*tasks)
    assert 200 == statuses[-1], statuses


async def test_a_repeated_attempt_comes_first(harness: Harness) -> None:
    """An attempt that was made before is checked before new guesses, and is not dropped for them."""
    harness.bcrypt.released.clear()
    # There is room for one more, because an attempt that is made for the first time may be dropped by chance.
    first = [harness.start("alice", f"x{n}") for n in range(MAX_PENDING_CHECKS - 1)]
    await wait_until(lambda: bool(harness.bcrypt.calls))
    scrapes = [harness.start("alice", "wonderland") for _ in range(2)]
    flood = [harness.start("alice", f"y{n}") for n in range(500)]
    await wait_until(lambda: sum(task.done() for task in flood) > 300)
    assert not any(scrape.done() for scrape in scrapes)
    harness.bcrypt.released.set()
    assert [200, 200] == await asyncio.gather(*scrapes)
    await asyncio.gather(*first, *flood)
    passwords = [password for password, password_hash in harness.bcrypt.calls if password_hash == ALICE]
    # Some guesses may share a counter, which makes them look repeated.
    assert passwords.index(b"wonderland") < MAX_PENDING_CHECKS / 4


async def test_networks_take_turns(harness: Harness) -> None:
    """A network with one attempt does not wait for all attempts of another one."""
    harness.bcrypt.released.clear()
    flood = [harness.start("alice", f"x{n}", "198.51.100.1") for n in range(9)]
    await wait_until(lambda: bool(harness.bcrypt.calls))
    scrape = harness.start("bob", "builder")
    await asyncio.sleep(0)
    harness.bcrypt.released.set()
    assert 200 == await scrape
    await asyncio.gather(*flood)
    hashes = [password_hash for _, password_hash in harness.bcrypt.calls]
    assert 2 == hashes[: hashes.index(BOB)].count(ALICE)


async def test_the_largest_queue_loses_an_attempt(harness: Harness) -> None:
    """If too many attempts wait, a network with few of them loses none."""
    harness.bcrypt.released.clear()
    scrape = harness.start("bob", "builder")
    flood = [harness.start("alice", f"x{n}", "198.51.100.1") for n in range(10 * MAX_PENDING_CHECKS)]
    await wait_until(lambda: sum(task.done() for task in flood) == 9 * MAX_PENDING_CHECKS + 1)
    late = harness.start("bob", "wrong", "203.0.113.1")
    await wait_until(lambda: sum(task.done() for task in flood) == 9 * MAX_PENDING_CHECKS + 2)
    harness.bcrypt.released.set()
    assert (200, 401) == (await scrape, await late)
    statuses = await asyncio.gather(*flood)
    assert 9 * MAX_PENDING_CHECKS + 2 == statuses.count(429)


async def test_requests_that_wait_for_the_same_check_are_bounded(harness: Harness) -> None:
    """The same attempt is checked once, and only a limited number of requests waits for it."""
    harness.bcrypt.released.clear()
    tasks = [harness.start("alice", "x") for _ in range(10 * MAX_PENDING_CHECKS)]
    await wait_until(lambda: sum(task.done() for task in tasks) == 9 * MAX_PENDING_CHECKS - 1)
    harness.bcrypt.released.set()
    statuses = await asyncio.gather(*tasks)
    assert MAX_PENDING_CHECKS + 1 == statuses.count(401)
    assert 1 == sum(password_hash == ALICE for _, password_hash in harness.bcrypt.calls)


async def test_a_client_that_leaves_is_still_checked(harness: Harness) -> None:
    """The next request with a correct password gets in at once, even if the first one did not wait for its check."""
    harness.bcrypt.released.clear()
    scrape = harness.start("alice", "wonderland")
    await wait_until(lambda: bool(harness.bcrypt.calls))
    scrape.cancel()
    harness.bcrypt.released.set()
    assert 200 == await harness.status("alice", "wonderland")
    assert [(b"wonderland", ALICE)] == harness.bcrypt.calls


@pytest.mark.parametrize("name", ["alice", "bob", "mallory", "Alice", "", "élise", "a\0b", "x" * 5000])
async def test_a_wrong_password_costs_the_same_for_every_name(harness: Harness, name: str) -> None:
    """A known user takes as long as an unknown one, whatever the costs of the hashes are."""
    assert 401 == await harness.status(name, "wrong")
    assert 1 << 11 == harness.bcrypt.work
    assert 401 == await harness.status(name, "wrong")
    assert 1 << 12 == harness.bcrypt.work


async def test_no_thread_for_a_check(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system allows no more threads, the attempt gets 503, and the next one is checked."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert 503 == await harness.status("alice", "wonderland")
    assert 200 == await harness.status("alice", "wonderland")


async def test_a_failed_check_blocks_no_one() -> None:
    """An unexpected error of a check ends the attempt, and the next one with the same password is checked again."""

    def fail(_: bytes, __: bytes) -> bool:
        raise RuntimeError("broken")

    verifier = PasswordVerifier(check_password=fail)
    async with asyncio.timeout(30):
        for _ in range(2):
            status, _ = await verifier.authenticate(USERS, "alice", b"wonderland", PROMETHEUS)
            assert 503 == status


def test_hashes_of_no_user_are_hashes() -> None:
    """The work of bcrypt is done for the hashes that stand in for unknown users, too."""
    assert not bcrypt.checkpw(b"x", b"$2b$04$" + b"." * 53)


async def test_cached_passwords_are_not_limited(harness: Harness) -> None:
    """A password that was correct is accepted at once from any address, whatever others do."""
    assert 200 == await harness.status("alice", "wonderland")
    harness.bcrypt.released.clear()
    flood = [harness.start("alice", f"x{n}") for n in range(MAX_PENDING_CHECKS + 1)]
    await asyncio.sleep(0)
    assert [200, 200] == [await harness.status("alice", "wonderland", peer) for peer in (PROMETHEUS, "192.0.2.9")]
    harness.bcrypt.released.set()
    await asyncio.gather(*flood)


async def test_correct_password_resets_attempts(harness: Harness) -> None:
    """A correct password resets the attempts of its address."""
    for number in range(FAILED_LOGIN_RATE.burst - 1):
        await harness.status("alice", f"x{number}")
    assert 200 == await harness.status("alice", "wonderland")
    for number in range(FAILED_LOGIN_RATE.burst):
        await harness.status("alice", f"x{number}")
    assert 0.0 == harness.clock.elapsed


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:0:0:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_networks(peer: str, network: str) -> None:
    """An IPv4 address is a network, and so are the 2**64 IPv6 addresses that anyone gets; a Unix socket is another."""
    assert network == network_of(peer)


def test_number_of_networks_is_bounded() -> None:
    """Only the networks that tried a wrong password most recently are limited."""
    limits = NetworkLimits(VirtualClock().monotonic)
    for _ in range(FAILED_LOGIN_RATE.burst):
        limits.take("first")
    for number in range(MAX_NETWORKS - 1):
        limits.take(str(number))
    assert not limits.is_free("first")
    limits.take("one more")
    assert limits.is_free("first")


def test_repetitions_fade() -> None:
    """Old repetitions lose their weight, so that the counters never fill up, whatever is tried."""
    repetitions = RepetitionCounter()
    for _ in range(300):
        repetitions.add(b"a" * 32)
    assert 255 == repetitions.count(b"a" * 32)
    for number in range(COUNTERS // 2):
        repetitions.add(number.to_bytes(4) + b"x" * 28)
    assert 127 <= repetitions.count(b"a" * 32) <= 128
    assert 0 == repetitions.count(b"b" * 32)


async def test_password_cache_is_bounded() -> None:
    """Only the most recently used passwords are cached."""
    users = {f"user{n}": b"$2y$04$" + f"{n:053}".encode() for n in range(MAX_CACHED + 1)}
    calls: list[bytes] = []

    def check(password: bytes, _: bytes) -> bool:
        calls.append(password)
        return True

    passwords = PasswordVerifier(check_password=check)

    async def enter(number: int) -> None:
        assert 200 == (await passwords.authenticate(users, f"user{number}", b"x", PROMETHEUS))[0]

    for number in range(MAX_CACHED):
        await enter(number)
    await enter(0)
    assert MAX_CACHED == len(calls)
    await enter(MAX_CACHED)
    await enter(0)
    assert MAX_CACHED + 1 == len(calls)
    await enter(1)
    assert MAX_CACHED + 2 == len(calls)


def make_hash(password: bytes) -> bytes:
    """Return a real hash of the lowest cost."""
    return bcrypt.hashpw(password, bcrypt.gensalt(4))


@pytest.mark.parametrize(
    ("password", "correct"),
    [
        ("pass word:ö€", "pass word:ö€"),
        ("x" * 72, "x" * 72),
        ("x" * 100, "x" * 100),
        ("ö" * 60, "ö" * 60),
        ("", ""),
    ],
)
async def test_bcrypt(password: str, correct: str) -> None:
    """Real hashes of every prefix are verified by the first 72 bytes of the password."""
    hash_text = make_hash(correct.encode()[:72])
    for prefix in (b"$2a$", b"$2b$", b"$2y$"):
        users = {"alice": prefix + hash_text[4:]}
        passwords = PasswordVerifier()
        assert (200, 0.0) == await passwords.authenticate(users, "alice", password.encode(), PROMETHEUS)
        assert (401, 0.0) == await passwords.authenticate(users, "alice", f"not {password}".encode(), PROMETHEUS)


@pytest.mark.parametrize("password", ["wonder\0land", "\0", "wonderland\0", "x" * 10_000])
async def test_passwords_that_bcrypt_rejects(password: str) -> None:
    """A password that bcrypt rejects or would truncate is a wrong password."""
    users = {"alice": make_hash(b"wonder")}
    assert (401, 0.0) == await PasswordVerifier().authenticate(users, "alice", password.encode(), PROMETHEUS)


async def test_hashes_that_bcrypt_rejects() -> None:
    """A hash that bcrypt rejects accepts no password."""

    def check(_: bytes, __: bytes) -> bool:
        raise ValueError("Invalid salt")

    passwords = PasswordVerifier(check_password=check)
    assert (401, 0.0) == await passwords.authenticate(USERS, "alice", b"x", PROMETHEUS)

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

import bcrypt
import pytest

from late_exporter.web.access import AccessError
from late_exporter.web.passwords import (
    FAILED_LOGIN_RATE,
    MAX_NETWORKS,
    MAX_PENDING_CHECKS,
    MAX_PENDING_NETWORKS,
    PasswordVerifier,
    network_of,
)
from tests.support.clock import VirtualClock
from tests.web.requests import wait_until

ALICE = b"$2y$08$" + b"a" * 53
BOB = b"$2y$11$" + b"b" * 53
USERS: Mapping[str, bytes] = {"alice": ALICE, "bob": BOB}
CORRECT: Mapping[bytes, bytes] = {ALICE: b"wonderland", BOB: b"builder"}
PROMETHEUS = "192.0.2.1"


class FakeBcrypt:
    """Replacement of bcrypt that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, bytes]] = []
        self.released = threading.Event()
        self.released.set()

    def __call__(self, password: bytes, password_hash: bytes) -> bool:
        self.calls.append((password, password_hash))
        assert self.released.wait(30)
        return CORRECT.get(password_hash) == password

    @property
    def work(self) -> int:
        """Return the rounds of bcrypt so far."""
        return sum(1 << int(password_hash[4:6]) for _, password_hash in self.calls)


async def status_of(
    verifier: PasswordVerifier, users: Mapping[str, bytes], name: str, password: str, peer: str = PROMETHEUS
) -> int:
    """Return the status of an attempt."""
    try:
        await verifier.authenticate(users, name, password.encode(), peer)
    except AccessError as exc:
        return int(exc.status)
    return 200


class Harness:
    """A verifier with its clock and its bcrypt."""

    def __init__(self) -> None:
        self.clock, self.bcrypt = VirtualClock(), FakeBcrypt()
        self.verifier = PasswordVerifier(monotonic=self.clock.monotonic, check_password=self.bcrypt)

    async def status(self, name: str, password: str, peer: str = PROMETHEUS) -> int:
        """Return the status of an attempt."""
        return await status_of(self.verifier, USERS, name, password, peer)

    def start(self, name: str, password: str, peer: str = PROMETHEUS) -> asyncio.Task[int]:
        """Start an attempt."""
        return asyncio.ensure_future(self.status(name, password, peer))


@pytest.fixture
def harness() -> Harness:
    """Return a verifier."""
    return Harness()


async def test_attempts_of_a_network_are_limited(harness: Harness) -> None:
    """An address has a burst of wrong attempts, then one per interval; others, and known passwords, are not limited."""
    assert await harness.status("bob", "builder") == 200
    for number in range(FAILED_LOGIN_RATE.burst):
        assert await harness.status("alice", f"x{number}") == 401
    for _ in range(2):
        checks = len(harness.bcrypt.calls)
        assert [await harness.status("alice", password) for password in ("y", "wonderland")] == [429, 429]
        assert checks == len(harness.bcrypt.calls)
        assert await harness.status("bob", "builder") == 200
        harness.clock.advance(FAILED_LOGIN_RATE.interval)
        assert await harness.status("alice", "z") == 401
    assert await harness.status("alice", "wonderland", "192.0.2.2") == 200
    assert await harness.status("alice", "wonderland") == 200


@pytest.mark.parametrize("is_cached", [True, False])
async def test_guessing_keeps_no_correct_password_out(harness: Harness, *, is_cached: bool) -> None:
    """A password gets in at its first attempt while many addresses guess, whether it was used before or not."""
    if is_cached:
        assert await harness.status("alice", "wonderland") == 200
    harness.bcrypt.released.clear()
    guesses = [
        harness.start("alice", f"x{number}", f"198.51.100.{number % 200}") for number in range(200 * MAX_PENDING_CHECKS)
    ]
    await wait_until(lambda: bool(harness.bcrypt.calls))
    scrape = harness.start("alice", "wonderland")
    if is_cached:
        assert await scrape == 200
    harness.bcrypt.released.set()
    assert await scrape == 200
    assert set(await asyncio.gather(*guesses)) == {401}


async def test_one_password_is_checked_at_a_time(harness: Harness) -> None:
    """A check does not start before the one before it is complete."""
    harness.bcrypt.released.clear()
    tasks = [harness.start("alice", f"x{number}", f"192.0.2.{number}") for number in range(10)]
    await wait_until(lambda: bool(harness.bcrypt.calls))
    assert len(harness.bcrypt.calls) == 1
    harness.bcrypt.released.set()
    await asyncio.gather(*tasks)


async def test_the_same_password_is_checked_once(harness: Harness) -> None:
    """A request that waits while the same password turns out to be correct needs no check."""
    tasks = [harness.start("alice", "wonderland", f"192.0.2.{number}") for number in range(10)]
    assert await asyncio.gather(*tasks) == [200] * 10
    assert harness.bcrypt.calls == [(b"wonderland", ALICE)]


async def test_waiting_passwords_are_bounded(harness: Harness) -> None:
    """A network has few passwords that wait, and so has a limited number of networks; others are told to retry."""
    harness.bcrypt.released.clear()
    peers = [f"192.0.{number >> 8}.{number & 255}" for number in range(MAX_PENDING_NETWORKS)]
    waiting = [harness.start("alice", f"x{number}", peers[0]) for number in range(MAX_PENDING_CHECKS)]
    waiting += [harness.start("alice", "x", peer) for peer in peers[1:]]
    await wait_until(lambda: bool(harness.bcrypt.calls))
    assert [await harness.status("alice", "y", peer) for peer in (peers[0], "203.0.113.1")] == [429, 429]
    harness.bcrypt.released.set()
    assert set(await asyncio.gather(*waiting)) == {401}
    assert await harness.status("alice", "wonderland") == 200


async def test_an_unknown_user_costs_as_much_as_the_most_expensive_hash(harness: Harness) -> None:
    """The time of a rejection does not tell which users exist, if all hashes have the same cost."""
    for name in ("bob", "nobody", "x" * 5000):
        before = harness.bcrypt.work
        assert await harness.status(name, "wrong") == 401
        assert harness.bcrypt.work - before == 1 << 11


async def test_the_hash_of_no_user_opens_nothing() -> None:
    """An unknown user is rejected even if the password matched the hash that stands in."""
    passwords = PasswordVerifier(check_password=lambda *_: True)
    assert await status_of(passwords, USERS, "nobody", "x") == 401


async def test_no_thread_for_a_check(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system allows no more threads, the attempt gets 503, and the next one is checked."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert await harness.status("alice", "wonderland") == 503
    assert await harness.status("alice", "wonderland") == 200


def test_hashes_of_no_user_are_hashes() -> None:
    """The work of bcrypt is done for the hashes that stand in for unknown users, too."""
    assert not bcrypt.checkpw(b"x", b"$2b$04$" + b"." * 53)


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("", ""),
    ],
)
def test_networks(peer: str, network: str) -> None:
    """An IPv4 address is a network, and so are the 2**64 IPv6 addresses that anyone gets; a Unix socket is another."""
    assert network == network_of(peer)


async def test_number_of_networks_is_bounded(harness: Harness) -> None:
    """Only the networks that tried a wrong password most recently are limited."""
    for _ in range(FAILED_LOGIN_RATE.burst):
        assert await harness.status("alice", "x", "first") == 401
    for number in range(MAX_NETWORKS - 1):
        assert await harness.status("alice", "x", str(number)) == 401
    assert await harness.status("alice", "x", "first") == 429
    for number in range(MAX_NETWORKS):
        assert await harness.status("alice", "x", str(number)) == 401
    assert await harness.status("alice", "x", "first") == 401


async def test_password_cache_is_bounded() -> None:
    """A user cannot fill the cache with variants of a password, of which bcrypt uses only the beginning."""
    calls: list[bytes] = []

    def check(password: bytes, _: bytes) -> bool:
        calls.append(password)
        return True

    passwords = PasswordVerifier(check_password=check)
    for number in range(100):
        assert await status_of(passwords, USERS, "alice", "x" * 72 + str(number)) == 200
    assert len(calls) == 1


def make_hash(password: bytes) -> bytes:
    """Return a real hash of the lowest cost."""
    return bcrypt.hashpw(password, bcrypt.gensalt(4))


@pytest.mark.parametrize("password", ["pass word:ö€", "x" * 100, "ö" * 60])
async def test_bcrypt(password: str) -> None:
    """Real hashes of every prefix are verified by the first 72 bytes of the password."""
    hash_text = make_hash(password.encode()[:72])
    for prefix in (b"$2a$", b"$2b$", b"$2y$"):
        users = {"alice": prefix + hash_text[4:]}
        passwords = PasswordVerifier()
        assert await status_of(passwords, users, "alice", password) == 200
        assert await status_of(passwords, users, "alice", f"not {password}") == 401


@pytest.mark.parametrize("password", ["wonder\0land", "\0", "wonderland\0", "x" * 10_000])
async def test_passwords_that_bcrypt_rejects(password: str) -> None:
    """A password that bcrypt rejects or would truncate is a wrong password."""
    users = {"alice": make_hash(b"wonder")}
    assert await status_of(PasswordVerifier(), users, "alice", password) == 401


async def test_hashes_that_bcrypt_rejects() -> None:
    """A hash that bcrypt rejects accepts no password."""
    assert await status_of(PasswordVerifier(), {"alice": b"$2b$04$" + b"!" * 53}, "alice", "x") == 401

"""Verify passwords against bcrypt hashes, so that guessing costs little and keeps no correct password out.

At most one hash is computed at a time. Attempts wait for it in a queue per client network; the networks take turns, and
each may try wrong passwords at a limited rate only. If too many attempts wait, the largest queue loses one. Within a
queue the attempt that was made most often comes first: programs repeat their password, guessers do not.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from late_exporter.concurrency import DaemonThreadExecutor
from late_exporter.config.web import RequestRate
from late_exporter.web.rate import TokenBucket

FAILED_LOGIN_RATE = RequestRate(interval=3.0, burst=10)
"""Rate at which a network may try wrong passwords."""

MAX_PENDING_CHECKS = 64
"""Maximum number of passwords that wait for their check, and of requests that wait for the check of another one."""

MAX_CACHED = 100
"""Maximum number of cached passwords."""

MAX_NETWORKS = 1000
"""Maximum number of networks whose failed attempts are remembered."""

BCRYPT_MAX_BYTES = 72
"""bcrypt uses only the first bytes of a password."""

COUNTERS = 1 << 18
"""Number of counters of repeated attempts, one byte each; unequal attempts rarely share one."""

PAUSE = 0.1
"""Seconds between two looks for a network that may try a password again."""

HALVES = bytes(count // 2 for count in range(256))
DUMMY_DIGEST = b"." * 53
"""Salt and digest of a hash that no password has."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


@dataclass(eq=False, slots=True)
class _Attempt:
    """A password that waits for its check, and the result for which requests wait.

    Args:
        key: Keyed digest of name, hash and password.
        password_hash: Hash of the user; None if the user is unknown.
        max_cost: Cost of the most expensive hash of all users, as a power of two.
    """

    key: bytes
    password: bytes
    password_hash: bytes | None
    max_cost: int
    result: asyncio.Future[HTTPStatus]


def _check_bcrypt(password: bytes, password_hash: bytes) -> bool:
    import bcrypt  # noqa: PLC0415 - not needed without users

    return bcrypt.checkpw(password, password_hash)


class PasswordVerifier:
    """Verify passwords in a thread, with a cache of correct passwords."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        check_password: Callable[[bytes, bytes], bool] = _check_bcrypt,
    ) -> None:
        self._sleep = sleep
        self._check_password = check_password
        self._secret = secrets.token_bytes(32)
        self._correct_passwords: OrderedDict[bytes, None] = OrderedDict()
        self._limits = NetworkLimits(monotonic)
        self._repetitions = RepetitionCounter()
        self._attempts: dict[bytes, _Attempt] = {}
        self._queues: dict[str, list[_Attempt]] = {}  # by network, in the order of their turns
        self._joined = 0
        self._worker: asyncio.Task[None] | None = None

    async def authenticate(
        self, users: Mapping[str, bytes], name: str, password: bytes, peer: str
    ) -> tuple[HTTPStatus, float]:
        """Return OK, or the status of the rejection and the seconds after which to retry.

        Args:
            users: Password hash of each user.
            name: Name of the user, who may be unknown.
            password: Password of the user.
            peer: Address of the client.
        """
        password_hash = users.get(name)
        # A keyed digest, so that no password stays in memory.
        parts = (name.encode(), password_hash or b"", password)
        key = hmac.digest(self._secret, b"\0".join(parts), "sha256")
        if key in self._correct_passwords:
            self._correct_passwords.move_to_end(key)
            return HTTPStatus.OK, 0.0
        self._repetitions.add(key)
        attempt = self._attempts.get(key)
        if attempt is None:
            max_cost = max(map(_cost, users.values()))
            result = asyncio.get_running_loop().create_future()
            attempt = _Attempt(key, password[:BCRYPT_MAX_BYTES], password_hash, max_cost, result)
            self._add(attempt, network_of(peer))
            status = await asyncio.shield(result)
        elif self._joined < MAX_PENDING_CHECKS:
            self._joined += 1
            try:
                status = await asyncio.shield(attempt.result)
            finally:
                self._joined -= 1
        else:
            status = HTTPStatus.TOO_MANY_REQUESTS
        return status, FAILED_LOGIN_RATE.interval if status == HTTPStatus.TOO_MANY_REQUESTS else 0.0

    def _add(self, attempt: _Attempt, network: str) -> None:
        self._attempts[attempt.key] = attempt
        self._queues.setdefault(network, []).append(attempt)
        if len(self._attempts) > MAX_PENDING_CHECKS:
            self._drop_one()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())

    def _drop_one(self) -> None:
        """Reject one of the least repeated attempts of the largest queue, chosen at random."""
        largest = max(map(len, self._queues.values()))
        candidates = [
            (self._repetitions.count(attempt.key), network, attempt)
            for network, queue in self._queues.items()
            if len(queue) == largest
            for attempt in queue
        ]
        fewest = min(count for count, _, _ in candidates)
        _, network, attempt = secrets.choice([each for each in candidates if each[0] == fewest])
        self._remove(network, attempt)
        self._finish(attempt, HTTPStatus.TOO_MANY_REQUESTS)

    def _remove(self, network: str, attempt: _Attempt) -> None:
        """Remove an attempt from its queue, and give the next turn to the other networks."""
        queue = self._queues.pop(network)
        queue.remove(attempt)
        if queue:
            self._queues[network] = queue

    def _finish(self, attempt: _Attempt, status: HTTPStatus) -> None:
        del self._attempts[attempt.key]
        attempt.result.set_result(status)

    async def _work(self) -> None:
        """Check the attempts one after the other, until none waits."""
        while self._queues:
            network = next(filter(self._limits.is_free, self._queues), None)
            if network is None:
                await self._sleep(PAUSE)
                continue
            attempt = max(self._queues[network], key=lambda each: self._repetitions.count(each.key))
            self._remove(network, attempt)
            self._limits.take(network)
            try:
                status = await self._check(attempt, network)
            except Exception:  # Requests with the same password would wait for this one forever.
                self._finish(attempt, HTTPStatus.SERVICE_UNAVAILABLE)
                raise
            self._finish(attempt, status)

    async def _check(self, attempt: _Attempt, network: str) -> HTTPStatus:
        loop = asyncio.get_running_loop()
        try:
            is_correct = await loop.run_in_executor(DaemonThreadExecutor(), self._is_correct, attempt)
        except OSError:  # no more threads
            return HTTPStatus.SERVICE_UNAVAILABLE
        if not is_correct:
            return HTTPStatus.UNAUTHORIZED
        self._limits.reset(network)
        _cache(self._correct_passwords, attempt.key, None, MAX_CACHED)
        return HTTPStatus.OK

    def _is_correct(self, attempt: _Attempt) -> bool:
        """Check a password; a wrong one takes the time of the most expensive hash, also if there is no such user."""
        own_hash = attempt.password_hash or _dummy_hash(attempt.max_cost)
        if self._matches(attempt.password, own_hash) and attempt.password_hash:
            return True
        # Hashes of the costs n, n, n + 1, ... m - 1 take as long together as one of the cost m.
        for cost in range(_cost(own_hash), attempt.max_cost):
            self._matches(attempt.password, _dummy_hash(cost))
        return False

    def _matches(self, password: bytes, password_hash: bytes) -> bool:
        try:
            return self._check_password(password, password_hash)
        except ValueError:  # bcrypt rejects the password or the hash
            return False


class NetworkLimits:
    """Rates at which networks may try wrong passwords."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def is_free(self, network: str) -> bool:
        bucket = self._buckets.get(network)
        return bucket is None or not bucket.seconds_until_token()

    def take(self, network: str) -> None:
        bucket = self._buckets.get(network) or TokenBucket(FAILED_LOGIN_RATE, self._monotonic)
        bucket.take()
        _cache(self._buckets, network, bucket, MAX_NETWORKS)

    def reset(self, network: str) -> None:
        self._buckets.pop(network, None)


class RepetitionCounter:
    """Approximate number of times that each attempt was made, of any number of attempts in constant memory."""

    def __init__(self) -> None:
        self._counts = bytearray(COUNTERS)
        self._total = 0

    def add(self, key: bytes) -> None:
        index = self._index(key)
        self._counts[index] = min(self._counts[index] + 1, 255)
        self._total += 1
        if self._total * 2 >= COUNTERS:
            self._counts = self._counts.translate(HALVES)
            self._total = 0

    def count(self, key: bytes) -> int:
        return self._counts[self._index(key)]

    def _index(self, key: bytes) -> int:
        return int.from_bytes(key[:4]) % COUNTERS


def network_of(peer: str) -> str:
    """Return the network of an address: the address itself, or the first 64 bits of an IPv6 address."""
    try:
        address = ipaddress.IPv6Address(peer)
    except ValueError:
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))


def _dummy_hash(cost: int) -> bytes:
    return b"$2b$%02d$%b" % (cost, DUMMY_DIGEST)


def _cost(password_hash: bytes) -> int:
    return int(password_hash[4:6])


def _cache(entries: OrderedDict[KeyT, ValueT], key: KeyT, value: ValueT, limit: int) -> None:
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > limit:
        entries.popitem(last=False)

"""Verify passwords against bcrypt hashes, so that guessing costs little and keeps no correct password out for long.

A password that was correct once needs no further check. Others are checked one at a time, in a
thread, and each client network may try wrong ones at a limited rate only: it is told when to retry,
while other networks are not affected.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus

from late_exporter.concurrency import DaemonThreadExecutor
from late_exporter.web.access import AccessError, too_many_requests, unauthorized
from late_exporter.web.token_bucket import RequestRate, TokenBucket

FAILED_LOGIN_RATE = RequestRate(interval=3.0, burst=10)
"""Rate at which a network may try wrong passwords."""

MAX_PENDING_CHECKS = 2
"""Maximum number of passwords of one network that wait for their check."""

MAX_PENDING_NETWORKS = 500
"""Maximum number of networks with passwords that wait for their check."""

MAX_NETWORKS = 1000
"""Maximum number of networks whose failed attempts are remembered."""

BCRYPT_MAX_BYTES = 72
"""bcrypt uses only the first bytes of a password."""

DUMMY_DIGEST = b"." * 53
"""Salt and digest of a hash that no password has."""


def _check_bcrypt(password: bytes, password_hash: bytes) -> bool:
    import bcrypt  # noqa: PLC0415 - not needed without users

    try:
        return bcrypt.checkpw(password[:BCRYPT_MAX_BYTES], password_hash)
    except ValueError:  # bcrypt rejects the password or the hash
        return False


@dataclass(eq=False)
class PasswordVerifier:
    """Verify passwords in a thread, with a cache of correct passwords."""

    monotonic: Callable[[], float] = time.monotonic
    check_password: Callable[[bytes, bytes], bool] = _check_bcrypt
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _correct_passwords: set[bytes] = field(default_factory=set)  # one for each hash
    _networks: OrderedDict[str, TokenBucket] = field(default_factory=OrderedDict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _pending: Counter[str] = field(default_factory=Counter)

    async def authenticate(
        self, users: Mapping[str, bytes], name: str, password: bytes, peer: str
    ) -> None:
        """Raise AccessError unless a user has this password.

        Args:
            users: Password hash of each user.
            name: Name of the user, who may be unknown; empty if the request has none.
            password: Password of the user.
            peer: Address of the client.
        """
        if not (name and users):
            raise unauthorized()
        # A keyed digest, so that no password stays in memory.
        parts = (name.encode(), users.get(name, b""), password[:BCRYPT_MAX_BYTES])
        key = hmac.digest(self._secret, b"\0".join(parts), "sha256")
        network = network_of(peer)
        if key in self._correct_passwords:
            return
        if (
            self._pending[network] >= MAX_PENDING_CHECKS
            or len(self._pending) >= MAX_PENDING_NETWORKS
        ):
            raise too_many_requests(FAILED_LOGIN_RATE.interval)
        self._pending[network] += 1
        try:
            async with self._lock:  # in the order of arrival
                if key not in self._correct_passwords:  # meanwhile another request had the same
                    self._take_turn(network)
                    await self._check(users, name, password)
                    self._correct_passwords.add(key)
                    del self._networks[network]
        finally:
            self._pending[network] -= 1
            self._pending += Counter()  # removes what is zero

    def _take_turn(self, network: str) -> None:
        """Raise AccessError if a network has tried too many wrong passwords."""
        bucket = self._networks.setdefault(network, TokenBucket(FAILED_LOGIN_RATE, self.monotonic))
        self._networks.move_to_end(network)
        if len(self._networks) > MAX_NETWORKS:
            self._networks.popitem(last=False)
        if retry_after := bucket.take():
            raise too_many_requests(retry_after)

    async def _check(self, users: Mapping[str, bytes], name: str, password: bytes) -> None:
        # An unknown user takes as long as the most expensive hash.
        password_hash = users.get(name) or b"$2b$%02d$%b" % (
            max(map(_cost, users.values())),
            DUMMY_DIGEST,
        )
        call = partial(self.check_password, password, password_hash)
        try:
            is_correct = await asyncio.get_running_loop().run_in_executor(
                DaemonThreadExecutor(), call
            )
        except OSError:  # no more threads
            raise AccessError(HTTPStatus.SERVICE_UNAVAILABLE) from None
        if not is_correct or name not in users:
            raise unauthorized()


def network_of(peer: str) -> str:
    """Return the network of an address: the address itself, or the first 64 bits of an IPv6 address."""
    try:
        address = ipaddress.IPv6Address(peer)
    except ValueError:
        return peer
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address), 64), strict=False))


def _cost(password_hash: bytes) -> int:
    return int(password_hash[4:6])

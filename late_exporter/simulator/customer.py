"""Calls of the customer's own software, which share the quota of a key with the other clients of the key."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from late_exporter.simulator.rate_limit import WINDOW_SECONDS


class CustomerTraffic:
    """Evenly spaced calls with every key that a client uses.

    The calls with a key begin a minute before the client's first request with it, at the earliest at ``start``.

    Args:
        rate: Calls per minute with each key; 0 for none.
        start: Unix time of the first call.
        make_call: Function that makes a call with a key at a Unix time, and returns False if it was refused.
    """

    def __init__(self, rate: int, start: float, make_call: Callable[[str, float], bool]) -> None:
        self.rate = rate
        self.call_count = 0
        self.refusal_count = 0
        self._start = start
        self._make_call = make_call
        self._next_numbers: dict[str, int] = {}

    def add_key(self, key: str, now: float) -> None:
        """Begin the calls with a key, unless they have begun."""
        if self.rate and key not in self._next_numbers:
            first = max(0.0, now - WINDOW_SECONDS - self._start)
            self._next_numbers[key] = ceil(first * self.rate / WINDOW_SECONDS)
            self.run_until(now)

    def run_until(self, now: float) -> None:
        """Make the calls that are due."""
        for key, number in self._next_numbers.items():
            while (time := self._start + number * WINDOW_SECONDS / self.rate) <= now:
                number += 1  # noqa: PLW2901 - continues at the number of the key
                self.call_count += 1
                self.refusal_count += not self._make_call(key, time)
            self._next_numbers[key] = number

"""What happens next in the simulated world, and the chance that decides it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from heapq import heappop, heappush
from random import Random

__all__ = ["DAY", "HOUR", "MINUTE", "Agenda", "timestamp"]

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def timestamp(moment: float, *, whole: bool = False) -> str:
    """A Unix time as the API writes it, with milliseconds or in whole seconds."""
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds" if whole else "milliseconds")
    return text.removesuffix("+00:00") + "Z"


class Agenda:
    """Events in order of time.

    All randomness is drawn while events happen, in their order: how ``run`` is sliced changes nothing.

    Args:
        seed: Decides everything that happens.
        now: Unix time at which nothing has happened yet.
    """

    def __init__(self, seed: int, now: float) -> None:
        self.now = now
        self.random = Random(seed)  # noqa: S311 - it imitates, it protects nothing
        self._machine = self.random.getrandbits(40)
        self._ids = 0
        self._planned = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, moment: float, event: Callable[[], None]) -> None:
        """Plan an event; what is planned for the past happens next."""
        self._planned += 1
        heappush(self._events, (max(moment, self.now), self._planned, event))

    def after(self, delay: float, event: Callable[[], None]) -> None:
        """Plan an event that many seconds from now."""
        self.at(self.now + delay, event)

    def run(self, until: float) -> None:
        """Let everything happen up to a Unix time."""
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heappop(self._events)
            event()
        self.now = max(self.now, until)

    def chance(self, probability: float) -> bool:
        """Whether something comes to pass."""
        return self.random.random() < probability

    def object_id(self) -> str:
        """A new id that begins, as MongoDB's do, with the second of its birth."""
        self._ids += 1
        return f"{int(self.now):08x}{self._machine:010x}{self._ids % 0x1000000:06x}"

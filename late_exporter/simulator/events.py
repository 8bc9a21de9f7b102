"""What happens next in the simulated world, and the chance that decides it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from heapq import heappop, heappush
from random import Random

__all__ = ["DAY", "HOUR", "MINUTE", "EventQueue", "timestamp"]

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def timestamp(time: float, *, whole_seconds: bool = False) -> str:
    """A Unix time as the API writes it, with milliseconds or in whole seconds."""
    text = datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds" if whole_seconds else "milliseconds")
    return text.removesuffix("+00:00") + "Z"


class EventQueue:
    """Events in order of time.

    All randomness is drawn while events happen, in their order: how ``run_until`` is sliced changes nothing.

    Args:
        seed: Decides everything that happens.
        now: Unix time at which nothing has happened yet.
    """

    def __init__(self, seed: int, now: float) -> None:
        self.now = now
        self.random = Random(seed)  # noqa: S311 - it imitates, it protects nothing
        self._machine_id = self.random.getrandbits(40)
        self._id_count = 0
        self._sequence = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    def schedule_at(self, time: float, event: Callable[[], None]) -> None:
        """Plan an event; what is planned for the past happens next."""
        self._sequence += 1
        heappush(self._queue, (max(time, self.now), self._sequence, event))

    def schedule_in(self, delay: float, event: Callable[[], None]) -> None:
        """Plan an event that many seconds from now."""
        self.schedule_at(self.now + delay, event)

    def run_until(self, time: float) -> None:
        """Let everything happen up to a Unix time."""
        while self._queue and self._queue[0][0] <= time:
            self.now, _, event = heappop(self._queue)
            event()
        self.now = max(self.now, time)

    def draw_bool(self, probability: float) -> bool:
        """Whether something comes to pass."""
        return self.random.random() < probability

    def object_id(self) -> str:
        """A new id that begins, as MongoDB's do, with the second of its birth."""
        self._id_count += 1
        return f"{int(self.now):08x}{self._machine_id:010x}{self._id_count % 0x1000000:06x}"

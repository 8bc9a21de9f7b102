"""Event queue of the simulated world, with its random generator."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from heapq import heappop, heappush
from random import Random

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def timestamp(time: float, *, whole_seconds: bool = False) -> str:
    """Return a Unix time in the format of the API, with milliseconds or in whole seconds."""
    text = datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds" if whole_seconds else "milliseconds")
    return text.removesuffix("+00:00") + "Z"


class EventQueue:
    """Events in order of time.

    Random numbers are drawn only while events run, in their order, so the result does not depend on the times at which
    ``run_until`` is called.
    """

    def __init__(self, seed: int, now: float) -> None:
        self.now = now
        self.random = Random(seed)  # noqa: S311 - simulation, not cryptography
        self._machine_id = self.random.getrandbits(40)
        self._id_count = 0
        self._sequence = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    def schedule_at(self, time: float, event: Callable[[], None]) -> None:
        """Schedule an event at a Unix time. An event in the past runs next."""
        self._sequence += 1
        heappush(self._queue, (max(time, self.now), self._sequence, event))

    def schedule_in(self, delay: float, event: Callable[[], None]) -> None:
        self.schedule_at(self.now + delay, event)

    def run_until(self, time: float) -> None:
        while self._queue and self._queue[0][0] <= time:
            self.now, _, event = heappop(self._queue)
            event()
        self.now = max(self.now, time)

    def draw_bool(self, probability: float) -> bool:
        return self.random.random() < probability

    def object_id(self) -> str:
        """Return a new id that begins with its creation time in seconds, like an ObjectId of MongoDB."""
        self._id_count += 1
        return f"{int(self.now):08x}{self._machine_id:010x}{self._id_count % 0x1000000:06x}"

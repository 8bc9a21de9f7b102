"""Outputs of log events that fail as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from late_exporter.errors import EventsRejected
from late_exporter.model import QueuedEvent


class FakeOutput:
    """Keeps what is delivered.

    Args:
        rejects: Returns whether the receiver will never accept an event.

    Attributes:
        failures: Errors of the next deliveries, the first of which is raised next.
        rejected_count: Events that the receiver rejects in each delivery.
        batches: Bodies of the events of each successful delivery.
        attempt_count: Number of deliveries, also of failed ones.
    """

    name = "fake"

    def __init__(self, rejects: Callable[[QueuedEvent], bool] = lambda _: False) -> None:
        self.failures: list[BaseException] = []
        self.rejected_count = 0
        self.batches: list[list[bytes]] = []
        self.attempt_count = 0
        self._rejects = rejects

    @property
    def bodies(self) -> list[bytes]:
        """Bodies of all delivered events."""
        return [body for batch in self.batches for body in batch]

    def reopen(self) -> None:
        """Do nothing."""

    async def deliver(self, events: Sequence[QueuedEvent]) -> int:
        self.attempt_count += 1
        if self.failures:
            raise self.failures.pop(0)
        if any(map(self._rejects, events)):
            raise EventsRejected("too old", reason="too_old")
        self.batches.append([event.body for event in events])
        return self.rejected_count

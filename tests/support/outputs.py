"""Outputs of log events that fail as a test wants."""

from __future__ import annotations

from collections.abc import Sequence

from late_exporter.store.records import QueuedEvent


class FakeOutput:
    """Keeps what is delivered.

    Attributes:
        failures: Errors of the next deliveries, the first of which is raised next.
        batches: Bodies of the events of each successful delivery.
    """

    name = "fake"

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.batches: list[list[bytes]] = []

    @property
    def bodies(self) -> list[bytes]:
        """Bodies of all delivered events."""
        return [body for batch in self.batches for body in batch]

    async def deliver(self, events: Sequence[QueuedEvent]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append([event.body for event in events])

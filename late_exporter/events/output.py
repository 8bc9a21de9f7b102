"""What the deliverer needs of an output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from late_exporter.store.records import QueuedEvent

MAX_BATCH_EVENTS = 500
"""Maximum number of events that are delivered at once."""


class Output(Protocol):
    """Where log events are delivered to."""

    @property
    def name(self) -> str:
        """The output in messages."""

    async def deliver(self, events: Sequence[QueuedEvent]) -> None:
        """Deliver events durably; raise DeliveryError if they may not have been delivered."""

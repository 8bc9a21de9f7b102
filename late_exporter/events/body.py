"""Read queued events."""

from __future__ import annotations

import msgspec

from late_exporter.feeds.decoder import parse_millis
from late_exporter.feeds.log_events import LogEvent
from late_exporter.model import QueuedEvent

_decoder = msgspec.json.Decoder(LogEvent)


def read_event(queued: QueuedEvent) -> LogEvent:
    return _decoder.decode(queued.body)


def time_nanos(queued: QueuedEvent) -> int:
    """Return the creation time of an event's log in nanoseconds, or when it was queued if the log has none."""
    created = parse_millis(read_event(queued).time)
    return max(0, queued.queued_at if created is None else created) * 1_000_000

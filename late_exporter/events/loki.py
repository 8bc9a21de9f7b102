"""The push API of Loki.

Source: https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from late_exporter.events.body import read_event, time_nanos
from late_exporter.model import QueuedEvent

MAX_VALUES = 50
"""Maximum number of values of each label; each combination is a stream, and Loki must not have many streams."""

OTHER = "other"


class LokiFormat:
    """Streams with the labels job, workspace, platform and status; the line is the event.

    Loki stores a line with the time and labels of an equal one only once, so that an event that is sent again after a
    failure is not doubled.
    """

    path = "/loki/api/v1/push"

    def __init__(self) -> None:
        self._values: dict[str, set[str]] = {"platform": set(), "status": set()}

    def encode(self, events: Sequence[QueuedEvent]) -> bytes:
        streams: defaultdict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
        for time, queued in sorted(((time_nanos(each), each) for each in events), key=lambda pair: pair[0]):
            event = read_event(queued)
            labels = (event.workspace, self._limit("platform", event.platform), self._limit("status", event.status))
            streams[labels].append((str(time), queued.body.decode()))
        return msgspec.json.encode(
            {
                "streams": [
                    {
                        "stream": {
                            "job": "late-exporter",
                            "workspace": workspace,
                            "platform": platform,
                            "status": status,
                        },
                        "values": values,
                    }
                    for (workspace, platform, status), values in streams.items()
                ]
            }
        )

    def rejected_count(self, body: bytes) -> int:  # noqa: ARG002 - a success has no body
        return 0

    def rejection_reason(self, message: str) -> str:
        if "too far behind" in message or "too old" in message:
            return "too_old"
        return "out_of_order" if "out of order" in message else "rejected"

    def _limit(self, label: str, value: str) -> str:
        """Return the value of a label, or ``other`` beyond MAX_VALUES."""
        values = self._values[label]
        if value not in values and len(values) >= MAX_VALUES:
            return OTHER
        values.add(value)
        return value

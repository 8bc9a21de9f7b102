"""OTLP over HTTP with JSON.

Sources: https://opentelemetry.io/docs/specs/otlp/#otlphttp and the message LogsData of opentelemetry-proto. In its JSON
encoding, integers of 64 bits are texts and the names of fields are in lowerCamelCase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from late_exporter import __version__
from late_exporter.events.body import read_event, time_nanos
from late_exporter.model import FAILED, QueuedEvent

INFO, ERROR = 9, 17
"""Severity numbers of OpenTelemetry."""


class _PartialSuccess(msgspec.Struct, rename="camel"):
    rejected_log_records: int | str = 0


class _Response(msgspec.Struct, rename="camel"):
    partial_success: _PartialSuccess | None = None


class OtlpFormat:
    """Log records whose body is the event, and whose attributes are its fields."""

    path = "/v1/logs"

    def encode(self, events: Sequence[QueuedEvent]) -> bytes:
        resource = {"service.name": "late-exporter", "service.version": __version__}
        scope_logs = {"scope": {"name": "late-exporter"}, "logRecords": [_record(event) for event in events]}
        return msgspec.json.encode(
            {"resourceLogs": [{"resource": {"attributes": _attributes(resource)}, "scopeLogs": [scope_logs]}]}
        )

    def rejected_count(self, body: bytes) -> int:
        """Return the number in ``partialSuccess``; such a request must not be repeated."""
        try:
            response = msgspec.json.decode(body, type=_Response)
            return max(0, int(response.partial_success.rejected_log_records)) if response.partial_success else 0
        except (msgspec.DecodeError, ValueError, RecursionError):
            return 0

    def rejection_reason(self, message: str) -> str:  # noqa: ARG002 - receivers have no common messages
        return "rejected"


def _record(queued: QueuedEvent) -> dict[str, Any]:
    event = read_event(queued)
    is_failed = event.status == FAILED
    fields = {f"late.{name}": value for name, value in msgspec.structs.asdict(event).items() if value not in ("", None)}
    return {
        "timeUnixNano": str(time_nanos(queued)),
        "observedTimeUnixNano": str(queued.queued_at * 1_000_000),
        "severityNumber": ERROR if is_failed else INFO,
        "severityText": "ERROR" if is_failed else "INFO",
        "body": {"stringValue": queued.body.decode()},
        "attributes": _attributes(fields),
    }


def _attributes(fields: Mapping[str, object]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in fields.items()]


def _value(value: object) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}

"""Check the output of log events."""

from __future__ import annotations

from collections.abc import Iterator

from late_exporter.commands.check.finding import Finding, unencrypted_headers
from late_exporter.config.serving import EventSettings


def check_events(settings: EventSettings) -> Iterator[Finding]:
    """Warn if headers are sent to a receiver on another machine unencrypted."""
    target = settings.output
    if target is not None and target.kind in ("loki", "otlp") and settings.headers_file is not None:
        yield from unencrypted_headers("events", target.location)
